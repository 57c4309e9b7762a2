"""Who may see the pages and press their buttons: sessions, forms, keys, one-time links."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest
from itsdangerous import URLSafeSerializer

from receiver.guesses import ALLOWED
from store.clock import ManualClock
from store.tables import sessions
from tests.app import SECRET_KEYS, SECURITY_HEADERS, Taskbell, good, problem, running
from tests.e2e.process import until
from tests.pages import ORIGIN, Browser, Document, browser, signed_in
from tests.patience import PATIENCE_SECONDS
from tests.streams import listening

HTTPS = {"PUBLIC_URL": "https://taskbell.test"}
UNSAFE = [
    "//evil.example",
    "/\\evil.example",
    "https://evil.example/",
    "javascript:alert(1)",
    "/\t/evil.example",
    "/%0d%0aset-cookie:a=b\r\nx:y",
    "",
]


@pytest.fixture
async def taskbell(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(sqlite_url, clock) as taskbell:
        yield taskbell


async def made_key(taskbell: Taskbell, scope: str) -> dict[str, Any]:
    wish = {"name": f"a {scope} key", "scope": scope}
    made: dict[str, Any] = good(await taskbell.api.post("/v1/api-keys", json=wish), 201)
    return made


def cookies(answer: httpx.Response) -> SimpleCookie:
    return SimpleCookie("\n".join(answer.headers.get_list("set-cookie")))


# Signing in


async def test_without_a_login_every_page_leads_to_it(taskbell: Taskbell) -> None:
    task = await taskbell.track()
    person = browser(taskbell)

    for path in ("/", f"/tasks/{task['id']}", "/live"):
        answer = await person.client.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login")
        assert task["provider_task_id"] not in answer.text.replace("task_", "")


async def test_a_stream_is_led_to_no_page(taskbell: Taskbell) -> None:
    answer = await browser(taskbell).client.get("/live", headers={"accept": "text/event-stream"})

    assert (answer.status_code, answer.content) == (401, b"")


async def test_a_wrong_key_signs_nobody_in_and_guessing_is_slowed_down(taskbell: Taskbell) -> None:
    person = browser(taskbell)

    for _ in range(ALLOWED):
        answer = await person.sign_in("a-wrong-key")
        assert answer.status_code == 401
        assert "a-wrong-key" not in answer.text
    slowed = await person.sign_in("a-wrong-key")

    assert slowed.status_code == 429
    assert int(slowed.headers["retry-after"]) > 0
    assert (await person.sign_in()).status_code == 303  # a good one always passes


@pytest.mark.parametrize("wanted", UNSAFE)
async def test_after_the_login_nobody_is_led_elsewhere(taskbell: Taskbell, wanted: str) -> None:
    answer = await browser(taskbell).sign_in(next=wanted)

    assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_the_session_cookie_is_for_this_site_alone(taskbell: Taskbell) -> None:
    answer = await browser(taskbell).sign_in()

    (cookie,) = (each for each in cookies(answer).values() if each.value)
    assert cookie["httponly"]
    assert cookie["samesite"] == "lax"
    assert cookie["path"] == "/"
    assert cookie["domain"] == ""
    assert int(cookie["max-age"]) == 12 * 3600


async def test_under_https_it_is_never_sent_in_the_clear(
    sqlite_url: str, clock: ManualClock
) -> None:
    async with running(sqlite_url, clock, HTTPS) as taskbell:
        answer = await browser(taskbell).client.get("/login")

    for name, cookie in cookies(answer).items():
        assert name.startswith("__Host-")
        assert cookie["secure"]


async def test_a_new_login_is_a_new_session(taskbell: Taskbell) -> None:
    person = browser(taskbell)
    await person.see("/login")
    before = dict(person.client.cookies)

    await person.sign_in()

    assert before
    assert not before.items() & dict(person.client.cookies).items()


@pytest.mark.parametrize("changed", ["{0:.20}", "x{0}", "a", "{0}.{0}"])
async def test_a_cookie_that_is_not_ours_is_nobodys(taskbell: Taskbell, changed: str) -> None:
    person = await signed_in(taskbell)
    for name, value in dict(person.client.cookies).items():
        person.client.cookies.set(name, changed.format(value), domain="taskbell.test", path="/")

    assert (await person.client.get("/")).status_code == 303


# The end of a session


async def test_a_session_ends_after_twelve_hours(taskbell: Taskbell, clock: ManualClock) -> None:
    person = await signed_in(taskbell)

    clock.advance(hours=11, minutes=59)
    await person.see("/")
    clock.advance(minutes=1)

    assert (await person.client.get("/")).status_code == 303


async def test_who_signs_out_is_out_and_so_is_who_kept_the_cookie(taskbell: Taskbell) -> None:
    person, thief = await signed_in(taskbell), browser(taskbell)
    thief.client.cookies.update(person.client.cookies)
    await thief.see("/")

    await person.press("/", "/logout")

    assert (await person.client.get("/")).status_code == 303
    assert (await thief.client.get("/")).status_code == 303
    assert await taskbell.rows(sessions) == []


async def test_who_signs_in_anew_ends_the_session_before(taskbell: Taskbell) -> None:
    person, thief = await signed_in(taskbell), browser(taskbell)
    thief.client.cookies.update(person.client.cookies)

    key = await made_key(taskbell, "read")
    token = await token_of(person)
    await person.post("/login", key=key["key"], form_token=token)

    await person.see("/")
    assert (await thief.client.get("/")).status_code == 303
    assert [row.key_id for row in await taskbell.rows(sessions)] == [key["id"]]


async def test_another_browser_stays_signed_in(taskbell: Taskbell) -> None:
    person, other = await signed_in(taskbell), await signed_in(taskbell)

    await person.press("/", "/logout")

    await other.see("/")


async def test_a_cookie_from_before_sessions_were_rows_is_nobodys(taskbell: Taskbell) -> None:
    signer = URLSafeSerializer(
        list(SECRET_KEYS),
        salt="taskbell.session.v1",
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )
    at = int(taskbell.service.clock().timestamp())
    person = await signed_in(taskbell)
    for payload in (
        {"id": "0" * 32, "ticket": "first.0123456789abcdef", "at": at},
        {"id": "0" * 64, "in": True, "at": at},  # well signed, and no row
    ):
        for name in dict(person.client.cookies):
            cookie = signer.dumps(payload)
            person.client.cookies.set(name, cookie, domain="taskbell.test", path="/")
        assert (await person.client.get("/")).status_code == 303


async def test_a_sign_out_counts_in_other_processes(
    postgresql_url: str, clock: ManualClock
) -> None:
    async with running(postgresql_url, clock) as one, running(postgresql_url, clock) as other:
        other.service.access.monotonic = lambda: 1_000.0  # only a notice makes it look again
        await listening(other.service.store)
        person, there = await signed_in(one), browser(other)
        there.client.cookies.update(person.client.cookies)
        await there.see("/")

        await person.press("/", "/logout")

        async def out() -> bool:
            return (await there.client.get("/")).status_code == 303

        await until(out, PATIENCE_SECONDS, every=0.01)


async def test_a_revoked_key_ends_its_sessions_at_once(taskbell: Taskbell) -> None:
    key = await made_key(taskbell, "read")
    person = await signed_in(taskbell, key["key"])
    await person.see("/")

    await taskbell.api.delete(f"/v1/api-keys/{key['id']}")

    assert (await person.client.get("/")).status_code == 303
    assert await taskbell.rows(sessions) == []


async def test_another_first_key_ends_the_sessions_of_the_one_before(
    sqlite_url: str, clock: ManualClock
) -> None:
    async with running(sqlite_url, clock) as taskbell:
        person = await signed_in(taskbell)
    other = {"API_KEY": "another-first-admin-key-0123456789-0123456789"}
    async with running(sqlite_url, clock, other) as taskbell:
        there = browser(taskbell)
        there.client.cookies.update(person.client.cookies)

        assert (await there.client.get("/")).status_code == 303


# Forms


async def canceled(taskbell: Taskbell, task: dict[str, Any]) -> bool:
    return bool(good(await taskbell.api.get(f"/v1/tasks/{task['id']}"))["status"] == "canceled")


async def token_of(person: Browser) -> str:
    (field, *_) = Document(await person.see("/")).all("input", name="form_token")
    return str(field.attributes["value"])


async def test_a_button_does_what_the_api_does_and_the_audit_says_who(taskbell: Taskbell) -> None:
    key = await made_key(taskbell, "write")
    task = await taskbell.track()
    person = await signed_in(taskbell, key["key"])

    answer = await person.press(f"/tasks/{task['id']}", f"/tasks/{task['id']}/cancel")

    assert (answer.status_code, answer.headers["location"]) == (303, f"/tasks/{task['id']}")
    assert await canceled(taskbell, task)
    newest = (await taskbell.data("/v1/audit"))[0]
    assert (newest["key_id"], newest["action"], newest["object_id"]) == (
        key["id"],
        "task.canceled",
        task["id"],
    )


async def test_a_key_that_may_only_read_finds_no_button_and_cannot_press_it(
    taskbell: Taskbell,
) -> None:
    key = await made_key(taskbell, "read")
    task = await taskbell.track()
    person = await signed_in(taskbell, key["key"])

    page = Document(await person.see(f"/tasks/{task['id']}"))
    answer = await person.press("/", f"/tasks/{task['id']}/cancel")

    forms = {form.attributes["action"] for form in page.all("form", method="post")}
    assert forms == {"/settings", "/logout"}
    assert answer.status_code == 403
    assert not await canceled(taskbell, task)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://taskbell.test.evil.example"}, 403),
        ({"origin": "http://taskbell.test:8080"}, 403),
        ({"origin": ORIGIN, "sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": ORIGIN, "content-type": "text/plain"}, 415),
        ({"origin": ORIGIN, "content-type": "application/json"}, 415),
    ],
)
async def test_a_form_of_another_site_is_refused_though_it_knew_the_token(
    taskbell: Taskbell, headers: dict[str, str], status: int
) -> None:
    task = await taskbell.track()
    person = await signed_in(taskbell)
    content = f"form_token={await token_of(person)}"
    form = {"content-type": "application/x-www-form-urlencoded"}

    answer = await person.client.post(
        f"/tasks/{task['id']}/cancel", content=content, headers=form | headers
    )

    assert answer.status_code == status
    assert not await canceled(taskbell, task)


async def test_a_form_needs_the_token_of_its_own_session(taskbell: Taskbell) -> None:
    task = await taskbell.track()
    person, other = await signed_in(taskbell), await signed_in(taskbell)
    path = f"/tasks/{task['id']}/cancel"

    for fields in ({"x": "1"}, {"form_token": ""}, {"form_token": await token_of(other)}):
        answer = await person.post(path, **fields)
        assert answer.status_code == 403
    assert not await canceled(taskbell, task)


async def test_nobody_can_be_signed_in_by_another_site(taskbell: Taskbell) -> None:
    stranger, person = browser(taskbell), browser(taskbell)
    (field, *_) = Document(await stranger.see("/login")).all("input", name="form_token")
    await person.see("/login")

    answer = await person.post("/login", key="any", form_token=field.attributes["value"])

    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"form_token=" + b"x" * 70_000, 413), (b"&".join([b"a=1"] * 200), 400), (b"a=%ff", 400)],
    ids=["long", "many", "not text"],
)
async def test_a_form_is_bounded(taskbell: Taskbell, content: bytes, status: int) -> None:
    person = await signed_in(taskbell)
    form = {"content-type": "application/x-www-form-urlencoded", "origin": ORIGIN}

    answer = await person.client.post("/settings", content=content, headers=form)

    assert answer.status_code == status


# One-time links


async def test_a_link_signs_in_once_and_looking_at_it_uses_nothing_up(taskbell: Taskbell) -> None:
    once = taskbell.service.once_links.issue()
    first, second = browser(taskbell), browser(taskbell)

    for _ in range(3):
        await first.see(f"/login?once={once}")
    let_in = await first.press(f"/login?once={once}", "/login", once=once)
    too_late = await second.press("/login", "/login", once=once)

    assert let_in.status_code == 303
    await first.see("/")
    assert too_late.status_code == 401
    assert (await second.client.get("/")).status_code == 303


async def test_a_made_up_link_is_no_login(taskbell: Taskbell) -> None:
    answer = await browser(taskbell).press("/login", "/login", once="made-up")

    assert answer.status_code == 401


# What every page says of itself


async def test_pages_may_load_nothing_from_elsewhere_and_are_kept_by_nobody(
    taskbell: Taskbell,
) -> None:
    person = await signed_in(taskbell)

    headers = (await person.client.get("/")).headers

    policy = dict(
        part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
    )
    assert policy.pop("default-src") == "'none'"
    assert policy.pop("frame-ancestors") == policy.pop("base-uri") == "'none'"
    assert set(policy.values()) == {"'self'"}
    assert headers["cache-control"] == "no-store"
    assert headers["x-frame-options"] == SECURITY_HEADERS["x-frame-options"]
    assert headers["x-content-type-options"] == "nosniff"


async def test_people_get_pages_and_programs_get_problems(taskbell: Taskbell) -> None:
    person = await signed_in(taskbell)

    page = await person.see("/nothing-here", 404, accept="text/html")
    inner = await person.see("/tasks/task_unknown", 404)

    assert Document(page).all("a", href="/")
    assert Document(inner).all("a", href="/")
    problem(await taskbell.api.get("/nothing-here"), 404)
    problem(await taskbell.api.get("/v1/nothing-here", headers={"accept": "text/html"}), 404)


async def test_static_files_are_kept_by_their_content(taskbell: Taskbell) -> None:
    person = browser(taskbell)
    (sheet,) = Document(await person.see("/login")).all("link", rel="stylesheet")

    kept = await person.client.get(str(sheet.attributes["href"]))
    other = await person.client.get("/static/style.css?v=other")

    assert "immutable" in kept.headers["cache-control"]
    assert kept.headers["content-type"] == "text/css; charset=utf-8"
    assert other.headers["cache-control"] == "no-cache"
    for path in ("/static/nothing.css", "/static/..%2fauth.py", "/static/%2e%2e/auth.py"):
        assert (await person.client.get(path)).status_code == 404
