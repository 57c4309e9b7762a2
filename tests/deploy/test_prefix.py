"""A public URL with a path: everything lives below it, whether or not a proxy cuts the path off."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from html import unescape

import httpx
import pytest
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.prefix import BelowPath
from deploy.settings import OWN_PATHS, SettingsError, load
from store.clock import ManualClock
from tests.app import ADMIN_KEY, Taskbell, good, minimax, problem, running
from tests.pages import Browser, Document

HOST = "https://taskbell.test"
PATH = "/tools/taskbell"
_COOKIE_PATH = re.compile(r"; Path=([^;]*)")


@dataclass(slots=True)
class Front:
    """A proxy that hands on what is below the path, cut or whole, and notes what is not."""

    app: ASGIApp
    cuts: bool
    outside: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path != PATH and not path.startswith(PATH + "/"):
            self.outside.append(path)
            scope = {**scope, "path": "/no/such/page"}
        elif self.cuts:
            rest = path.removeprefix(PATH) or "/"
            scope = {**scope, "path": rest, "raw_path": rest.encode()}
        await self.app(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Site:
    taskbell: Taskbell
    front: Front
    client: httpx.AsyncClient
    """Without a key, as a browser or a provider comes."""

    @property
    def person(self) -> Browser:
        return Browser(self.client, HOST)

    async def sign_in(self) -> None:
        login = await self.person.see(f"{PATH}/login")
        [token] = re.findall(r'name="form_token" value="([^"]+)"', login)[:1]
        answer = await self.person.post(f"{PATH}/login", form_token=token, key=ADMIN_KEY, next="/")
        assert answer.headers["location"] == f"{PATH}/"

    async def api(self, method: str, path: str, **body: object) -> httpx.Response:
        key = {"authorization": f"Bearer {ADMIN_KEY}"}
        return await self.client.request(method, PATH + path, json=body or None, headers=key)


@pytest.fixture(params=["whole", "cut"])
async def site(
    request: pytest.FixtureRequest, sqlite_url: str, clock: ManualClock
) -> AsyncIterator[Site]:
    environ = {"PUBLIC_URL": HOST + PATH, "ALLOW_NETWORKS": "127.0.0.0/8"}
    async with running(sqlite_url, clock, environ) as taskbell:
        front = Front(taskbell.app, request.param == "cut")
        transport = httpx.ASGITransport(front, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=HOST) as client:
            yield Site(taskbell, front, client)


def addresses(html: str) -> Iterator[tuple[str, str]]:
    """Each address of this host on a page, with what asks for it."""
    for element in Document(html).elements:
        for name, value in element.attributes.items():
            if value and value.startswith("/") and name not in ("value", "content"):
                method = element.attributes.get("method") if element.tag == "form" else None
                yield (method or "get").upper(), value


async def filled(site: Site) -> None:
    """One of everything that has a page."""
    made = good(await site.api("POST", "/v1/callback-urls", provider="minimax"), 201)
    push = httpx.URL(made["url"])
    assert str(push).startswith(f"{HOST}{PATH}/callbacks/minimax/")
    wish = {"url": "http://127.0.0.1:8999/hook", "types": ["task.*"]}
    good(await site.api("POST", "/v1/subscriptions", **wish), 201)
    echoed = await site.client.post(push.path, json={"challenge": "hello"})
    assert good(echoed) == {"challenge": "hello"}
    assert good(await site.client.post(push.path + "/", json=minimax("1"))) == {"status": "success"}


async def test_every_link_form_script_and_style_of_every_page_is_below_the_path(site: Site) -> None:
    await filled(site)
    await site.sign_in()

    seen: set[tuple[str, str]] = set()
    waiting = [("GET", f"{PATH}/"), ("GET", f"{PATH}/docs"), ("GET", f"{PATH}/nothing-there")]
    while waiting:
        method, address = waiting.pop()
        kind = re.sub(r"_[0-9a-z]{26}", "_ID", address.partition("?")[0])
        if (method, kind) in seen:
            continue
        seen.add((method, kind))
        if method == "POST":  # a form whose token is not sent
            assert (await site.person.post(address, form_token="x")).status_code == 403, address
            continue
        answer = await site.client.get(address, headers={"accept": "text/html"})
        assert answer.status_code == (404 if "nothing-there" in address else 200), address
        if answer.headers["content-type"].startswith("text/html"):
            waiting += addresses(answer.text)

    assert site.front.outside == []
    kinds = {kind.removeprefix(PATH) for _, kind in seen}
    assert {"/", "/tasks/task_ID", "/events/evt_ID", "/deliveries/dlv_ID", "/providers"} <= kinds
    assert {"/subscriptions/sub_ID", "/subscriptions/new", "/static/app.js"} <= kinds
    assert {"/static/style.css", "/static/icon.svg", "/openapi.json", "/settings"} <= kinds


async def test_cookies_and_redirects_stay_below_the_path(site: Site) -> None:
    sent_away = await site.client.get(f"{PATH}/events?x=2", headers={"accept": "text/html"})
    assert sent_away.headers["location"] == f"{PATH}/login?next=/events%3Fx%3D2"

    partly = await site.client.get(f"{PATH}/events", headers={"hx-request": "true"})
    assert partly.headers["hx-redirect"] == f"{PATH}/login?next=/events"

    login = await site.client.get(sent_away.headers["location"])
    form = dict(re.findall(r'name="([a-z_]+)" value="([^"]*)"', login.text))
    assert unescape(form["next"]) == "/events?x=2"
    fields = {"form_token": form["form_token"], "next": unescape(form["next"]), "key": ADMIN_KEY}
    entered = await site.person.post(f"{PATH}/login", **fields)
    assert entered.headers["location"] == f"{PATH}/events?x=2"

    for answer in (login, entered):
        for cookie in answer.headers.get_list("set-cookie"):
            assert _COOKIE_PATH.findall(cookie) == [PATH]
            assert cookie.startswith("__Secure-taskbell")  # __Host- is for a host as a whole
    assert not site.front.outside


async def test_the_api_and_health_are_below_the_path(site: Site) -> None:
    for path in ("/healthz", "/readyz", "/v1/tasks", "/v1/events", "/v1/audit"):
        good(await site.api("GET", path))

    document = good(await site.api("GET", "/openapi.json"))
    assert document["servers"] == [{"url": HOST + PATH}]
    assert problem(await site.client.get(f"{PATH}/v1/tasks"), 401)
    assert problem(await site.api("GET", "/v1/nothing"), 404)


async def test_a_page_that_fails_leads_home_below_the_path(site: Site) -> None:
    async def fail(_request: object) -> None:
        raise RuntimeError("a bug")

    site.taskbell.app.router.routes.insert(0, Route("/fails", fail))
    page = await site.client.get(f"{PATH}/fails", headers={"accept": "text/html"})

    assert page.status_code == 500
    links = [address for _, address in addresses(page.text)]
    assert links
    assert all(link.startswith(PATH + "/") for link in links)


async def test_what_came_past_the_proxy_is_served_too(sqlite_url: str, clock: ManualClock) -> None:
    async with running(sqlite_url, clock, {"PUBLIC_URL": HOST + PATH}) as taskbell:
        good(await taskbell.door.get("/readyz"))
        good(await taskbell.api.get("/v1/tasks"))


@pytest.mark.parametrize(
    ("came", "path"),
    [
        ("/a/b", "/"),
        ("/a/b/", "/"),
        ("/a/b/v1/tasks", "/v1/tasks"),
        ("/a/b/a/b/x", "/a/b/x"),
        ("/a/bc", "/a/bc"),  # begins the same, and is something else
        ("/a", "/a"),
        ("/x/a/b/v1", "/x/a/b/v1"),
        ("/A/B/v1", "/A/B/v1"),
    ],
)
async def test_the_path_is_cut_off_once_and_only_whole(came: str, path: str) -> None:
    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append((scope["path"], scope["raw_path"]))

    async def receive() -> Message:
        return {}

    async def send(_message: Message) -> None:
        pass

    seen: list[tuple[str, bytes]] = []
    scope = {"type": "http", "path": came, "raw_path": came.encode()}
    await BelowPath(app, "/a/b")(scope, receive, send)

    assert seen == [(path, path.encode())]


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("/v1", "/v1 is a path of Taskbell's own"),
        ("/callbacks/x", "/callbacks is a path of Taskbell's own"),
        ("/events", "/events is a path of Taskbell's own"),
        ("//x", "its path may have"),
        ("/a/../b", "its path may have"),
        ("/.hidden", "its path may have"),
        ("/a%2fb", "its path may have"),
        ("/a;b", "its path may have"),
        ('/a"b', "its path may have"),
        ("/任务", "it must be an address like"),
    ],
)
def test_a_path_that_cannot_be_served_is_refused_at_the_start(path: str, rule: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(rule)) as refused:
        load({"TASKBELL_PUBLIC_URL": HOST + path})

    assert str(refused.value).startswith("TASKBELL_PUBLIC_URL")


@pytest.mark.parametrize("path", ["", "/", "/taskbell", "/taskbell/", "/a/b.c/d-e_f~g", "/v1x"])
def test_other_paths_are_taken(path: str) -> None:
    taken = load({"TASKBELL_PUBLIC_URL": HOST + path})

    assert taken.public_url == HOST + path.rstrip("/")


async def test_each_route_begins_with_a_path_that_no_prefix_may_have(
    sqlite_url: str, clock: ManualClock
) -> None:
    async with running(sqlite_url, clock) as taskbell:
        routes = [route.path for route in taskbell.app.routes if isinstance(route, Route)]

    assert {path.split("/")[1] for path in routes} - {""} <= OWN_PATHS
