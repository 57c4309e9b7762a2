"""The apprise library under our guard: it writes, we send, and nothing else of it gets out."""

from __future__ import annotations

import ipaddress
import json
import socket
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import requests
from starlette.responses import Response

from deploy.rules import SubscriptionRules
from deploy.sample import sample_event
from dispatch.client import Client
from dispatch.guard import Guard
from dispatch.sending import Sender, Sent
from dispatch.sink import CannotRender, Event, Outcome, Result, Target
from dispatch.sinks.apprise import SERVICES, SINK, UNVERIFIED, Apprise
from store.clock import ManualClock
from store.vault import Vault
from tests.conftest import START
from tests.dispatch.chat_events import AT, HOSTILE, about, dressed_in, failure
from tests.dispatch.hook import Hook
from tests.making import subscription_of

VAULT = Vault(["k" * 32])
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
UUID = "0f0f0f0f-1a1a-2b2b-3c3c-4d4d4d4d4d4d"

# a URL of each service, and the host that its message goes to
URLS = {
    "ntfy": ("ntfy://ntfy.example.com/hush", "ntfy.example.com"),
    "ntfys": ("ntfys://user:hush@ntfy.sh/topic", "ntfy.sh"),
    "gotify": ("gotify://gotify.example.com/hush01234567890", "gotify.example.com"),
    "gotifys": ("gotifys://gotify.example.com/hush01234567890", "gotify.example.com"),
    "mmost": ("mmost://mm.example.com/" + "a" * 26, "mm.example.com"),
    "mmosts": ("mmosts://mm.example.com/" + "a" * 26, "mm.example.com"),
    "rocket": (f"rocket://{'t' * 24}/{'a' * 43}@rocket.example.com/#general", "rocket.example.com"),
    "rockets": (f"rockets://{'t' * 24}/{'a' * 43}@rocket.example.com/#x", "rocket.example.com"),
    "signal": ("signal://signal.example.com/15551234567/15557654321", "signal.example.com"),
    "signals": ("signals://signal.example.com/15551234567/15557654321", "signal.example.com"),
    "synology": ("synology://nas.example.com/hush", "nas.example.com"),
    "synologys": ("synologys://nas.example.com/hush", "nas.example.com"),
    "nctalk": ("nctalk://user:hush@cloud.example.com/room", "cloud.example.com"),
    "nctalks": ("nctalks://user:hush@cloud.example.com/room", "cloud.example.com"),
    "bark": ("bark://bark.example.com/hush", "bark.example.com"),
    "barks": ("barks://api.day.app/hush", "api.day.app"),
    "pushdeer": ("pushdeer://deer.example.com/PDUhush", "deer.example.com"),
    "pushdeers": ("pushdeers://deer.example.com/PDUhush", "deer.example.com"),
    "json": ("json://any.example.com/hush", "any.example.com"),
    "jsons": ("jsons://any.example.com/hush", "any.example.com"),
    "form": ("form://any.example.com/hush", "any.example.com"),
    "forms": ("forms://any.example.com/hush", "any.example.com"),
    "xml": ("xml://any.example.com/hush", "any.example.com"),
    "xmls": ("xmls://any.example.com/hush", "any.example.com"),
    "pover": (f"pover://{'u' * 30}@{'a' * 30}", "api.pushover.net"),
    "pbul": ("pbul://hush", "api.pushbullet.com"),
    "ifttt": ("ifttt://hush@event/", "maker.ifttt.com"),
    "pagerduty": ("pagerduty://hush@key", "events.pagerduty.com"),
    "gchat": ("gchat://workspace/key/hush", "chat.googleapis.com"),
    "zulip": (f"zulip://bot@org/{'a' * 32}", "org.zulipchat.com"),
    "prowl": ("prowl://" + "a" * 40, "api.prowlapp.com"),
    "schan": ("schan://hush123", "sctapi.ftqq.com"),
    "flock": ("flock://" + "a" * 24, "api.flock.com"),
    "ryver": ("ryver://org/" + "a" * 15, "org.ryver.com"),
    "revolt": ("revolt://hush/channel", "api.revolt.chat"),
    "chanify": ("chanify://hush", "api.chanify.net"),
    "splunk": (f"splunk://routing@{UUID}", "alert.victorops.com"),
    "victorops": (f"victorops://routing@{UUID}", "alert.victorops.com"),
    "spike": ("spike://" + "a" * 32, "api.spike.sh"),
    "twilio": (f"twilio://AC{'a' * 32}:{'b' * 32}@15551234567/15557654321", "api.twilio.com"),
    "vonage": ("vonage://key12345:hush1234567890ab@15551234567/15557654321", "rest.nexmo.com"),
    "nexmo": ("nexmo://key12345:hush1234567890ab@15551234567/15557654321", "rest.nexmo.com"),
    "sendgrid": ("sendgrid://hush:from@example.com/to@example.com", "api.sendgrid.com"),
    "mailgun": ("mailgun://user@example.com/hush/to@example.com", "api.mailgun.net"),
    "resend": ("resend://hush:from@example.com/to@example.com", "api.resend.com"),
    "brevo": ("brevo://hush:from@example.com/to@example.com", "api.brevo.com"),
    "smtp2go": ("smtp2go://user@example.com/hush/to@example.com", "api.smtp2go.com"),
    "postmark": ("postmark://hush:from@example.com/to@example.com", "api.postmarkapp.com"),
}
LONG = about(model="m" * 5_000, metadata={str(number): "x" * 5_000 for number in range(20)})


def target(url: str) -> Target:
    return Target("sub_1", url, ("whsec_x",), {})


@pytest.fixture(scope="module")
def sink() -> Apprise:
    """With the library loaded."""
    assert isinstance(SINK, Apprise)
    SINK.render(about(), target(URLS["json"][0]), AT)
    return SINK


@pytest.fixture
def nothing_outside(sink: Apprise, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would open a connection, look up a name, read a file or wait fails."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the library went outside")

    for name in ("socket", "create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("time.sleep", refuse)


def test_every_service_that_is_let_in_is_tried_here() -> None:
    assert URLS.keys() == SERVICES


@pytest.mark.usefixtures("nothing_outside")
@pytest.mark.parametrize("name", sorted(URLS))
def test_a_service_gets_one_request_which_the_library_does_not_send(
    sink: Apprise, name: str
) -> None:
    url, host = URLS[name]

    requests_ = [
        sink.render(event, target(url), AT)
        for event in (about(), failure("1026", "x"), LONG, dressed_in(HOSTILE[0]))
    ]

    for request in requests_:
        place = Guard().check_url(request.url)
        assert place.host == host
        assert request.method == "POST"
        assert len(request.body) < 20_000
    assert requests_[0] == sink.render(about(), target(url), AT)


def test_the_library_is_left_as_it_was(sink: Apprise) -> None:
    before = requests.sessions.Session

    sink.render(about(), target(URLS["ntfys"][0]), AT)
    with pytest.raises(CannotRender):
        sink.render(about(), target("json://"), AT)

    assert requests.sessions.Session is before is requests.Session


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mailto://user:hush@gmail.com", "may write to these services"),
        ("syslog://hush", "may write to these services"),
        ("dbus://hush", "may write to these services"),
        ("file:///etc/hush", "may write to these services"),
        ("matrixs://user:hush@matrix.example.com/!room:example.com", "may write to these"),
        ("https://hooks.slack.com/services/T0/B0/hush", "may write to these services"),
        ("hush", "may write to these services"),
        ("pover://hush", "cannot read this pover:// URL"),
        ("pbul://hush/#one/#two", "more than once"),
        ("json://any.example.com/?+Metadata-Flavor=hush", "header metadata-flavor may not be set"),
        ("json://any.example.com/?+Transfer-Encoding=hush", "may not be set"),
        ("json://any.example.com/?+webhook-signature=hush", "may not be set"),
        ("json://any.example.com/?+X=hush%0d%0aY:1", "does not write to this service"),
        ("json://any.example.com/hush?method=DELETE", "DELETE is no method for a delivery"),
        ("json://any.example.com/hush?method=GET", "GET is no method for a delivery"),
    ],
)
def test_anything_else_is_refused_without_repeating_it(sink: Apprise, url: str, words: str) -> None:
    with pytest.raises(CannotRender, match=words) as raised:
        sink.render(about(), target(url), AT)

    assert "hush" not in str(raised.value)


def test_without_the_library_it_says_what_installs_it(
    sink: Apprise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)

    with pytest.raises(CannotRender, match=r"pip install 'taskbell\[apprise\]'"):
        sink.render(about(), target(URLS["ntfys"][0]), AT)


def test_people_read_what_was_made_and_no_markup(sink: Apprise) -> None:
    made = sink.render(about(), target("json://any.example.com/x"), AT)
    hostile = sink.render(
        dressed_in(HOSTILE[1] + HOSTILE[2]), target("json://any.example.com/x"), AT
    )

    body, foul = json.loads(made.body), json.loads(hostile.body)
    assert body["title"].endswith("Video ready")
    for words in ("MiniMax", "https://cdn.example/v.mp4", "1 min 20 s"):
        assert words in body["message"]
    text = foul["message"].replace("https://cdn.example", "")
    assert "@everyone" not in text
    assert "**" not in text
    assert "](" not in text


def test_own_headers_join_and_never_replace(sink: Apprise) -> None:
    headed = replace(
        target("json://any.example.com/x"), headers={"X-Team": "a", "Content-Type": "text/plain"}
    )

    headers = sink.render(about(), headed, AT).headers

    assert headers["x-team"] == "a"
    assert headers["content-type"] == "application/json"
    assert not headers.keys() & {"host", "content-length", "user-agent", "connection"}


# Through the sender, on a real socket


@pytest.fixture
async def hook(clock: ManualClock) -> AsyncIterator[Hook]:
    async with Hook(clock).served() as served:
        yield served


async def send(clock: ManualClock, url: str, *, guard: Guard | None = None) -> Sent:
    subscription = subscription_of(
        START,
        url="json://…",
        format="apprise",
        secret_locked=VAULT.lock("whsec_x"),
        url_locked=VAULT.lock(url),
    )
    allowed = guard or Guard(allow=LOOPBACK)
    async with Client(
        allowed, timeout=timedelta(seconds=5), limit=10, user_agent="taskbell/test"
    ) as client:
        return await Sender(client, VAULT, clock).send(about(), subscription)


def address(hook: Hook) -> str:
    return hook.url.replace("http://", "json://")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Response("ok"), Outcome(Result.DELIVERED, UNVERIFIED)),
        (Response('{"error": "not sent"}'), Outcome(Result.DELIVERED, UNVERIFIED)),
        (
            Response("slow down", 429, {"retry-after": "7"}),
            Outcome(Result.RETRY, "answered 429", timedelta(seconds=7)),
        ),
        (Response("no such token", 401), Outcome(Result.RETRY, "answered 401")),
        (Response("gone", 410), Outcome(Result.REFUSED, "410 Gone")),
        (Response("bad", 400), Outcome(Result.RETRY, "answered 400")),
        (
            Response(status_code=302, headers={"location": "http://169.254.169.254/"}),
            Outcome(
                Result.RETRY,
                "answered 302: redirects are not followed; it points to 169.254.169.254 (http)",
            ),
        ),
    ],
)
async def test_a_status_is_believed_and_marked(
    hook: Hook, clock: ManualClock, answer: Response, outcome: Outcome
) -> None:
    hook.answers.append(answer)

    sent = await send(clock, address(hook))

    assert sent.outcome == outcome
    assert sent.answer is not None
    assert sent.answer.body == b""  # it may repeat what is secret
    [taken] = hook.taken
    assert taken.headers["user-agent"] == "taskbell/test"
    assert json.loads(taken.body)["title"].endswith("Video ready")


async def test_an_address_that_is_not_public_is_never_reached(
    hook: Hook, clock: ManualClock
) -> None:
    sent = await send(clock, address(hook), guard=Guard())

    assert sent.outcome.result is Result.RETRY
    assert sent.outcome.reason.startswith("address refused")
    assert hook.taken == []


async def test_the_library_works_in_a_thread_of_its_own(
    sink: Apprise, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    render = sink.render

    def watched(event: Event, target: Target, now: Any) -> Any:
        threads.append(threading.current_thread().name)
        return render(event, target, now)

    monkeypatch.setattr(sink, "render", watched)

    await sink.rendered(about(), target(URLS["pover"][0]), AT)

    assert threads == ["apprise_0"]


# When it is subscribed


async def test_where_the_request_would_go_is_checked_when_saved(clock: ManualClock) -> None:
    async def resolve(name: str) -> list[str]:
        return ["10.0.0.7" if name == "inner.example.com" else "93.184.216.34"]

    rules = SubscriptionRules(Guard(resolve=resolve), partial(sample_event, clock))

    await rules.check_url("jsons://any.example.com/x", "apprise")
    await rules.check_url(URLS["pover"][0], "apprise")
    for url in ("jsons://inner.example.com/x", "json://127.0.0.1/x", "json://[::1]/x"):
        with pytest.raises(ValueError, match="not a public address"):
            await rules.check_url(url, "apprise")
    with pytest.raises(ValueError, match="may write to these services"):
        await rules.check_url("https://any.example.com/x", "apprise")
