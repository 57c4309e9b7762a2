"""/metrics, read as Prometheus reads it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from deploy import __version__
from deploy.metrics import FRESH_SECONDS
from deploy.service import Service, make_service
from deploy.settings import load
from store.claims import Claim, claim
from store.clock import ManualClock
from store.database import open_database
from store.deliveries import Attempt, Finished, finish
from store.errors import StoreUnavailableError
from store.provider_states import Note, State, note_states
from store.records import Recorded, record
from store.store import Store
from store.writer import Committed
from tests.app import (
    ADMIN_KEY,
    AWAY,
    SECRET_KEYS,
    Taskbell,
    bearer,
    good,
    minimax,
    problem,
    running,
)
from tests.making import LEASE, poll, push, registered, subscribe, tell, told

Labels = dict[str, str]


class Page:
    """What was read of one page."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples: list[Sample] = [
            sample for family in self.families.values() for sample in family.samples
        ]

    def value(self, name: str, **labels: str) -> float:
        [found] = [
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return found

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        """The samples of a name that are not 0, by the values of their labels."""
        return {
            tuple(sample.labels.values()): sample.value
            for sample in self.samples
            if sample.name == name and sample.value
        }


async def looked(taskbell: Taskbell) -> Page:
    with contextlib.suppress(StoreUnavailableError):
        await taskbell.service.store.detach()  # what was written before it is counted
    answer = await taskbell.api.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return Page(answer.text)


@pytest.fixture
async def taskbell(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(sqlite_url, clock) as taskbell:
        yield taskbell


async def test_pushes_are_counted_by_what_became_of_them(taskbell: Taskbell) -> None:
    for body in (
        {"challenge": "x"},
        minimax("1", "Processing"),
        minimax("1"),
        minimax("1"),
        minimax("1", "Fail"),
        b"<html>",
    ):
        await taskbell.push(body)
    await taskbell.push(minimax("1"), "/callbacks/minimax/forged")
    await taskbell.push(minimax("1"), "/callbacks/<script>/forged")
    await taskbell.push({}, taskbell.path("atlascloud"))

    page = await looked(taskbell)

    assert page.counted("taskbell_pushes_total") == {
        ("minimax", "recorded"): 2,
        ("minimax", "repeated"): 1,
        ("minimax", "contradiction"): 1,
        ("minimax", "unreadable"): 1,
    }
    assert page.counted("taskbell_pushes_refused_total") == {
        ("minimax", "400"): 1,
        ("minimax", "404"): 1,
        ("other", "404"): 1,
        ("atlascloud", "401"): 1,
    }
    assert page.value("taskbell_challenge_seconds_count", provider="minimax") == 1
    assert page.counted("taskbell_events_total") == {
        ("task.processing",): 1,
        ("task.succeeded",): 1,
    }


async def test_what_is_open_is_counted_by_status_and_age(
    taskbell: Taskbell, clock: ManualClock
) -> None:
    await taskbell.track("1")
    clock.advance(seconds=30)
    await taskbell.track("2")
    await taskbell.push(minimax("3", "Processing"))
    await taskbell.push(minimax("4"))
    clock.advance(seconds=10)

    page = await looked(taskbell)

    assert page.counted("taskbell_tasks_open") == {("queued",): 2, ("processing",): 1}
    assert page.counted("taskbell_tasks_oldest_seconds") == {("queued",): 40, ("processing",): 10}
    assert page.value("taskbell_store_up") == 1


async def test_a_provider_is_in_one_state(taskbell: Taskbell, clock: ManualClock) -> None:
    now = timedelta(0)
    for note in (
        Note("minimax", "MiniMax", State.DOWN, asked_ago=now),
        Note("atlascloud", "Atlas Cloud", State.NO_KEY, has_key=False),
    ):
        await taskbell.service.store.write(note_states, note)

    page = await looked(taskbell)

    assert page.counted("taskbell_provider_state") == {
        ("minimax", "down"): 1,
        ("atlascloud", "no_key"): 1,
        ("opencomputing", "idle"): 1,
    }
    assert page.value("taskbell_provider_state", provider="minimax", state="ok") == 0


def counting(url: str, clock: ManualClock) -> Service:
    """A service whose loops do not run, and its metrics."""
    settings = load(
        {
            "TASKBELL_DATABASE_URL": url,
            "TASKBELL_SECRET_KEYS": ",".join(SECRET_KEYS),
            "TASKBELL_API_KEY": ADMIN_KEY,
        }
    )
    return make_service(settings, open_database(url), clock=clock)


async def test_deliveries_are_counted_on_each_database(
    database_url: str, clock: ManualClock
) -> None:
    service = counting(database_url, clock)
    store: Store = service.store
    try:
        subscribe(store)
        for number in range(4):
            tell(store, push(f"t{number}"))
        catch = await store.write(claim, Claim("sender", 3, LEASE))
        ways: tuple[dict[str, Any], ...] = (
            {"delivered": True},
            {"retry_in": timedelta(seconds=5)},
            {},
        )
        for delivery, way in zip(catch.deliveries, ways, strict=True):
            attempt = Attempt(clock(), timedelta(seconds=0.3), "whatever", 200)
            end = Finished(delivery, attempt, **{"delivered": False, **way})
            await store.write(finish, end)
        clock.advance(seconds=20)
        await service.store.detach()  # what was written before it is counted
        page = Page((await service.metrics.page())[0].decode())
    finally:
        await service.close()

    assert page.counted("taskbell_delivery_attempts_total") == {
        ("webhook", "delivered"): 1,
        ("webhook", "retry"): 1,
        ("webhook", "dead"): 1,
    }
    assert page.value("taskbell_delivery_attempt_seconds_count", format="webhook") == 3
    assert page.value("taskbell_delivery_attempt_seconds_sum", format="webhook") == pytest.approx(
        0.9
    )
    assert page.counted("taskbell_deliveries_open") == {("pending",): 2}
    assert page.value("taskbell_deliveries_overdue_seconds") == 20
    assert page.counted("taskbell_events_total") == {("task.succeeded",): 4, ("delivery.dead",): 1}
    for name in ("taskbell_transaction_writes_sum", "taskbell_transaction_seconds_count"):
        assert page.value(name) in (9, 10)  # the last one may just be over


async def test_polls_and_what_they_rescued_are_counted(sqlite_url: str, clock: ManualClock) -> None:
    service = counting(sqlite_url, clock)
    try:
        task = told(service.store, registered("1", expect_push=True))
        tell(service.store, poll("1"))
        for result in ("processing", "succeeded", "rate_limited", "2013 <b>"):
            service.metrics.asked(task.provider, result)
        service.metrics.waited("minimax", 0.2)
        await service.store.detach()  # what was written before it is counted
        page = Page((await service.metrics.page())[0].decode())
    finally:
        await service.close()

    assert page.counted("taskbell_rescued_by_poll_total") == {("minimax",): 1}
    assert page.counted("taskbell_polls_total") == {
        ("minimax", "processing"): 1,
        ("minimax", "succeeded"): 1,
        ("minimax", "rate_limited"): 1,
        ("minimax", "other"): 1,
    }
    assert page.value("taskbell_poll_wait_seconds_sum", provider="minimax") == pytest.approx(0.2)


async def test_names_units_and_labels_follow_the_convention(taskbell: Taskbell) -> None:
    await taskbell.push(minimax("1"), taskbell.path(token_id="tok_swordfish"))
    page = await looked(taskbell)

    ours = {name: f for name, f in page.families.items() if name.startswith("taskbell_")}
    assert len(ours) > 15
    for name, family in ours.items():
        assert family.documentation
        assert re.fullmatch(r"taskbell_[a-z_]+", name)
        assert family.type in ("counter", "gauge", "histogram")
        assert not re.search(r"(milli|micro|_ms\b|_total_)", name)
    labels = {value for sample in page.samples for value in sample.labels.values()}
    assert not [value for value in labels if "swordfish" in value or "_0" in value]
    assert page.value("taskbell_build_info", version=__version__, database="sqlite") == 1
    assert page.value("process_cpu_seconds_total") > 0


async def test_it_needs_a_key(taskbell: Taskbell) -> None:
    problem(await taskbell.door.get("/metrics"), 401)
    made = good(await taskbell.api.post("/v1/api-keys", json={"name": "prometheus"}), 201)
    answer = await taskbell.door.get("/metrics", headers=bearer(made["key"]))

    assert (made["scope"], answer.status_code) == ("read", 200)


async def test_the_store_is_asked_once_in_a_while(
    taskbell: Taskbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(taskbell.service.metrics._backlog, "_monotonic", lambda: now)
    seen = []
    for seconds in (0.0, FRESH_SECONDS - 1, 1.0):
        now += seconds
        await taskbell.track(f"t{now}")
        seen.append((await looked(taskbell)).value("taskbell_tasks_open", status="queued"))

    assert seen == [1, 1, 3]


async def test_a_process_without_its_store_says_so(clock: ManualClock) -> None:
    for roles in ("receive", "dispatch"):
        async with running(AWAY, clock, {"ROLES": roles}) as taskbell:
            page = await looked(taskbell)

        assert page.value("taskbell_store_up") == 0
        assert "taskbell_tasks_open" not in page.families


async def test_counting_that_fails_stops_no_write(taskbell: Taskbell) -> None:
    def broken(_: Committed) -> None:
        raise ValueError

    taskbell.service.store.watch(broken)
    await taskbell.track("1")
    await asyncio.sleep(0)

    assert len(await taskbell.tasks()) == 1


async def test_a_watch_is_told_what_was_done(store: Store) -> None:
    told_of: list[Committed] = []
    store.watch(told_of.append)
    report = push("1")
    recorded = await store.write(record, report)
    await store.write(record, report)
    await store.detach()

    first = told_of[0]
    assert first.done == [("record", report, recorded)]
    assert isinstance(recorded, Recorded)
    assert first.events == ["task.succeeded"]
    assert told_of[1].events == []
    assert first.seconds > 0
