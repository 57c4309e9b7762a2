"""Atlas Cloud's predictions and signed webhooks, as documented.

Source: atlascloud.ai/docs predictions, errors and webhooks, read 2026-11-20. The stored copies of
the webhooks page are cut short: header names and body are those that implementers agree on.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from random import Random
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deploy.demo.book import Book, Order, Phase, SimulatedTask
from deploy.demo.courier import Courier
from deploy.demo.faults import Push
from deploy.demo.wire import authorized, read_object, trouble
from store.events import Failure, Kind

KEY_ID = "simulated-1"

_FAMILY = "prediction"
FAILURES = (
    Failure("1039", "The input was rejected by content moderation"),
    Failure("", "Invalid parameter: resolution not supported by this model"),
)
_WORDS = {Phase.QUEUED: "starting", Phase.PROCESSING: "processing"}
_HEADER = "X-AtlasCloud-Webhook-"


class AtlasCloud:
    """Posts one signed webhook when a task ends, up to three times until it is answered with 2xx."""

    name = "atlascloud"

    def __init__(
        self, book: Book, courier: Courier, api_key: str, *, signing_seed: bytes | None
    ) -> None:
        self._book = book
        self._courier = courier
        self._api_key = api_key
        self._key = (
            Ed25519PrivateKey.generate()
            if signing_seed is None
            else Ed25519PrivateKey.from_private_bytes(signing_seed)
        )
        self._forger = Ed25519PrivateKey.generate()
        self._request_ids = book.random(self.name, "requests")

    @property
    def routes(self) -> list[Route]:
        base = "/api/v1"
        kinds = {
            "generateVideo": Kind.VIDEO,
            "generateImage": Kind.IMAGE,
            "generateAudio": Kind.AUDIO,
        }
        return [
            *(
                Route(f"{base}/model/{path}", partial(self._submit, kind), methods=["POST"])
                for path, kind in kinds.items()
            ),
            Route(f"{base}/model/prediction/{{task_id}}", self._query),
            Route(f"{base}/webhooks/jwks.json", self._keys),
        ]

    async def _submit(self, kind: Kind, request: Request) -> Response:
        if not authorized(request, self._api_key):
            return self._error(401)
        body = await read_object(request)
        webhook_url = body.get("webhook_url")
        if webhook_url is not None and not _is_address(webhook_url):
            return self._error(400, "invalid webhook_url")
        task = self._book.submit(
            Order(
                provider=self.name,
                family=_FAMILY,
                kind=kind,
                model=str(body.get("model") or "simulated/model"),
                succeeded=("completed", "succeeded"),
                failed="failed",
                failures=FAILURES,
                make_id=make_id,
                callback_url=webhook_url,
            )
        )
        if webhook_url is not None:
            self._schedule_push(task, webhook_url)
        return self._reply(_submitted(task))

    async def _query(self, request: Request) -> Response:
        task_id = request.path_params["task_id"]
        self._book.asked(self.name, task_id)
        if not authorized(request, self._api_key):
            return self._error(401)
        if (mishap := trouble(self._book, self.name, self._error)) is not None:
            return mishap
        task = self._book.find(self.name, task_id, _FAMILY)
        if task is None:
            return self._error(404)
        prediction = _prediction(task, self._book.phase(task))
        wrapped = self._book.variant(task) % 2 == 0
        return self._reply({"code": 200, "data": prediction} if wrapped else prediction)

    async def _keys(self, request: Request) -> Response:
        return self._reply(key_page(self._key, KEY_ID))

    def _schedule_push(self, task: SimulatedTask, webhook_url: str) -> None:
        pushes = [Push(task.ends_from, webhook(task), final=True)]
        random = self._book.random(self.name, task.number, "pushes")
        forge = partial(_forged, task.kind)
        sent = self._book.dice(self.name).spoil(pushes, forge, random)
        sign = partial(self._sign, task)
        self._courier.send(webhook_url, sent, tries=3, sign=sign)

    def _sign(self, task: SimulatedTask, body: bytes, forged: bool) -> Mapping[str, str]:
        key = self._forger if forged else self._key
        timestamp = int(self._book.clock().timestamp())
        return push_headers(key, KEY_ID, webhook(task), body, timestamp)

    def _reply(self, body: Mapping[str, Any], status: int = 200) -> Response:
        return JSONResponse(body, status, {"X-Request-ID": self._request_id()})

    def _error(self, status: int, message: str | None = None) -> Response:
        words = {401: "unauthorized", 404: "not found", 429: "too many requests"}
        request_id = self._request_id()
        body = {
            "code": status,
            "msg": message or words.get(status, "internal error"),
            "request_id": request_id,
            "data": None,
        }
        return JSONResponse(body, status, {"X-Request-ID": request_id})

    def _request_id(self) -> str:
        return f"{self._request_ids.getrandbits(128):032x}"


def push_headers(
    key: Ed25519PrivateKey, key_id: str, push: Mapping[str, Any], body: bytes, timestamp: int
) -> dict[str, str]:
    """What is sent beside a push. body: the same push as its bytes; timestamp: unix seconds."""
    signed = b"%d." % timestamp + body
    # while they migrate, the bare header still has an HMAC whose key no documentation names
    legacy = hmac.new(key_id.encode(), signed, hashlib.sha256).hexdigest()
    return {
        f"{_HEADER}Id": str(push.get("session_id")),
        f"{_HEADER}Event": str(push.get("event_type")),
        f"{_HEADER}Timestamp": str(timestamp),
        f"{_HEADER}Key-Id": key_id,
        f"{_HEADER}Signature-Ed25519": _base64url(key.sign(signed)),
        f"{_HEADER}Signature": legacy,
    }


def key_page(key: Ed25519PrivateKey, key_id: str) -> dict[str, Any]:
    """The JWKS with the public half of a key (RFC 8037)."""
    x = _base64url(key.public_key().public_bytes_raw())
    return {"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": key_id, "x": x}]}


def make_id(random: Random) -> str:
    return f"pred_{random.getrandbits(96):024x}"


def _is_address(url: Any) -> bool:
    """Atlas wants https and a public host as well; a simulator on loopback cannot."""
    if not isinstance(url, str) or len(url) > 1024:
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _event_type(kind: Kind) -> str:
    return f"{kind}.task.terminal"


def _submitted(task: SimulatedTask) -> dict[str, Any]:
    """Two pages show two shapes; tasks take turns with them."""
    if task.number % 2:
        return {"code": 200, "data": {"id": task.id, "status": "starting"}}
    return {
        "id": task.id,
        "status": "processing",
        "model": task.model,
        "created_at": _iso(task.submitted_at),
    }


def _prediction(task: SimulatedTask, phase: Phase) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": task.id,
        "status": task.ending if phase is Phase.ENDED else _WORDS[phase],
        "model": task.model,
        "created_at": _iso(task.submitted_at),
    }
    if phase is not Phase.ENDED:
        return body
    if task.failure is not None:
        return body | {"error": task.failure.message, **_error_code(task.failure), "outputs": []}
    seconds = (task.ended_at - task.submitted_at).total_seconds()
    return body | {
        "outputs": [task.output],
        "metrics": {"predict_time": round(seconds, 3)},
        "completed_at": _iso(task.ended_at),
    }


def _error_code(failure: Failure) -> dict[str, int]:
    return {"error_code": int(failure.code)} if failure.code else {}


def webhook(task: SimulatedTask) -> dict[str, Any]:
    """What is pushed when a task has ended."""
    body: dict[str, Any] = {
        "session_id": task.id,
        "event_type": _event_type(task.kind),
        "status": "ERROR" if task.failure else "OK",
        "created_at": int(task.ended_at.timestamp() * 1000),
        "payload": {"model": task.model, "status": task.ending},
    }
    if task.failure is None:
        body["payload"]["outputs"] = [task.output]
        return body
    body["payload"] |= _error_code(task.failure)
    return body | {"error": task.failure.message}


def _forged(kind: Kind, random: Random) -> dict[str, Any]:
    """A good end for a task that nobody submitted."""
    task_id = make_id(random)
    outputs = [f"https://forged.example/{task_id}.mp4"]
    return {
        "session_id": task_id,
        "event_type": _event_type(kind),
        "status": "OK",
        "payload": {"model": "simulated/model", "status": "completed", "outputs": outputs},
    }
