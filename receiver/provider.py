"""What a provider adapter is: its name, its pace, and how to read what it says.

To add one: a file in receiver/providers/ that ends in `PROVIDER: Provider = <Class>()`, and a
folder of recorded bodies in tests/providers/fixtures/. Discovery, settings and the conformance
suite find it from there.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Protocol

from receiver.failures import Blame, Code
from store.events import Task, TaskUpdate

NO_CHALLENGE: Any = object()
"""What `challenge` returns for a body that holds none (null is a value a challenge may have)."""


class ProviderError(Exception):
    """Something a provider said or failed to say. The fields carry what to do next.

    code: a Code or the provider's own. blame: who it concerns. permanent: the provider itself says
    that asking again about this task will not help. retry_after: how long it asked us to wait.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "provider_error",
        blame: Blame = Blame.TASK,
        permanent: bool = False,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.blame = blame
        self.permanent = permanent
        self.retry_after = retry_after


class UnreadableBody(ProviderError):
    """Not this provider's shape. blame: WAY for an answer that nothing shows to be the provider's."""

    def __init__(self, message: str, *, blame: Blame = Blame.TASK) -> None:
        super().__init__(message, code=Code.UNREADABLE, blame=blame)


class BadSignature(Exception):
    """A signed provider's push whose signature is missing, wrong or too old."""


class KeysUnavailable(Exception):
    """The page of a provider's public keys could not be read: whether a push is signed is unknown."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider's answer to a question: status, lower-case headers, and the body read as JSON.

    cut: the answer was so large that its end was not read; members are missing in the body.
    """

    status: int
    headers: Mapping[str, str]
    body: Any
    cut: bool = False


class Asker(Protocol):
    """Asks one provider, with its base URL and key already in place (receiver/asking.py)."""

    async def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        raw_statuses: tuple[int, ...] = (),
    ) -> Answer:
        """GET a path below the base URL.

        Answers of 200 come back; everything else raises ProviderError with the next decision in
        it, unless its status is named in raw_statuses: then it comes back too (body None when it
        is not JSON). path must be made of literal text and `segment()` values.
        """


class KeyRing(Protocol):
    """Public keys of a provider that signs its pushes, cached (receiver/keyring.py)."""

    async def ed25519(self, url: str, key_id: str, now: datetime) -> bytes | None:
        """The 32-byte public key of that id in the JWKS at url, or None when it has none.

        Raises KeysUnavailable when the page could not be read, and older ones have none either.
        """


def unreadable(provider: Provider, answer: Answer, what: str) -> ProviderError:
    """The error for an answer that says nothing of its task.

    One that is the provider's own says that the provider is there. One that was cut would be cut
    again: asking once more does not help.
    """
    own = provider.owns(answer.status, answer.body)
    if answer.cut and own:
        what = f"{provider.title}: the answer is too large to be read"
        return ProviderError(what, code=Code.TOO_LARGE, permanent=True)
    return UnreadableBody(f"{provider.title}: {what}", blame=Blame.TASK if own else Blame.WAY)


@dataclass(frozen=True, slots=True)
class Words:
    """What a provider's own code means, as a sentence in each language of the dashboard."""

    english: str
    chinese: str


@dataclass(frozen=True, slots=True)
class Budget:
    """How hard a provider may be asked."""

    requests_per_second: float
    concurrency: int


class Provider(Protocol):
    """One generation service. Everything that differs between providers is here."""

    name: str
    title: str
    base_url: str
    budget: Budget
    pushes: bool  # can it push to a callback URL at all?
    signed: bool  # does it sign what it pushes?
    words: frozenset[str]  # every status word it is known to use, casefolded
    codes: Mapping[str, Words]  # its error codes

    def owns(self, status: int, body: Any) -> bool:
        """True when an answer with this HTTP status has a shape that the provider documents.

        Anything may answer in a provider's place: a gateway, a login page, a server at a wrong base
        URL. An error ends a task only in the provider's own shape.
        """

    def challenge(self, body: Any) -> Any:
        """The value to echo, or NO_CHALLENGE."""

    async def verify(
        self, headers: Mapping[str, str], raw: bytes, keys: KeyRing, now: datetime
    ) -> None:
        """Check a push's signature (lower-case header names). Raises BadSignature."""

    def parse(self, body: Any) -> TaskUpdate:
        """Read a push. Raises UnreadableBody."""

    def named(self, body: Any) -> str | None:
        """The id of the task that a push names, whatever else it says; None when it names none."""

    async def query(self, ask: Asker, task: Task, now: datetime) -> TaskUpdate:
        """Ask how a task stands. Raises ProviderError."""

    def pace(self, task: Task, now: datetime) -> timedelta:
        """How long to wait before the next question about an open task that expects no push."""


@cache
def providers() -> Mapping[str, Provider]:
    """Every adapter in receiver/providers, by name."""
    package = importlib.import_module("receiver.providers")
    found: dict[str, Provider] = {}
    for module in pkgutil.iter_modules(package.__path__):
        provider: Provider = importlib.import_module(f"receiver.providers.{module.name}").PROVIDER
        found[provider.name] = provider
    return found
