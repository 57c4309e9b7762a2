"""kill -9 at the four places where something is half done, each again and again."""

from __future__ import annotations

import random
from collections.abc import Iterator

from dispatch.worker import IN_FLIGHT
from tests.faults.fault import Fault, Outcome, Rig
from tests.faults.scene import Scene, scene
from tests.faults.servers import Tricks

_POINTS = {
    "die_before_commit": "between insert and commit",
    "die_after_commit": "between commit and answer",
    "die_before_sending": "between claim and sending",
    "die_after_sending": "between sending and marking",
}
_WEAK: dict[str, Tricks] = {
    "answers before the commit": {"answer_early": 0.1},
    "marks before sending": {"send_late": 0.1},
}
_SOON: Tricks = {"lease_margin": 0.2}  # else all places are soon taken by the dead
_LATEST_PASS = 12


class Points:
    name = "kill at a point"
    about = "the server is killed before and after a commit, before and after a delivery"
    engines = ("sqlite", "postgresql")
    weaknesses = tuple(_WEAK)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        hits = 1 if weakness else rig.size(10, 1)
        async with scene(rig, tricks={**_SOON, **_WEAK.get(weakness, {})}) as playing:
            async with playing.pushed(200) as told:
                await playing.server.kill()
                for point, passes in _hits(hits):
                    if not await _die(playing, point, passes):
                        return Outcome(broken=(f"nobody came by {_POINTS[point]}",))
                await playing.server.start()
            most = hits * len(_POINTS) * IN_FLIGHT * len(playing.subscribers)
            return await playing.end(told, most_doubled=most)


def _hits(each: int) -> Iterator[tuple[str, int]]:
    """Points, and at which time somebody comes by it: the first, the second or a later one."""
    dice = random.Random(1)
    for _ in range(each):
        for point in _POINTS:
            yield point, dice.choice((1, 2, dice.randint(3, _LATEST_PASS)))


async def _die(playing: Scene, point: str, passes: int) -> bool:
    server = playing.server
    await server.launch({**server.tricks, point: passes})
    died = await server.died(10)
    await server.kill()
    return died


FAULT: Fault = Points()
