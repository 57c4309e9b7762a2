"""Asks a provider over HTTP, and turns whatever comes back into an Answer or a ProviderError."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx

from receiver.body import BadBody, TooManyValues, decoded, parse_loosely, parse_text
from receiver.failures import Blame, Code
from receiver.inflate import inflated, inflaters
from receiver.provider import Answer, ProviderError
from receiver.redaction import Redactor
from receiver.sieve import Sieve
from receiver.transport import AiohttpTransport
from receiver.way import STRAIGHT, Way
from store.clock import Clock
from store.retry_after import retry_after
from store.text import clean

MAX_ANSWER_BYTES = 1024 * 1024
"""Of an answer that is taken as it comes. In a larger one long strings are cut (receiver/sieve.py)."""

MAX_READ_BYTES = 32 * 1024 * 1024
"""Read of one answer at most, before and after decoding. What comes later is not waited for."""

_MAX_SIFTED_BYTES = 256 * 1024
_MAX_WORDS = 200
_TIMEOUT = httpx.Timeout(15, connect=5).as_dict()

Owns = Callable[[int, Any], bool]
"""Provider.owns: whether an answer with this status and body is the provider's own."""


def nobody_owns(_status: int, _body: Any) -> bool:
    """For what is asked of no provider in particular: no error answer is anybody's own."""
    return False


class HttpAsker:
    """The Asker of one provider; see receiver/provider.py.

    Requests go straight to an httpx transport: what httpx's client adds is cookies, redirects,
    proxies and passwords of the environment, none of which is wanted here, and half as much work
    again. close() when done.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        clock: Clock,
        *,
        user_agent: str,
        concurrency: int,
        owns: Owns = nobody_owns,
        way: Way = STRAIGHT,
        transport: httpx.AsyncBaseTransport | None = None,
        deadline_seconds: float = 20,
    ) -> None:
        """Make one that keeps up to `concurrency` connections; transport: not to the network.

        way: the proxy and the authorities. owns: tells the provider's own answers from those of what stands in its place. redact: cuts
        the key out of what is kept of an answer; answers come back as they came.

        deadline_seconds is for one whole question: time-outs of a transport start anew with every
        byte. Raises ValueError, without the key, for a key that no header can carry.
        """
        self._transport = transport or AiohttpTransport(concurrency, way)
        self._base_url = base_url.rstrip("/")
        self._headers = _headers(api_key, user_agent)
        self.redact = Redactor(api_key)
        self._owns = owns
        self._clock = clock
        self._deadline_seconds = deadline_seconds
        self._asked = f"GET {httpx.URL(base_url).host}"

    async def close(self) -> None:
        await self._transport.aclose()

    async def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        raw_statuses: tuple[int, ...] = (),
    ) -> Answer:
        # an absolute URL would take the key to another host
        if not path.startswith("/"):
            raise ValueError("a path below the base URL starts with a slash")
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await self._ask(path, params, raw_statuses)
        except ProviderError as error:
            error.args = (self.redact(str(error)),)
            raise
        except (TimeoutError, httpx.TimeoutException):
            raise self._trouble("no answer in time", Code.TIMEOUT) from None
        except httpx.HTTPError as error:
            raise self._trouble(_network_words(error), Code.UNREACHABLE) from None
        except (httpx.InvalidURL, UnicodeError):
            raise ProviderError(
                f"{self._asked}: no URL can be made of this task's id",
                code=Code.BAD_ID,
                permanent=True,
            ) from None

    async def _ask(
        self, path: str, params: Mapping[str, str] | None, raw_statuses: tuple[int, ...]
    ) -> Answer:
        response = await self._transport.handle_async_request(self._request(path, params))
        status, headers = response.status_code, response.headers
        body, cut = None, False
        try:
            raw, cut = await _read(response)
            body = self._parsed(status, raw, headers.get("content-type", ""))
        except BadBody as error:
            if status == 200 and status not in raw_statuses:
                raise self._trouble(f"200, but {error}", Code.NOT_JSON) from None
        finally:
            await response.aclose()
        if status != 200 and status not in raw_statuses:
            own = self._owns(status, body)
            raise refuse(status, headers, body, self._clock(), own=own, asked=self._asked)
        return Answer(status, headers, body, cut)

    def _parsed(self, status: int, raw: bytes, content_type: str) -> Any:
        """The body as JSON. Raises BadBody for what nobody owns, ProviderError for what is own."""
        try:
            return parse_text(decoded(raw, content_type))
        except BadBody as error:
            if status != 200 or not self._owns(status, parse_loosely(raw)):
                raise
            too_large = isinstance(error, TooManyValues)
            raise ProviderError(
                f"{self._asked}: 200, but {error}",
                code=Code.TOO_LARGE if too_large else Code.NOT_JSON,
                permanent=too_large,
            ) from None

    def _request(self, path: str, params: Mapping[str, str] | None) -> httpx.Request:
        query = f"?{urlencode(params)}" if params else ""
        return httpx.Request(
            "GET",
            self._base_url + path + query,
            headers=self._headers,
            extensions={"timeout": _TIMEOUT},
        )

    def _trouble(self, what: str, code: str) -> ProviderError:
        return ProviderError(f"{self._asked}: {what}", code=code, blame=Blame.WAY)


def _headers(api_key: str | None, user_agent: str) -> httpx.Headers:
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": user_agent,
    }
    if api_key:
        # httpx and aiohttp would quote the key in their errors
        if not re.fullmatch(r"[!-~]+", api_key):
            raise ValueError("an API key may only have visible ASCII characters")
        headers["Authorization"] = f"Bearer {api_key}"
    return httpx.Headers(headers)


async def _read(response: httpx.Response) -> tuple[bytes, bool]:
    """The body, decoded, and whether its end is missing. Raises BadBody."""
    layers = inflaters(response.headers.get("content-encoding", ""))
    head, sieve = bytearray(), None
    raw_bytes = decoded_bytes = 0
    async for chunk in _chunks(response):
        raw_bytes += len(chunk)
        for piece in inflated(chunk, layers):
            decoded_bytes += len(piece)
            if sieve is None:
                head += piece
                if len(head) <= MAX_ANSWER_BYTES:
                    continue
                sieve, piece = Sieve(_MAX_SIFTED_BYTES), bytes(head)
            sieve.feed(piece)
            if sieve.full or decoded_bytes > MAX_READ_BYTES:
                return sieve.json(), True
        if raw_bytes > MAX_READ_BYTES:
            raise BadBody(f"the body is over {MAX_READ_BYTES} bytes")
    for layer in layers:
        layer.end()
    return (bytes(head), False) if sieve is None else (sieve.json(), False)


def _chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    # httpx's own reading would decode without a bound
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101 - an async transport's
    return aiter(stream)


def _network_words(error: httpx.HTTPError) -> str:
    # a failed connection says which name or certificate was wrong; others may quote bytes
    name = type(error).__name__
    return f"{name} ({_clean(str(error))})" if isinstance(error, httpx.ConnectError) else name


def refuse(
    status: int,
    headers: Mapping[str, str],
    body: Any,
    now: datetime,
    *,
    own: bool,
    asked: str = "GET",
) -> ProviderError:
    """The error for an answer that is no success, with the next decision in it. Pure.

    headers have lower-case names; body is the parsed JSON or None. own: the provider itself said
    it. What something else said in its place is never final. asked (method and host) starts the
    message; of the body only a short error message is quoted, and nothing when the key was
    refused, because some providers quote the key.
    """
    wait = retry_after(headers.get("retry-after"), now)
    words = _error_words(body)
    said = f"{asked}: {status} ({words})" if words else f"{asked}: {status}"
    blame = Blame.PROVIDER if own else Blame.WAY
    match status:
        case 429:
            return ProviderError(said, code=Code.RATE_LIMITED, blame=blame, retry_after=wait)
        case _ if status >= 500:
            return ProviderError(said, code=Code.UNAVAILABLE, blame=blame, retry_after=wait)
        case _ if 300 <= status < 400:
            said = f"{asked}: {status}, redirects are not followed"
            return ProviderError(said, code=Code.REDIRECT, blame=Blame.WAY)
        case _ if not own:
            return _foreign(asked, status, wait)
        case 401 | 403:
            said = f"{asked}: {status}, the API key was refused"
            return ProviderError(said, code=Code.KEY_REFUSED, blame=Blame.KEY, retry_after=wait)
        case 402:
            return ProviderError(said, code=Code.BALANCE, blame=Blame.KEY, retry_after=wait)
        case 404 | 410:
            return ProviderError(said, code=Code.NOT_FOUND, permanent=True)
        case 408 | 425:
            return ProviderError(said, code=Code.NOT_NOW, retry_after=wait)
        case _ if status >= 400:
            return ProviderError(said, code=Code.REFUSED, permanent=True)
        case _:
            return ProviderError(said, code=Code.NOT_NOW, retry_after=wait)


def _foreign(asked: str, status: int, wait: timedelta | None) -> ProviderError:
    return ProviderError(
        f"{asked}: {status}, but not in the provider's own shape: a proxy or another server"
        " answered in its place, or the base URL is wrong",
        code=Code.FOREIGN,
        blame=Blame.WAY,
        retry_after=wait,
    )


def _error_words(body: Any) -> str:
    """The error message of the shapes in use: msg, message, error, or error.message."""
    if not isinstance(body, dict):
        return ""
    error = body.get("error")
    nested = error.get("message") if isinstance(error, dict) else None
    found = (body.get("msg"), body.get("message"), error, nested)
    return next((_clean(words) for words in found if words and isinstance(words, str)), "")


def _clean(words: str) -> str:
    without_queries = re.sub(r"\?\S+", "?…", words[: 10 * _MAX_WORDS])  # URLs may be signed
    return clean("".join(filter(str.isprintable, without_queries)), _MAX_WORDS)
