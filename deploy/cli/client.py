"""A small synchronous client for Taskbell's own API."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from deploy import __version__
from deploy.cli.errors import CommandError, CursorGone, KeyTooWeak, ServerAway, UsageError
from receiver.way import STRAIGHT, Way

TIMEOUT_SECONDS = 10.0
_PAGE = 100
_DETAIL = 500
_KEY = re.compile("[!-~]+")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Json


@dataclass(frozen=True, slots=True)
class Listing:
    """Rows of a list, and the cursor behind the last one when there are more."""

    rows: list[Json]
    more: str | None


class Client:
    """Talks to one server, and shows the key to no other. Every call may raise CommandError."""

    def __init__(
        self,
        url: str,
        api_key: str | None,
        transport: httpx.BaseTransport | None = None,
        way: Way = STRAIGHT,
    ) -> None:
        self._url = url
        self._api_key = api_key
        self._way = way
        headers = {"accept": "application/json", "user-agent": f"taskbell/{__version__}"}
        if api_key is not None:
            headers["authorization"] = f"Bearer {_header_safe(api_key)}"
        try:
            self._http = httpx.Client(
                base_url=url,
                headers=headers,
                timeout=TIMEOUT_SECONDS,
                transport=transport or transport_of(way),
                trust_env=False,  # a proxy variable must not send the key elsewhere
                follow_redirects=False,
            )
        except httpx.InvalidURL:
            raise UsageError(f"TASKBELL_URL is {url!r}, not an http(s) address") from None

    @property
    def url(self) -> str:
        return self._url

    @property
    def way(self) -> Way:
        """How the server is reached, for requests to it that have no key."""
        return self._way

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def get(self, path: str, params: Mapping[str, str | int | None] | None = None) -> Json:
        given = {name: value for name, value in (params or {}).items() if value is not None}
        return self._object(self._send("GET", path, params=given))

    def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Values of None or {} are left out of the body."""
        given = {name: value for name, value in body.items() if value not in (None, {})}
        response = self._send("POST", path, json=given)
        return Answer(response.status_code, self._object(response))

    def patch(self, path: str, body: Mapping[str, Any]) -> Answer:
        response = self._send("PATCH", path, json=dict(body))
        return Answer(response.status_code, self._object(response))

    def delete(self, path: str) -> None:
        self._send("DELETE", path)

    def listing(
        self,
        path: str,
        params: Mapping[str, str | None],
        *,
        limit: int,
        cursor_name: str = "cursor",
    ) -> Listing:
        """Up to limit rows of a list, over as many pages as it takes."""
        rows: list[Json] = []
        cursor = params.get(cursor_name)
        while True:
            asked = {**params, cursor_name: cursor, "limit": min(limit - len(rows), _PAGE)}
            page = self.get(path, asked)
            found, following = self._page(page)
            rows += found
            # the server may name a next cursor at the end too, for a reader that comes again
            if not found or following in (None, cursor):
                return Listing(rows[:limit], None)
            if len(rows) >= limit:
                return Listing(rows[:limit], following)
            cursor = following

    def _page(self, body: Json) -> tuple[list[Json], str | None]:
        rows = body.get("data")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self._not_taskbell()
        following = body.get("next_cursor")
        return rows, None if following is None else str(following)

    @contextmanager
    def stream(
        self, path: str, params: Mapping[str, str], headers: Mapping[str, str], *, silence: float
    ) -> Iterator[Iterator[bytes]]:
        """An endless answer, in pieces as they come. silence: seconds without any until it is away."""
        timeout = httpx.Timeout(TIMEOUT_SECONDS, read=silence)
        with (
            self._troubles_told(),
            self._http.stream(
                "GET", path, params=params, headers=headers, timeout=timeout
            ) as response,
        ):
            if not response.is_success:
                response.read()
                raise self._refusal(response)
            yield response.iter_bytes()

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        with self._troubles_told():
            response = self._http.request(method, path, **content)
        if not response.is_success:
            raise self._refusal(response)
        return response

    @contextmanager
    def _troubles_told(self) -> Iterator[None]:
        try:
            yield
        except UnicodeEncodeError:
            raise UsageError("an argument holds bytes that are not text") from None
        except httpx.ConnectError as error:
            raise self._no_connection(error) from None
        except httpx.TimeoutException:
            raise ServerAway(f"{self._url} did not answer in {TIMEOUT_SECONDS:.0f} s") from None
        except httpx.TransportError:
            raise ServerAway(f"{self._url} broke off the conversation") from None
        except httpx.RequestError:
            raise self._not_taskbell() from None

    def _no_connection(self, error: httpx.ConnectError) -> CommandError:
        trouble = tls_trouble(error)
        if trouble is not None:
            return CommandError(f"no safe connection to {self._url}: {trouble}")
        return ServerAway(
            f"no Taskbell server at {self._url}: start one with `taskbell serve --dev`,"
            " or set TASKBELL_URL"
        )

    def _refusal(self, response: httpx.Response) -> CommandError:
        status = response.status_code
        if response.is_redirect:
            return CommandError(
                f"{self._url} redirects (HTTP {status}): set TASKBELL_URL to where it leads"
            )
        if status == 401 and self._api_key is None:
            return CommandError("the server wants an API key: set TASKBELL_API_KEY")
        if status == 401:
            return CommandError("the server refused TASKBELL_API_KEY")
        message = self._detail(response) or f"{self._url} answered HTTP {status}"
        if status == 403:
            return KeyTooWeak(message)
        known = _cursor_instead(response) if status == 410 else None
        if known is not None:
            return CursorGone(message, known)
        return ServerAway(message) if status == 429 or status >= 500 else CommandError(message)

    def _detail(self, response: httpx.Response) -> str | None:
        """What a problem+json body says, without our key should it be quoted there."""
        try:
            body = response.json()
        except ValueError:
            return None
        found = (body.get("detail") or body.get("title")) if isinstance(body, dict) else None
        if not isinstance(found, str):
            return None
        if self._api_key:
            found = found.replace(self._api_key, "(the API key)")
        return found[:_DETAIL]

    def _object(self, response: httpx.Response) -> Json:
        try:
            body = response.json()
        except ValueError:
            raise self._not_taskbell() from None
        if not isinstance(body, dict):
            raise self._not_taskbell()
        return body

    def _not_taskbell(self) -> CommandError:
        return CommandError(f"{self._url} did not answer as Taskbell's API: is TASKBELL_URL right?")


def transport_of(way: Way) -> httpx.HTTPTransport:
    """What the commands talk to a server through; the environment is heeded in the way alone."""
    return httpx.HTTPTransport(verify=way.tls(), proxy=way.proxy, trust_env=False)


def _cursor_instead(response: httpx.Response) -> int | None:
    """The newest or the oldest cursor, of a refusal that names one."""
    try:
        body = response.json()
    except ValueError:
        return None
    found = (body.get("newest", body.get("oldest"))) if isinstance(body, dict) else None
    return found if isinstance(found, int) else None


def segment(what: str, text: str) -> str:
    """An id as one segment of a path. Raises UsageError for what cannot be one.

    >>> segment("key", "key_1/../../tasks")
    'key_1%2F..%2F..%2Ftasks'
    """
    if text.strip(" .") == "":
        raise UsageError(f"{what} {text!r} is not an id")
    return quote(text.encode("utf-8", "replace"), safe="")


def _header_safe(api_key: str) -> str:
    if not _KEY.fullmatch(api_key):
        raise UsageError(
            "TASKBELL_API_KEY holds blanks or letters outside ASCII; a key has neither"
        )
    return api_key


def tls_trouble(error: BaseException) -> str | None:
    """Return what TLS found wrong on the way to an error, or None when it was something else."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, ssl.SSLError):
            return cause.reason or "TLS failed"
        cause = cause.__cause__ or cause.__context__
    return None
