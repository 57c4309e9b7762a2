from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from store import deliverylist
from store.claims import Claim, claim
from store.clock import ManualClock
from store.deliveries import Attempt, Finished, finish
from store.tables import audit, deliveries, events, subscriptions
from tests.app import Taskbell, good, minimax, running
from tests.pages import Document, signed_in
from tests.receiver.test_pages_events import HOSTILE, read_only


async def fail(taskbell: Taskbell, **attempt: Any) -> None:
    """Have everything that is due fail for the last time: one by one, as it only fails."""
    store, how = taskbell.service.store, {"error": "answered 500", "status_code": 500, **attempt}
    wish = Claim("sender", 100, timedelta(seconds=30))
    while caught := (await store.write(claim, wish)).deliveries:
        for delivery in caught:
            tried = Attempt(taskbell.service.clock(), timedelta(seconds=1), "retry", **how)
            await store.write(finish, Finished(delivery, tried, delivered=False))


async def one_dead(taskbell: Taskbell, **attempt: Any) -> Any:
    """A delivery that died; its row."""
    await taskbell.subscribe(description="The old CRM")
    await taskbell.push(minimax("1"))
    await fail(taskbell, **attempt)
    return (await taskbell.rows(deliveries))[0]


async def statuses(taskbell: Taskbell) -> list[str]:
    return [row.status for row in await taskbell.rows(deliveries)]


async def test_deliveries_are_listed_and_filtered(taskbell: Taskbell) -> None:
    dead = await one_dead(taskbell)
    await taskbell.push(minimax("2"))
    waiting = (await taskbell.rows(deliveries))[-1]
    person = await signed_in(taskbell)

    everything = await person.see("/deliveries")
    dead_ones = await person.see(f"/deliveries?status=dead&subscription={dead.subscription_id}")
    of_event = await person.see(f"/deliveries?event={waiting.event_id}")

    assert everything.index(waiting.id) < everything.index(dead.id)
    assert waiting.id not in dead_ones
    assert dead.id not in of_event
    assert "1 dead delivery waits for you" in dead_ones
    assert Document(dead_ones).all(
        "a", href=f"/deliveries/replay?subscription={dead.subscription_id}"
    )


async def test_empty_no_match_and_no_dead_letter_are_different(small: Taskbell) -> None:
    person = await signed_in(small)
    empty = await person.see("/deliveries")
    no_dead = await person.see("/deliveries?status=dead")
    no_match = await person.see("/deliveries?event=evt_01kdwpvng0jmwss390q20wa8r0")

    assert "./deploy/run subscribe" in empty
    assert "No dead delivery" in no_dead
    assert "No delivery fits these filters." in no_match


async def test_a_look_that_ended_early_goes_on(
    small: Taskbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    await small.subscribe()
    for number in range(3):
        await small.push(minimax(str(number)))
    monkeypatch.setattr(deliverylist, "STRETCH", 2)
    person = await signed_in(small)

    page = Document(await person.see("/deliveries?status=delivered"))

    second = (await small.rows(deliveries))[1].id
    assert page.all("a", href=f"/deliveries?status=delivered&before={second}")


async def test_a_delivery_says_why_it_failed_and_what_was_sent(small: Taskbell) -> None:
    dead = await one_dead(small, answer=b"<h1>out of order</h1>")
    person = await signed_in(small)

    page = Document(await person.see(f"/deliveries/{dead.id}"))

    assert "Why it died The receiver failed by itself" in page.text
    assert "Attempt 1 failed HTTP 500 within 1.0 s" in page.text
    assert "<h1>out of order</h1>" in page.text
    assert (
        f"POST https://93.184.216.34/hook content-type: application/json webhook-id: {dead.event_id}"
        in page.text
    )
    assert "webhook-signature: v1,•••" in page.text
    assert page.all("a", href=f"/events/{dead.event_id}")


async def test_secrets_of_the_request_are_not_shown(small: Taskbell) -> None:
    hush = "Bearer a-token-that-nobody-may-read"
    made = await small.subscribe(headers={"authorization": hush})
    chat = await small.subscribe(
        "https://open.feishu.cn/open-apis/bot/v2/hook/hush-hush-hush",
        format="feishu",
        service_secret="the-secret-of-the-bot",
    )
    await small.push(minimax("1"))
    person = await signed_in(small)

    shown = [await person.see(f"/deliveries/{row.id}") for row in await small.rows(deliveries)]

    html = "".join(shown)
    assert "authorization: •••" in html
    assert "https://open.feishu.cn/…" in html
    assert "stand-in" in html
    for secret in (
        hush,
        "nobody-may-read",
        made["secret"],
        chat["secret"],
        "hush",
        "secret-of-the",
    ):
        assert secret not in html


async def test_a_shape_that_makes_nothing_is_said(small: Taskbell) -> None:
    await small.subscribe(shape="data.task.metadata.taskbell_test")
    await small.push(minimax("1"))
    (row,) = await small.rows(deliveries)
    person = await signed_in(small)

    assert "the shape makes nothing of an event" in await person.see(f"/deliveries/{row.id}")


async def test_a_dead_delivery_is_retried(taskbell: Taskbell) -> None:
    dead = await one_dead(taskbell)
    person = await signed_in(taskbell)
    page = f"/deliveries/{dead.id}"

    answer = await person.press(page, f"{page}/retry")
    again = await person.press(page, f"{page}/retry")

    assert (answer.status_code, answer.headers["location"]) == (303, page)
    assert again.status_code == 303
    assert await statuses(taskbell) == ["pending"]
    assert "delivery.retried" in [row.action for row in await taskbell.rows(audit)]


async def test_a_delivered_one_is_sent_again_and_not_retried(small: Taskbell) -> None:
    await small.subscribe()
    await small.push(minimax("1"))
    await small.write(
        deliveries.update().values(status="delivered", finished_at=small.service.clock())
    )
    (row,) = await small.rows(deliveries)
    person = await signed_in(small)
    page = f"/deliveries/{row.id}"

    document = Document(await person.see(page))
    refused = await person.press(page, f"{page}/retry")

    assert document.all("form", action=f"/events/{row.event_id}/replay")
    assert not document.all("form", action=f"{page}/retry")
    assert refused.status_code == 409


async def test_the_dead_are_counted_before_they_are_replayed(taskbell: Taskbell) -> None:
    dead = await one_dead(taskbell)
    for number in (2, 3):
        await taskbell.push(minimax(str(number)))
    await fail(taskbell)
    await taskbell.push(minimax("4"))
    person = await signed_in(taskbell)
    path = f"/deliveries/replay?subscription={dead.subscription_id}"

    asked = Document(await person.see(path))
    fields = {
        each.attributes["name"]: each.attributes["value"]
        for each in asked.all("input", type="hidden")
        if each.attributes["name"] in ("subscription", "since", "until")
    }
    done = await person.press(path, "/deliveries/replay", **fields)
    left = Document(await person.see(path))

    assert "Replay 3 dead deliveries?" in asked.text
    assert done.headers["location"] == f"/deliveries?subscription={dead.subscription_id}"
    assert await statuses(taskbell) == ["dead"] * 3 + ["pending"] * 4
    assert "Nothing to replay" in left.text
    assert "replayed since" in await person.see("/deliveries?status=dead")
    assert [row.action for row in await taskbell.rows(audit)].count("subscription.replayed") == 1


async def test_more_dead_ones_than_are_counted_are_said_to_be_more(
    small: Taskbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one_dead(small)
    await small.push(minimax("2"))
    await fail(small)
    monkeypatch.setattr(deliverylist, "COUNTED", 1)
    person = await signed_in(small)

    dead = await person.see("/deliveries?status=dead")

    assert "More than 1 dead deliveries wait for you" in dead
    assert "<strong>1+</strong>" in dead


async def test_only_a_span_is_replayed(sqlite_url: str, clock: ManualClock) -> None:
    async with running(sqlite_url, clock) as taskbell:
        dead = await one_dead(taskbell)
        clock.advance(hours=5)
        await taskbell.push(minimax("2"))
        await fail(taskbell)
        person = await signed_in(taskbell)
        path = f"/deliveries/replay?subscription={dead.subscription_id}"

        everything = await person.see(path)
        recent = await person.see(f"{path}&hours=1")

    assert "Replay 2 dead deliveries?" in everything
    assert "Replay 1 dead delivery?" in recent


async def test_more_than_one_press_can_make_are_made_in_parts(
    small: Taskbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = await one_dead(small)
    for number in (2, 3):
        await small.push(minimax(str(number)))
    await fail(small)
    monkeypatch.setattr("receiver.api.replays.MOST", 1)
    monkeypatch.setattr("receiver.pages.deliveries.AT_ONCE", 2)
    person = await signed_in(small)
    path = f"/deliveries/replay?subscription={dead.subscription_id}"
    span = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}

    done = await person.press(path, "/deliveries/replay", subscription=dead.subscription_id, **span)
    left = await person.see(done.headers["location"])

    assert "Some are on their way again." in left
    assert "Replay 1 dead delivery?" in left
    assert await statuses(small) == ["dead"] * 3 + ["pending"] * 2


async def test_nothing_is_replayed_to_one_that_is_disabled(small: Taskbell) -> None:
    dead = await one_dead(small)
    off = {"active": False, "disabled_reason": "410 Gone"}
    await small.write(subscriptions.update().values(off))
    person = await signed_in(small)
    path = f"/deliveries/replay?subscription={dead.subscription_id}"

    page = Document(await person.see(path))
    span = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}
    refused = await person.press(
        path, "/deliveries/replay", subscription=dead.subscription_id, **span
    )

    assert "is disabled" in page.text
    assert not page.all("form", action="/deliveries/replay", method="post")
    assert refused.status_code == 409


async def test_who_may_only_read_sees_no_button_and_is_refused(small: Taskbell) -> None:
    dead = await one_dead(small)
    person = await signed_in(small, await read_only(small))
    page = f"/deliveries/{dead.id}"
    replay = f"/deliveries/replay?subscription={dead.subscription_id}"
    span = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}

    for path in ("/deliveries?status=dead", page, replay):
        document = Document(await person.see(path))
        posts = [form.attributes["action"] for form in document.all("form", method="post")]
        assert set(posts) == {"/settings", "/logout"}
    retried = await person.press(page, f"{page}/retry")
    replayed = await person.press(
        replay, "/deliveries/replay", subscription=dead.subscription_id, **span
    )

    assert (retried.status_code, replayed.status_code) == (403, 403)
    assert await statuses(small) == ["dead"]


async def test_hostile_answers_stay_text(small: Taskbell) -> None:
    dead = await one_dead(
        small, error=f"answered 500: {HOSTILE}", answer=f"{HOSTILE}\x1b[2J\x00".encode()
    )
    person = await signed_in(small)

    listed, shown = await person.see("/deliveries"), await person.see(f"/deliveries/{dead.id}")

    for html in (listed, shown):
        assert not Document(html).all("img")
        assert "<script>alert" not in html
    assert "\\u202egpj.exe\\u001b[2J" in shown


async def test_every_page_is_there_in_chinese(small: Taskbell) -> None:
    dead = await one_dead(small, error="answered 500: out of order", answer=b"out of order")
    person = await signed_in(small)
    person.client.headers["accept-language"] = "zh-CN"

    shown = await person.see(f"/deliveries/{dead.id}")
    asked = await person.see(f"/deliveries/replay?subscription={dead.subscription_id}")

    assert "接收方自身出错；请查看它的日志。" in shown
    assert "重放 1 个已放弃的投递？" in asked


async def test_a_bad_span_is_refused(small: Taskbell) -> None:
    dead = await one_dead(small)
    person = await signed_in(small)
    path = f"/deliveries/replay?subscription={dead.subscription_id}"

    answer = await person.press(path, "/deliveries/replay", subscription=dead.subscription_id)

    assert answer.status_code == 422
    assert await statuses(small) == ["dead"]
    assert "does not fit" in await person.see("/deliveries/replay?subscription=all", 422)
    assert "Nothing is here" in await person.see(
        "/deliveries/replay?subscription=sub_01kdwpvng0jmwss390q20wa8r0", 404
    )


async def test_the_lost_event_of_a_delivery_is_said(small: Taskbell) -> None:
    dead = await one_dead(small)
    await small.write(events.delete())
    person = await signed_in(small)

    for path in ("/deliveries", f"/deliveries/{dead.id}"):
        assert "Its event is lost or cannot be read." in await person.see(path)
    assert good(await small.api.get("/v1/deliveries"))["data"] == []
