"""What the running server says: that it is there, what our key may do, what it is stuck with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from deploy import __version__
from deploy.cli.checkup.finding import Finding, fail, ok, skip, warn
from deploy.cli.checkup.local import drift
from deploy.cli.client import Client, transport_of
from deploy.cli.errors import CommandError, KeyTooWeak
from deploy.cli.output import moment
from store.clock import Clock
from store.provider_states import NOT_POLLED

TIMEOUT_SECONDS = 5.0
MOST = 500
"""Rows of a list that are looked at."""

OVERDUE_AFTER = timedelta(minutes=5)

_DATE_ROUNDS = 2.0  # its Date header has whole seconds
_NO_DELIVERY = "/v1/deliveries/dlv_00000000000000000000000000/retry"


def server(url: str, api: Client, clock: Clock) -> Sequence[Finding]:
    """Whether a server of this version is there, ready, and of the same time."""
    try:
        with httpx.Client(transport=transport_of(api.way), timeout=TIMEOUT_SECONDS) as plain:
            answer = plain.get(f"{url}/readyz")  # without our key
        version = api.get("/openapi.json").get("info", {}).get("version")
    except (httpx.HTTPError, CommandError):
        return [_unreachable(api)]
    found = [_readiness(url, answer), _same_version(version)]
    told = _date(answer.headers.get("date"))
    if told is not None:
        ahead = (clock() - told).total_seconds()
        found.append(drift("server clock", ahead, within=5.0 + _DATE_ROUNDS))
    return found


def _unreachable(api: Client) -> Finding:
    try:
        api.get("/healthz")
    except CommandError as error:
        return fail("server", str(error), "start it, or set TASKBELL_URL")
    return fail("server", "it answers, but not everything", "is TASKBELL_URL right?")


def _readiness(url: str, answer: httpx.Response) -> Finding:
    if answer.status_code == 200:
        return ok("server", f"{url} is ready")
    text = f"{url} is up and not ready (HTTP {answer.status_code})"
    return fail("server", text, "its log says why; the database, mostly: taskbell migrate")


def _same_version(version: object) -> Finding:
    if version == __version__:
        return ok("version", f"{__version__}, here and there")
    text = f"this is {__version__}, the server {str(version)[:20]}"
    return warn("version", text, "use the command of the server's version")


def _date(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text) if text else None
    except ValueError:
        return None


def api_key(api: Client) -> Sequence[Finding]:
    """Whether the key is taken, and for what."""
    try:
        api.get("/v1/subscriptions", {"limit": 1})
    except CommandError as error:
        return [fail("API key", str(error), "set TASKBELL_API_KEY; `taskbell keys` makes more")]
    if _lets(lambda: api.post(_NO_DELIVERY, {})):
        admin = _lets(lambda: api.get("/v1/audit", {"limit": 1}))
        return [ok("API key", f"accepted, with scope {'admin' if admin else 'write'}")]
    todo = "track, subscribe and replay need scope write: taskbell keys create NAME --scope write"
    return [warn("API key", "accepted, with scope read", todo)]


def _lets(call: Callable[[], object]) -> bool:
    """Whether the key may make a call, whatever comes of it."""
    try:
        call()
    except KeyTooWeak:
        return False
    except CommandError:
        return True  # there is no such delivery
    return True


def providers(api: Client) -> Sequence[Finding]:
    """How each provider is doing, and whether a running process has its key."""
    rows = api.listing("/v1/providers", {}, limit=MOST).rows
    return [_about_provider(row) for row in rows]


def _about_provider(row: dict[str, Any]) -> Finding:
    title, name = str(row.get("title"))[:40], str(row.get("name"))[:40]
    why = str((row.get("reason") or {}).get("message") or "")[:500]
    opened = row.get("open_tasks")
    match row.get("state"):
        case "down":
            todo = f"taskbell providers {name}; its tasks are polled on until their deadlines"
            return fail(title, f"down since {row.get('since')}: {why}", todo)
        case "degraded":
            return warn(title, f"degraded: {why}", f"taskbell providers {name}")
        case "no_key" if opened:
            return fail(title, f"{opened} open tasks cannot be polled: {why}", "set the key there")
        case "no_key":
            return skip(title, why)
        case "idle" if (row.get("reason") or {}).get("code") == NOT_POLLED:
            return warn(title, why, "start one") if opened else skip(title, why)
        case "idle" if opened and row.get("last_asked_at") and not row.get("last_answer_at"):
            return warn(title, "polled, and no good answer yet", f"taskbell providers {name}")
        case "idle":
            return ok(title, "the server has its key; nothing is asked just now")
        case _:
            return ok(title, f"answers, last at {row.get('last_answer_at')}")


def subscriptions(api: Client) -> Sequence[Finding]:
    """Those that get nothing, or will not for long."""
    rows = api.listing("/v1/subscriptions", {}, limit=MOST).rows
    findings = [found for row in rows for found in _about_subscription(row)]
    return findings or [ok("subscriptions", f"{len(rows)}, none of them in trouble")]


def _about_subscription(row: dict[str, Any]) -> Iterator[Finding]:
    name, url = row.get("id"), str(row.get("url"))
    where = f"{name} ({url[:200]})"
    if "/webhook-test/" in urlsplit(url).path:
        text = (
            f"{where} is a test URL of n8n: it takes one event, and only while the editor listens"
        )
        todo = "activate the workflow; subscribe its production URL: /webhook/ for /webhook-test/"
        yield fail("subscriptions", text, todo)
    if row.get("disabled_reason"):
        text = f"{where} is disabled: {str(row['disabled_reason'])[:200]}"
        todo = f"mend it, PATCH /v1/subscriptions/{name} with active true, then taskbell replay"
        yield fail("subscriptions", text, todo)
    elif row.get("active") and row.get("failing_since"):
        text = f"{where} has only failed since {row['failing_since']}"
        todo = f"taskbell deliveries --subscription {name}; after five days it is disabled"
        yield warn("subscriptions", text, todo)


def deliveries(api: Client) -> Sequence[Finding]:
    """The dead, by subscription."""
    found = api.listing("/v1/deliveries", {"status": "dead"}, limit=MOST)
    if not found.rows:
        return [ok("deliveries", "none is dead")]
    count = Counter(str(row.get("subscription_id")) for row in found.rows)
    more = " at least" if found.more else ""
    return [
        warn(
            "deliveries",
            f"{number}{more} to {name} are dead",
            f"taskbell replay --subscription {name} --status dead",
        )
        for name, number in count.most_common(10)
    ]


def tasks(api: Client, clock: Clock) -> Sequence[Finding]:
    """Open ones that are past their deadline: nobody asks about them, or ends them."""
    late = [
        str(row.get("id"))
        for status in ("queued", "processing")
        for row in api.listing("/v1/tasks", {"status": status}, limit=MOST).rows
        if _overdue(row, clock())
    ]
    if not late:
        return [ok("tasks", "none is overdue")]
    text = f"{len(late)} open past their deadline, {late[0]} the newest"
    todo = "a process with the role poll must run (TASKBELL_ROLES), with the provider's API key"
    return [fail("tasks", text, todo)]


def _overdue(row: dict[str, Any], now: datetime) -> bool:
    deadline = moment(row.get("deadline_at"))
    return deadline is not None and now - deadline > OVERDUE_AFTER
