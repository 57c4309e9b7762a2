from __future__ import annotations

import json
import re
from typing import Any

import pytest

from store import eventlist
from store.tables import audit, deliveries, events
from tests.app import Taskbell, bearer, good, minimax
from tests.pages import Document, signed_in

HOSTILE = "<script>alert(1)</script>'\"><img src=x onerror=alert(1)>\u202egpj.exe"


async def read_only(taskbell: Taskbell) -> str:
    """The text of a key that may only read."""
    wish = {"name": "looks on", "scope": "read"}
    key: str = good(await taskbell.api.post("/v1/api-keys", json=wish), 201)["key"]
    return key


async def newest(taskbell: Taskbell) -> dict[str, Any]:
    return (await taskbell.events())[-1]


async def test_events_are_listed_newest_first_and_filtered(small: Taskbell) -> None:
    task = await small.track("1")
    await small.push(minimax("1"))
    await small.push(minimax("2", "Fail"))
    first, _, last = await small.events()
    person = await signed_in(small)

    everything = await person.see("/events")
    failed = await person.see("/events?type=task.failed")
    of_task = await person.see(f"/events?task={task['id']}&provider=minimax&type=")

    assert everything.index(last["id"]) < everything.index(first["id"])
    assert last["id"] in failed
    assert first["id"] not in failed
    assert last["id"] not in of_task
    assert Document(of_task).all("a", class_="chip removable", href="/events?provider=minimax")


async def test_pages_lead_to_older_and_newer_events(
    small: Taskbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.pages.events.LIMIT", 2)
    for number in range(5):
        await small.track(str(number))
    person = await signed_in(small)

    first = Document(await person.see("/events?provider=minimax"))
    older = first.all("a", rel="next")[0].attributes["href"] or ""
    second = Document(await person.see(older))
    newer = second.all("a", rel="prev")[0].attributes["href"] or ""

    assert older == "/events?provider=minimax&before=4"
    assert newer == "/events?provider=minimax&after=3"
    assert Document(await person.see(newer)).text == first.text


async def test_empty_and_no_match_say_what_to_do(
    small: Taskbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await signed_in(small)
    empty = await person.see("/events")
    await small.track("1")
    no_match = Document(await person.see("/events?type=task.failed"))
    monkeypatch.setattr(eventlist, "STRETCH", 1)
    for number in range(2, 5):
        await small.track(str(number))
    stopped = Document(await person.see("/events?provider=atlascloud"))

    assert "./deploy/run demo --stay" in empty
    assert no_match.all("a", href="/events")
    assert "No event fits these filters." in no_match.text
    assert stopped.all("a", href="/events?provider=atlascloud&before=4")


async def test_what_was_received_stands_beside_what_was_recorded(small: Taskbell) -> None:
    await small.push(b'{"task_id": "7",  "status":"Processing", "note": "as it was sent"}')
    event = await newest(small)
    person = await signed_in(small)

    shown = Document(await person.see(f"/events/{event['id']}")).text

    assert '{"task_id": "7", "status":"Processing", "note": "as it was sent"}' in shown
    assert '"note": "as it was sent"' in shown
    assert "The push that brought this event" in shown
    assert "this provider signs nothing" in shown
    assert f'"provider_task_id": "{event["data"]["task"]["provider_task_id"]}"' in shown
    assert "No subscription wanted it" in shown


async def test_curl_asks_for_the_event_and_sends_its_body(small: Taskbell) -> None:
    await small.track("1")
    event = await newest(small)
    person = await signed_in(small)

    page = Document(await person.see(f"/events/{event['id']}"))
    commands = [
        button.attributes["data-copy"] or "" for button in page.all("button", type="button")
    ]

    assert commands[0].startswith('curl -H "Authorization: Bearer $TASKBELL_API_KEY" ')
    assert commands[0].endswith(f"/v1/events/{event['id']}")
    assert f"-H 'webhook-id: {event['id']}'" in commands[1]
    assert json.dumps(event["data"], separators=(",", ":")) in commands[1]


async def test_an_event_is_replayed_to_all_to_one_or_to_nobody(small: Taskbell) -> None:
    await small.track("1")
    event = await newest(small)
    page = f"/events/{event['id']}"
    person = await signed_in(small)

    nobody = await person.press(page, f"{page}/replay", subscription="")
    said = Document(await person.see(page)).text
    one = await small.subscribe()
    to_one = await person.press(page, f"{page}/replay", subscription=one["id"])
    await small.subscribe("https://93.184.216.34/second")
    to_all = await person.press(page, f"{page}/replay", subscription="")

    made = [row.id for row in await small.rows(deliveries)]
    assert (nobody.status_code, nobody.headers["location"]) == (303, page)
    assert "No active subscription wants this event" in said
    assert to_one.headers["location"] == f"/deliveries/{made[0]}"
    assert to_all.headers["location"] == page
    assert len(made) == 3
    assert [row.action for row in await small.rows(audit)].count("event.replayed") == 3


async def test_who_may_only_read_sees_no_button_and_is_refused(small: Taskbell) -> None:
    await small.track("1")
    await small.subscribe()
    event = await newest(small)
    person = await signed_in(small, await read_only(small))
    page = f"/events/{event['id']}"

    document = Document(await person.see(page))
    refused = await person.press(page, f"{page}/replay", subscription="")

    assert not document.all("form", action=f"{page}/replay")
    assert refused.status_code == 403
    assert await small.rows(deliveries) == []


async def test_hostile_text_stays_text(small: Taskbell) -> None:
    await small.subscribe(description=HOSTILE)
    await small.track("1", model=HOSTILE, metadata={HOSTILE: HOSTILE})
    await small.push(minimax("1", "Fail", base_resp={"status_code": 1026, "status_msg": HOSTILE}))
    event = await newest(small)
    person = await signed_in(small)

    for path in ("/events", f"/events/{event['id']}"):
        html = await person.see(path)
        document = Document(html)
        assert not document.all("img")
        sources = [str(each.attributes.get("src")) for each in document.all("script")]
        assert all(source.startswith("/static/") for source in sources)
        assert "\u202e" not in re.sub("<bdi.*?</bdi>", "", html)


async def test_events_about_ourselves_lead_to_what_they_are_about(small: Taskbell) -> None:
    subscription = await small.subscribe()
    await small.write(
        events.insert().values(
            id="evt_01kdwpvng0jmwss390q20wa8r0",
            type="subscription.disabled",
            subject=subscription["id"],
            version=0,
            created_at=small.service.clock(),
            body=b'{"id":"evt_01kdwpvng0jmwss390q20wa8r0","data":{"subscription":{}}}',
        )
    )
    person = await signed_in(small)

    listed = Document(await person.see("/events"))
    shown = Document(await person.see("/events/evt_01kdwpvng0jmwss390q20wa8r0"))

    for document in (listed, shown):
        assert document.all("a", href=f"/subscriptions/{subscription['id']}")
    assert "Taskbell recorded it about itself" in shown.text


@pytest.mark.parametrize(
    "path", ["/events", "/events/{id}", "/deliveries", "/deliveries?status=dead"]
)
async def test_every_page_is_there_in_chinese(small: Taskbell, path: str) -> None:
    await small.track("1")
    event = await newest(small)
    person = await signed_in(small)

    person.client.headers["accept-language"] = "zh-CN"
    html = await person.see(path.format(id=event["id"]))

    assert '<html lang="zh-Hans"' in html


async def test_an_event_that_was_cut_is_shown_as_it_is(small: Taskbell) -> None:
    await small.subscribe()
    await small.push(minimax("1"))
    event = await newest(small)
    await small.write(events.update().values(body=b'{"id":"evt_'))
    (owed,) = await small.rows(deliveries)
    person = await signed_in(small)

    assert "{&#34;id&#34;:&#34;evt_" in await person.see(f"/events/{event['id']}")
    assert "The request cannot be shown" not in await person.see(f"/deliveries/{owed.id}")


async def test_what_is_not_there_is_a_page_too(small: Taskbell) -> None:
    person = await signed_in(small)

    assert "Nothing is here" in await person.see("/events/evt_01kdwpvng0jmwss390q20wa8r0", 404)
    assert "does not fit" in await person.see("/events?type=task.nonsense", 422)
    assert (await small.door.get("/events")).status_code == 303
    assert (await small.door.get("/events", headers=bearer("x" * 40))).status_code == 303
