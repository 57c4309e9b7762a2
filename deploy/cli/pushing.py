"""One push over HTTP, and what the server said to it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from deploy.cli.client import transport_of
from deploy.cli.errors import CommandError, UsageError
from deploy.cli.frame import Surroundings
from deploy.cli.signer import Signer
from deploy.demo.cases import Case
from receiver.provider import UnreadableBody, providers
from receiver.way import STRAIGHT, Way

TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Pushed:
    """A push and its answer. task_id: the provider's, as the server will read it."""

    case: Case
    body: Mapping[str, Any]
    status: int
    answer: str
    seconds: float
    taken: bool
    task_id: str | None
    ends: bool

    @property
    def shown_body(self) -> str:
        return json.dumps(self.body, ensure_ascii=False)

    def as_json(self) -> dict[str, Any]:
        return {
            "case": self.case.full_name,
            "body": self.body,
            "status": self.status,
            "answer": self.answer,
            "seconds": round(self.seconds, 6),
        }


def new_client(way: Way = STRAIGHT) -> httpx.Client:
    """To push with: as plain as a provider's, without our API key."""
    return httpx.Client(
        timeout=TIMEOUT_SECONDS,
        transport=transport_of(way),
        follow_redirects=False,
        trust_env=False,
    )


def push(
    http: httpx.Client,
    url: str,
    case: Case,
    body: Mapping[str, Any],
    signer: Signer | None,
    around: Surroundings,
) -> Pushed:
    """Send one. Raises CommandError when nothing answers, UsageError for what cannot be sent."""
    raw = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")
    headers = {"content-type": "application/json", "user-agent": "taskbell trigger"}
    if signer is not None:
        headers |= signer.headers(body, raw, int(around.clock().timestamp()))
    began = around.monotonic()
    response = _post(http, url, headers, raw)
    task_id, ends = _read(case, body)
    return Pushed(
        case=case,
        body=body,
        status=response.status_code,
        answer=response.text,
        seconds=around.monotonic() - began,
        taken=response.is_success and (case.about_a_task or _echoes(response, body)),
        task_id=task_id,
        ends=ends,
    )


def _post(http: httpx.Client, url: str, headers: Mapping[str, str], raw: bytes) -> httpx.Response:
    try:
        return http.post(url, headers=headers, content=raw)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise UsageError("--url is not an http(s) address") from None
    except UnicodeEncodeError:
        raise UsageError("--set: a header of the push cannot hold that") from None
    except httpx.TransportError:
        # the URL is a secret: only where it leads is told
        where = httpx.URL(url).copy_with(raw_path=b"/")
        raise CommandError(
            f"no answer from {where}, where callback URLs lead (TASKBELL_PUBLIC_URL)"
        ) from None


def _echoes(response: httpx.Response, body: Mapping[str, Any]) -> bool:
    with contextlib.suppress(ValueError, AttributeError):
        return bool(response.json().get("challenge") == body.get("challenge"))
    return False


def _read(case: Case, body: Mapping[str, Any]) -> tuple[str | None, bool]:
    """The task that a push names, and whether it ends it, as the server reads it."""
    if not case.about_a_task:
        return None, False
    try:
        update = providers()[case.provider].parse(body)
    except UnreadableBody:
        return None, False
    return update.provider_task_id, update.status.final
