"""Two real servers on PostgreSQL behind a real proxy, with the file of deploy/proxy: nothing is lost."""

from __future__ import annotations

import pytest

from tests.databases import PostgreSQL
from tests.faults.rigs import new_rig
from tests.faults.servers import Nursery
from tests.faults.two_hosts import BEHIND_CADDY, BEHIND_NGINX, TwoHosts
from tests.services.program import caddy_that_repeats, program
from tests.services.proxies import CADDY

EACH = [BEHIND_NGINX, BEHIND_CADDY]


@pytest.mark.parametrize("fault", EACH, ids=lambda fault: fault.proxy.name)
@pytest.mark.parametrize("weak", [False, True], ids=["as shipped", "without its defence"])
async def test_no_push_is_lost_in_a_kill_or_a_roll(
    postgresql: PostgreSQL, home: Nursery, fault: TwoHosts, weak: bool
) -> None:
    if fault.proxy is CADDY:
        caddy_that_repeats()
    else:
        program(fault.proxy.name)

    with new_rig("postgresql", home, postgresql, short=True) as rig:
        outcome = await fault.run(rig, fault.weakness if weak else "")

    if weak:
        assert [said for said in outcome.broken if "answered 502" in said]
    else:
        assert outcome.broken == ()
    assert not outcome.lost
