"""No row of the corpus is forgotten: each is run by one test, or listed as being for later."""

from __future__ import annotations

from collections import Counter

from tests.corpus.rows import CONTRACT, KINDS, LATER, all_rows


def test_every_row_is_of_one_kind() -> None:
    for row in all_rows():
        assert len([kind for kind in KINDS if kind(row)]) == 1, row["id"]


def test_every_row_has_an_id_of_its_own() -> None:
    ids = Counter(row["id"] for row in all_rows())

    assert {row_id: count for row_id, count in ids.items() if count > 1} == {}


def test_every_exception_is_about_a_row_there_is() -> None:
    ids = {row["id"] for row in all_rows()}

    assert {row_id for later in LATER.values() for row_id in later} | CONTRACT.keys() <= ids
