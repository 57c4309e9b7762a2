"""Addresses like those that are given out, sent through the public URL: does anything refuse them?

Proxies and firewalls have rules about paths: no part that begins with a dot or looks like a file's
name, none that is long, nothing that looks like SQL. Tokens here are made up, so that Taskbell
itself answers 404 and keeps nothing.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from deploy.cli.certificates import trusted
from deploy.cli.checkup.finding import Finding, Level, fail, ok, skip, warn
from receiver.problems import MEDIA_TYPE
from receiver.provider import Provider
from receiver.spelling import PREFIX
from receiver.tokens import MAX_CHARACTERS

_TIMEOUT_SECONDS = 3.0
_CHECK = "callback paths"
_HAND_ON = "whatever stands in front must hand on each POST below /callbacks/ as it came"
_BASE_64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_POLICY = "default-src 'none'"
"""What every answer of Taskbell's has, pages included, at the front of its policy."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An address to try. what: in words. level: of the finding when something refuses it."""

    what: str
    url: str
    level: Level
    todo: str
    method: str = "POST"


def samples(callback_url: str, adapters: Mapping[str, Provider]) -> Iterator[Sample]:
    """Addresses of every kind that is given out. callback_url: one that the server has just made."""
    before, _, rest = callback_url.rpartition("/callbacks/")
    length = len(rest.rpartition("/")[2])

    def callback(name: str, token: str) -> str:
        return f"{before}/callbacks/{name}/{token}"

    for name, adapter in adapters.items():
        if adapter.pushes:
            url = callback(name, _token(length))
            yield Sample(f"a callback URL of {adapter.title}", url, Level.FAIL, _HAND_ON)
    longest = callback("minimax", _token(MAX_CHARACTERS - 100))
    todo = f"{_HAND_ON}, also a long one; or give callback URLs less metadata"
    yield Sample("a callback URL with much metadata", longest, Level.WARN, todo)
    todo = f"{_HAND_ON}; or make new callback URLs: they have letters and digits alone"
    for first, said in ((".eJ", "a dot in front"), ("eyJ", "a dot within")):
        older = callback("minimax", f"{first}{_noise(130)}.{_noise(20)}--{_noise(18)}_-")
        yield Sample(f"an older callback URL, with {said}", older, Level.WARN, todo)
    todo = "fine, if only /callbacks/ is to be reached from outside"
    login = f"{before}/login?once={_noise(64).lower()}"
    yield Sample("a link to sign in", login, Level.SKIP, todo, "GET")
    yield Sample("the API", f"{before}/v1/events/stream", Level.SKIP, todo, "GET")


def _token(length: int) -> str:
    return PREFIX + _noise(length - len(PREFIX), "abcdefghijklmnopqrstuvwxyz234567")


def _noise(length: int, letters: str = _BASE_64) -> str:
    return "".join(random.choices(letters, k=length))  # noqa: S311 - nothing is kept secret by it


def check(
    callback_url: str,
    adapters: Mapping[str, Provider],
    transport: httpx.BaseTransport | None = None,
) -> Sequence[Finding]:
    """Try each kind, and name what refused which. Nothing when the server is out of reach."""
    found, passed = [], 0
    timeout = _TIMEOUT_SECONDS
    with httpx.Client(
        timeout=timeout, verify=trusted(), trust_env=False, transport=transport
    ) as client:
        for sample in samples(callback_url, adapters):
            try:
                content = b"{}" if sample.method == "POST" else None
                answer = client.request(sample.method, sample.url, content=content)
            except httpx.HTTPError as error:
                found.append(_refused(sample, f"gets no answer ({type(error).__name__})"))
                continue
            if _is_ours(answer):
                passed += 1
            else:
                found.append(_refused(sample, f"is answered {who(answer)}"))
    if passed:
        found.insert(0, ok(_CHECK, f"{passed} kinds of addresses reach this server"))
    return found


def _is_ours(answer: httpx.Response) -> bool:
    media_type = str(answer.headers.get("content-type", ""))
    policy = str(answer.headers.get("content-security-policy", ""))
    return media_type.startswith(MEDIA_TYPE) or policy.startswith(_POLICY)


def who(answer: httpx.Response) -> str:
    """Say what answered, as far as it names itself, and how."""
    name = re.sub(r"[^\w./ ()-]", "", answer.headers.get("server", ""))[:60].strip()
    where = ""
    if answer.is_redirect:
        where = ", a redirect that providers do not follow"
    return f"HTTP {answer.status_code} by {name or 'something that does not name itself'}{where}"


def _refused(sample: Sample, how: str) -> Finding:
    parts = urlsplit(sample.url)
    shown = re.sub(r"(/callbacks/[^/]+/).*", r"\1…", parts.path)
    text = f"{sample.what} ({sample.method} {shown}) {how}, and not by Taskbell"
    match sample.level:
        case Level.FAIL:
            return fail(_CHECK, text, sample.todo)
        case Level.WARN:
            return warn(_CHECK, text, sample.todo)
        case _:
            return skip(_CHECK, f"{text}: {sample.todo}")
