"""One parameter for many values."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, event, select

from store.among import among
from store.store import Store
from store.tables import tasks
from tests.making import registered, tell

QUERY = select(tasks.c.provider_task_id).where(among(tasks.c.provider_task_id, "ids"))


def found(store: Store, ids: set[str]) -> set[str]:
    def ask(connection: Connection) -> set[str]:
        return set(connection.execute(QUERY, {"ids": ids}).scalars())

    return store.read_now(ask)


@pytest.mark.parametrize(
    ("ids", "known"),
    [
        ({"a", "c", "z"}, {"a", "c"}),
        (set(), set()),
        ({"', 'a"}, set()),
        ({'"],"a'}, set()),
        ({"作"}, {"作"}),
        ({str(number) for number in range(5_000)} | {"b"}, {"b"}),
    ],
)
def test_the_rows_with_these_values_are_found(store: Store, ids: set[str], known: set[str]) -> None:
    for name in ("a", "b", "c", "作"):
        tell(store, registered(name))

    assert found(store, ids) == known


def test_the_statement_is_the_same_for_any_number(store: Store) -> None:
    texts: set[str] = set()
    event.listen(
        store.database.reader,
        "before_cursor_execute",
        lambda _c, _cursor, statement, *_: texts.add(statement),
    )

    for number in (1, 2, 30):
        found(store, {str(n) for n in range(number)})

    assert len([text for text in texts if "FROM tasks" in text]) == 1
