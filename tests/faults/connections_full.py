"""One key sends trials to a subscriber that says nothing, more than there may be connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

from sqlalchemy import text

from tests.bench.taskbell import subscribe
from tests.faults.bounded import Bounds, bounded_server
from tests.faults.fault import Fault, Outcome, Rig
from tests.faults.promises import asked, check
from tests.faults.stopping import Hanging
from tests.faults.strangers import coming
from tests.faults.wire import Connection

DESCRIPTORS, TRIALS = 256, 102
_PUSHES, _CHALLENGES = 50, 20
_ANSWER_SECONDS = 1.0
_BETWEEN_SECONDS = 0.01
_NO_BOUND = "nothing that waits is bounded"


class ConnectionsFull:
    name = "connections full"
    about = f"ulimit -n {DESCRIPTORS}, and {TRIALS} trials of one key at a silent subscriber"
    engines = ("sqlite",)
    weaknesses = (_NO_BOUND,)

    async def run(self, rig: Rig, weakness: str = "") -> Outcome:
        bounds = Bounds(descriptors=DESCRIPTORS, unbounded=weakness == _NO_BOUND)
        settings = {"ROLES": "receive", "ATTEMPT_TIMEOUT_SECONDS": str(rig.size(8, 1))}
        async with Hanging().listening() as hook:
            await asyncio.to_thread(subscribe, rig.database_url, [hook.url])
            path = f"/v1/subscriptions/{_subscription(rig)}/test"
            async with bounded_server(rig.folder, rig.database_url, bounds, **settings) as server:
                trials = []
                for _ in range(TRIALS):
                    trials.append(asyncio.create_task(_try(server.port, path)))
                    await asyncio.sleep(_BETWEEN_SECONDS)
                async with asyncio.timeout(rig.limit(10)):
                    await hook.asked.wait()
                async with coming(*server.door, pushes=_PUSHES, challenges=_CHALLENGES) as seen:
                    await asyncio.sleep(rig.size(6, 1))
                statuses = Counter(await asyncio.gather(*trials))
                await server.stop()
        found = check(rig.database_url, seen.told, [], most_doubled=0)
        late = [a for a in seen.told.answers if a.seconds > rig.limit(_ANSWER_SECONDS)]
        return Outcome(
            sent=len(seen.told.sent),
            acknowledged=len(seen.told.acknowledged),
            lost=found.lost,
            broken=(
                *seen.broken(rig.limit(_ANSWER_SECONDS)),
                *([f"{len(late)} pushes took over {_ANSWER_SECONDS:g} s"] if late else []),
                *_refused(statuses),
            ),
        )


def _subscription(rig: Rig) -> str:
    with asked(rig.database_url) as connection:
        return str(connection.execute(text("SELECT id FROM subscriptions")).scalar_one())


async def _try(port: int, path: str) -> int:
    with contextlib.closing(Connection(port)) as connection:
        return await connection.call(path)


def _refused(statuses: Counter[int]) -> list[str]:
    refused = statuses[429] + statuses[503]
    if (
        statuses[200] + refused < TRIALS or refused < TRIALS // 2
    ):  # those of a busy machine end meanwhile, and make room
        return [f"trials were answered {dict(statuses)}"]
    return []


FAULT: Fault = ConnectionsFull()
