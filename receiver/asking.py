"""Asks a provider over HTTP, and turns whatever comes back into an Answer or a ProviderError."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from receiver.body import BadBody, BodyTooLarge, parse_json
from receiver.provider import Answer, ProviderError
from store.clock import Clock
from store.retry_after import retry_after

MAX_ANSWER_BYTES = 1024 * 1024
_MAX_WORDS = 200


def make_client(
    base_url: str,
    api_key: str | None,
    *,
    user_agent: str,
    concurrency: int,
    transport: httpx.AsyncBaseTransport | None = None,
) -> httpx.AsyncClient:
    """A client for one provider: no proxies from the environment, no redirects, no cookies.

    Raises ValueError, without the key, for a key that no header can carry.
    """
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": user_agent,
    }
    if api_key:
        headers["Authorization"] = f"Bearer {_sendable(api_key)}"
    return httpx.AsyncClient(
        base_url=base_url,
        headers=headers,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        timeout=httpx.Timeout(15, connect=5),
        limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        trust_env=False,
        follow_redirects=False,
        transport=transport,
    )


def _sendable(api_key: str) -> str:
    # httpx and h11 would quote the key in their errors
    if not re.fullmatch(r"[!-~]+", api_key):
        raise ValueError("an API key may only have visible ASCII characters")
    return api_key


class HttpAsker:
    """The Asker of one provider; see receiver/provider.py.

    deadline_seconds is for one whole question: httpx's own time-outs start anew with every byte.
    """

    def __init__(
        self, client: httpx.AsyncClient, clock: Clock, *, deadline_seconds: float = 20
    ) -> None:
        self._client = client
        self._clock = clock
        self._deadline_seconds = deadline_seconds
        self._asked = f"GET {client.base_url.host}"

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
            raise self._trouble("no answer in time", "timeout") from None
        except httpx.HTTPError as error:
            raise self._trouble(_network_words(error), "unreachable") from None
        except (httpx.InvalidURL, UnicodeError):
            raise ProviderError(
                f"{self._asked}: no URL can be made of this task's id",
                code="bad_path",
                permanent=True,
            ) from None

    async def _ask(
        self, path: str, params: Mapping[str, str] | None, raw_statuses: tuple[int, ...]
    ) -> Answer:
        async with self._client.stream("GET", path, params=params) as response:
            status, headers = response.status_code, dict(response.headers)
            body = None
            try:
                body = parse_json(await _read(response))
            except (BadBody, BodyTooLarge) as error:
                if status == 200 and status not in raw_statuses:
                    code = "too_large" if isinstance(error, BodyTooLarge) else "not_json"
                    raise self._trouble(f"200, but {error}", code) from None
        if status != 200 and status not in raw_statuses:
            raise refuse(status, headers, body, self._clock(), asked=self._asked)
        return Answer(status, headers, body)

    def _trouble(self, what: str, code: str) -> ProviderError:
        return ProviderError(f"{self._asked}: {what}", code=code, provider_wide=True)


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
            return _wide(f"{asked}: {status}, the API key was refused", "key_refused", wait)
        case 402:
            return _wide(said, "balance", wait)
        case 429:
            return _wide(said, "rate_limited", wait)
        case 404:
            return ProviderError(said, code="not_found", permanent=True)
        case 408 | 425:
            return ProviderError(said, code="not_now", retry_after=wait)
        case _ if status >= 500:
            return _wide(said, "unavailable", wait)
        case _ if status >= 400:
            return ProviderError(said, code="refused", permanent=True)
        case _ if status >= 300:
            return _wide(f"{asked}: {status}, redirects are not followed", "redirect", None)
        case _:
            return ProviderError(said, code="unexpected_status")


def _wide(message: str, code: str, wait: timedelta | None) -> ProviderError:
    return ProviderError(message, code=code, provider_wide=True, retry_after=wait)


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
