import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner, Result

from deploy import __version__
from deploy.cli import (
    audit,
    build_app,
    callbacks,
    events,
    frame,
    keys,
    providers,
    subscriptions,
    tasks,
)
from deploy.cli.client import Client
from deploy.cli.errors import UsageError
from deploy.cli.frame import Surroundings
from store.clock import ManualClock

KEY = "tb_abcd1234_" + "k" * 43
NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
TASK = {
    "id": "task_01kb3x0e5x",
    "provider": "minimax",
    "provider_task_id": "176843862716480",
    "model": None,
    "status": "queued",
    "updated_at": "2026-11-21T02:55:00.000000Z",
}

Handle = Callable[[httpx.Request], httpx.Response]


def an_app() -> typer.Typer:
    app = frame.new_app()
    for module in (tasks, callbacks, subscriptions, events, keys, audit, providers):
        module.register(app)
    return app


class FakeServer:
    """Answers each call from a table, `"POST /v1/tasks": (status, body)`, and keeps the calls."""

    def __init__(self, answers: dict[str, tuple[int, Any]]) -> None:
        self._answers = answers
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        status, body = self._answers[f"{request.method} {request.url.raw_path.decode()}"]
        return httpx.Response(status, json=body) if body is not None else httpx.Response(status)

    @property
    def sent(self) -> Any:
        return json.loads(self.requests[-1].content)


def run(server: FakeServer, *arguments: str) -> Result:
    def connect() -> Client:
        return Client("http://taskbell.test", KEY, httpx.MockTransport(server))

    around = Surroundings(connect=connect, clock=ManualClock(NOW))
    return CliRunner().invoke(an_app(), arguments, obj=around, prog_name="taskbell")


def test_track_sends_what_was_said_and_prints_the_task() -> None:
    server = FakeServer({"POST /v1/tasks": (201, TASK)})

    result = run(
        server, "track", "minimax", "176843862716480", "--kind", "video", "--model", "m",
        "--family", "video_v1", "--meta", "customer=42", "--meta", "note=a=b", "--expect-push",
        "--deadline", "10m",
    )  # fmt: skip

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "task_01kb3x0e5x  minimax  176843862716480  queued\n"
    assert server.sent == {
        "provider": "minimax",
        "task_id": "176843862716480",
        "kind": "video",
        "model": "m",
        "family": "video_v1",
        "metadata": {"customer": "42", "note": "a=b"},
        "expect_push": True,
        "timeout_seconds": 600,
    }


def test_track_leaves_out_what_was_not_said() -> None:
    server = FakeServer({"POST /v1/tasks": (201, TASK)})

    run(server, "track", "minimax", "1")

    assert server.sent == {"provider": "minimax", "task_id": "1"}


def test_track_says_when_the_task_was_known_already() -> None:
    server = FakeServer({"POST /v1/tasks": (200, TASK)})

    result = run(server, "track", "minimax", "1", "--json")

    assert (result.exit_code, result.stderr) == (0, "already tracked\n")
    assert json.loads(result.stdout) == TASK


def test_track_says_which_deadline_a_task_has_that_was_known_already() -> None:
    there = {**TASK, "deadline_at": "2026-11-21T05:00:00Z"}
    server = FakeServer({"POST /v1/tasks": (200, there)})

    result = run(server, "track", "minimax", "1", "--deadline", "7d")

    told = "already tracked, with the deadline 2026-11-21T05:00:00Z\n"
    assert (result.exit_code, result.stderr) == (0, told)


@pytest.mark.parametrize("group", ["subscriptions", "callback-urls"])
def test_a_group_that_lists_does_so_with_and_without_the_word(group: str) -> None:
    page: dict[str, Any] = {"data": [], "next_cursor": None}
    server = FakeServer({f"GET /v1/{group}?limit=50": (200, page)})

    alone, with_list = run(server, group), run(server, group, "list")

    assert (alone.exit_code, alone.stderr) == (0, f"no {group.replace('-urls', ' URLs')}\n")
    assert (alone.stdout, alone.stderr) == (with_list.stdout, with_list.stderr)


def test_track_warns_when_the_server_has_no_key() -> None:
    warning = {"code": "no_key", "message": "the server has no API key for MiniMax"}
    server = FakeServer({"POST /v1/tasks": (201, {**TASK, "warnings": [warning]})})

    plain, as_json = (run(server, "track", "minimax", "1", *more) for more in ([], ["--json"]))

    assert plain.stderr == as_json.stderr == f"warning: {warning['message']}\n"
    assert plain.exit_code == as_json.exit_code == 0
    assert json.loads(as_json.stdout)["warnings"] == [warning]


PROVIDER = {
    "name": "minimax",
    "title": "MiniMax",
    "state": "down",
    "reason": {"code": "unavailable", "message": "MiniMax cannot answer now"},
    "since": "2026-11-21T02:55:00Z",
    "last_asked_at": "2026-11-21T02:56:00Z",
    "last_answer_at": None,
    "open_tasks": 3,
    "pushes": 8,
    "polls": 40,
    "ended_by_push": 2,
    "ended_by_poll": 1,
    "rescued_by_poll": 0,
}


def test_one_provider_is_shown_with_its_history() -> None:
    history = [
        {"state": "down", "reason": None, "since": "2026-11-21T02:55:00Z", "until": None},
        {
            "state": "ok",
            "reason": None,
            "since": "2026-11-20T00:00:00Z",
            "until": "2026-11-21T02:55:00Z",
        },
    ]
    shown = {**PROVIDER, "history": history}
    server = FakeServer({"GET /v1/providers/minimax": (200, shown)})

    result, as_json = (
        run(server, "providers", "minimax"),
        run(server, "providers", "minimax", "--json"),
    )

    assert result.stdout.splitlines() == [
        "provider      MiniMax (minimax)",
        "state         down",
        "why           MiniMax cannot answer now",
        "since         2026-11-21T02:55:00Z",
        "last answer   -",
        "last poll     2026-11-21T02:56:00Z",
        "open tasks    3",
        "last 24 h     8 pushes, 40 polls; 2 ended by push, 1 by poll",
        "2026-11-20T00:00:00Z  2026-11-21T02:55:00Z  ok",
    ]
    assert json.loads(as_json.stdout) == shown


def test_a_callback_url_stands_alone_on_stdout() -> None:
    url, end = "http://t.test/callbacks/minimax/abc", "2026-11-28T03:00:00.0Z"
    made = {"id": "cb_1", "url": url, "expires_at": end}
    server = FakeServer({"POST /v1/callback-urls": (201, made)})

    result = run(server, "callback-url", "minimax", "--expires-in", "7d", "--meta", "a=b")

    assert result.stdout == "http://t.test/callbacks/minimax/abc\n"
    assert result.stderr == (
        "expires 2026-11-28T03:00:00Z\nto revoke it: taskbell callback-urls revoke cb_1\n"
    )
    assert server.sent == {"provider": "minimax", "expires_in": 604800, "metadata": {"a": "b"}}


def test_a_callback_url_without_an_expiry_says_so() -> None:
    made = {"id": "cb_1", "url": "http://t.test/callbacks/minimax/abc", "expires_at": None}
    server = FakeServer({"POST /v1/callback-urls": (201, made)})

    result = run(server, "callback-url", "minimax", "--single-task")

    assert result.stderr.startswith("never expires\n")
    assert server.sent == {"provider": "minimax", "single_task": True}


def test_subscribe_sends_what_was_said_and_shows_the_secret() -> None:
    made = {"id": "sub_1", "secret": "whsec_abc", "url": "https://a.test/hook"}
    server = FakeServer({"POST /v1/subscriptions": (201, made)})

    result = run(
        server, "subscribe", "https://a.test/hook", "--type", "task.succeeded,task.failed",
        "--type", "delivery.dead", "--provider", "minimax", "--format", "cloudevents",
        "--meta", "customer=42", "--header", "Authorization: Bearer x:y", "--description", "mine",
        "--max-in-flight", "5", "--rate", "2.5", "--language", "zh", "--service-secret", "s",
    )  # fmt: skip

    assert (result.exit_code, result.stdout) == (0, "id sub_1\nsecret whsec_abc\n")
    assert result.stderr == "the secret is shown once: keep it now\n"
    assert server.sent == {
        "url": "https://a.test/hook",
        "types": ["task.succeeded", "task.failed", "delivery.dead"],
        "providers": ["minimax"],
        "format": "cloudevents",
        "metadata": {"customer": "42"},
        "headers": {"Authorization": "Bearer x:y"},
        "description": "mine",
        "max_in_flight": 5,
        "rate_per_second": 2.5,
        "language": "zh",
        "service_secret": "s",
    }


def test_subscribe_shows_no_secret_that_a_chat_has_no_use_for() -> None:
    made = {"id": "sub_1", "secret": "whsec_abc", "url": "https://hooks.slack.com/…"}
    server = FakeServer({"POST /v1/subscriptions": (201, made)})

    result = run(server, "subscribe", "https://hooks.slack.com/services/T/B/x", "--format", "slack")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "id sub_1\n", "")


def test_subscribe_says_which_format_the_host_chose_and_what_is_wrong_with_it() -> None:
    made = {"id": "sub_1", "secret": "whsec_abc", "format": "discord", "warnings": ["careful"]}
    server = FakeServer({"POST /v1/subscriptions": (201, made)})

    result = run(server, "subscribe", "https://discord.com/api/webhooks/1/x")

    assert (result.exit_code, result.stdout) == (0, "id sub_1\n")
    assert result.stderr == "format discord, chosen by the URL's host\nwarning: careful\n"


def test_an_edit_sends_what_was_said_and_nothing_else() -> None:
    server = FakeServer({"PATCH /v1/subscriptions/sub_1": (200, {"id": "sub_1"})})

    result = run(
        server, "subscriptions", "edit", "sub_1", "--url", "https://b.test/hook",
        "--header", "Authorization: Bearer y", "--service-secret", "",
    )  # fmt: skip

    assert (result.exit_code, result.stdout) == (0, "sub_1 changed\n")
    assert server.sent == {
        "url": "https://b.test/hook",
        "headers": {"Authorization": "Bearer y"},
        "service_secret": None,
    }


def test_an_edit_tells_which_secret_must_be_given_again() -> None:
    why = {"title": "x", "detail": "field 'headers': give it again in this call, or null: …"}
    server = FakeServer({"PATCH /v1/subscriptions/sub_1": (422, why)})

    result = run(server, "subscriptions", "edit", "sub_1", "--url", "https://b.test/hook")
    alone = run(server, "subscriptions", "edit", "sub_1")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "field 'headers': give it again" in result.stderr
    assert (alone.exit_code, alone.stderr.count("nothing to change")) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "call", "body", "line"),
    [
        (["pause", "sub_1"], "pause", {}, "sub_1 paused, 1 delivery waits\n"),
        (["resume", "sub_1"], "resume", {}, "sub_1 active, 1 delivery waits\n"),
        (["resume", "sub_1", "--skip"], "resume", {"backlog": "skip"}, "sub_1 active, 1"),
    ],
)
def test_pausing_and_resuming_say_how_many_wait(
    arguments: list[str], call: str, body: dict[str, str], line: str
) -> None:
    view = {"id": "sub_1", "waiting": 1, "waiting_expires_at": None}
    server = FakeServer({f"POST /v1/subscriptions/sub_1/{call}": (200, view)})

    result = run(server, "subscriptions", *arguments)

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(line)
    assert server.sent == body


def test_a_subscription_is_shown_a_field_a_line_without_what_it_has_not() -> None:
    row = {"id": "sub_1", "types": ["task.*"], "headers": {}, "active": True, "filter": None}
    server = FakeServer({"GET /v1/subscriptions/sub_1": (200, row)})

    shown = run(server, "subscriptions", "show", "sub_1")
    as_json = run(server, "subscriptions", "show", "sub_1", "--json")

    assert (shown.exit_code, shown.stdout) == (0, 'id sub_1\ntypes ["task.*"]\nactive true\n')
    assert json.loads(as_json.stdout) == row


def test_a_trial_says_how_it_went_and_its_exit_code_does_too() -> None:
    good = {"delivered": True, "status_code": 204, "duration_ms": 12, "reason": None}
    bad = {
        "delivered": False,
        "status_code": 400,
        "duration_ms": 3,
        "reason": "answered 400",
        "hint": "most often the secret is wrong",
    }
    well = run(
        FakeServer({"POST /v1/subscriptions/sub_1/test": (200, good)}),
        "subscriptions", "test", "sub_1",
    )  # fmt: skip
    badly = FakeServer({"POST /v1/subscriptions/sub_1/test": (200, bad)})
    ill, as_json = (
        run(badly, "subscriptions", "test", "sub_1", *options) for options in ([], ["--json"])
    )

    assert (well.exit_code, well.stdout) == (0, "delivered, answered 204 in 12 ms\n")
    assert (ill.exit_code, ill.stdout) == (1, "not delivered: answered 400\n")
    assert ill.stderr == "most often the secret is wrong\n"
    assert (as_json.exit_code, json.loads(as_json.stdout)) == (1, bad)


def test_a_new_secret_is_shown_once() -> None:
    rotated = {"id": "sub_1", "secret": "whsec_new"}
    server = FakeServer({"POST /v1/subscriptions/sub_1/rotate-secret": (200, rotated)})

    result = run(server, "subscriptions", "rotate-secret", "sub_1")

    assert (result.exit_code, result.stdout) == (0, "secret whsec_new\n")
    assert "shown once" in result.stderr


def test_a_deleted_subscription_is_named_and_one_that_is_not_there_too() -> None:
    missing = {"title": "x", "detail": "no such subscription"}
    server = FakeServer(
        {
            "DELETE /v1/subscriptions/sub_1": (204, None),
            "DELETE /v1/subscriptions/sub_2": (404, missing),
        }
    )

    there = run(server, "subscriptions", "delete", "sub_1")
    gone = run(server, "subscriptions", "delete", "sub_2")

    assert (there.exit_code, there.stdout) == (0, "sub_1 deleted\n")
    assert (gone.exit_code, gone.stdout) == (1, "")
    assert "no such subscription" in gone.stderr


def test_the_list_of_subscriptions_says_how_many_wait_for_a_paused_one() -> None:
    row = {"id": "sub_1", "active": False, "url": "https://a.test", "waiting": 7}
    server = FakeServer(
        {"GET /v1/subscriptions?limit=50": (200, {"data": [row], "next_cursor": None})}
    )

    assert run(server, "subscriptions").stdout.splitlines()[1].endswith("7 waiting")


def test_subscribe_alone_leaves_the_rest_to_the_server() -> None:
    server = FakeServer({"POST /v1/subscriptions": (201, {"id": "sub_1", "secret": "whsec_abc"})})

    result = run(server, "subscribe", "https://a.test/hook", "--json")

    assert server.sent == {"url": "https://a.test/hook"}
    assert json.loads(result.stdout) == {"id": "sub_1", "secret": "whsec_abc"}


@pytest.mark.parametrize(
    ("arguments", "call", "row", "lines"),
    [
        pytest.param(
            ["tasks", "--status", "failed", "--provider", "minimax", "--limit", "7"],
            "GET /v1/tasks?status=failed&provider=minimax&limit=7",
            {**TASK, "status": "failed"},
            [
                "ID               STATUS  PROVIDER  PROVIDER TASK    MODEL  UPDATED",
                "task_01kb3x0e5x  failed  minimax   176843862716480  -      2026-11-21T02:55:00Z",
            ],
            id="tasks",
        ),
        pytest.param(
            ["events", "--after", "41", "--type", "task.failed", "--task", "task_1"],
            "GET /v1/events?after=41&type=task.failed&task=task_1&limit=50",
            {
                "cursor": 42,
                "id": "evt_1",
                "type": "task.failed",
                "timestamp": "2026-11-21T02:55:00.000000Z",
                "data": {"task": TASK},
            },
            [
                "CURSOR  TIME                  TYPE         ID     TASK             PROVIDER",
                "42      2026-11-21T02:55:00Z  task.failed  evt_1  task_01kb3x0e5x  minimax",
            ],
            id="events",
        ),
        pytest.param(
            ["deliveries", "--status", "dead", "--subscription", "sub_1", "--event", "evt_1"],
            "GET /v1/deliveries?status=dead&subscription=sub_1&event=evt_1&limit=50",
            {
                "id": "dlv_1",
                "status": "dead",
                "event_type": "task.failed",
                "attempt_count": 10,
                "created_at": "2026-11-21T02:55:00Z",
                "last_error": "HTTP 500",
                "subscription_id": "sub_1",
                "event_id": "evt_1",
            },
            [
                "ID     STATUS  TYPE         TRIES  CREATED               LAST ERROR  SUBSCRIPTION  EVENT",
                "dlv_1  dead    task.failed  10     2026-11-21T02:55:00Z  HTTP 500    sub_1         evt_1",
            ],
            id="deliveries",
        ),
        pytest.param(
            ["subscriptions"],
            "GET /v1/subscriptions?limit=50",
            {
                "id": "sub_1",
                "active": False,
                "disabled_reason": "410 Gone",
                "url": "https://a.test",
                "types": ["task.*"],
                "providers": None,
                "format": "webhook",
                "created_at": "2026-11-21T02:55:00Z",
            },
            [
                "ID     STATE     URL             TYPES   PROVIDERS  FORMAT   CREATED               NOTE",
                "sub_1  disabled  https://a.test  task.*  all        webhook  2026-11-21T02:55:00Z  410 Gone",
            ],
            id="subscriptions",
        ),
        pytest.param(
            ["providers"],
            "GET /v1/providers?limit=50",
            PROVIDER,
            [
                "NAME     STATE  SINCE                 LAST ANSWER  OPEN TASKS  WHY",
                "minimax  down   2026-11-21T02:55:00Z  -            3           MiniMax cannot answer now",
            ],
            id="providers",
        ),
        pytest.param(
            ["keys", "list"],
            "GET /v1/api-keys?limit=50",
            {
                "id": "key_1",
                "name": "ci",
                "scope": "read",
                "created_at": "2026-11-21T02:55:00Z",
            },
            [
                "ID     NAME  SCOPE  CREATED",
                "key_1  ci    read   2026-11-21T02:55:00Z",
            ],
            id="keys",
        ),
        pytest.param(
            ["callback-urls", "list"],
            "GET /v1/callback-urls?limit=50",
            {
                "id": "cb_1",
                "provider": "minimax",
                "metadata": {"customer": "42", "order": 9},
                "created_at": "2026-11-21T02:55:00Z",
                "expires_at": None,
                "last_used_at": "2026-11-22T02:55:00Z",
            },
            [
                "ID    PROVIDER  METADATA              CREATED               EXPIRES  LAST USED",
                "cb_1  minimax   customer=42, order=9  2026-11-21T02:55:00Z  -        2026-11-22T02:55:00Z",
            ],
            id="callback URLs",
        ),
        pytest.param(
            ["audit", "--action", "subscription.changed", "--object", "sub_1"],
            "GET /v1/audit?action=subscription.changed&object=sub_1&limit=50",
            {
                "id": "aud_1",
                "at": "2026-11-21T02:55:00Z",
                "key_id": "key_1",
                "actor_id": "key_1",
                "actor_name": "ci",
                "action": "subscription.changed",
                "object_id": "sub_1",
                "detail": {"fields": ["active", "url"], "values": {"active": False}},
            },
            [
                "WHEN                  WHO  ACTION                OBJECT  FIELDS",
                "2026-11-21T02:55:00Z  ci   subscription.changed  sub_1   active=False url",
            ],
            id="audit",
        ),
    ],
)
def test_lists_are_columns_or_json_lines(
    arguments: list[str], call: str, row: dict[str, Any], lines: list[str]
) -> None:
    server = FakeServer({call: (200, {"data": [row], "next_cursor": None})})

    as_columns = run(server, *arguments)
    as_json = run(server, *arguments, "--json")

    assert as_columns.stdout.splitlines() == lines
    assert [json.loads(line) for line in as_json.stdout.splitlines()] == [row]
    assert (as_columns.exit_code, as_columns.stderr, as_json.stderr) == (0, "", "")


def test_an_empty_list_says_so_beside_stdout() -> None:
    server = FakeServer({"GET /v1/tasks?limit=50": (200, {"data": [], "next_cursor": None})})

    result = run(server, "tasks")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no tasks\n")


def test_a_list_that_was_cut_says_how_to_go_on() -> None:
    page = {"data": [{"cursor": 1}], "next_cursor": "1"}
    server = FakeServer({"GET /v1/events?limit=1": (200, page)})

    result = run(server, "events", "--limit", "1")

    assert result.stderr == "there are more: raise --limit, or go on with --after 1\n"


def test_an_event_that_is_about_no_task_is_listed() -> None:
    event = {"cursor": 1, "type": "delivery.dead", "data": {"delivery": {"id": "dlv_1"}}}
    server = FakeServer({"GET /v1/events?limit=50": (200, {"data": [event]})})

    result = run(server, "events")

    assert "delivery.dead" in result.stdout


def test_escape_sequences_in_foreign_text_do_not_come_through() -> None:
    foul = {**TASK, "model": "m\x1b[2J\x1b]0;owned\x07", "provider_task_id": "[bold]1[/bold]"}
    server = FakeServer({"GET /v1/tasks?limit=50": (200, {"data": [foul]})})

    as_columns = run(server, "tasks")
    as_json = run(server, "tasks", "--json")

    assert "\x1b" not in as_columns.stdout + as_json.stdout
    assert "[bold]1[/bold]" in as_columns.stdout
    assert json.loads(as_json.stdout) == foul


def test_a_new_key_is_shown_once() -> None:
    made = {"id": "key_1", "name": "ci", "scope": "write", "key": "tb_1_secret"}
    server = FakeServer({"POST /v1/api-keys": (201, made)})

    result = run(server, "keys", "create", "ci", "--scope", "write")

    assert (result.exit_code, result.stdout) == (0, "id key_1\nkey tb_1_secret\n")
    assert server.sent == {"name": "ci", "scope": "write"}


def test_a_new_key_may_only_read_unless_more_is_asked() -> None:
    server = FakeServer({"POST /v1/api-keys": (201, {"id": "key_1", "key": "tb_1_secret"})})

    run(server, "keys", "create", "ci")

    assert server.sent == {"name": "ci", "scope": "read"}


def test_a_key_is_revoked_by_its_id_and_nothing_else_is_reached() -> None:
    server = FakeServer(
        {
            "DELETE /v1/api-keys/key_1": (204, None),
            "DELETE /v1/api-keys/..%2Ftasks%3Fa": (404, {"detail": "no API key ../tasks?a"}),
        }
    )

    revoked = run(server, "keys", "revoke", "key_1")
    odd = run(server, "keys", "revoke", "../tasks?a")

    assert (revoked.exit_code, revoked.stdout) == (0, "revoked key_1\n")
    assert (odd.exit_code, odd.stderr) == (1, "taskbell: no API key ../tasks?a\n")


def test_a_callback_url_is_revoked_by_its_id() -> None:
    server = FakeServer(
        {
            "DELETE /v1/callback-urls/cb_1": (204, None),
            "DELETE /v1/callback-urls/cb_2": (404, {"detail": "nothing has that id"}),
        }
    )

    revoked = run(server, "callback-urls", "revoke", "cb_1")
    wrong = run(server, "callback-urls", "revoke", "cb_2")

    assert (revoked.exit_code, revoked.stdout) == (0, "revoked cb_1\n")
    assert (wrong.exit_code, wrong.stderr) == (1, "taskbell: nothing has that id\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["track", "minimax", "1", "--meta", "x"], "--meta 'x' is not key=value"),
        (["track", "minimax", "1", "--meta", "=x"], "--meta '=x' is not key=value"),
        (["track", "minimax", "1", "--meta", "a=1", "--meta", "a=2"], "--meta 'a=2' names 'a' a"),
        (["track", "minimax", "1", "--deadline", "soon"], "--deadline 'soon' is not a duration"),
        (["track", "minimax", "1", "--deadline", "0"], "--deadline '0' is not a duration"),
        (["track", "minimax", "1", "--deadline", "٣"], "--deadline '٣' is not a duration"),
        (["track", "minimax", "1", "--timeout", "5m"], "--timeout bounds the waiting of --wait"),
        (["track", "minimax", "1", "--wait", "--timeout", "x"], "--timeout 'x' is not a duration"),
        (["track", "minimax", ""], "TASK_ID is empty: the provider answered the submit without"),
        (["track", "minimax", "  "], "TASK_ID is empty: the provider answered the submit without"),
        (["track", "minimax", "1", "--kind", "film"], "Invalid value for '--kind': 'film' is not"),
        (["track", "minimax"], "Missing argument 'TASK_ID'."),
        (["callback-url", "minimax", "--expires-in", "-5"], "--expires-in '-5' is not a duration"),
        (["subscribe", "https://a.test", "--header", "hush"], "--header number 1 is not 'Name:"),
        (["subscribe", "https://a.test", "--rate", "nan"], "Invalid value for '--rate': 'nan' is"),
        (["watch", "176843862716480"], "TASK '176843862716480' is not Taskbell's id of a task"),
        (["keys", "revoke", ".."], "ID '..' is not an id"),
        (["keys", "create", "ci", "--scope", "root"], "Invalid value for '--scope': 'root' is not"),
        (["tasks", "--limit", "0"], "Invalid value for '--limit': '0' is not a whole number"),
        (["tasks", "--nope"], "No such option: --nope"),
        (["nope"], "No such command 'nope'"),
    ],
)
def test_wrong_use_is_one_line_with_the_thing_and_the_value(
    arguments: list[str], message: str
) -> None:
    server = FakeServer({})

    result = run(server, *arguments)

    assert (result.exit_code, result.stdout, server.requests) == (2, "", [])
    assert result.stderr.startswith(f"taskbell: {message}")
    assert result.stderr.count("\n") == 1
    assert "hush" not in result.stderr


def test_bytes_that_are_no_text_are_wrong_use() -> None:
    result = run(FakeServer({}), "track", "minimax", "\udcff")

    assert (result.exit_code, result.stderr) == (
        2,
        "taskbell: an argument holds bytes that are not text\n",
    )


def test_a_refusal_is_one_line_without_controls_or_keys() -> None:
    detail = f"URL refused:\n\x1b[31m10.0.0.1 is not public {KEY}"
    server = FakeServer({"POST /v1/subscriptions": (422, {"detail": detail})})

    result = run(server, "subscribe", "http://10.0.0.1/")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "taskbell: URL refused: \ufffd[31m10.0.0.1 is not public (the API key)\n"
    )


def test_settings_that_cannot_be_used_are_wrong_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKBELL_URL", "localhost:8000")

    with pytest.raises(UsageError, match="TASKBELL_URL is 'localhost:8000'"):
        frame.connect()


def test_the_version_is_told() -> None:
    result = run(FakeServer({}), "--version")

    assert (result.exit_code, result.stdout) == (0, f"taskbell {__version__}\n")


def test_the_whole_app_has_the_commands_of_both_sides() -> None:
    result = CliRunner().invoke(build_app(), ["--help"], prog_name="taskbell")

    assert result.exit_code == 0
    assert {"serve", "migrate", "openapi", "track", "watch", "keys", "audit"} <= set(
        result.stdout.split()
    )


@pytest.mark.parametrize("arguments", [[], ["keys"]])
def test_without_a_command_help_is_shown(arguments: list[str]) -> None:
    result = run(FakeServer({}), *arguments)

    assert result.exit_code == 0
    assert "Usage: taskbell" in result.stdout


@pytest.mark.parametrize("known", [{"newest": 41}, {"oldest": 41}], ids=["ahead", "expired"])
def test_events_after_a_cursor_that_is_gone_say_what_to_do(known: dict[str, int]) -> None:
    body = {"detail": "no events after cursor 900", **known}
    server = FakeServer({"GET /v1/events?after=900&limit=50": (410, body)})

    result = run(server, "events", "--after", "900")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "taskbell: no events after cursor 900 (here: --after 41, or --after 0 for all there is)\n"
    )
