"""How many requests may wait here at a time: for the store, for events, for strangers.

Each kind has a bound below that of the connections, so that none can hold all of them. A tenth of
the connections is kept for newcomers: a request that finds the others in use is answered at once,
a challenge with its echo, everything else with 503.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from receiver.places import Places, is_short_of_places, short_of_places
from receiver.problems import Problem, problem_response

STRANGERS = 16
STRANGERS_EACH = 4
"""Trials and refreshes: of everybody, and of one API key."""

_OF_THE_DOOR = re.compile(r"/callbacks/|/healthz\Z")
_FOLLOWING = re.compile(r"/v1/events/stream\Z|/live\Z|/v1/tasks/[^/]+/wait\Z")
_READY = re.compile(r"/readyz\Z")


@dataclass(frozen=True, slots=True)
class Rooms:
    """A room for each kind of waiting."""

    pushes: Places
    followers: Places
    checks: Places
    others: Places
    strangers: Places

    def of(self, path: str) -> Places:
        if _FOLLOWING.match(path):
            return self.followers
        return self.checks if _READY.match(path) else self.others


def make_rooms(connections: int) -> Rooms:
    """Share out so many connections."""
    return Rooms(
        pushes=Places(connections // 2, "pushes"),
        followers=Places(connections // 2, "requests that wait for events"),
        checks=Places(max(1, connections // 10), "health checks"),
        others=Places(connections // 4, "requests"),
        strangers=Places(STRANGERS, "trials and refreshes", each=STRANGERS_EACH),
    )


class Admission:
    """Gives each request a place in its room, or refuses it. The callback door has its own."""

    def __init__(self, app: ASGIApp, rooms: Rooms) -> None:
        self._app = app
        self._rooms = rooms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _OF_THE_DOOR.match(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            if is_short_of_places(scope):
                raise short_of_places()
            with self._rooms.of(scope["path"]).one():
                await self._app(scope, receive, send)
        except Problem as problem:
            await problem_response(problem)(scope, receive, send)
