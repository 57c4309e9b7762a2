"""The worker with a real store and real subscribers on loopback; only the test moves the clock."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from starlette.responses import Response

from dispatch.client import Client
from dispatch.guard import Guard
from dispatch.sending import Sender
from dispatch.signing import new_secret, sign
from dispatch.worker import LEASE_MARGIN, Worker
from store import rounds, subscriptions
from store.clock import ManualClock
from store.database import open_database
from store.deliveries import Replay, replay, retry
from store.events import Status
from store.matching import Subscription
from store.store import Store
from store.subscriptions import Edit, NewSubscription, Rotation
from store.tables import attempts, deliveries
from store.vault import Vault
from tests.clocks import HeldClock
from tests.conftest import START
from tests.dispatch.hook import Hook
from tests.making import push, rows, tell
from tests.patience import PATIENCE_SECONDS

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
SCHEDULE = tuple(timedelta(seconds=s) for s in (5, 300, 1800))
TIMEOUT = timedelta(seconds=PATIENCE_SECONDS)
NEVER = 3600.0
SECRET = new_secret()
VAULT = Vault(["k" * 32])


class Scene:
    """A worker that looks when told, and how its subscribers are made."""

    def __init__(
        self,
        store: Store,
        clock: ManualClock,
        *,
        guard: Guard | None = None,
        timeout: timedelta = TIMEOUT,
        schedule: tuple[timedelta, ...] = SCHEDULE,
        jitter: Callable[[], float] = lambda: 0.5,
        in_flight: int = 256,
    ) -> None:
        self.store, self.clock = store, clock
        self.client = Client(
            guard or Guard(allow=LOOPBACK), timeout=timeout, limit=300, user_agent="taskbell/test"
        )
        self.worker = Worker(
            store,
            Sender(self.client, VAULT, clock),
            schedule=schedule,
            attempt_timeout=timeout,
            clock=clock,
            owner="test",
            jitter=jitter,
            in_flight=in_flight,
        )

    def subscribe(self, url: str, **values: Any) -> Subscription:
        chosen = {"format": "webhook", "secret_locked": VAULT.lock(SECRET), **values}
        return self.store.write_now(subscriptions.create, NewSubscription(url=url, **chosen))

    def happen(self, task: str = "t1", status: Status = Status.SUCCEEDED) -> str:
        """Something happens to a task; the event's id."""
        event_id = tell(self.store, push(task, status, trusted=True)).event_id
        assert event_id is not None
        return event_id

    async def look(self) -> None:
        """Claim what is due, and let the attempts end."""
        await self.worker.rounds.once()
        await self.worker.drain(10)

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds=seconds)
        await self.look()

    def delivery(self, **values: Any) -> Mapping[str, Any]:
        """The only delivery whose columns have these values."""
        found = [
            row
            for row in rows(self.store, deliveries)
            if all(row[name] == value for name, value in values.items())
        ]
        assert len(found) == 1
        return found[0]


@pytest.fixture
async def scene(store: Store, clock: ManualClock) -> AsyncIterator[Scene]:
    async with opened(Scene(store, clock)) as made:
        yield made


@pytest.fixture
async def hook(clock: ManualClock) -> AsyncIterator[Hook]:
    async with Hook(clock).served() as served:
        yield served


@contextlib.asynccontextmanager
async def opened(scene: Scene) -> AsyncIterator[Scene]:
    yield scene
    await scene.client.close()


@contextlib.asynccontextmanager
async def running(scene: Scene) -> AsyncIterator[None]:
    """The worker by itself, as in a process; at the end it drains."""
    run = asyncio.create_task(scene.worker.run())
    yield
    run.cancel()
    await asyncio.wait([run])
    await scene.worker.drain(10)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not true():  # noqa: ASYNC110 - the worker tells nobody
            await asyncio.sleep(0.005)


class TestDelivering:
    async def test_an_event_is_delivered_signed(self, scene: Scene, hook: Hook) -> None:
        scene.subscribe(hook.url)
        event_id = scene.happen()

        await scene.look()

        (taken,) = hook.taken
        timestamp = int(START.timestamp())
        assert taken.event_id == event_id
        assert taken.headers["webhook-timestamp"] == str(timestamp)
        assert taken.headers["webhook-signature"] == sign(SECRET, event_id, timestamp, taken.body)
        assert taken.headers["user-agent"] == "taskbell/test"
        assert taken.headers["ce-source"] == "/taskbell/minimax"
        body = json.loads(taken.body)
        assert (body["id"], body["type"]) == (event_id, "task.succeeded")
        row = scene.delivery()
        assert (row["status"], row["attempts"], row["finished_at"]) == ("delivered", 1, START)
        (attempt,) = rows(scene.store, attempts)
        assert (attempt["result"], attempt["status_code"]) == ("delivered", 204)
        await scene.pass_time(3600)
        assert len(hook.taken) == 1

    async def test_a_running_worker_is_woken_by_an_event(
        self, scene: Scene, hook: Hook, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rounds, "LOOK_SECONDS", NEVER)
        scene.subscribe(hook.url)
        async with running(scene):
            await asyncio.sleep(0.05)  # it has looked, and rests

            scene.happen()
            await hook.wait_for(1)

    async def test_custom_headers_are_sent_and_ours_stay(self, scene: Scene, hook: Hook) -> None:
        headers = {"X-Team": "video", "Authorization": "Bearer abc", "Webhook-Id": "forged"}
        scene.subscribe(hook.url, headers_locked=VAULT.lock(headers))
        event_id = scene.happen()

        await scene.look()

        sent = hook.taken[0].headers
        assert (sent["x-team"], sent["authorization"]) == ("video", "Bearer abc")
        assert sent["webhook-id"] == event_id

    async def test_the_cloudevents_format_is_one_structured_event(
        self, scene: Scene, hook: Hook
    ) -> None:
        scene.subscribe(hook.url, format="cloudevents")
        event_id = scene.happen()

        await scene.look()

        (taken,) = hook.taken
        body = json.loads(taken.body)
        assert taken.headers["content-type"] == "application/cloudevents+json"
        assert (body["id"], body["source"]) == (event_id, "/taskbell/minimax")
        assert body["data"]["task"]["provider_task_id"] == "t1"
        assert taken.headers["webhook-signature"] == sign(
            SECRET, event_id, int(START.timestamp()), taken.body
        )

    async def test_every_attempt_and_replay_sends_the_same_bytes_under_the_same_id(
        self, scene: Scene, hook: Hook
    ) -> None:
        scene.subscribe(hook.url)
        event_id = scene.happen("狮子")
        hook.answers.extend(Response(status_code=status) for status in (500, 503))

        await scene.look()
        await scene.pass_time(5)
        await scene.pass_time(300)
        scene.store.write_now(replay, Replay(event_id))
        await scene.pass_time(60)

        assert len(hook.taken) == 4
        assert {(taken.event_id, taken.body) for taken in hook.taken} == {
            (event_id, hook.taken[0].body)
        }
        assert len({taken.headers["webhook-signature"] for taken in hook.taken}) == 4


class TestShapes:
    async def test_a_shape_that_would_stall_the_process_fails_by_the_rule_and_stops_nobody(
        self, scene: Scene, hook: Hook
    ) -> None:
        doubled = "type" + " | join('', [@, @])" * 14
        many = f"[{', '.join(['@'] * 12)}][]." * 3
        bombs = [
            f"{doubled} | {many[:-1]} | join('', @)",
            f"{doubled} | {many[:-1]} | to_string(@)",
        ]
        for bomb in [*bombs, f"{many}contains(to_string(@), 'succeedee')"]:
            scene.subscribe(hook.url, shape=f"data.task.status == 'failed' && ({bomb}) || type")
        scene.subscribe(hook.url, shape="data.task.status")

        scene.happen(status=Status.FAILED)
        await scene.look()

        assert [call.body for call in hook.taken] == [b'"failed"']
        waiting = [row for row in rows(scene.store, deliveries) if row["status"] == "pending"]
        assert len(waiting) == 3
        for row in waiting:
            assert row["last_error"].startswith(
                "the shape fails on an event: it takes more work than a shape may: 2 MiB"
            )


class TestTryingAgain:
    @pytest.mark.parametrize("dice", [0.0, 0.5, 1.0])
    async def test_the_schedule_is_kept_with_its_jitter(
        self, store: Store, clock: ManualClock, hook: Hook, dice: float
    ) -> None:
        async with opened(Scene(store, clock, jitter=lambda: dice)) as scene:
            hook.otherwise = lambda: Response("out of order", status_code=500)
            scene.subscribe(hook.url)
            scene.happen()

            await scene.look()
            for seconds in (5, 300, 1800):
                wait = seconds * (0.8 + 0.4 * dice)
                before = len(hook.taken)
                await scene.pass_time(wait - 0.01)
                early = len(hook.taken)
                await scene.pass_time(0.01)
                assert (early, len(hook.taken)) == (before, before + 1)

        row = rows(store, deliveries)[0]
        assert (row["status"], row["attempts"], row["last_error"]) == ("dead", 4, "answered 500")
        assert [attempt["answer"] for attempt in rows(store, attempts)] == ["out of order"] * 4

    @pytest.mark.parametrize(
        ("status", "asked", "seconds"),
        [
            pytest.param(503, "120", 120, id="seconds"),
            pytest.param(429, "Thu, 01 Jan 2026 12:10:00 GMT", 600, id="a date"),
            pytest.param(503, "1", 5, id="less than the schedule"),
            pytest.param(503, "999999", 86400, id="a day at the most"),
            pytest.param(503, "soon", 5, id="nonsense"),
            pytest.param(500, "120", 5, id="only 429 and 503 may ask"),
        ],
    )
    async def test_retry_after_is_kept(
        self, scene: Scene, hook: Hook, status: int, asked: str, seconds: int
    ) -> None:
        hook.answers.append(Response(status_code=status, headers={"retry-after": asked}))
        scene.subscribe(hook.url)
        scene.happen()

        await scene.look()

        assert scene.delivery()["due_at"] == START + timedelta(seconds=seconds)
        await scene.pass_time(seconds)
        assert scene.delivery()["status"] == "delivered"

    async def test_a_redirect_is_not_followed(self, scene: Scene, hook: Hook) -> None:
        async with Hook(scene.clock).served() as other:
            hook.answers.append(Response(status_code=307, headers={"location": other.url}))
            scene.subscribe(hook.url)
            scene.happen()

            await scene.look()

            assert other.taken == []
            assert scene.delivery()["last_error"] == (
                "answered 307: redirects are not followed; it points to 127.0.0.1 (http)"
            )
            await scene.pass_time(5)
            assert scene.delivery()["status"] == "delivered"

    async def test_a_subscriber_that_is_away_is_tried_again(
        self, scene: Scene, clock: ManualClock
    ) -> None:
        async with Hook(clock).served() as gone:
            scene.subscribe(gone.url)
        scene.happen()

        await scene.look()

        row = scene.delivery()
        assert (row["status"], row["last_error"]) == ("pending", "connection refused")

    async def test_410_disables_and_those_who_asked_for_it_hear_so(
        self, scene: Scene, hook: Hook
    ) -> None:
        async with Hook(scene.clock).served() as watcher:
            leaving = scene.subscribe(hook.url)
            watching = scene.subscribe(watcher.url, types=("subscription.disabled",))
            hook.answers.append(Response(status_code=410))
            scene.happen("t1")
            await scene.look()
            scene.happen("t2")

            for _ in range(3):
                await scene.look()

            assert len(hook.taken) == 1
            (news,) = watcher.taken
            told = json.loads(news.body)
            assert told["type"] == "subscription.disabled"
            assert told["data"]["subscription"] == {"id": leaving.id, "reason": "410 Gone"}
            assert (news.headers["ce-source"], news.headers["ce-subject"]) == (
                "/taskbell",
                leaving.id,
            )
            owed = rows(scene.store, deliveries, deliveries.c.subscription_id == leaving.id)
            assert [row["status"] for row in owed] == ["dead"]
            assert scene.delivery(subscription_id=watching.id)["status"] == "delivered"

    async def test_what_a_disabled_subscription_is_still_owed_is_canceled(
        self, scene: Scene, hook: Hook
    ) -> None:
        scene.subscribe(hook.url, max_in_flight=1)
        hook.answers.append(Response(status_code=410))
        for number in range(5):
            scene.happen(f"t{number}")

        async with running(scene):
            await until(lambda: not scene_open(scene))

        assert len(hook.taken) == 1
        states = sorted(row["status"] for row in rows(scene.store, deliveries))
        assert states == ["canceled"] * 4 + ["dead"]

    async def test_a_used_up_schedule_ends_in_an_event_and_can_be_retried(
        self, scene: Scene, hook: Hook
    ) -> None:
        async with Hook(scene.clock).served() as watcher:
            failing = scene.subscribe(hook.url)
            scene.subscribe(watcher.url, types=("delivery.dead",))
            hook.otherwise = lambda: Response(status_code=500)
            event_id = scene.happen()

            await scene.look()
            for seconds in (5, 300, 1800):
                await scene.pass_time(seconds)
            await scene.look()

            dead = scene.delivery(subscription_id=failing.id)
            assert (dead["status"], dead["attempts"]) == ("dead", 4)
            (news,) = watcher.taken
            assert json.loads(news.body)["data"]["delivery"] == {
                "id": dead["id"],
                "event_id": event_id,
                "event_type": "task.succeeded",
                "subscription_id": failing.id,
                "attempts": 4,
                "last_error": "answered 500",
            }
            hook.otherwise = lambda: Response(status_code=200)
            scene.store.write_now(retry, dead["id"])
            await scene.look()
            assert scene.delivery(subscription_id=failing.id)["status"] == "delivered"
            assert hook.taken[-1].event_id == event_id

    async def test_a_subscriber_that_hangs_is_cut_off_and_tried_again(
        self, store: Store, clock: ManualClock, hook: Hook
    ) -> None:
        async with (
            opened(Scene(store, clock, timeout=timedelta(seconds=0.1))) as hasty,
            opened(Scene(store, clock, timeout=timedelta(seconds=PATIENCE_SECONDS))) as scene,
        ):
            hasty.subscribe(hook.url)
            hasty.happen()
            hook.free.clear()
            await hasty.look()
            cut_off = hasty.delivery()
            hook.free.set()

            await scene.pass_time(5)

            assert (cut_off["status"], cut_off["last_error"]) == (
                "pending",
                "timed out after 0.1 s",
            )
            assert scene.delivery()["status"] == "delivered"


def scene_open(scene: Scene) -> list[Mapping[str, Any]]:
    return rows(scene.store, deliveries, deliveries.c.status.in_(("pending", "in_flight")))


class TestSecrets:
    async def test_after_a_rotation_two_signatures_are_sent_for_a_day(
        self, scene: Scene, hook: Hook
    ) -> None:
        newer = new_secret()
        subscription = scene.subscribe(hook.url)
        scene.happen("t1")
        await scene.look()
        scene.clock.advance(seconds=1)
        scene.store.write_now(
            subscriptions.rotate, Rotation(subscription.id, VAULT.lock(newer), timedelta(days=1))
        )

        for task, seconds in (("t2", 0.0), ("t3", 86_399.0), ("t4", 1.0)):
            scene.clock.advance(seconds=seconds)
            scene.happen(task)
            await scene.look()

        def signed(number: int, *secrets: str) -> str:
            taken = hook.taken[number]
            at = int(taken.headers["webhook-timestamp"])
            return " ".join(sign(secret, taken.event_id, at, taken.body) for secret in secrets)

        found = [taken.headers["webhook-signature"] for taken in hook.taken]
        assert found == [
            signed(0, SECRET),
            signed(1, newer, SECRET),
            signed(2, newer, SECRET),
            signed(3, newer),
        ]

    async def test_what_cannot_be_read_or_written_holds_up_nobody_else(
        self, scene: Scene, hook: Hook
    ) -> None:
        foreign = scene.subscribe(hook.url, secret_locked=Vault(["x" * 32]).lock(SECRET))
        garbled = scene.subscribe(hook.url, headers_locked="not even locked")
        unknown = scene.subscribe(hook.url, format="carrier-pigeon")
        fine = scene.subscribe(hook.url)
        scene.happen()

        await scene.look()

        assert len(hook.taken) == 1
        assert scene.delivery(subscription_id=fine.id)["status"] == "delivered"
        for subscription, reason in (
            (foreign, "TASKBELL_SECRET_KEYS"),
            (garbled, "TASKBELL_SECRET_KEYS"),
            (unknown, "format 'carrier-pigeon' is not known here"),
        ):
            row = scene.delivery(subscription_id=subscription.id)
            assert (row["status"], row["failures"]) == ("pending", 1)
            assert reason in row["last_error"]

    async def test_a_repaired_subscription_gets_what_it_is_owed(
        self, scene: Scene, hook: Hook
    ) -> None:
        subscription = scene.subscribe(hook.url, format="carrier-pigeon")
        scene.happen()
        await scene.look()
        edit = Edit(subscription.id, {"format": "webhook"})
        scene.store.write_now(subscriptions.edit, edit)

        await scene.pass_time(5)

        assert scene.delivery()["status"] == "delivered"


class TestGuard:
    async def test_an_address_that_is_refused_is_refused_at_each_attempt(
        self, store: Store, clock: ManualClock, hook: Hook
    ) -> None:
        async with opened(Scene(store, clock, guard=Guard(allow=()))) as scene:
            scene.subscribe(hook.url)  # saved while loopback was allowed
            scene.happen()

            await scene.look()
            await scene.pass_time(5)

            assert hook.taken == []
            row = scene.delivery()
            assert (row["status"], row["attempts"]) == ("pending", 2)
            assert row["last_error"].startswith("address refused: ")

    async def test_our_own_door_is_no_subscriber(
        self, store: Store, clock: ManualClock, hook: Hook
    ) -> None:
        port = int(hook.url.split(":")[2].partition("/")[0])
        guard = Guard(allow=LOOPBACK, own={("127.0.0.1", port)})
        async with opened(Scene(store, clock, guard=guard)) as scene:
            scene.subscribe(hook.url)
            scene.happen()

            await scene.look()

            assert hook.taken == []


class TestLimits:
    async def test_no_more_are_open_at_a_subscriber_than_it_allows(
        self, scene: Scene, hook: Hook
    ) -> None:
        scene.subscribe(hook.url, max_in_flight=3)
        hook.free.clear()
        async with running(scene):
            for number in range(20):
                scene.happen(f"t{number}")
            await hook.wait_for(3)
            await asyncio.sleep(0.05)  # time in which a fourth could come
            waiting = len(hook.taken)
            hook.free.set()
            await hook.wait_for(20)

        assert (waiting, hook.most) == (3, 3)
        assert all(row["status"] == "delivered" for row in rows(scene.store, deliveries))

    async def test_no_more_are_in_flight_than_the_worker_has_room_for(
        self, store: Store, clock: ManualClock, hook: Hook
    ) -> None:
        async with opened(Scene(store, clock, in_flight=4)) as scene:
            scene.subscribe(hook.url)
            hook.free.clear()
            async with running(scene):
                for number in range(12):
                    scene.happen(f"t{number}")
                await hook.wait_for(4)
                await asyncio.sleep(0.05)
                hook.free.set()
                await hook.wait_for(12)

        assert hook.most == 4

    async def test_a_full_worker_goes_on_as_soon_as_a_place_is_free(
        self, store: Store, clock: ManualClock, hook: Hook, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rounds, "LOOK_SECONDS", NEVER)
        async with opened(Scene(store, clock, in_flight=1)) as scene:
            scene.subscribe(hook.url)
            for number in range(60):
                scene.happen(f"t{number}")

            async with running(scene):
                await hook.wait_for(60)

    async def test_a_rate_is_kept_at_the_subscriber(self, scene: Scene, hook: Hook) -> None:
        scene.subscribe(hook.url, rate_per_second=4)
        for number in range(30):
            scene.happen(f"t{number}")

        for _ in range(100):
            await scene.pass_time(0.05)

        assert busiest_second([taken.at for taken in hook.taken]) <= 5
        assert 18 <= len(hook.taken) <= 21

    async def test_a_subscriber_that_hangs_delays_no_other(
        self, store: Store, clock: ManualClock, hook: Hook
    ) -> None:
        async with (
            opened(Scene(store, clock, timeout=timedelta(seconds=30))) as scene,
            Hook(clock).served() as hanging,
        ):
            scene.subscribe(hanging.url)
            scene.subscribe(hook.url)
            hanging.free.clear()
            async with running(scene):
                for number in range(100):
                    scene.happen(f"t{number}")
                await hook.wait_for(100)
                still_open = hanging.open
                hanging.free.set()
                await hanging.wait_for(100)

        assert still_open == 32

    async def test_those_that_hang_leave_room_once_their_first_attempts_are_over(
        self, store: Store, clock: ManualClock, hook: Hook
    ) -> None:
        async with (
            opened(Scene(store, clock, timeout=timedelta(seconds=1), in_flight=4)) as scene,
            Hook(clock).served() as hanging,
        ):
            for _ in range(2):
                scene.subscribe(hanging.url, max_in_flight=2)
            hanging.free.clear()
            async with running(scene):
                for number in range(4):
                    scene.happen(f"t{number}")
                await hanging.wait_for(4)  # no place is left
                scene.subscribe(hook.url)
                for number in range(20):
                    scene.happen(f"later{number}")
                await hook.wait_for(20)
                hanging.free.set()

        assert len(hanging.taken) < 2 * 20

    async def test_one_task_goes_to_a_subscriber_in_order_and_one_at_a_time(
        self, scene: Scene, hook: Hook
    ) -> None:
        scene.subscribe(hook.url)
        hook.free.clear()
        async with running(scene):
            events = [
                scene.happen("t1", status)
                for status in (Status.QUEUED, Status.PROCESSING, Status.SUCCEEDED)
            ]
            other = scene.happen("t2")
            await hook.wait_for(2)
            await asyncio.sleep(0.05)  # time in which the second of t1 could come
            first = [taken.event_id for taken in hook.taken]
            hook.free.set()
            await hook.wait_for(4)

        assert sorted(first) == sorted([events[0], other])
        assert [t.event_id for t in hook.taken if t.event_id in events] == events

    async def test_what_waits_for_its_retry_does_not_hold_back_what_follows(
        self, scene: Scene, hook: Hook
    ) -> None:
        scene.subscribe(hook.url)
        hook.answers.append(Response(status_code=500))
        first = scene.happen("t1", Status.PROCESSING)
        await scene.look()

        second = scene.happen("t1", Status.SUCCEEDED)
        await scene.look()
        await scene.pass_time(5)

        assert [taken.event_id for taken in hook.taken] == [first, second, first]


class TestStopping:
    async def test_attempts_under_way_are_finished(self, scene: Scene, hook: Hook) -> None:
        scene.subscribe(hook.url)
        scene.happen()
        hook.free.clear()
        run = asyncio.create_task(scene.worker.run())
        await hook.wait_for(1)

        run.cancel()
        draining = asyncio.create_task(scene.worker.drain(10))
        await asyncio.sleep(0.02)
        hook.free.set()
        await draining

        assert scene.delivery()["status"] == "delivered"

    async def test_what_was_just_claimed_is_still_sent(
        self, sqlite_url: str, clock: ManualClock, hook: Hook
    ) -> None:
        held = HeldClock(START)
        store = Store(open_database(sqlite_url), held)
        async with opened(Scene(store, clock)) as scene:
            scene.subscribe(hook.url)
            scene.happen()
            held.hold()
            run = asyncio.create_task(scene.worker.run())
            await asyncio.to_thread(
                held.reached.wait, PATIENCE_SECONDS
            )  # the claim's transaction has begun

            run.cancel()
            await asyncio.wait([run])
            held.go_on.set()
            await scene.worker.drain(10)

            assert len(hook.taken) == 1
            assert scene.delivery()["status"] == "delivered"
        store.close()

    async def test_what_is_cut_off_is_sent_again_when_its_lease_ends(
        self, scene: Scene, hook: Hook
    ) -> None:
        scene.subscribe(hook.url)
        event_id = scene.happen()
        hook.free.clear()
        await scene.worker.rounds.once()
        await hook.wait_for(1)
        await scene.worker.drain(0)  # as when the process is told to hurry
        hook.free.set()

        lease = (TIMEOUT + LEASE_MARGIN).total_seconds()
        await scene.pass_time(lease - 1)
        early = len(hook.taken)
        await scene.pass_time(1)

        assert early == 1
        assert [taken.event_id for taken in hook.taken] == [event_id] * 2
        assert scene.delivery()["status"] == "delivered"

    async def test_a_store_that_is_away_is_logged_once(
        self, scene: Scene, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "taskbell.dispatch")
        scene.store.close()

        for _ in range(3):
            await scene.look()

        lines = [record.getMessage() for record in caplog.records]
        assert lines == ["the store is away: the store is closed"]


def busiest_second(starts: list[datetime]) -> int:
    second = timedelta(seconds=1)
    return max(sum(start <= other < start + second for other in starts) for start in starts)
