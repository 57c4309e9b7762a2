# mypy: ignore-errors
"""FastAPI defers a procrastinate job for each sink; a worker posts it on.

`python -m procrastinate_app` works.
"""

import asyncio
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI
from job import BROKER, SINKS, TIMEOUT_SECONDS, Push, say_ready, signed_headers
from procrastinate import App, PsycopgConnector, RetryStrategy

app = App(connector=PsycopgConnector(conninfo=BROKER))
client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS)


@app.task(name="deliver", retry=RetryStrategy(max_attempts=10, exponential_wait=5))
async def deliver(sink: str, message_id: str, body: str) -> None:
    answer = await client.post(sink, content=body, headers=signed_headers(message_id, body))
    answer.raise_for_status()


@asynccontextmanager
async def lifespan(web: FastAPI):
    async with app.open_async():
        yield


web = FastAPI(lifespan=lifespan)


@web.post("/push")
async def push(push: Push) -> dict[str, str]:
    words = {"message_id": f"evt_{push.task_id}", "body": push.model_dump_json()}
    await deliver.batch_defer_async(*({"sink": sink, **words} for sink in SINKS))
    return {"status": "success"}


async def work() -> None:
    async with app.open_async():
        say_ready()
        await app.run_worker_async(concurrency=64)


if __name__ == "__main__":
    asyncio.run(work())
