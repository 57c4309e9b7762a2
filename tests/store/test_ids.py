"""Ids: unique, and in the order they were made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from store.ids import new_id

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_an_id_says_what_it_names() -> None:
    prefix, _, rest = new_id("task", NOW).partition("_")

    assert prefix == "task"
    assert len(rest) == 26
    assert set(rest) <= set("0123456789abcdefghjkmnpqrstvwxyz")


@given(st.lists(st.timedeltas(timedelta(days=-3), timedelta(days=3)), max_size=50))
def test_ids_of_a_process_sort_as_they_were_made(steps: list[timedelta]) -> None:
    """Also within a millisecond, and when the clock steps back."""
    now, ids = NOW, []

    for step in [timedelta(0), *steps]:
        now += step
        ids += [new_id("evt", now), new_id("evt", now)]

    assert ids == sorted(set(ids))


def test_ids_sort_by_time() -> None:
    later = NOW + timedelta(days=3_650)

    ids = [new_id("evt", later + timedelta(milliseconds=n)) for n in range(100)]

    assert ids == sorted(ids)
    assert len({one[:14] for one in ids}) > 50  # the front is the time, not a counter


def test_threads_never_get_the_same_id() -> None:
    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda _: new_id("evt", NOW), range(5_000)))

    assert len(set(ids)) == 5_000
