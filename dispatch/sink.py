"""What a sink is: how an event is written for one kind of receiver, and how its answer is judged.

To add one: a file in dispatch/sinks/ that ends in `SINK: Sink = <Class>()`. Its name is what
a subscription's `format` says.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Protocol

from dispatch.service import Service


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it leaves: body is the exact JSON that was stored when it was recorded.

    attempt: which try this is, from 1; a replay begins anew.
    """

    id: str
    type: str
    source: str  # /taskbell/minimax
    subject: str  # task_…
    time: datetime
    body: bytes
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Target:
    """Where an event goes: the parts of a subscription that a sink may use, secrets in clear.

    secrets: the signing secrets, newest first; two during a rotation. language: of what people
    read. service_secret: what a chat service wants messages signed with.
    """

    subscription_id: str
    url: str
    secrets: tuple[str, ...]
    headers: Mapping[str, str]
    language: str = "en"
    service_secret: str | None = None
    shape: str | None = None
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, ready to send. instead: what to send when the receiver cannot take it."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    instead: Request | None = None
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: lower-case header names, the body's first 64 KiB, and how long it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float


class Result(StrEnum):
    """What an attempt came to."""

    DELIVERED = "delivered"
    RETRY = "retry"  # try again on the schedule
    REFUSED = "refused"  # never wants to hear from us again: disable the subscription


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on one attempt. retry_after: the least wait the receiver asked for.

    unfit: the receiver cannot take this request; what it has `instead` may do at once. doubt: how
    reasons of a refusal begin that is none yet: when several attempts end with it, it is one.
    """

    result: Result
    reason: str = ""
    retry_after: timedelta | None = None
    unfit: bool = False
    doubt: str | None = None


class CannotRender(ValueError):
    """Nothing can be sent for this event to this target; the message says why, without secrets."""


class Sink(Protocol):
    """One format. Both methods are pure. service: the one it is for; None takes any URL."""

    name: str

    @property
    def service(self) -> Service | None: ...

    def render(self, event: Event, target: Target, now: datetime) -> Request:
        """The request to send. The same event makes the same body on every attempt.

        Two things may differ: a service's own signature in it, and a plainer message where
        earlier attempts with a fuller one failed. Raises CannotRender.
        """

    def judge(self, answer: Answer, now: datetime) -> Outcome:
        """What the receiver's answer means."""


@cache
def sinks() -> Mapping[str, Sink]:
    """Every sink in dispatch/sinks, by name."""
    package = importlib.import_module("dispatch.sinks")
    found: dict[str, Sink] = {}
    for module in pkgutil.iter_modules(package.__path__):
        sink: Sink = importlib.import_module(f"dispatch.sinks.{module.name}").SINK
        found[sink.name] = sink
    return found
