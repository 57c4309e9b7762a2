# mypy: ignore-errors
"""FastAPI sends a message for each sink to a dramatiq actor, which posts it on."""

import threading

import dramatiq
import requests
from dramatiq.brokers.redis import RedisBroker
from fastapi import FastAPI
from job import BROKER, SINKS, TIMEOUT_SECONDS, Push, say_ready, signed_headers


class Ready(dramatiq.Middleware):
    def after_worker_boot(self, broker, worker) -> None:
        say_ready()


broker = RedisBroker(url=BROKER)
broker.add_middleware(Ready())
dramatiq.set_broker(broker)
web = FastAPI()
of_thread = threading.local()  # requests does not promise that threads may share a session


def session() -> requests.Session:
    if not hasattr(of_thread, "session"):
        of_thread.session = requests.Session()
    return of_thread.session


@dramatiq.actor(max_retries=9)
def deliver(sink: str, message_id: str, body: str) -> None:
    headers = signed_headers(message_id, body)
    session().post(sink, data=body, headers=headers, timeout=TIMEOUT_SECONDS).raise_for_status()


@web.post("/push")
def push(push: Push) -> dict[str, str]:
    body = push.model_dump_json()
    for sink in SINKS:
        deliver.send(sink, f"evt_{push.task_id}", body)
    return {"status": "success"}
