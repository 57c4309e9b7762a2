"""Every fault in its short form: nothing lost, nobody stuck."""

from __future__ import annotations

import pytest

from tests.databases import PostgreSQL
from tests.faults.fault import Fault, NotHere, Outcome, faults
from tests.faults.rigs import new_rig
from tests.faults.servers import Nursery

EACH = [
    pytest.param(fault, engine, id=f"{name}, {engine}")
    for name, fault in faults().items()
    for engine in fault.engines
]
CHEAP_CONTROLS = (
    ("kill at a point", "sqlite", "answers before the commit"),
    ("order of calls", "sqlite", "synchronous = NORMAL"),
)
"""The others are run by ./tests/faults/run."""


@pytest.mark.parametrize(("fault", "engine"), EACH)
async def test_every_promise_is_kept(
    request: pytest.FixtureRequest, home: Nursery, fault: Fault, engine: str
) -> None:
    outcome = await _short(request, home, fault, engine)

    assert outcome.broken == ()
    assert not outcome.lost


@pytest.mark.parametrize(("name", "engine", "weakness"), CHEAP_CONTROLS)
async def test_the_loss_of_a_defence_is_noticed(
    request: pytest.FixtureRequest, home: Nursery, name: str, engine: str, weakness: str
) -> None:
    outcome = await _short(request, home, faults()[name], engine, weakness)

    assert outcome.broken


@pytest.mark.parametrize("fault", faults().values(), ids=lambda fault: fault.name)
def test_each_fault_has_a_control(fault: Fault) -> None:
    assert fault.weaknesses


async def _short(
    request: pytest.FixtureRequest, home: Nursery, fault: Fault, engine: str, weakness: str = ""
) -> Outcome:
    server: PostgreSQL | None = None
    if engine == "postgresql":
        server = request.getfixturevalue("postgresql")
    with new_rig(engine, home, server, short=True) as rig:
        try:
            return await fault.run(rig, weakness)
        except NotHere as reason:
            pytest.skip(str(reason))
