"""A program on this machine that takes events: where it is, and sending it one as Taskbell would.

The address guard is for servers that send where others tell them; here people send to themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx

from deploy import __version__
from deploy.cli.certificates import trusted
from deploy.cli.client import tls_trouble
from deploy.cli.errors import UsageError
from dispatch.answers import redirected
from dispatch.sink import Event, Request, Target, sinks
from store.clock import Clock

TIMEOUT_SECONDS = 15.0  # as TASKBELL_ATTEMPT_TIMEOUT_SECONDS


class Absent(Exception):
    """Nobody takes connections there."""


class Untrusted(Exception):
    """Its certificate is not one that this machine trusts; the message says why."""


class HungUp(Exception):
    """The connection ended without an answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the program answered. error: why it did not, or why a redirect is none that counts."""

    status: int | None
    seconds: float
    error: str | None = None

    @property
    def accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def address(text: str) -> str:
    """The URL that a port, with a path or not, a host with a port, or a URL means. Raises UsageError.

    >>> address("3000"), address("3000/hook"), address("localhost:3000/hook")
    ('http://127.0.0.1:3000/', 'http://127.0.0.1:3000/hook', 'http://localhost:3000/hook')
    """
    port, _, path = text.partition("/")
    if port.isascii() and port.isdigit():
        text = f"127.0.0.1:{port}/{path}"
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        good = good and httpx.URL(url).host and not parts.username
    except (ValueError, httpx.InvalidURL):
        good = False
    if not good:
        raise UsageError(f"{text!r} is no port and no http(s) address, like 3000 or localhost:3000")
    return url


class Local:
    """Sends to one address, one event at a time. secret: what it signs with, whsec_ and base64."""

    def __init__(
        self,
        url: str,
        secret: str,
        clock: Clock,
        monotonic: Callable[[], float],
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._target = Target(subscription_id="", url=url, secrets=(secret,), headers={})
        self._clock = clock
        self._monotonic = monotonic
        self._http = httpx.Client(
            timeout=TIMEOUT_SECONDS,
            verify=trusted(trust_env=True),  # with SSL_CERT_FILE and SSL_CERT_DIR
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            # a program under development starts anew all the time: no connection is kept for it
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    @property
    def url(self) -> str:
        return self._target.url

    @property
    def secret(self) -> str:
        return self._target.secrets[0]

    def send(self, event: Event) -> Reply:
        """One try.

        Raises Absent when nobody is there, Untrusted for its certificate, HungUp when no answer
        will come.
        """
        request = sinks()["webhook"].render(event, self._target, self._clock())
        began = self._monotonic()
        try:
            status, note = self._post(request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            trouble = tls_trouble(error)
            if trouble is not None:
                raise Untrusted(trouble) from None
            raise Absent(str(error) or "no connection") from None
        except httpx.TimeoutException:
            return Reply(None, self._monotonic() - began, f"no answer in {TIMEOUT_SECONDS:.0f} s")
        except httpx.TransportError:
            raise HungUp from None
        return Reply(status, self._monotonic() - began, note)

    def _post(self, request: Request) -> tuple[int, str | None]:
        """Send it; the status of the answer, and what a subscription's attempt would say of it."""
        # not through httpx's own headers: it gets what a subscriber gets
        headers = {
            "user-agent": f"taskbell/{__version__}",
            "accept-encoding": "identity",
            **request.headers,
        }
        sent = httpx.Request("POST", request.url, headers=headers, content=request.body)
        answer = self._http.send(sent, stream=True)
        answer.close()  # what else it says is of no use
        return answer.status_code, redirected(answer.status_code, answer.headers)
