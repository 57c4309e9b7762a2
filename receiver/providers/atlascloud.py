"""Atlas Cloud predictions: one signed push at the end, and polling for the rest.

Sources: atlascloud.ai/docs (predictions, errors, webhooks) and the official tools' code, read
2026-11-20. The docs page on webhooks is cut off in every copy; its headers and the rule of what is
signed come from several independent implementers who agree with each other.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from receiver.asking import refuse
from receiver.failures import Code
from receiver.provider import (
    NO_CHALLENGE,
    Answer,
    Asker,
    BadSignature,
    Budget,
    KeyRing,
    Provider,
    ProviderError,
    UnreadableBody,
    Words,
    unreadable,
)
from receiver.reading import (
    as_far_as_read,
    ask_once_more,
    bounded,
    contradicts_itself,
    outputs_of,
    read_failure,
    read_id,
    read_object,
    read_text,
    read_urls,
    read_word,
    segment,
    status_of,
)
from store.events import Failure, Kind, Status, Task, TaskUpdate

PREDICTION_PATH = "/model/prediction/"
JWKS_URL = "/webhooks/jwks.json"  # below the base URL, like every path

WORDS = {
    "created": Status.QUEUED,
    "starting": Status.QUEUED,
    "pending": Status.QUEUED,
    "processing": Status.PROCESSING,
    "completed": Status.SUCCEEDED,
    "succeeded": Status.SUCCEEDED,
    "failed": Status.FAILED,
    "timeout": Status.FAILED,
    "cancelled": Status.CANCELED,
    "canceled": Status.CANCELED,
}
# what stands beside the payload of a push; OK can be said of a failed task, so it comes second
PUSH_WORDS = WORDS | {"ok": Status.SUCCEEDED, "error": Status.FAILED}
PUSH_WORDS_THAT_TELL = WORDS | {"error": Status.FAILED}
EVENT_KINDS = {
    "image.task.terminal": Kind.IMAGE,
    "video.task.terminal": Kind.VIDEO,
    "audio.task.terminal": Kind.AUDIO,
}
PREDICTION_FIELDS = {"status", "outputs", "model", "metrics", "created_at"}
CODES: Mapping[str, Words] = {
    "1039": Words(
        "the input was refused by Atlas Cloud's moderation", "输入内容未通过 Atlas Cloud 内容审核"
    ),
}
"""What its error codes mean."""

OUTPUT_FIELDS = ("outputs", "output", "files")

# what the predictions page advises
PACE = timedelta(seconds=5)
IMAGE_PACE = timedelta(seconds=2)

TIMESTAMP_HEADER = "x-atlascloud-webhook-timestamp"
KEY_ID_HEADER = "x-atlascloud-webhook-key-id"
SIGNATURE_HEADER = "x-atlascloud-webhook-signature-ed25519"
# holds the same signature once the legacy HMAC is gone, and hex until then
BARE_SIGNATURE_HEADER = "x-atlascloud-webhook-signature"
TOLERANCE = timedelta(seconds=300)

_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_SIGNATURE = re.compile(r"([A-Za-z0-9_-]{86})(==)?")  # base64url of 64 bytes


class AtlasCloud:
    name = "atlascloud"
    title = "Atlas Cloud"
    base_url = "https://api.atlascloud.ai/api/v1"
    budget = Budget(requests_per_second=10, concurrency=8)
    pushes = True
    signed = True
    words = frozenset(PUSH_WORDS)
    codes = CODES

    def owns(self, status: int, body: Any) -> bool:
        found = read_object(body)
        if _error_code(found) is not None:
            return status in (200, found["code"])
        data = read_object(found.get("data"))
        named = read_id(data.get("id")) is not None and bool(data.keys() & PREDICTION_FIELDS)
        return status == 200 and (named or read_word(_prediction(found).get("status")) is not None)

    def challenge(self, body: Any) -> Any:
        return NO_CHALLENGE

    async def verify(
        self, headers: Mapping[str, str], raw: bytes, keys: KeyRing, now: datetime
    ) -> None:
        """Ed25519 over `<timestamp>.<body>`. The legacy HMAC is never accepted."""
        timestamp = _fresh_timestamp(headers, now)
        signature = _signature(headers)
        key_id = headers.get(KEY_ID_HEADER)
        key = await keys.ed25519(JWKS_URL, key_id, now) if key_id else None
        if key is None:
            raise BadSignature("no public key has the id the push names")
        try:
            message = timestamp.encode("ascii") + b"." + raw
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except InvalidSignature:
            raise BadSignature("the signature does not match") from None

    def parse(self, body: Any) -> TaskUpdate:
        push = read_object(body)
        task_id = read_id(push.get("session_id"))
        if task_id is None:
            raise UnreadableBody("Atlas Cloud: a push that names no task")
        payload = read_object(push.get("payload"))
        word = read_word(payload.get("status")) or read_word(push.get("status"))
        if word is None:
            raise UnreadableBody("Atlas Cloud: a push without a status")
        if contradicts_itself(push, PUSH_WORDS_THAT_TELL):
            raise UnreadableBody("Atlas Cloud: a push that contradicts itself")
        failure = read_failure(
            payload.get("error") or push.get("error"),
            payload.get("error_code") or push.get("error_code"),
            word,
        )
        kind = EVENT_KINDS.get(read_text(push.get("event_type")) or "")
        return _update(payload, task_id, status_of(word, PUSH_WORDS), word, kind, failure)

    def named(self, body: Any) -> str | None:
        return read_id(read_object(body).get("session_id"))

    async def query(self, ask: Asker, task: Task, now: datetime) -> TaskUpdate:
        answer = await ask.get(PREDICTION_PATH + segment(task.provider_task_id))
        body = read_object(answer.body)
        found = _prediction(body)
        word = read_word(found.get("status"))
        if word is None:
            raise self._no_prediction(answer, now)
        if contradicts_itself(body, WORDS):
            raise UnreadableBody("Atlas Cloud: an answer that contradicts itself")
        task_id = read_id(found.get("id"))
        if task_id not in (None, task.provider_task_id):
            raise ProviderError("Atlas Cloud: an answer about another task", code=Code.OTHER_TASK)
        failure = read_failure(found.get("error"), found.get("error_code"), word)
        update = _update(found, task_id, status_of(word, WORDS), word, task.kind, failure)
        return ask_once_more(as_far_as_read(update, answer), task)

    def _no_prediction(self, answer: Answer, now: datetime) -> ProviderError:
        # {"code": 401, "msg": …, "data": null} means the same under any HTTP status
        code = _error_code(read_object(answer.body))
        if code is not None:
            return refuse(code, {}, answer.body, now, own=True)
        return unreadable(PROVIDER, answer, "an answer that holds no prediction")

    def pace(self, task: Task, now: datetime) -> timedelta:
        return IMAGE_PACE if task.kind is Kind.IMAGE else PACE


def _fresh_timestamp(headers: Mapping[str, str], now: datetime) -> str:
    timestamp = headers.get(TIMESTAMP_HEADER, "")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise BadSignature("no readable timestamp")
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        raise BadSignature("the timestamp is too far from now")
    return timestamp


def _signature(headers: Mapping[str, str]) -> bytes:
    text = headers.get(SIGNATURE_HEADER) or headers.get(BARE_SIGNATURE_HEADER) or ""
    match = _SIGNATURE.fullmatch(text)
    if match is None:
        raise BadSignature("no Ed25519 signature")
    return base64.urlsafe_b64decode(match[1] + "==")


def _prediction(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The prediction of an answer: the docs show it wrapped and bare."""
    found = read_object(body.get("data"))
    return body if not found and read_id(body.get("id")) else found


def _error_code(body: Mapping[str, Any]) -> int | None:
    """The HTTP status in an error of the documented shape: code and msg, and data that is null."""
    code = body.get("code")
    if type(code) is not int or not 400 <= code <= 599 or not read_text(body.get("msg")):
        return None
    return None if body.get("data") else code


def _update(
    found: Mapping[str, Any],
    task_id: str | None,
    status: Status,
    word: str,
    kind: Kind | None,
    failure: Failure,
) -> TaskUpdate:
    urls = [url for field in OUTPUT_FIELDS for url in read_urls(found.get(field))]
    succeeded = status is Status.SUCCEEDED
    outputs = bounded(outputs_of(list(dict.fromkeys(urls)), kind)) if succeeded else ()
    return TaskUpdate(
        status=status,
        provider_status=word,
        provider_task_id=task_id,
        kind=kind or (outputs[0].kind if outputs else None),
        model=read_text(found.get("model")),
        outputs=outputs,
        error=failure if status is Status.FAILED else None,
        usage=read_object(found.get("metrics")) or None,
    )


PROVIDER: Provider = AtlasCloud()
