from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from itsdangerous import URLSafeSerializer

from receiver.callbacks import BODY_LIMIT, CHALLENGE_LIMIT
from receiver.spelling import unspell
from receiver.tokens import CallbackTokens
from store.callback_tokens import make_token_id
from store.clock import ManualClock
from store.errors import StoreUnavailableError
from store.events import Task
from store.rows import task_from_row
from store.store import Store
from store.tables import tasks
from tests.app import AWAY, SECRET_KEYS, Taskbell, good, minimax, problem, running
from tests.e2e.process import until
from tests.patience import PATIENCE_SECONDS

THANKS = {"status": "success"}
CB = make_token_id(None, 1)
OUR_KEY = "sk-0123456789/abcdef"


async def stored_tasks(taskbell: Taskbell) -> list[Task]:
    """Also those that only an unsigned push has named, which the API does not list."""
    return [task_from_row(row) for row in await taskbell.rows(tasks)]


async def the_task(taskbell: Taskbell) -> Task:
    [task] = await stored_tasks(taskbell)
    return task


async def verdicts(taskbell: Taskbell) -> list[str]:
    return [receipt.verdict for receipt in await taskbell.receipts()]


async def assert_nothing_stored(taskbell: Taskbell) -> None:
    assert await stored_tasks(taskbell) == []
    assert await taskbell.events() == []
    assert await taskbell.receipts() == []


# Challenges


VALUES = [
    pytest.param('"abc123"', id="a text"),
    pytest.param('""', id="an empty text"),
    pytest.param('"\\ud800"', id="half a surrogate pair"),
    pytest.param('"\\udfff\\ud800"', id="surrogates the wrong way round"),
    pytest.param('"\\u0000\\r\\nSet-Cookie: a=b"', id="control characters"),
    pytest.param('"元境 😀 <script>"', id="letters as they are"),
    pytest.param("0", id="zero"),
    pytest.param("-12", id="a negative number"),
    pytest.param("12345678901234567890123456789012345", id="an integer beyond 64 bits"),
    pytest.param("1.5", id="a float"),
    pytest.param("-2.5e-7", id="a small float"),
    pytest.param("true", id="true"),
    pytest.param("false", id="false"),
    pytest.param("null", id="null"),
    pytest.param("{}", id="an empty object"),
    pytest.param('{"challenge":{"a":[1,{"b":null}]}}', id="a nested object"),
    pytest.param('[1,"a",[],{"b":2.5}]', id="a list"),
]


@pytest.mark.parametrize("value", VALUES)
async def test_a_challenge_is_echoed_unchanged_without_the_store(
    small: Taskbell, value: str
) -> None:
    small.service.store.close()

    answer = await small.push(f'{{"challenge": {value}}}'.encode())

    good(answer)
    # compared as text, because Python calls 1, 1.0 and True equal
    assert json.dumps(answer.json()) == json.dumps({"challenge": json.loads(value)})


async def test_a_challenge_is_answered_while_the_database_is_away(clock: ManualClock) -> None:
    async with running(AWAY, clock) as taskbell:
        answer = await taskbell.push({"challenge": "hello"})

    assert good(answer) == {"challenge": "hello"}


async def test_of_a_challenge_only_that_it_came_is_stored(small: Taskbell) -> None:
    await small.push({"challenge": "x", **minimax()})

    assert await stored_tasks(small) == []
    [receipt] = await small.receipts()
    assert (receipt.verdict, receipt.raw, receipt.task_id) == ("challenge", b"", None)


async def test_how_many_challenges_of_one_address_are_kept_is_bounded(small: Taskbell) -> None:
    for _ in range(201):
        good(await small.push({"challenge": "x"}))

    assert await verdicts(small) == ["challenge"] * 200


async def test_a_challenge_may_have_4_kib(small: Taskbell) -> None:
    fits, too_long = "A" * (CHALLENGE_LIMIT - 2), "A" * (CHALLENGE_LIMIT - 1)

    assert good(await small.push({"challenge": fits})) == {"challenge": fits}
    detail = problem(await small.push({"challenge": too_long}), 413)

    assert "4096" in detail
    assert "AAAA" not in detail


async def test_null_beside_a_task_is_a_push(small: Taskbell) -> None:
    answer = await small.push({"challenge": None, **minimax()})

    assert good(answer) == THANKS
    assert await small.event_types() == ["task.succeeded"]


async def test_atlas_cloud_knows_no_challenge(small: Taskbell) -> None:
    answer = await small.push({"challenge": "x"}, small.path("atlascloud"))

    assert "challenge" not in problem(answer, 401)


# Pushes


async def test_a_push_of_an_unknown_task_registers_it_with_the_tokens_metadata(
    taskbell: Taskbell, clock: ManualClock
) -> None:
    path = taskbell.path(token_id="tok7", metadata={"customer": "42"})

    answer = await taskbell.push(minimax("77", file_id="5"), path)

    assert good(answer) == THANKS
    [task] = await taskbell.tasks()
    assert task["provider"] == "minimax"
    assert task["provider_task_id"] == "77"
    assert task["status"] == "succeeded"
    assert task["provider_status"] == "Success"
    assert task["metadata"] == {"customer": "42"}
    [output] = task["outputs"]
    assert (output["url"], output["kind"], output["file_id"]) == (None, "video", "5")
    assert task["source"] == "push"
    assert task["confirmed"] is False
    assert task["version"] == 1
    assert task["created_at"] == task["finished_at"] == "2026-01-01T12:00:00.000000Z"
    assert task["deadline_at"] == "2026-01-01T14:00:00.000000Z"
    [event] = await taskbell.events()
    assert event["type"] == "task.succeeded"
    assert event["data"] == {
        "task": task,
        "previous_status": None,
        "source": "push",
        "late": False,
    }
    [receipt] = await taskbell.receipts()
    assert receipt.token_id == "tok7"
    assert receipt.task_id == task["id"]
    assert json.loads(receipt.raw) == minimax("77", file_id="5")
    assert receipt.received_at == clock()


async def test_a_push_moves_a_task_that_was_tracked(taskbell: Taskbell) -> None:
    tracked = await taskbell.track("77", metadata={"order": 1}, model="Hailuo")

    await taskbell.push(minimax("77"), taskbell.path(metadata={"order": 2, "customer": "42"}))

    [task] = await taskbell.tasks()
    assert task["id"] == tracked["id"]
    assert task["status"] == "succeeded"
    assert task["metadata"] == {"order": 1, "customer": "42"}
    assert task["model"] == "Hailuo"
    assert await taskbell.event_types() == ["task.queued", "task.succeeded"]


@pytest.mark.parametrize(
    ("words", "events", "judged"),
    [
        pytest.param(
            ["Preparing", "Processing", "Success"],
            ["task.queued", "task.processing", "task.succeeded"],
            ["recorded", "recorded", "recorded"],
            id="forward",
        ),
        pytest.param(
            ["Success", "Success", "success"],
            ["task.succeeded"],
            ["recorded", "repeated", "repeated"],
            id="repeated",
        ),
        pytest.param(
            ["Processing", "Queueing", "Fail", "Processing"],
            ["task.processing", "task.failed"],
            ["recorded", "stale", "recorded", "stale"],
            id="stale",
        ),
        pytest.param(
            ["Success", "Fail", "Success"],
            ["task.succeeded"],
            ["recorded", "contradiction", "repeated"],
            id="contradicting",
        ),
        pytest.param(
            ["Fail", "Success"],
            ["task.failed"],
            ["recorded", "contradiction"],
            id="contradicting the other way",
        ),
        pytest.param(
            ["Dreaming", "Pondering", "Success"],
            ["task.processing", "task.succeeded"],
            ["recorded", "repeated", "recorded"],
            id="unknown words",
        ),
    ],
)
async def test_only_steps_forward_are_recorded(
    taskbell: Taskbell, words: list[str], events: list[str], judged: list[str]
) -> None:
    answers = [await taskbell.push(minimax(status=word)) for word in words]

    assert [good(answer) for answer in answers] == [THANKS] * len(words)
    assert await taskbell.event_types() == events
    assert await verdicts(taskbell) == judged


async def test_many_equal_pushes_at_once_are_one_event(taskbell: Taskbell) -> None:
    answers = await asyncio.gather(*(taskbell.push(minimax()) for _ in range(50)))

    assert [good(answer) for answer in answers] == [THANKS] * 50
    assert await taskbell.event_types() == ["task.succeeded"]
    assert sorted(await verdicts(taskbell)) == ["recorded"] + ["repeated"] * 49


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a\x00b", id="NUL"),
        pytest.param("\ud83d", id="half a surrogate pair"),
        pytest.param("x" * 100_000, id="100,000 characters"),
        pytest.param("\x1b[2J\r\nINFO forged", id="control characters"),
        pytest.param("元境" * 1000, id="letters of three bytes"),
    ],
)
async def test_no_text_of_a_prompt_blocks_its_own_result(taskbell: Taskbell, text: str) -> None:
    body = minimax(status="Fail", base_resp={"status_code": 1026, "status_msg": text}, prompt=text)

    assert good(await taskbell.push(body)) == THANKS

    [event] = await taskbell.events()
    assert event["type"] == "task.failed"
    assert event["data"]["task"]["error"]["code"] == "1026"
    [receipt] = await taskbell.receipts()
    assert json.loads(receipt.raw) == body


async def test_a_push_is_503_while_the_database_is_away(clock: ManualClock) -> None:
    async with running(AWAY, clock) as taskbell:
        push = await taskbell.push(minimax())
        unreadable = await taskbell.push(b"{")

    for answer in (push, unreadable):
        problem(answer, 503)
        assert int(answer.headers["retry-after"]) > 0


# Tokens


def signed_otherwise(keys: tuple[str, ...], **signer: Any) -> str:
    options = {"salt": "taskbell.callback.v1", "signer_kwargs": {"key_derivation": "hmac"}}
    payload: dict[str, Any] = {"provider": "minimax", "id": "tok1", "exp": None, "meta": {}}
    return URLSafeSerializer(list(keys), **options | signer).dumps(payload)


def foreign_token() -> str:
    return CallbackTokens(["a key of another installation, long enough"]).issue(
        "minimax", "tok1", expires_at=None, metadata={}
    )


async def test_a_bad_token_is_404_and_leaves_no_trace(small: Taskbell) -> None:
    paths = [
        "/callbacks/minimax/nonsense",
        "/callbacks/minimax/a.b.c",
        f"/callbacks/minimax/{'A' * 3000}",
        # another provider's, or that of a provider there is not
        small.path("atlascloud").replace("atlascloud", "minimax"),
        small.path("minimax").replace("minimax", "atlascloud"),
        small.path("minimax").replace("minimax", "nobody"),
        small.path("nobody"),
        # not signed by us for this
        f"/callbacks/minimax/{foreign_token()}",
        f"/callbacks/minimax/{signed_otherwise(SECRET_KEYS, salt='cookie')}",
        f"/callbacks/minimax/{signed_otherwise(SECRET_KEYS)}",  # another digest
        small.path()[:-1],
        f"/callbacks/minimax/{unspell(small.path().rpartition('/')[2]).swapcase()}",  # the older
        small.path() + "x",
    ]

    for path in paths:
        for body in ({"challenge": "hush-hush"}, minimax("hush-hush"), b"hush-hush"):
            answer = await small.push(body, path)
            assert problem(answer, 404) == "no such callback address", path
            assert "hush" not in answer.text
    await assert_nothing_stored(small)


async def test_a_token_serves_ten_minutes_beyond_its_expiry(
    small: Taskbell, clock: ManualClock
) -> None:
    path = small.path(expires_at=clock() + timedelta(hours=1))

    clock.advance(hours=1, minutes=9)  # hosts' clocks differ
    assert good(await small.push({"challenge": 1}, path)) == {"challenge": 1}

    clock.advance(minutes=2)
    problem(await small.push({"challenge": 1}, path), 404)
    problem(await small.push(minimax(), path), 404)
    assert await verdicts(small) == ["challenge"]


async def test_a_key_that_is_still_listed_verifies(small: Taskbell) -> None:
    token = CallbackTokens(SECRET_KEYS[:1]).issue("minimax", "old", expires_at=None, metadata={})

    assert good(await small.push(minimax(), f"/callbacks/minimax/{token}")) == THANKS


def respelt(path: str) -> list[str]:
    """Other spellings of a token that verify, and the older one: its last character has unused bits."""
    place, _, token = path.rpartition("/")
    old = unspell(token)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(old[-1])
    others = [old[:-1] + alphabet[last ^ bit] for bit in range(4)]
    return [f"{place}/{other}" for other in (*others, old + "=", token.upper(), token + "/")]


async def test_every_spelling_of_a_token_is_the_same_token(
    taskbell: Taskbell, clock: ManualClock
) -> None:
    path = taskbell.path(token_id="tok9")
    await taskbell.push(minimax(status="Processing"), path)
    assert (await the_task(taskbell)).next_poll_at == clock() + timedelta(seconds=60)

    for other in respelt(path):
        assert good(await taskbell.push(minimax(status="Processing"), other)) == THANKS
    problem(await taskbell.push(b"{", respelt(path)[0]), 400)

    assert {receipt.token_id for receipt in await taskbell.receipts()} == {"tok9"}
    assert (await the_task(taskbell)).next_poll_at == clock()


async def test_a_bad_token_is_refused_before_the_body_is_read(small: Taskbell) -> None:
    async def body() -> AsyncIterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    answer = await small.door.post("/callbacks/minimax/nonsense", content=body())

    problem(answer, 404)


# Revoked tokens


async def revoke_tokens(taskbell: Taskbell, *token_ids: str) -> None:
    for token_id in token_ids:
        answer = await taskbell.api.delete(f"/v1/callback-urls/{token_id}")
        assert answer.status_code == 204


async def test_no_spelling_of_a_revoked_token_is_good(small: Taskbell) -> None:
    path = small.path(token_id=CB)
    await revoke_tokens(small, CB)

    for spelling in (path, *respelt(path)):
        for body in ({"challenge": "x"}, minimax(), b"{"):
            assert problem(await small.push(body, spelling), 404) == "no such callback address"
    await assert_nothing_stored(small)


async def test_a_revoked_token_is_refused_before_the_body_is_read(small: Taskbell) -> None:
    async def body() -> AsyncIterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    await revoke_tokens(small, CB)

    problem(await small.door.post(small.path(token_id=CB), content=body()), 404)


async def test_a_revoked_token_stays_so_while_the_database_is_away(small: Taskbell) -> None:
    await revoke_tokens(small, CB)
    small.service.store.close()

    for body in ({"challenge": "x"}, minimax(), b"{"):
        problem(await small.push(body, small.path(token_id=CB)), 404)
    good(await small.push({"challenge": "x"}))


async def test_a_revocation_counts_after_a_restart(sqlite_url: str, clock: ManualClock) -> None:
    async with running(sqlite_url, clock) as taskbell:
        await revoke_tokens(taskbell, CB)

    async with running(sqlite_url, clock) as taskbell:
        problem(await taskbell.push(minimax(), taskbell.path(token_id=CB)), 404)
        problem(await taskbell.push({"challenge": 1}, taskbell.path(token_id=CB)), 404)


async def test_a_revocation_counts_in_other_processes(
    postgresql_url: str, clock: ManualClock
) -> None:
    async with running(postgresql_url, clock) as one, running(postgresql_url, clock) as other:
        good(await other.push({"challenge": 1}, other.path(token_id=CB)))
        await other.push(minimax("1", "Processing"), other.path(token_id=CB))

        await revoke_tokens(one, CB)

        async def refused() -> bool:
            return (await other.push({"challenge": 1}, other.path(token_id=CB))).status_code == 404

        await until(refused, PATIENCE_SECONDS, every=0.01)
        problem(await other.push(minimax(), other.path(token_id=CB)), 404)
        assert await other.event_types() == ["task.processing"]


# Tokens for one task


def for_one_task() -> str:
    token = CallbackTokens(SECRET_KEYS).issue(
        "minimax", CB, expires_at=None, metadata={}, single_task=True
    )
    return f"/callbacks/minimax/{token}"


async def test_a_push_of_another_task_is_answered_the_same_and_kept_as_a_receipt(
    taskbell: Taskbell, caplog: pytest.LogCaptureFixture
) -> None:
    path = for_one_task()
    other = await taskbell.track("other")
    taken = await taskbell.push(minimax("mine", "Processing"), path)
    before = await stored_tasks(taskbell)

    foreign = [await taskbell.push(minimax(name), path) for name in ("other", "made-up", "other")]

    for answer in foreign:
        assert (answer.status_code, answer.content) == (200, taken.content)
        assert answer.headers == taken.headers
    assert await stored_tasks(taskbell) == before
    assert await taskbell.event_types() == ["task.queued", "task.processing"]
    assert await verdicts(taskbell) == ["recorded", "foreign", "foreign", "foreign"]
    warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert [each.getMessage() for each in warnings] == [
        "a callback URL for one task was used for another: kept as a receipt"
    ]
    assert {task["id"] for task in await taskbell.tasks()} >= {other["id"]}


async def test_a_foreign_push_asks_the_provider_nothing(
    database_url: str, clock: ManualClock
) -> None:
    async with running(database_url, clock, {"MINIMAX_API_KEY": "mm-key-0123456789"}) as taskbell:
        path = for_one_task()
        await taskbell.track("other", expect_push=True)
        await taskbell.push(minimax("mine"), path)
        before = await stored_tasks(taskbell)

        assert good(await taskbell.push(minimax("other"), path)) == THANKS
        assert good(await taskbell.push(minimax("unknown"), path)) == THANKS

        assert await stored_tasks(taskbell) == before


async def test_a_tracked_task_has_the_token_only_when_it_was_pushed(taskbell: Taskbell) -> None:
    path = for_one_task()
    await taskbell.track("tracked", expect_push=True)

    good(await taskbell.push({"challenge": "x"}, path))
    problem(await taskbell.push(b"{", path), 400)
    await taskbell.push(minimax("pushed"), path)
    await taskbell.push(minimax("tracked"), path)

    assert await taskbell.event_types() == ["task.queued", "task.succeeded"]
    assert await verdicts(taskbell) == ["challenge", "unreadable", "recorded", "foreign"]


async def test_every_spelling_of_a_token_is_for_the_same_task(taskbell: Taskbell) -> None:
    path = for_one_task()
    await taskbell.push(minimax("mine"), path)

    for spelling in respelt(path):
        await taskbell.push(minimax("other"), spelling)

    assert await taskbell.event_types() == ["task.succeeded"]


# What a leaked URL may leave behind


LARGE = {"prompt": "x" * 1_000_000}


async def test_only_so_many_unreadable_pushes_of_a_token_are_kept(
    small: Taskbell, clock: ManualClock
) -> None:
    for _ in range(25):
        problem(await small.push(b"{"), 400)
    problem(await small.push(b"{", small.path(token_id="other")), 400)
    assert await verdicts(small) == ["unreadable"] * 21

    clock.advance(hours=1)
    problem(await small.push(b"{"), 400)

    assert await verdicts(small) == ["unreadable"] * 22


async def test_only_so_much_of_unreadable_pushes_is_kept(small: Taskbell) -> None:
    for _ in range(7):
        problem(await small.push(LARGE), 400)

    assert await verdicts(small) == ["unreadable"] * 2


@pytest.mark.parametrize(
    ("first", "then", "judged"),
    [
        ("Success", "Success", "repeated"),
        ("Success", "Processing", "stale"),
        ("Success", "Fail", "contradiction"),
    ],
)
async def test_only_so_much_of_pushes_without_news_is_kept(
    taskbell: Taskbell, first: str, then: str, judged: str
) -> None:
    good(await taskbell.push(minimax("1", first)))

    for _ in range(7):
        assert good(await taskbell.push(minimax("1", then, **LARGE))) == THANKS

    assert await verdicts(taskbell) == ["recorded"] + [judged] * 2
    good(await taskbell.push(minimax("2", **LARGE)))
    assert await taskbell.event_types() == ["task.succeeded"] * 2
    assert (await verdicts(taskbell))[-1] == "recorded"


async def test_only_so_many_pushes_without_news_are_kept(small: Taskbell) -> None:
    for _ in range(11):
        await asyncio.gather(*(small.push(minimax()) for _ in range(100)))

    assert Counter(await verdicts(small)) == {"recorded": 1, "repeated": 1_000}


async def test_only_so_many_foreign_pushes_are_kept(small: Taskbell) -> None:
    path = for_one_task()
    good(await small.push(minimax("1"), path))

    for _ in range(7):
        good(await small.push(minimax("2", **LARGE), path))

    assert await verdicts(small) == ["recorded"] + ["foreign"] * 2


async def test_only_so_much_of_unknown_tasks_is_taken_while_the_provider_has_to_be_asked(
    database_url: str, clock: ManualClock
) -> None:
    async with running(database_url, clock, {"MINIMAX_API_KEY": "mm-key-0123456789"}) as taskbell:
        await taskbell.track("tracked", expect_push=True)

        taken = [await taskbell.push(minimax(f"u{n}", **LARGE)) for n in range(8)]
        refused = await taskbell.push(minimax("u8", **LARGE))
        known = await taskbell.push(minimax("tracked", **LARGE))
        again = await taskbell.push(minimax("u0"))
        elsewhere = await taskbell.push(minimax("v"), taskbell.path(token_id="other"))

        assert [good(answer) for answer in taken] == [THANKS] * 8
        problem(refused, 429)
        assert int(refused.headers["retry-after"]) > 0
        assert [good(answer) for answer in (known, again, elsewhere)] == [THANKS] * 3
        assert await verdicts(taskbell) == ["held"] * 10  # all but the refused and the known one
        assert len(await stored_tasks(taskbell)) == 10

        clock.advance(hours=1)
        good(await taskbell.push(minimax("u8", **LARGE)))


async def test_a_token_names_so_many_tasks_that_nobody_has_confirmed(
    database_url: str,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("store.unconfirmed.UNCONFIRMED_MOST", 3)
    async with running(database_url, clock, {"MINIMAX_API_KEY": "mm-key-0123456789"}) as taskbell:
        await taskbell.track("tracked", expect_push=True)
        taken = [await taskbell.push(minimax(f"u{n}", "Processing")) for n in range(3)]
        refused = [await taskbell.push(minimax(f"v{n}")) for n in range(2)]
        known = [await taskbell.push(minimax(name)) for name in ("tracked", "u0")]

        assert [good(answer) for answer in (*taken, *known)] == [THANKS] * 5
        for answer in refused:
            assert "nobody tracks" in problem(answer, 429)
        assert len(await stored_tasks(taskbell)) == 4
        assert len(await taskbell.receipts()) == 5
        assert len([r for r in caplog.records if "pushes of unknown tasks" in r.message]) == 1


async def test_without_confirming_there_is_no_end_of_tasks(small: Taskbell) -> None:
    for number in range(20):
        assert good(await small.push(minimax(str(number), **LARGE))) == THANKS

    assert await small.event_types() == ["task.succeeded"] * 20


async def test_what_could_not_be_written_uses_nothing_up(
    small: Taskbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise StoreUnavailableError("away")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "write", away)
        for _ in range(20):
            problem(await small.push(minimax(**LARGE)), 503)
            problem(await small.push(b"{"), 503)

    for _ in range(3):
        good(await small.push(minimax(**LARGE)))
        problem(await small.push(b"{"), 400)
    assert Counter(await verdicts(small)) == {"recorded": 1, "repeated": 2, "unreadable": 3}


# Bodies that cannot be read


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="half an object"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"null", id="null"),
        pytest.param(b"{}", id="an empty object"),
        pytest.param(b'{"task_id": "1"}', id="no status"),
        pytest.param(b'{"status": "Success"}', id="no task"),
        pytest.param(b'{"task_id": "../1", "status": "Success"}', id="no task id"),
        pytest.param(b'{"task_id": "1", "status": "a", "status": "b"}', id="a key twice"),
        pytest.param(b'\xef\xbb\xbf{"task_id": "1"}', id="a byte order mark and no status"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param(b"challenge=abc", id="a form"),
    ],
)
async def test_an_unreadable_push_is_400_and_kept(small: Taskbell, raw: bytes) -> None:
    answer = await small.push(raw)

    problem(answer, 400)
    [receipt] = await small.receipts()
    assert (receipt.verdict, receipt.token_id, receipt.raw) == ("unreadable", "tok1", raw)
    assert await small.events() == []


@pytest.mark.parametrize("said", [OUR_KEY, OUR_KEY.replace("/", "\\/"), quote(OUR_KEY, safe="")])
async def test_our_key_at_the_provider_is_kept_of_no_push(
    sqlite_url: str, clock: ManualClock, said: str
) -> None:
    failed = (
        f'{{"task_id":"1","status":"Fail","base_resp":{{"status_code":9,"status_msg":"{said}"}}}}'
    )
    async with running(sqlite_url, clock, {"MINIMAX_API_KEY": OUR_KEY}) as taskbell:
        good(await taskbell.push(failed.encode()))
        problem(await taskbell.push(f"<html>{said}".encode()), 400)
        problem(await taskbell.push(f'{{"status":"{said}'.encode() + b" " * 1024 * 1024), 413)
        kept = [receipt.raw.decode() for receipt in await taskbell.receipts()]
        task = await the_task(taskbell)

    assert [text.count("...") for text in kept] == [1, 1, 1]
    for text in (*kept, repr(task)):
        assert "..." in text
        assert said not in text


async def test_an_unreadable_push_makes_its_tokens_open_tasks_due(
    taskbell: Taskbell, clock: ManualClock
) -> None:
    mine, other = taskbell.path(token_id="mine"), taskbell.path(token_id="other")
    await taskbell.push(minimax("m", "Processing"), mine)
    await taskbell.push(minimax("o", "Processing"), other)
    await taskbell.push(minimax("ended"), mine)

    problem(await taskbell.push(b"{", mine), 400)

    due = {task.provider_task_id: task.next_poll_at for task in await stored_tasks(taskbell)}
    assert due == {"m": clock(), "o": clock() + timedelta(seconds=60), "ended": None}
    assert len(await taskbell.events()) == 3


async def endless(chunk: bytes) -> AsyncIterator[bytes]:
    while True:
        yield chunk


async def test_a_body_over_a_mebibyte_is_413_announced_or_not(taskbell: Taskbell) -> None:
    read = 0

    async def mostly_unread() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b"A" * 60_000

    fits = b'{"x":"' + b"A" * (BODY_LIMIT - 8) + b'"}'
    announced = {"content-length": str(BODY_LIMIT + 1)}

    problem(await taskbell.push(fits), 400)
    problem(await taskbell.push(fits + b" "), 413)
    problem(
        await taskbell.door.post(taskbell.path(), content=mostly_unread(), headers=announced), 413
    )
    problem(await taskbell.door.post(taskbell.path(), content=endless(b"A" * 60_000)), 413)
    assert read == 2  # its beginning
    assert await verdicts(taskbell) == ["unreadable", *["too_large"] * 3]


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "x"])
async def test_an_encoded_body_is_415(small: Taskbell, encoding: str) -> None:
    headers = {"content-encoding": encoding}

    answer = await small.door.post(small.path(), json=minimax(), headers=headers)

    problem(answer, 415)
    await assert_nothing_stored(small)


async def test_an_encoding_beside_none_is_415_too(small: Taskbell) -> None:
    headers = [("content-encoding", "identity"), ("content-encoding", "gzip")]

    problem(await small.door.post(small.path(), json=minimax(), headers=headers), 415)


@pytest.mark.parametrize(
    "headers",
    [
        {"content-encoding": "Identity"},
        {"content-type": "text/plain"},  # no provider promises its header
        {"content-type": ""},
        {"x-http-method-override": "DELETE"},
        {"authorization": "Bearer nonsense"},
    ],
)
async def test_other_headers_do_not_matter(small: Taskbell, headers: dict[str, str]) -> None:
    answer = await small.door.post(small.path(), content=json.dumps(minimax()), headers=headers)

    assert good(answer) == THANKS


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_only_post_is_taken(small: Taskbell, method: str) -> None:
    answer = await small.door.request(method, small.path(), params={"challenge": "reflected"})

    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.headers["content-type"] == "application/problem+json"
    assert "reflected" not in answer.text


# Confirming


async def test_without_a_key_an_unsigned_ending_is_recorded_at_once(small: Taskbell) -> None:
    await small.push(minimax())

    [event] = await small.events()
    assert event["data"]["task"]["confirmed"] is False
    assert await verdicts(small) == ["recorded"]


@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize("confirm", ["auto", "always"])
async def test_with_a_key_an_unsigned_ending_waits_for_the_providers_word(
    database_url: str, clock: ManualClock, tracked: bool, confirm: str
) -> None:
    key = {"MINIMAX_API_KEY": "mm-key-0123456789", "MINIMAX_CONFIRM": confirm}
    async with running(database_url, clock, key) as taskbell:
        if tracked:
            await taskbell.track("1", expect_push=True)
        before = await taskbell.event_types()

        answer = await taskbell.push(minimax(), taskbell.path(metadata={"a": 1}))

        assert good(answer) == THANKS
        assert await taskbell.event_types() == before
        assert await verdicts(taskbell) == ["held"]
        task = await the_task(taskbell)
        assert task.status == "queued"
        assert task.next_poll_at == clock()
        assert task.hint is not None
        assert task.hint.status == "succeeded"
        assert task.metadata == {"a": 1}


async def test_with_a_key_a_step_of_a_tracked_task_needs_no_confirming(
    database_url: str, clock: ManualClock
) -> None:
    async with running(database_url, clock, {"MINIMAX_API_KEY": "mm-key-0123456789"}) as taskbell:
        await taskbell.track("1", expect_push=True)

        await taskbell.push(minimax(status="Processing"))

        assert await taskbell.event_types() == ["task.queued", "task.processing"]


async def test_with_a_key_a_task_that_nobody_tracked_is_no_event_yet(
    database_url: str, clock: ManualClock
) -> None:
    async with running(database_url, clock, {"MINIMAX_API_KEY": "mm-key-0123456789"}) as taskbell:
        await taskbell.push(minimax(status="Processing"))

        assert await taskbell.events() == []
        assert await taskbell.tasks() == []
        assert (await the_task(taskbell)).next_poll_at == clock()

        await taskbell.track("1", metadata={"a": 1})

        assert await taskbell.event_types() == ["task.queued"]
        assert (await the_task(taskbell)).metadata == {"a": 1}


async def test_confirming_can_be_switched_off(database_url: str, clock: ManualClock) -> None:
    never = {"MINIMAX_API_KEY": "mm-key-0123456789", "MINIMAX_CONFIRM": "never"}
    async with running(database_url, clock, never) as taskbell:
        await taskbell.push(minimax())

        [event] = await taskbell.events()
        assert event["type"] == "task.succeeded"
        assert event["data"]["task"]["confirmed"] is False


# Signed pushes


KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
DONE = {"session_id": "pred_1", "status": "OK", "event_type": "video.task.terminal"}


def unpadded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def jwks(_request: httpx.Request) -> httpx.Response:
    public = unpadded(KEY.public_key().public_bytes_raw())
    return httpx.Response(
        200, json={"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": public}]}
    )


def signed(
    raw: bytes, now: datetime, *, key: Ed25519PrivateKey = KEY, key_id: str = "k1"
) -> dict[str, str]:
    timestamp = str(int(now.timestamp()))
    return {
        "x-atlascloud-webhook-timestamp": timestamp,
        "x-atlascloud-webhook-key-id": key_id,
        "x-atlascloud-webhook-signature-ed25519": unpadded(
            key.sign(timestamp.encode() + b"." + raw)
        ),
    }


@pytest.fixture
async def signing(database_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(
        database_url, clock, {"ATLASCLOUD_API_KEY": "ac-key-0123456789"}, answers=jwks
    ) as taskbell:
        yield taskbell


async def test_a_signed_push_is_recorded_at_once_and_confirmed(
    signing: Taskbell, clock: ManualClock
) -> None:
    raw = json.dumps(DONE).encode()

    answer = await signing.door.post(
        signing.path("atlascloud"), content=raw, headers=signed(raw, clock())
    )

    assert good(answer) == THANKS
    [event] = await signing.events()
    assert event["type"] == "task.succeeded"
    assert event["data"]["task"]["provider_task_id"] == "pred_1"
    assert event["data"]["task"]["confirmed"] is True


async def test_a_push_that_is_not_well_signed_is_401_and_not_kept(
    signing: Taskbell, clock: ManualClock
) -> None:
    raw = json.dumps(DONE).encode()
    whole = signed(raw, clock())
    attempts: dict[str, Mapping[str, str]] = {
        "none at all": {},
        **{f"without {name}": whole | {name: ""} for name in whole},
        "another key": signed(raw, clock(), key=OTHER_KEY),
        "an unknown key id": signed(raw, clock(), key_id="k2"),
        "another body": signed(raw + b" ", clock()),
        "six minutes old": signed(raw, clock() - timedelta(minutes=6)),
        "six minutes ahead": signed(raw, clock() + timedelta(minutes=6)),
        "a later timestamp": whole | {"x-atlascloud-webhook-timestamp": "1767268801"},
        "no base64": whole | {"x-atlascloud-webhook-signature-ed25519": "!" * 86},
        "the old HMAC": {"x-atlascloud-webhook-signature": "0" * 64},
    }

    for name, headers in attempts.items():
        answer = await signing.door.post(
            signing.path("atlascloud"), content=raw, headers=dict(headers)
        )
        assert "pred_1" not in problem(answer, 401), name
    await assert_nothing_stored(signing)


async def test_an_image_has_the_shorter_deadline(signing: Taskbell, clock: ManualClock) -> None:
    raw = json.dumps(DONE | {"event_type": "image.task.terminal"}).encode()

    await signing.door.post(signing.path("atlascloud"), content=raw, headers=signed(raw, clock()))

    assert (await the_task(signing)).deadline_at == clock() + timedelta(minutes=30)


async def test_the_token_is_needed_as_well_as_the_signature(
    signing: Taskbell, clock: ManualClock
) -> None:
    raw = json.dumps(DONE).encode()

    answer = await signing.door.post(
        "/callbacks/atlascloud/nonsense", content=raw, headers=signed(raw, clock())
    )

    problem(answer, 404)


async def test_a_signed_push_of_no_known_shape_is_kept(
    signing: Taskbell, clock: ManualClock
) -> None:
    raw = b'{"news": 1}'

    answer = await signing.door.post(
        signing.path("atlascloud"), content=raw, headers=signed(raw, clock())
    )

    problem(answer, 400)
    assert await verdicts(signing) == ["unreadable"]


async def test_a_signed_push_is_to_come_again_when_the_key_page_is_away(
    sqlite_url: str, clock: ManualClock
) -> None:
    raw = json.dumps(DONE).encode()
    async with running(sqlite_url, clock) as taskbell:
        answer = await taskbell.door.post(
            taskbell.path("atlascloud"), content=raw, headers=signed(raw, clock())
        )

        assert "public keys cannot be read" in problem(answer, 503)
        assert answer.headers["retry-after"] == "60"
        await assert_nothing_stored(taskbell)


# What the log may know


async def test_the_log_names_the_task_and_never_the_token(
    small: Taskbell, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path = small.path(metadata={"note": "confidential-note"})

    await small.push(minimax(base_resp={"status_msg": "confidential-text"}), path)
    await small.push(minimax(status="Fail"), path)
    await small.push(minimax(status="Odd\nword"), path)
    await small.push(b"confidential-text", path)

    ours = [record for record in caplog.records if record.name.startswith("taskbell")]
    logged = [str(vars(record)) for record in ours]
    task = await the_task(small)
    assert [line for line in logged if task.id in line]
    for secret in (path.rpartition("/")[2], "confidential", *SECRET_KEYS):
        assert not [line for line in logged if secret in line]
    warnings = [record.getMessage() for record in ours if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert "failed: kept as a receipt" in warnings[0]
    assert "unknown status word 'odd\\nword'" in warnings[1]


# Pushes that are too large


def large(**said: Any) -> bytes:
    """A push of 1.1 MB; what it says stands at its beginning."""
    whole = json.dumps({**said, "inline": "A" * 1_100_000})
    return whole.encode()


async def due_tasks(taskbell: Taskbell) -> list[str]:
    now = taskbell.service.clock()
    found = await stored_tasks(taskbell)
    return [
        task.provider_task_id for task in found if task.next_poll_at and task.next_poll_at <= now
    ]


@pytest.mark.parametrize(
    ("provider", "said"),
    [
        ("minimax", {"task_id": "1", "status": "Success"}),
        ("minimax", {"task": {"id": "1", "status": "succeeded"}}),
        ("minimax", {"challenge": None, "task_id": 1}),
        ("atlascloud", {"session_id": "1", "payload": {"status": "completed"}}),
    ],
)
async def test_a_push_that_is_too_large_leaves_a_receipt_and_makes_its_task_due(
    small: Taskbell, provider: str, said: dict[str, Any]
) -> None:
    task = await small.track("1", provider=provider, expect_push=True)
    assert await due_tasks(small) == []

    refused = await small.push(large(**said), small.path(provider))

    problem(refused, 413)
    [receipt] = await small.receipts()
    assert (receipt.verdict, receipt.token_id, receipt.task_id) == ("too_large", "tok1", task["id"])
    assert large(**said).startswith(receipt.raw)
    assert 0 < len(receipt.raw) <= 64 * 1024
    assert await due_tasks(small) == ["1"]
    assert await small.event_types() == ["task.queued"]


async def test_a_push_that_is_too_large_and_names_no_task_makes_its_tokens_tasks_due(
    small: Taskbell,
) -> None:
    await small.push(minimax(status="Processing"))

    problem(await small.push(b'{"a": "' + b"A" * 1_100_000), 413)

    assert (await verdicts(small))[-1] == "too_large"
    assert await due_tasks(small) == ["1"]


async def test_a_push_that_is_too_large_makes_an_unknown_task_known_once_it_is_asked_about(
    database_url: str, clock: ManualClock
) -> None:
    async with running(database_url, clock, {"MINIMAX_API_KEY": "mm-key-0123456789"}) as taskbell:
        problem(await taskbell.push(large(task_id="new", status="Success")), 413)

        assert await taskbell.events() == []
        task = await the_task(taskbell)
        assert (task.provider_task_id, task.version, task.next_poll_at) == ("new", 0, clock())
        [receipt] = await taskbell.receipts()
        assert (receipt.verdict, receipt.task_id) == ("too_large", task.id)


async def test_pushes_that_are_too_large_leave_nothing_without_a_good_token(
    small: Taskbell,
) -> None:
    problem(await small.push(large(task_id="1"), "/callbacks/minimax/nonsense"), 404)

    assert await small.receipts() == []


async def test_how_many_beginnings_of_one_address_are_kept_is_bounded(small: Taskbell) -> None:
    body = large(task_id="1")

    for _ in range(25):
        problem(await small.push(body), 413)

    assert await verdicts(small) == ["too_large"] * 20


async def test_a_large_push_that_drips_is_refused_in_time(
    small: Taskbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.body._BEGINNING_SECONDS", 0.02)

    async def drip() -> AsyncIterator[bytes]:
        yield b'{"task_id": "1", "status": "Success", "a": "'
        await asyncio.Event().wait()

    headers = {"content-length": "1100000"}
    problem(await small.door.post(small.path(), content=drip(), headers=headers), 413)

    [receipt] = await small.receipts()
    assert (receipt.verdict, receipt.provider_task_id) == ("too_large", "1")
