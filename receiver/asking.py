"""Asks a provider over HTTP, and turns whatever comes back into an Answer or a ProviderError."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx

from receiver.body import BadBody, BodyTooLarge, parse_json
from receiver.failures import Blame, Code
from receiver.provider import Answer, ProviderError
from receiver.transport import AiohttpTransport
from store.clock import Clock
from store.retry_after import retry_after

MAX_ANSWER_BYTES = 1024 * 1024
_MAX_WORDS = 200
_TIMEOUT = httpx.Timeout(15, connect=5).as_dict()


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
        transport: httpx.AsyncBaseTransport | None = None,
        deadline_seconds: float = 20,
    ) -> None:
        """Make one that keeps up to `concurrency` connections; transport: not to the network.

        deadline_seconds is for one whole question: time-outs of a transport start anew with every
        byte. Raises ValueError, without the key, for a key that no header can carry.
        """
        self._transport = transport or AiohttpTransport(concurrency)
        self._base_url = base_url.rstrip("/")
        self._headers = _headers(api_key, user_agent)
        self._key = (api_key or "").encode()
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
        status, body = response.status_code, None
        try:
            body = parse_json(self._without_key(await _read(response)))
        except (BadBody, BodyTooLarge) as error:
            if status == 200 and status not in raw_statuses:
                code = Code.TOO_LARGE if isinstance(error, BodyTooLarge) else Code.NOT_JSON
                raise self._trouble(f"200, but {error}", code) from None
        finally:
            await response.aclose()
        if status != 200 and status not in raw_statuses:
            raise refuse(status, response.headers, body, self._clock(), asked=self._asked)
        return Answer(status, response.headers, body)

    def _request(self, path: str, params: Mapping[str, str] | None) -> httpx.Request:
        query = f"?{urlencode(params)}" if params else ""
        return httpx.Request(
            "GET",
            self._base_url + path + query,
            headers=self._headers,
            extensions={"timeout": _TIMEOUT},
        )

    def _without_key(self, raw: bytes) -> bytes:
        """Some say which key it was that they did not like, and what they say is kept and logged."""
        return raw.replace(self._key, b"...") if self._key else raw

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


async def _read(response: httpx.Response) -> bytes:
    # identity was asked for, and inflating one small chunk may fill the memory
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise BadBody("the body is compressed")
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise BodyTooLarge(f"the body is over {MAX_ANSWER_BYTES} bytes")
    return bytes(body)


def _network_words(error: httpx.HTTPError) -> str:
    # a failed connection says which name or certificate was wrong; others may quote bytes
    name = type(error).__name__
    return f"{name} ({_clean(str(error))})" if isinstance(error, httpx.ConnectError) else name


def refuse(
    status: int, headers: Mapping[str, str], body: Any, now: datetime, *, asked: str = "GET"
) -> ProviderError:
    """The error for an answer that is no success, with the next decision in it. Pure.

    headers have lower-case names; body is the parsed JSON or None. asked (method and host) starts
    the message; of the body only a short error message is quoted, and nothing when the key was
    refused, because some providers quote the key.
    """
    wait = retry_after(headers.get("retry-after"), now)
    words = _error_words(body)
    said = f"{asked}: {status} ({words})" if words else f"{asked}: {status}"
    match status:
        case 401 | 403:
            return _wide(
                f"{asked}: {status}, the API key was refused", Code.KEY_REFUSED, Blame.KEY, wait
            )
        case 402:
            return _wide(said, Code.BALANCE, Blame.KEY, wait)
        case 429:
            return _wide(said, Code.RATE_LIMITED, Blame.PROVIDER, wait)
        case 404:
            return ProviderError(said, code=Code.NOT_FOUND, permanent=True)
        case 408 | 425:
            return ProviderError(said, code=Code.NOT_NOW, retry_after=wait)
        case _ if status >= 500:
            return _wide(said, Code.UNAVAILABLE, Blame.PROVIDER, wait)
        case _ if status >= 400:
            return ProviderError(said, code=Code.REFUSED, permanent=True)
        case _ if status >= 300:
            return _wide(
                f"{asked}: {status}, redirects are not followed", Code.REDIRECT, Blame.WAY, None
            )
        case _:
            return ProviderError(said, code="unexpected_status")


def _wide(message: str, code: str, blame: Blame, wait: timedelta | None) -> ProviderError:
    return ProviderError(message, code=code, blame=blame, retry_after=wait)


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
    return "".join(filter(str.isprintable, without_queries))[:_MAX_WORDS]
