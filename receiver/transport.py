"""httpx over aiohttp's connections: httpx's own pool slows down with every request in flight."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import httpx
from yarl import URL

from receiver.way import STRAIGHT, Way

_CHUNK_BYTES = 64 * 1024


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends requests that have no body. It keeps connections and nothing else.

    Cookies, redirects and compression are left alone, and so is the environment: the way says what
    proxy there is. The session is opened by the first request, because aiohttp wants a running loop
    for it.
    """

    def __init__(self, connections: int, way: Way = STRAIGHT) -> None:
        self._connections = connections
        self._way = way
        self._proxy, self._proxy_headers = _proxy_of(way)
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await self._opened().request(
                request.method,
                URL(str(request.url), encoded=True),  # sent as httpx wrote it
                headers=[
                    (name.decode("ascii"), value.decode()) for name, value in request.headers.raw
                ],
                timeout=_timeout(request),
                proxy=self._proxy,
                proxy_headers=self._proxy_headers,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError) as error:
            raise _as_httpx(error) from None  # a traceback of it would show the headers
        return httpx.Response(
            response.status, headers=response.raw_headers, stream=_Body(response), request=request
        )

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            tls = self._way.tls()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, ssl=tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
            )
        return self._session


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_chunked(_CHUNK_BYTES):
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise _as_httpx(error) from None

    async def aclose(self) -> None:
        if not self._response.content.at_eof():  # else its connection is back in the pool by now
            self._response.close()


def _timeout(request: httpx.Request) -> aiohttp.ClientTimeout:
    seconds = request.extensions.get("timeout", {})
    return aiohttp.ClientTimeout(
        connect=seconds.get("pool"),
        sock_connect=seconds.get("connect"),
        sock_read=seconds.get("read"),
    )


def _proxy_of(way: Way) -> tuple[URL | None, dict[str, str]]:
    """The proxy, and apart from it the password for it, which no message may quote."""
    if way.proxy is None:
        return None, {}
    proxy = URL(way.proxy)
    if proxy.user is None:
        return proxy, {}
    # aiohttp makes Proxy-Authorization of it, and sends it to the proxy alone
    password = aiohttp.encode_basic_auth(proxy.user, proxy.password or "")
    return proxy.with_user(None), {"Authorization": password}


def _as_httpx(error: aiohttp.ClientError | OSError) -> httpx.TransportError:
    match error:
        case aiohttp.ConnectionTimeoutError():
            return httpx.ConnectTimeout("no connection in time")
        case TimeoutError():
            return httpx.ReadTimeout("no answer in time")
        case aiohttp.ClientHttpProxyError():
            return httpx.ConnectError(f"the proxy answered {error.status}")
        case aiohttp.ClientProxyConnectionError():
            return httpx.ConnectError(f"no connection to the proxy: {error.os_error}")
        case aiohttp.ClientConnectorCertificateError():
            return httpx.ConnectError(str(error.certificate_error))
        case aiohttp.ClientConnectorError():
            return httpx.ConnectError(str(error.os_error))
        case OSError():
            return httpx.ReadError(str(error))
        case _:
            return httpx.RemoteProtocolError(str(error))
