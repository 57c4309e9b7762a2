# mypy: ignore-errors
"""FastAPI puts a task for each sink into Celery's queue; a worker posts it on."""

import requests
from celery import Celery
from celery.signals import worker_process_init
from fastapi import FastAPI
from job import BROKER, SINKS, TIMEOUT_SECONDS, Push, say_ready, signed_headers

app = Celery("peer", broker=BROKER)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=64,  # its guide, for lots of short tasks: 64 or 128
)
web = FastAPI()
session = requests.Session()


@worker_process_init.connect
def start(**_) -> None:
    say_ready()


@app.task(autoretry_for=(requests.RequestException,), retry_backoff=5, max_retries=9)
def deliver(sink: str, message_id: str, body: str) -> None:
    headers = signed_headers(message_id, body)
    session.post(sink, data=body, headers=headers, timeout=TIMEOUT_SECONDS).raise_for_status()


@web.post("/push")
def push(push: Push) -> dict[str, str]:
    body = push.model_dump_json()
    for sink in SINKS:
        deliver.delay(sink, f"evt_{push.task_id}", body)
    return {"status": "success"}
