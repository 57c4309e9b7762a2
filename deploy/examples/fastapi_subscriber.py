"""A subscriber in FastAPI: verifies, keeps every event once, answers at once, works afterwards.

    pip install fastapi uvicorn standardwebhooks
    taskbell subscribe https://your-app.example.com/taskbell --type task.succeeded --type task.failed
    TASKBELL_WEBHOOK_SECRET=whsec_… uvicorn fastapi_subscriber:app --port 9000

What came but was not done when the process ended is done when it starts again.
"""

import json
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import BackgroundTasks, FastAPI, HTTPException, Request
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

LARGEST = 1024 * 1024  # bytes; a stranger could send more

webhook = Webhook(os.environ["TASKBELL_WEBHOOK_SECRET"])
inbox = sqlite3.connect(
    os.environ.get("INBOX", "inbox.db"), isolation_level=None, check_same_thread=False
)
inbox.execute("CREATE TABLE IF NOT EXISTS inbox (id TEXT PRIMARY KEY, body TEXT, done INT)")


def work(event: dict[str, Any]) -> None:
    """Yours: it may run twice for one event when the process is killed in the middle."""
    task = event["data"]["task"]
    print(event["type"], task["id"], [output["url"] for output in task["outputs"]])


def do(event_id: str, body: str) -> None:
    work(json.loads(body))
    inbox.execute("UPDATE inbox SET done = 1 WHERE id = ?", (event_id,))


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    for event_id, body in inbox.execute("SELECT id, body FROM inbox WHERE done = 0").fetchall():
        do(event_id, body)
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/taskbell", status_code=204)
async def take(request: Request, afterwards: BackgroundTasks) -> None:
    body = await bounded(request)
    try:
        webhook.verify(body, dict(request.headers))  # the raw bytes, before anything parses them
    except (WebhookVerificationError, ValueError):
        raise HTTPException(400, "not signed by Taskbell just now") from None
    event = request.headers["webhook-id"], body.decode()
    # the same id comes again whenever an answer was lost
    kept = inbox.execute("INSERT OR IGNORE INTO inbox VALUES (?, ?, 0)", event)
    if kept.rowcount:
        afterwards.add_task(do, *event)


async def bounded(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            raise HTTPException(413)
    return bytes(body)
