# mypy: ignore-errors
"""FastAPI enqueues an arq job for each sink; a worker posts it on."""

import asyncio
from contextlib import asynccontextmanager

import httpx
from arq import Retry, create_pool
from arq.connections import RedisSettings
from fastapi import FastAPI
from job import BROKER, SINKS, TIMEOUT_SECONDS, Push, say_ready, signed_headers

REDIS = RedisSettings.from_dsn(BROKER)


async def deliver(ctx, sink: str, message_id: str, body: str) -> None:
    headers = signed_headers(message_id, body)
    try:
        answer = await ctx["client"].post(sink, content=body, headers=headers)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise Retry(defer=ctx["job_try"] * 5) from error


async def start(ctx) -> None:
    ctx["client"] = httpx.AsyncClient(timeout=TIMEOUT_SECONDS)
    say_ready()


async def stop(ctx) -> None:
    await ctx["client"].aclose()


class WorkerSettings:
    functions = (deliver,)
    on_startup, on_shutdown = start, stop
    redis_settings = REDIS
    max_jobs = 64
    max_tries = 10
    keep_result = 0
    poll_delay = 0.05  # half a second by itself, which would be most of the latency measured here
    log_results = False


@asynccontextmanager
async def lifespan(web: FastAPI):
    web.state.queue = await create_pool(REDIS)
    yield
    await web.state.queue.aclose()


web = FastAPI(lifespan=lifespan)


@web.post("/push")
async def push(push: Push) -> dict[str, str]:
    words = f"evt_{push.task_id}", push.model_dump_json()
    jobs = (web.state.queue.enqueue_job("deliver", sink, *words) for sink in SINKS)
    await asyncio.gather(*jobs)
    return {"status": "success"}
