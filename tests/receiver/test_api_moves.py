"""A moved URL: stored secrets stay with the place they were given for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from store.clock import ManualClock
from store.errors import ChangedMeanwhileError
from store.subscriptions import Edit, edit, get_subscription
from store.tables import subscriptions
from store.vault import Vault
from tests.app import HOOK, SECRET_KEYS, Taskbell, good, problem, running
from tests.dispatch.fake_chat import FAKES, SECRET
from tests.dispatch.hook import Hook
from tests.pages import signed_in

LOOPBACK = {"ALLOW_NETWORKS": "127.0.0.0/8"}
AUTHORIZATION = {"Authorization": "Bearer hush-hush"}
FEISHU = f"http://127.0.0.1:8123{FAKES['feishu'].hook}"
TEAMS = "https://prod-1.westeurope.logic.azure.com/workflows/{}/invoke?sig=abc"
NAME = "https://hooks.partner.org/a"


@pytest.fixture
async def taskbell(database_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(database_url, clock, LOOPBACK) as taskbell:
        yield taskbell


@pytest.fixture
async def small(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(sqlite_url, clock, LOOPBACK) as taskbell:
        yield taskbell


async def patch(taskbell: Taskbell, known: dict[str, Any], **fields: Any) -> Any:
    return await taskbell.api.patch(f"/v1/subscriptions/{known['id']}", json=fields)


async def stored(taskbell: Taskbell) -> dict[str, Any]:
    [row] = await taskbell.rows(subscriptions)
    return dict(row._mapping)


async def test_no_header_reaches_a_host_that_it_was_not_given_for(
    taskbell: Taskbell, clock: ManualClock
) -> None:
    async with Hook(clock).served() as mine, Hook(clock).served() as theirs:
        made = await taskbell.subscribe(mine.url, headers=AUTHORIZATION)
        test = f"/v1/subscriptions/{made['id']}/test"

        detail = problem(await patch(taskbell, made, url=theirs.url), 422)
        good(await taskbell.api.post(test))
        moved = good(await patch(taskbell, made, url=theirs.url, headers=None))
        good(await taskbell.api.post(test))

    assert detail.startswith("field 'headers': give it again in this call, or null")
    assert "hush" not in detail
    assert moved["headers"] == {}
    [kept], [came] = mine.taken, theirs.taken
    assert kept.headers["authorization"] == "Bearer hush-hush"
    assert "authorization" not in came.headers


MOVES = [
    # scheme, host, port, each alone
    (NAME, "http://hooks.partner.org/a"),
    (NAME, "https://hooks.partner.org:8443/a"),
    (NAME, "https://hook.partner.org/a"),
    (NAME, "https://hooks.partner.org.evil.net/a"),
    (NAME, HOOK),
    ("http://127.0.0.1:8123/a", "http://127.0.0.2:8123/a"),
    ("https://xn--bcher-kva.net/a", "https://bucher.net/a"),
]
STAYS = [
    (NAME, "https://HOOKS.Partner.org/a"),
    (NAME, "https://hooks.partner.org:443/a"),
    (NAME, "https://hooks.partner.org./a"),
    (NAME, "https://hooks.partner.org/b?c=d"),
    ("http://127.0.0.1:8123/a", "HTTP://127.0.0.1:8123/b"),
    ("https://xn--bcher-kva.net/a", "https://XN--Bcher-KVA.net/a"),
]


@pytest.mark.parametrize(("before", "after"), MOVES)
async def test_another_scheme_host_or_port_wants_the_headers_again(
    small: Taskbell, before: str, after: str
) -> None:
    made = await small.subscribe(before, headers=AUTHORIZATION)

    detail = problem(await patch(small, made, url=after), 422)
    assert "'headers'" in detail
    assert (await stored(small))["url"] == before

    moved = good(await patch(small, made, url=after, headers={"Authorization": "Bearer new"}))
    assert moved["url"] == after
    assert Vault(SECRET_KEYS).open((await stored(small))["headers_locked"]) == {
        "Authorization": "Bearer new"
    }


@pytest.mark.parametrize(("before", "after"), STAYS)
async def test_another_spelling_or_path_of_one_place_keeps_them(
    small: Taskbell, before: str, after: str
) -> None:
    made = await small.subscribe(before, headers=AUTHORIZATION)

    kept = good(await patch(small, made, url=after))

    assert kept["headers"] == {"Authorization": "•••"}


async def test_without_secrets_a_url_moves_freely(small: Taskbell) -> None:
    made = await small.subscribe(NAME)

    assert good(await patch(small, made, url=HOOK))["url"] == HOOK


async def test_a_robots_secret_and_headers_are_both_asked_for_again(small: Taskbell) -> None:
    made = await small.subscribe(
        FEISHU, format="feishu", service_secret=SECRET, headers=AUTHORIZATION
    )
    other = FEISHU.replace("8123", "8124")

    both = problem(await patch(small, made, url=other), 422)
    one = problem(await patch(small, made, url=other, headers={}), 422)
    moved = good(await patch(small, made, url=other, headers={}, service_secret="its own"))

    assert both.startswith("fields 'headers' and 'service_secret': give them again")
    assert one.startswith("field 'service_secret': give it again")
    assert SECRET not in both + one
    assert (moved["headers"], moved["service_secret"]) == ({}, "•••")


@pytest.mark.parametrize(
    ("before", "after", "format_name"),
    [
        # everybody's hooks have one host there: the path says whose it is
        (TEAMS.format("mine"), TEAMS.format("theirs"), "teams"),
        (FEISHU, f"{FEISHU}-another", "feishu"),
        ("json://127.0.0.1:8123/mine", "json://127.0.0.1:8124/theirs", "apprise"),
    ],
)
async def test_another_hook_on_a_chats_host_is_another_place(
    small: Taskbell, before: str, after: str, format_name: str
) -> None:
    made = await small.subscribe(before, format=format_name, headers=AUTHORIZATION)

    assert "'headers'" in problem(await patch(small, made, url=after), 422)
    assert good(await patch(small, made, url=before))["headers"]
    assert not good(await patch(small, made, url=after, headers=None))["headers"]


async def test_a_format_that_goes_elsewhere_moves_the_url_too(small: Taskbell) -> None:
    made = await small.subscribe("http://127.0.0.1:8123/x", headers=AUTHORIZATION)
    away = {"url": "json://127.0.0.1:8124/x", "format": "apprise"}

    assert "'headers'" in problem(await patch(small, made, **away), 422)
    good(await patch(small, made, **away, headers=None))


async def test_the_signing_secret_stays_for_it_never_leaves(small: Taskbell) -> None:
    made = await small.subscribe(NAME)
    before = (await stored(small))["secret_locked"]

    good(await patch(small, made, url=HOOK))

    assert (await stored(small))["secret_locked"] == before


async def test_the_audit_tells_of_a_move_and_of_no_secret(small: Taskbell) -> None:
    made = await small.subscribe(f"{NAME}/hush-path", headers=AUTHORIZATION)
    good(await patch(small, made, url=HOOK, headers={"X-Key": "hush-too"}))
    good(await patch(small, made, url=f"{HOOK}/more"))

    stayed, moved, *_ = [each["detail"] for each in await small.data("/v1/audit")]

    assert moved["moved"] == {
        "from": "https://hooks.partner.org",
        "to": "https://93.184.216.34",
        "secrets": {"headers": "given again"},
    }
    assert "moved" not in stayed
    assert "hush" not in str(moved)


async def test_headers_given_for_a_place_never_meet_a_url_that_moved_meanwhile(
    taskbell: Taskbell,
) -> None:
    made = await taskbell.subscribe(NAME)

    answers = await asyncio.gather(
        *(
            patch(taskbell, made, url=HOOK, headers=None)
            if number % 2
            else patch(taskbell, made, url=NAME, headers=AUTHORIZATION)
            for number in range(8)
        )
    )

    assert {answer.status_code for answer in answers} <= {200, 409}
    row = await stored(taskbell)
    assert (row["url"] == NAME) == (row["headers_locked"] is not None)


async def test_a_change_decided_by_an_older_row_is_refused_by_the_store(
    taskbell: Taskbell,
) -> None:
    """Headers come for the old URL while somebody moves it: the store asks to decide again."""
    made = await taskbell.subscribe(NAME)
    store = taskbell.service.store
    seen = await store.read(get_subscription, made["id"])
    good(await patch(taskbell, made, url=HOOK))

    with pytest.raises(ChangedMeanwhileError, match="changed meanwhile"):
        await store.write(edit, Edit(made["id"], {"headers_locked": "x"}, seen=seen))

    assert (await stored(taskbell))["headers_locked"] is None


async def test_no_page_moves_a_subscription_with_its_secrets(small: Taskbell) -> None:
    """Pages have no form that changes a URL: what they post is refused or goes unread."""
    made = await small.subscribe(NAME, headers=AUTHORIZATION)
    admin = await signed_in(small)

    for action in ("pause", "resume"):
        page = f"/subscriptions/{made['id']}"
        await admin.press(page, f"{page}/{action}", url=HOOK)

    assert (await stored(small))["url"] == NAME
