from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from deploy.cli import frame, replay
from deploy.cli.client import Client
from deploy.cli.frame import Surroundings
from store.clock import ManualClock

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
ID = "sub_01kb3x0e5x"
URL = "https://hooks.slack.com/services/…"


class FakeTaskbell:
    """Has so many events to replay, and takes them in parts; keeps what was asked."""

    def __init__(self, events: int, part: int = 1000, fails_at: int | None = None) -> None:
        self._events = events
        self._part = part
        self._fails_at = fails_at
        self.asked: list[dict[str, Any]] = []
        self.made = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"id": ID, "url": URL})
        assert request.url.path == f"/v1/subscriptions/{ID}/replay"
        wish = json.loads(request.content)
        self.asked.append(wish)
        if len(self.asked) == self._fails_at:
            return httpx.Response(503, json={"detail": "store unavailable"})
        begun = int(wish.get("cursor", "0"))
        count = min(self._part, self._events - begun)
        self.made += 0 if wish.get("dry_run") else count
        following = str(begun + count) if begun + count < self._events else None
        return httpx.Response(200, json={"count": count, "next_cursor": following})


def run(
    server: FakeTaskbell, *arguments: str, interactive: bool = False, typed: str = ""
) -> Result:
    app = frame.new_app()
    replay.register(app)
    around = Surroundings(
        connect=lambda: Client("http://taskbell.test", None, httpx.MockTransport(server)),
        clock=ManualClock(NOW),
        interactive=lambda: interactive,
    )
    return CliRunner().invoke(
        app, ["replay", *arguments], obj=around, prog_name="taskbell", input=typed
    )


def test_a_dry_run_counts_all_parts_and_makes_nothing() -> None:
    server = FakeTaskbell(25, part=10)

    result = run(
        server, "--subscription", ID, "--since", "1h", "--until", "2026-11-21T04:00:00+01:00",
        "--type", "task.failed,task.succeeded", "--status", "dead", "--dry-run",
    )  # fmt: skip

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"25 deliveries to {URL} would be made\n"
    assert (server.made, len(server.asked)) == (0, 3)
    assert server.asked[0] == {
        "since": "2026-11-21T02:00:00.000000Z",
        "until": "2026-11-21T03:00:00.000000Z",
        "types": ["task.failed", "task.succeeded"],
        "status": "dead",
        "dry_run": True,
    }


def test_yes_replays_in_parts_without_a_question() -> None:
    server = FakeTaskbell(25, part=10)

    result = run(server, "--subscription", ID, "--yes")

    assert (result.exit_code, result.stderr, server.made) == (0, "", 25)
    assert result.stdout == f"25 deliveries to {URL} made; see them with: taskbell deliveries\n"
    assert [wish.get("cursor") for wish in server.asked[3:]] == [None, "10", "20"]


@pytest.mark.parametrize(("typed", "made", "code"), [("y\n", 1, 0), ("n\n", 0, 1), ("\n", 0, 1)])
def test_whoever_sits_there_is_asked_with_the_number_and_the_address(
    typed: str, made: int, code: int
) -> None:
    server = FakeTaskbell(1)

    result = run(server, "--subscription", ID, interactive=True, typed=typed)

    assert f"Replay 1 delivery to {URL}? [y/N]:" in result.stderr
    assert (server.made, result.exit_code) == (made, code)


def test_where_nobody_can_be_asked_nothing_is_done_without_yes() -> None:
    server = FakeTaskbell(3)

    result = run(server, "--subscription", ID)

    assert (result.exit_code, result.stdout, server.made) == (2, "", 0)
    assert result.stderr == (
        f"taskbell: 3 deliveries to {URL} would be made:"
        " nobody can be asked here, so add --yes (or --dry-run)\n"
    )


def test_nothing_to_replay_asks_nothing() -> None:
    result = run(FakeTaskbell(0), "--subscription", ID)

    assert (result.exit_code, result.stdout) == (0, f"nothing to replay to {URL}\n")


def test_json_says_how_many() -> None:
    server = FakeTaskbell(2)

    counted = run(server, "--subscription", ID, "--dry-run", "--json")
    made = run(server, "--subscription", ID, "--yes", "--json")

    assert json.loads(counted.stdout) == {"count": 2, "dry_run": True, "url": URL}
    assert json.loads(made.stdout) == {"count": 2, "dry_run": False, "url": URL}


def test_a_server_that_leaves_in_between_is_told_with_how_far_it_came() -> None:
    server = FakeTaskbell(20, part=10, fails_at=4)

    result = run(server, "--subscription", ID, "--yes")

    assert result.exit_code == 1
    assert result.stderr == "10 of 20 were made before this:\ntaskbell: store unavailable\n"


def test_ctrl_c_tells_how_far_it_came() -> None:
    class Interrupted(FakeTaskbell):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            if self.made == 10:
                raise KeyboardInterrupt
            return super().__call__(request)

    result = run(Interrupted(20, part=10), "--subscription", ID, "--yes")

    assert (result.exit_code, result.stderr) == (130, "stopped: 10 of 20 were made\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing option '--subscription'."),
        (["--subscription", ".."], "--subscription '..' is not an id"),
        (["--subscription", ID, "--since", "soon"], "--since 'soon' is not a duration"),
        (["--subscription", ID, "--since", "2026-11-21T12:00:00"], "--since '2026-11-21T12:00:00' is"),
        (["--subscription", ID, "--until", "0001-01-01T00:00:00+14:00"], "--until '0001-01-01T00:0"),
        (["--subscription", ID, "--since", "999999999d"], "--since '999999999d' is"),
        (["--subscription", ID, "--status", "pending"], "Invalid value for '--status': 'pending'"),
    ],
)  # fmt: skip
def test_wrong_use_is_exit_code_2_and_one_line(arguments: list[str], message: str) -> None:
    server = FakeTaskbell(1)

    result = run(server, *arguments)

    assert (result.exit_code, result.stdout, server.asked) == (2, "", [])
    assert result.stderr.startswith(f"taskbell: {message}")
    assert result.stderr.count("\n") == 1
