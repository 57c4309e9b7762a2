"""Hundreds of clients that say nothing, or something for ever, beside honest ones."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from deploy.crowd import Limits
from tests.faults.bounded import Bounds, bounded_server
from tests.faults.fault import Fault, Outcome, Rig
from tests.faults.idlers import Habit, Idlers, half_a_body, half_a_head
from tests.faults.promises import check
from tests.faults.pushes import Pushes, Told

SILENT, DRIPPING = 500, 50
_PER_SECOND = 50
SLOWEST_SECONDS = 1.0
_NO_DEADLINES = "no deadlines"
_HOUR = 3600.0


class SlowClients:
    name = "slow clients"
    about = f"{SILENT} connections say nothing, {DRIPPING} drip, while {_PER_SECOND} pushes/s go on"
    engines = ("sqlite",)
    weaknesses = (_NO_DEADLINES,)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        limits = Limits(receive_seconds=1.0, look_seconds=0.25) if rig.short else Limits()
        longest = rig.limit(10.0)
        if weakness == _NO_DEADLINES:
            limits = replace(limits, receive_seconds=_HOUR, idle_seconds=_HOUR, take_seconds=_HOUR)
        idlers = Idlers()
        # the door has a deadline of its own for bodies
        async with bounded_server(rig.folder, rig.database_url, Bounds(limits)) as server:
            port, path = server.door
            dripping = [half_a_head(), half_a_body(path), half_a_body("/nowhere")]
            crowd = [Habit()] * SILENT + [dripping[n % 3] for n in range(DRIPPING)]
            async with (
                idlers.idling(port, crowd, again=True),
                Pushes([server.door], _PER_SECOND).going() as told,
            ):
                await asyncio.sleep(rig.size(15 if weakness else 40, 3))
            await server.stop()
        found = check(rig.database_url, told, [], most_doubled=0)
        return Outcome(
            sent=len(told.sent),
            acknowledged=len(told.acknowledged),
            lost=found.lost,
            broken=(
                *found.broken,
                *served(told, rig.limit(SLOWEST_SECONDS)),
                *_kept(idlers, longest),
            ),
        )


def served(told: Told, seconds: float) -> tuple[str, ...]:
    """What honest pushes have to complain of."""
    failed = [answer for answer in told.answers if answer.status != 200]
    slow = sorted(answer.seconds for answer in told.answers)[len(told.answers) * 99 // 100]
    complaints = []
    if failed:
        complaints.append(f"{len(failed)} of {len(told.answers)} pushes failed")
    if slow > seconds:
        complaints.append(f"a hundredth of the pushes took {slow:.2f} s and more")
    return tuple(complaints)


def _kept(idlers: Idlers, longest: float) -> tuple[str, ...]:
    kept = [life for life in idlers.lives if life > longest]
    if not kept:
        return ()
    return (f"{len(kept)} idle connections lasted over {longest:g} s, up to {max(kept):.1f} s",)


FAULT: Fault = SlowClients()
