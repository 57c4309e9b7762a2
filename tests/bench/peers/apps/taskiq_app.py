# mypy: ignore-errors
"""FastAPI kicks a taskiq task for each sink; a worker posts it on."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
from fastapi import FastAPI
from job import BROKER, SINKS, TIMEOUT_SECONDS, Push, say_ready, signed_headers
from taskiq import Context, SimpleRetryMiddleware, TaskiqDepends, TaskiqEvents, TaskiqState
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(BROKER).with_middlewares(SimpleRetryMiddleware(default_retry_count=9))


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def start(state: TaskiqState) -> None:
    state.client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_SECONDS))
    say_ready()


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def stop(state: TaskiqState) -> None:
    await state.client.close()


@broker.task(retry_on_error=True)
async def deliver(
    sink: str,
    message_id: str,
    body: str,
    context: Context = TaskiqDepends(),  # noqa: B008
) -> None:
    headers = signed_headers(message_id, body)
    async with context.state.client.post(sink, data=body, headers=headers) as answer:
        answer.raise_for_status()


@asynccontextmanager
async def lifespan(web: FastAPI):
    await broker.startup()
    yield
    await broker.shutdown()


web = FastAPI(lifespan=lifespan)


@web.post("/push")
async def push(push: Push) -> dict[str, str]:
    words = f"evt_{push.task_id}", push.model_dump_json()
    await asyncio.gather(*(deliver.kiq(sink, *words) for sink in SINKS))
    return {"status": "success"}
