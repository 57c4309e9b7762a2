"""A day of Taskbell's life for people to look at, recorded by the store's own operations.

The tests of the pages play on it, their screenshots show it, and the benchmark multiplies it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random

from sqlalchemy import Connection, func, select
from sqlalchemy import event as sqlalchemy_event

from store import keys, subscriptions
from store.clock import ManualClock
from store.database import open_database
from store.events import Failure, Output, Status, TaskUpdate
from store.keys import NewKey, Scope
from store.provider_states import Note, State
from store.records import Receipt, TooLarge, Unread, keep_too_large, keep_unread
from store.retention import cancel_leftovers
from store.schema import migrate
from store.store import Store
from store.tables import deliveries, events, tasks
from store.vault import Vault
from tests import making
from tests.seed import hostile, jobs
from tests.seed.jobs import Job, Timed
from tests.seed.play import Play
from tests.seed.subscribers import subscribers

LENGTH = timedelta(hours=26)
KEYS = {scope: f"tb_seeded_a-{scope}-key-of-the-scene-0123456789" for scope in Scope}
"""An API key of each scope."""

_USUAL = 44
_PROMPTS = ("A lighthouse in a storm", "一只猫坐在月亮上", "Waves at dusk, slow pan", "雪夜的街道")


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to look at. Ids by the names that tests call them by.

    events: the newest of each task, by the task's name; of those about no task, by type.
    deliveries: the newest of each subscription and status, by both.
    """

    end: datetime
    tasks: Mapping[str, str]
    subscriptions: Mapping[str, str]
    events: Mapping[str, str]
    deliveries: Mapping[tuple[str, str], str]


def seed(database_url: str, secret_keys: tuple[str, ...], end: datetime) -> Scene:
    """Fill a new database with a day that ends then."""
    database = open_database(database_url)
    if not database.postgresql:
        sqlalchemy_event.listen(database.writer, "connect", _hurry)
    migrate(database)
    clock = ManualClock(end - LENGTH)
    store = Store(database, clock)
    try:
        return _played(store, clock, Vault(secret_keys), end)
    finally:
        store.close()


def _hurry(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous = OFF")  # what a power cut takes is soon made again


def _played(store: Store, clock: ManualClock, vault: Vault, end: datetime) -> Scene:
    for scope, text in KEYS.items():
        store.write_now(keys.create, NewKey(f"{scope} key", scope, text))
    cast = {store.write_now(subscriptions.create, s.wish).id: s for s in subscribers(vault)}
    stories = _usual(end) | _special(end)
    play = Play(store, clock, end, cast)
    for _, story in stories.values():
        for ago, report in story:
            play.at(ago, report)
    for ago, note in _states():
        play.at(ago, note)
    play.run()
    just_in = Job(jobs.HAILUO, 2_000, timedelta(0), {"customer": "42"})
    play.leave_in_flight(just_in.registered())
    former = next(sid for sid, subscriber in cast.items() if subscriber.name == "former")
    store.write_now(subscriptions.delete, former)
    store.write_now(cancel_leftovers, 1_000)
    for raw in (b"<html>not JSON</html>", hostile.TEXT.encode()):
        store.write_now(keep_unread, Unread("minimax", Receipt("cb_scene", raw)))
    beginning = Receipt("cb_scene", b'{"task_id": "too large')
    store.write_now(keep_too_large, TooLarge("minimax", beginning, None, None))
    ids = store.read_now(_ids)
    named = {name: ids[job.task] for name, (job, _) in stories.items()}
    called = {task: name for name, task in named.items()}
    return Scene(
        end,
        named,
        {subscriber.name: sid for sid, subscriber in cast.items()},
        {called.get(about, about): event for about, event in store.read_now(_newest_events)},
        {(cast[s].name, status): did for s, status, did in store.read_now(_newest_deliveries)},
    )


def _states() -> Iterator[tuple[timedelta, Note]]:
    """All providers are well; one was down for a while."""
    now = timedelta(0)
    for name, title in _PROVIDERS.items():
        yield LENGTH, Note(name, title, State.OK, asked_ago=now, answered_ago=now)
        yield now, Note(name, title, asked_ago=now, answered_ago=now)
    why = Failure("unavailable", "Atlas Cloud cannot answer now (GET api.atlascloud.ai: 503)")
    yield timedelta(minutes=200), Note("atlascloud", "Atlas Cloud", State.DOWN, reason=why)
    yield timedelta(minutes=188), Note("atlascloud", "Atlas Cloud", State.OK)


_PROVIDERS = {"minimax": "MiniMax", "atlascloud": "Atlas Cloud", "opencomputing": "元境"}


def _ids(connection: Connection) -> dict[str, str]:
    rows = connection.execute(select(tasks.c.provider_task_id, tasks.c.id))
    return {row.provider_task_id: row.id for row in rows}


def _newest_events(connection: Connection) -> list[tuple[str, str]]:
    about = func.coalesce(events.c.task_id, events.c.type)
    found = connection.execute(select(about, func.max(events.c.id)).group_by(about))
    return [(subject, newest) for subject, newest in found]


def _newest_deliveries(connection: Connection) -> list[tuple[str, str, str]]:
    of = deliveries.c.subscription_id, deliveries.c.status
    found = connection.execute(select(*of, func.max(deliveries.c.id)).group_by(*of))
    return [(subscription, status, newest) for subscription, status, newest in found]


Stories = dict[str, tuple[Job, Timed]]


def _usual(end: datetime) -> Stories:
    """What goes well, of every model, all day long."""
    random, stories = Random(7), Stories()
    for number in range(_USUAL):
        ago = LENGTH - timedelta(minutes=10) - (LENGTH - timedelta(hours=1)) * number / _USUAL
        metadata = {"customer": str(40 + number % 5), "prompt": _PROMPTS[number % len(_PROMPTS)]}
        job = Job(jobs.MODELS[number % len(jobs.MODELS)], number, ago, metadata)
        stories[f"usual {number}"] = job, jobs.succeeds(job, end, random)
    return stories


def _special(end: datetime) -> Stories:
    """One of everything that a person should see at once."""
    minute = timedelta(minutes=1)
    numbers = iter(range(1000, 2000))

    def job(model: jobs.Model, ago: timedelta, **metadata: str) -> Job:
        return Job(model, next(numbers), ago, {"customer": "42", **metadata})

    stories = Stories()

    def tell(name: str, job: Job, story: Timed) -> None:
        stories[name] = job, story

    for name, model, ago, progress in (
        ("running", jobs.HAILUO, 2 * minute, 0.62),
        ("running video", jobs.VIDU, 4 * minute, 0.8),
        ("running speech", jobs.SPEECH, minute / 4, 0.35),
        ("slow", jobs.ATLAS_VIDEO, 14 * minute, None),
    ):
        one = job(model, ago, prompt="A man picks up a book")
        tell(name, one, jobs.runs(one, progress))
    one = job(jobs.VIDU, 140 * minute)
    tell("late", one, jobs.times_out(one))
    one = job(jobs.H3, 300 * minute)
    tell("ended late", one, jobs.ends_late(one, end))
    one = job(jobs.HAILUO, 22 * minute)
    tell("rescued", one, jobs.is_rescued(one, end))
    one = job(jobs.H3, 8 * minute)
    tell("failed", one, jobs.fails(one, "1026", "video description contains sensitive content"))
    one = job(jobs.WAN, 12 * minute)
    tell("failed in Chinese", one, jobs.fails(one, "insufficient_balance", "账户余额不足"))
    one = job(jobs.ATLAS_IMAGE, 30 * minute)
    tell("canceled", one, _is_canceled(one))
    one = job(jobs.HAILUO, 3 * minute)
    tell("unconfirmed", one, jobs.waits_for_word(one))
    one = job(jobs.HAILUO, 90 * minute)
    tell("contradicted", one, jobs.is_contradicted(one, end))
    one = job(jobs.ATLAS_IMAGE, 25 * minute)
    tell("many outputs", one, _makes_much(one, end))
    one = replace(job(jobs.HAILUO, 150 * minute), metadata=_HOSTILE_METADATA)
    tell("hostile", one, _is_hostile(one, end))
    one = job(jobs.HAILUO, minute / 6)
    tell("queued", one, iter([(one.ago, one.registered())]))
    return stories


def _is_canceled(job: Job) -> Timed:
    yield job.ago, job.registered()
    stop = TaskUpdate(Status.CANCELED, "", error=Failure("untracked", "tracking was stopped"))
    report = replace(job.registered(), update=stop, registration=None, ask_in=None)
    yield job.ago - timedelta(minutes=1), report


def _makes_much(job: Job, end: datetime) -> Timed:
    yield job.ago, job.registered()
    outputs = [
        Output(url=f"https://cdn.example.com/{kind}", kind=kind, expires_at=end + life)
        for kind, life in zip(jobs.KINDS, _LIVES, strict=True)
    ]
    outputs.append(Output(file_id="205258526306433"))
    done = job.ago - timedelta(seconds=10)
    yield done, job.polled(Status.SUCCEEDED, "completed", outputs=tuple(outputs))


_LIVES = (timedelta(hours=3), timedelta(minutes=4), timedelta(minutes=-5))
"""Of links, from the scene's end on."""

_HOSTILE_METADATA = {
    "customer": hostile.SCRIPT,
    hostile.IMAGE: hostile.BACKWARDS,
    "prompt": hostile.TEXT,
    "word": hostile.WORD[:2_000],
}


def _is_hostile(job: Job, end: datetime) -> Timed:
    """Everything a provider can say is an attack."""
    job = replace(job, model=replace(job.model, name=f"{hostile.SCRIPT} {hostile.BACKWARDS}"))
    yield job.ago, job.registered()
    yield (
        job.ago - timedelta(seconds=5),
        replace(
            making.push(job.task, raw=f'"{hostile.TEXT}'.encode() + hostile.WORD.encode()),
            update=TaskUpdate(Status.PROCESSING, hostile.SCRIPT),
        ),
    )
    failed = job.polled(
        Status.FAILED,
        hostile.IMAGE,
        error=Failure(hostile.SCRIPT, hostile.TEXT + hostile.WORD),
        usage={hostile.SCRIPT: hostile.IMAGE, "credits": hostile.LINK},
        outputs=(
            Output(url=hostile.LINK, kind=job.model.kind, expires_at=end),
            Output(url=f"https://x.example/{hostile.IMAGE}", file_id=hostile.IMAGE),
        ),
    )
    yield job.ago - timedelta(seconds=30), failed
