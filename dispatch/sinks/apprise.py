"""Services of the apprise library, an optional extra: it writes the request, we send it.

Left alone, apprise 2.2 opens its own connections, follows redirects, and takes a 200 that carries
an error for a success (measured 2026-11-20). So it runs in a thread with a recorder for a network,
and what it wrote goes out through our own client, to a guarded address, once. Nobody reads the
answer's body: a good status says that the message was accepted, not that anybody got it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dispatch.answers import judge_http
from dispatch.headers import check_headers, with_custom
from dispatch.message import Message, message_of
from dispatch.service import Service
from dispatch.sink import Answer, CannotRender, Event, Outcome, Request, Result, Sink, Target

if TYPE_CHECKING:
    import requests

UNVERIFIED = "accepted, not verified"
_SECONDS = 10  # the library loads in one, then takes a millisecond a message

# One request a message, the same on every attempt, no file read, nothing but HTTP: tests hold each
# to it
_SELF_HOSTED = (
    "ntfy ntfys gotify gotifys mmost mmosts rocket rockets signal signals synology synologys"
    " nctalk nctalks bark barks pushdeer pushdeers json jsons form forms xml xmls"
)
_HOSTED = (
    "pover pbul ifttt pagerduty gchat zulip prowl schan flock ryver revolt chanify splunk"
    " victorops spike twilio vonage nexmo sendgrid mailgun resend brevo smtp2go postmark"
)
SERVICES = frozenset(f"{_SELF_HOSTED} {_HOSTED}".split())

# each service has a markup of its own: these look like it, and are not
_MARKUP = str.maketrans({**dict(zip("#*[]<>`~", "＃＊［］＜＞｀～", strict=True)), "@": "@\u2060"})
_METHODS = ("POST", "PUT", "PATCH")
_OURS = frozenset(("accept-encoding", "connection", "content-length", "host", "user-agent"))


class Apprise:
    """Plain text with the links in it; the library cuts it to the service's limit."""

    name = "apprise"
    service = Service(
        title="Apprise",
        form="<service>://…, as github.com/caronc/apprise lists them",
        hosts=(),
        path="",
        rate_per_second=0.5,  # of our own: the services differ
    )

    def __init__(self) -> None:
        # one: the library's network is exchanged for the whole process while it writes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="apprise")

    async def rendered(self, event: Event, target: Target, now: datetime) -> Request:
        """What `render` makes, without holding up the loop. Raises CannotRender."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_SECONDS):
                return await loop.run_in_executor(self._thread, self.render, event, target, now)
        except TimeoutError:
            raise CannotRender(f"apprise took over {_SECONDS} s to write the message") from None

    def render(self, event: Event, target: Target, now: datetime) -> Request:
        plugin = _plugin(target.url)
        message = message_of(event, target.language)
        with _recorded() as taken:
            try:
                done = plugin.notify(
                    title=message.title.translate(_MARKUP),
                    body=_text(message),
                    notify_type="info",
                    body_format="text",
                )
            except Exception as error:  # whatever a foreign library raises; it may quote the URL
                if isinstance(error, CannotRender):
                    raise
                raise CannotRender(f"apprise failed: {type(error).__name__}") from None
        if not done or not taken:
            raise CannotRender("apprise does not write to this service in one request")
        return _request(taken[0], target)

    def judge(self, answer: Answer, now: datetime) -> Outcome:
        outcome = judge_http(answer, now)
        if outcome.result is Result.DELIVERED:
            return replace(outcome, reason=UNVERIFIED)
        return outcome


def _plugin(url: str) -> Any:
    """Raises CannotRender, which never repeats the URL."""
    scheme = url.partition("://")[0].lower()
    try:
        import apprise
    except ImportError:
        raise CannotRender(
            "format 'apprise' needs its library on the server: pip install 'taskbell[apprise]'"
        ) from None
    if scheme not in SERVICES:
        raise CannotRender(f"apprise may write to these services: {', '.join(sorted(SERVICES))}")
    logging.getLogger("apprise").disabled = True  # it logs requests
    asset = apprise.AppriseAsset(app_id="Taskbell", app_desc="Taskbell", async_mode=False)
    plugin = apprise.Apprise.instantiate(url, asset=asset)
    if plugin is None:
        raise CannotRender(f"apprise cannot read this {scheme}:// URL")
    plugin.request_rate_per_sec = 0  # it would sleep; the pace is the subscription's
    plugin.overflow_mode = apprise.OverflowMode.TRUNCATE
    return plugin


@contextlib.contextmanager
def _recorded() -> Iterator[list[requests.PreparedRequest]]:
    """Where every request of the library goes meanwhile: into a list, answered with 200.

    Its services call `requests.post` and the like, which ask for a new session each time.
    """
    import requests

    taken: list[requests.PreparedRequest] = []

    class Recorder(requests.Session):
        def __init__(self) -> None:
            super().__init__()
            self.trust_env = False  # no .netrc, no proxies

        def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
            if taken:
                raise CannotRender("apprise asks this service more than once for a message")
            taken.append(request)
            response = requests.Response()
            response.status_code, response._content = 200, b"{}"
            return response

    kept, requests.sessions.Session = requests.sessions.Session, Recorder  # type: ignore[misc]
    try:
        yield taken
    finally:
        requests.sessions.Session = kept  # type: ignore[misc]


def _request(written: requests.PreparedRequest, target: Target) -> Request:
    body = written.body or b""
    if not isinstance(body, str | bytes):
        raise CannotRender("apprise would stream a file")
    if written.method not in _METHODS:
        raise CannotRender(f"{written.method} is no method for a delivery")
    theirs = {name.lower(): _letters(value) for name, value in written.headers.items()}
    content_type = {"content-type": theirs.pop("content-type", "application/octet-stream")}
    headers = {name: value for name, value in theirs.items() if name not in _OURS}
    try:
        check_headers(headers)  # some services take any header from their URL
    except ValueError as error:
        raise CannotRender(f"apprise would send what may not be sent: {error}") from None
    return Request(
        url=str(written.url),
        headers=with_custom(headers | content_type, target.headers),
        body=body.encode() if isinstance(body, str) else body,
        method=written.method,
    )


def _letters(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _text(message: Message) -> str:
    said = [line.translate(_MARKUP) for line in (*message.lines, *message.listed())]
    links = [f"{link.text}: {link.url}" for link in message.links]
    return "\n".join([*said, *links, message.footer.translate(_MARKUP)])


SINK: Sink = Apprise()
