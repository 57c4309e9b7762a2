"""Tasks that only unsigned pushes have named: what one callback token may keep, and for how long."""

from __future__ import annotations

from collections import Counter

import pytest

from store.events import Status, Verdict
from store.records import record
from store.store import Store
from store.tables import receipts, tasks
from store.tasks import refute
from tests.making import poll, push, registered, rows, tell, together, told

MOST, KEPT = 5, 2


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.unconfirmed.UNCONFIRMED_MOST", MOST)
    monkeypatch.setattr("store.unconfirmed.REFUTED_KEPT", KEPT)


def made_up(store: Store, count: int, *, token_id: str = "leaked", begin: int = 0) -> list[bool]:
    """Push so many tasks that do not exist; which of them were made known."""
    pushes = [
        push(f"{token_id}{number}", hold=True, token_id=token_id)
        for number in range(begin, begin + count)
    ]
    return [tell(store, each).task is not None for each in pushes]


def test_a_token_keeps_so_many_and_what_is_refused_leaves_nothing(store: Store) -> None:
    assert made_up(store, MOST + 3) == [True] * MOST + [False] * 3

    assert len(rows(store, tasks)) == len(rows(store, receipts)) == MOST


async def test_the_bound_holds_within_a_transaction(store: Store) -> None:
    reports = [push(f"t{number}", hold=True) for number in range(MOST + 3)]

    await together(store, record, reports)

    assert len(rows(store, tasks)) == len(rows(store, receipts)) == MOST


def test_another_token_has_its_own(store: Store) -> None:
    made_up(store, MOST + 1)

    assert made_up(store, MOST + 1, token_id="other") == [True] * MOST + [False]


@pytest.mark.parametrize("hold", [True, False])
def test_pushes_of_known_tasks_are_taken_all_the_same(store: Store, hold: bool) -> None:
    told(store, registered("tracked"))
    made_up(store, MOST)

    of_known = tell(store, push("tracked", Status.PROCESSING, hold=hold, token_id="leaked"))
    again = tell(store, push("leaked0", hold=True, token_id="leaked"))

    assert of_known.verdict is Verdict.RECORDED
    assert again.verdict is Verdict.HELD


def test_pushes_that_need_no_confirming_are_not_counted(store: Store) -> None:
    made_up(store, MOST)

    recorded = [tell(store, push(f"signed{n}", token_id="leaked")).created for n in range(3)]

    assert recorded == [True] * 3


@pytest.mark.parametrize("confirm", [poll, registered], ids=["by a poll", "by a call"])
def test_what_is_confirmed_makes_room(store: Store, confirm: object) -> None:
    made_up(store, MOST)

    for number in range(MOST):
        tell(store, confirm(f"leaked{number}"))  # type: ignore[operator]

    assert made_up(store, MOST + 1, begin=MOST) == [True] * MOST + [False]


def test_what_is_refuted_goes_and_only_the_newest_receipts_stay(store: Store) -> None:
    made_up(store, MOST)
    made_up(store, 1, token_id="other")

    for number in range(MOST):
        store.write_now(refute, told(store, push(f"leaked{number}", hold=True, token_id="leaked")))

    assert [row["provider_task_id"] for row in rows(store, tasks)] == ["other0"]
    kept = Counter((row["token_id"], row["verdict"]) for row in rows(store, receipts))
    assert kept == {("leaked", "refuted"): KEPT, ("other", "held"): 1}


def test_receipts_of_refuted_tasks_count_with_the_tasks(store: Store) -> None:
    made_up(store, MOST)
    for number in range(MOST):
        store.write_now(refute, told(store, push(f"leaked{number}", hold=True, token_id="leaked")))

    assert made_up(store, MOST, begin=MOST) == [True] * (MOST - KEPT) + [False] * KEPT
    assert len(rows(store, receipts)) == MOST


def test_receipts_from_before_there_was_a_bound_do_not_close_a_token(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr("store.unconfirmed.UNCONFIRMED_MOST", 1_000)
        before.setattr("store.unconfirmed.REFUTED_KEPT", 1_000)
        made_up(store, 2 * MOST)
        for number in range(2 * MOST):
            one = push(f"leaked{number}", hold=True, token_id="leaked")
            store.write_now(refute, told(store, one))

    assert any(made_up(store, 1, begin=100))
