"""The scene has one of everything that a page must be able to show."""

from __future__ import annotations

from dispatch.sink import Result
from store.events import EVENT_TYPES, Kind, Status, Verdict
from store.tables import attempts, deliveries, events, receipts
from tests.browser.site import Site

_NEVER_KEPT = {Verdict.REFUTED}  # no push: that is what became of a task


async def test_the_scene_has_every_status_there_is(site: Site) -> None:
    taskbell = site.taskbell
    tasks = await taskbell.all_pages("/v1/tasks")

    assert {task["status"] for task in tasks} == {*Status}
    assert {task["provider"] for task in tasks} == {"minimax", "atlascloud", "opencomputing"}
    assert {output["kind"] for task in tasks for output in task["outputs"]} >= {*Kind}
    assert any(task["rescued_by_poll"] for task in tasks)
    assert {row.status for row in await taskbell.rows(deliveries)} == {
        *("pending", "in_flight", "delivered", "dead", "canceled")
    }
    assert {row.result for row in await taskbell.rows(attempts)} == {*Result}
    assert {row.type for row in await taskbell.rows(events)} == {*EVENT_TYPES}
    assert {row.verdict for row in await taskbell.rows(receipts)} >= {*Verdict} - _NEVER_KEPT


async def test_the_scene_has_subscriptions_in_every_state(site: Site) -> None:
    found = {each["id"]: each for each in await site.taskbell.data("/v1/subscriptions")}
    named = {name: found.get(sid) for name, sid in site.scene.subscriptions.items()}

    assert named["former"] is None
    healthy, failing, gone, paused = (
        named[name] or {} for name in ("pipeline", "crm", "gone", "paused")
    )
    assert healthy["active"]
    assert failing["failing_since"]
    assert gone["disabled_reason"] == "410 Gone"
    assert not paused["active"]
    assert (named["slack"] or {})["url"] == "https://hooks.slack.com/…"
