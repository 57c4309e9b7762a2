"""A canary in every secret's place, a run with errors of all kinds, and nowhere a canary.

Not canaries are what a reader of the API is meant to see: a subscription's own URL.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import psycopg
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.demo.server import LocalServer
from tests.app import bearer
from tests.e2e.process import TASKBELL, Process, until
from tests.patience import PATIENCE_SECONDS

SHOWN_ONCE = {"/v1/callback-urls", "/v1/api-keys", "/v1/subscriptions"}
PUSH = {"task_id": "1", "status": "Success", "file_id": "2"}


@dataclass(slots=True)
class Canaries:
    """Secrets by the place they are in; and what was said where one might sing."""

    texts: dict[str, str] = field(default_factory=dict)
    heard: dict[str, str] = field(default_factory=dict)

    def make(self, place: str) -> str:
        return self.keep(place, f"canary{secrets.token_hex(20)}")

    def keep(self, place: str, text: str) -> str:
        self.texts[place] = text
        return text

    def hear(self, where: str, text: str) -> None:
        self.heard[where] = self.heard.get(where, "") + text

    def singing(self) -> set[tuple[str, str]]:
        """Which canary sings where, in any common spelling."""
        return {
            (place, where)
            for place, text in self.texts.items()
            for where, said in self.heard.items()
            if any(spelling in said for spelling in spellings(text))
        }


def spellings(text: str) -> set[str]:
    """As it is, and as others write it; in base64 wherever it begins among the bytes before it."""
    found = {text, quote(text, safe=""), text.encode().hex()}
    for before in range(3):
        coded = base64.b64encode(b"x" * before + text.encode()).decode()
        found.add(coded[4 : len(coded) - 4])
    return found


class World:
    """Providers and subscribers, each with another way to fail."""

    def __init__(self) -> None:
        self.app = Starlette(routes=[Route("/{rest:path}", self._answer, methods=["GET", "POST"])])
        self.asked = self.hooks = 0

    async def _answer(self, request: Request) -> Response:
        way = request.path_params["rest"].partition("/")[0]
        if way in ("minimax", "atlascloud"):
            self.asked += 1
        if way == "minimax" and self.asked > 1:
            said = f"no such key: {request.headers['authorization']}"
            own = {"base_resp": {"status_code": 1004, "status_msg": said}}
            return Response(json.dumps(own), 401)
        if way in ("minimax", "atlascloud"):
            said = f"out of order for {request.headers['authorization']}"  # some quote the key
            return Response(json.dumps({"message": said}), 500)
        self.hooks += 1
        return self._as_subscriber(request, way)

    def _as_subscriber(self, request: Request, way: str) -> Response:
        match way:
            case "moved":
                return Response("", 307, headers={"location": "http://127.0.0.1:1/"})
            case "gone":
                return Response("", 410)
            case _:
                return Response(f"what is {dict(request.headers)}?", 500)  # some send it back


@pytest.fixture
def canaries() -> Canaries:
    return Canaries()


@contextlib.asynccontextmanager
async def server(
    folder: Path, database_url: str, canaries: Canaries, world_url: str
) -> AsyncIterator[Process]:
    """A process whose every secret is a canary; each answer of its API is heard."""
    older, newer = canaries.make("older secret key"), canaries.make("newer secret key")
    environment = {
        "TASKBELL_SECRET_KEYS": f"{older},{newer}",
        "TASKBELL_RETRY_SCHEDULE": "0.1",
        "TASKBELL_MINIMAX_BASE_URL": f"{world_url}/minimax",
        "TASKBELL_MINIMAX_API_KEY": canaries.make("key of MiniMax"),
        "TASKBELL_ATLASCLOUD_BASE_URL": f"{world_url}/atlascloud",
        "ATLASCLOUD_API_KEY": canaries.make("key of Atlas Cloud"),
        "TASKBELL_OPENCOMPUTING_BASE_URL": "http://127.0.0.1:1",
        "OPENCOMPUTING_API_KEY": canaries.make("key of opencomputing"),
    }
    dsn = database_url.replace("://postgres@", f"://postgres:{canaries.make('DSN password')}@")
    process = Process(folder, dsn, canaries.make("first API key"), environment)

    async def listen(response: httpx.Response) -> None:
        await response.aread()
        shown = response.status_code == 201 and response.request.url.path in SHOWN_ONCE
        rotated = response.request.url.path.endswith("/rotate-secret")
        if not shown and not rotated:
            canaries.hear("answers", without_urls(response.text) + str(response.headers))

    process.api.event_hooks["response"].append(listen)
    process.api.headers["connection"] = "close"  # it is closed anyway after what went wrong
    try:
        await process.start()
        yield process
    finally:
        await process.close()


def without_urls(text: str) -> str:
    """An answer without what it is for: the URLs of subscriptions."""
    try:
        return json.dumps(_stripped(json.loads(text)))
    except ValueError:
        return text


def _stripped(value: Any) -> Any:
    if isinstance(value, list):
        return [_stripped(each) for each in value]
    if isinstance(value, dict) and str(value.get("id", "")).startswith("sub_"):
        return {key: each for key, each in value.items() if key != "url"}
    if isinstance(value, dict):
        return {key: _stripped(each) for key, each in value.items()}
    return value


async def test_no_canary_sings(tmp_path: Path, postgresql_url: str, canaries: Canaries) -> None:
    world = World()
    async with (
        LocalServer(world.app) as outside,
        server(tmp_path, postgresql_url, canaries, outside.url) as process,
    ):
        await subscribe_and_try(process.api, canaries, outside.url)
        await misuse_keys(process.api, canaries)
        await push_badly(process.api, canaries)
        await until(providers_asked(process), PATIENCE_SECONDS)
        await look_everywhere(process.api, postgresql_url)
        damage(postgresql_url)
        await look_everywhere(process.api, postgresql_url)
        await lose_the_store(process, postgresql_url)
        assert await process.stop() == 0
    canaries.hear("log", process.log.read_text())
    canaries.hear("database", dump(postgresql_url))
    canaries.hear("command", fail_to_connect(tmp_path, canaries))

    assert world.hooks > 5
    assert_errors_of_all_kinds(canaries.heard)
    assert canaries.singing() == set()
    control_what_is_heard(canaries)


async def subscribe_and_try(api: httpx.AsyncClient, canaries: Canaries, world: str) -> None:
    """Subscribers with secrets in path, query, headers: broken, gone, moved, without TLS, away."""
    path, query = canaries.make("URL's path"), canaries.make("URL's query")
    headers = {"Authorization": f"Bearer {canaries.make('custom header')}"}
    tls, one = world.replace("http://", "https://"), ""
    for place in (
        f"{world}/broken",
        f"{world}/gone",
        f"{world}/moved",
        tls,
        "http://127.0.0.1:1025",
    ):
        wish = {"url": f"{place}/{path}?key={query}", "headers": headers}
        made = await api.post("/v1/subscriptions", json=wish)
        one = f"/v1/subscriptions/{made.json()['id']}"
        canaries.keep(f"secret of {one}", made.json()["secret"])
        await api.post(f"{one}/test")
        rotated = await api.post(f"{one}/rotate-secret")
        canaries.keep(f"new secret of {one}", rotated.json()["secret"])
        await api.get(one)
    await api.patch(one, json={"headers": {f"Bearer {path}": query}})
    await api.patch(one, json={"headers": {"X-Token": f"{query}\n"}})
    await api.patch(one, json={"url": f"http://10.0.0.1/{path}"})
    for host in ("user:" + query + "@h.example", "h.example:22", query + ".invalid", "1.1"):
        await api.post("/v1/subscriptions", json={"url": f"https://{host}/{path}?{query}"})


async def misuse_keys(api: httpx.AsyncClient, canaries: Canaries) -> None:
    """Keys that are wrong, too weak, revoked, and in places where no key belongs."""
    made = (await api.post("/v1/api-keys", json={"name": "ci"})).json()
    key, wrong = canaries.keep("made API key", made["key"]), canaries.make("wrong API key")
    first = canaries.texts["first API key"]
    for text in [key, *[wrong] * 35]:
        await api.post("/v1/tasks", headers=bearer(text))
    for text in (first, key, wrong):
        await api.get("/v1/tasks", params={"api_key": text})
        await api.get("/v1/tasks", params={"cursor": text})
        await api.get("/v1/tasks", headers={"host": f"{text}.example.net"})
        await api.get(f"/v1/tasks/{text}")
        await api.get(f"/{text}", headers={"authorization": f"Basic {text}"})
        await api.post("/v1/tasks", json={"provider": text, "task_id": "1"})
        await api.post("/v1/tasks", content=f'{{"provider": "{text}'.encode())
    await api.delete(f"/v1/api-keys/{made['id']}")
    await api.get("/v1/tasks", headers=bearer(key))


async def push_badly(api: httpx.AsyncClient, canaries: Canaries) -> None:
    """Good and bad pushes to good, spoiled, expired, foreign and revoked tokens."""
    for provider in ("minimax", "atlascloud"):
        wish = {"provider": provider, "metadata": {"customer": "42"}}
        made = (await api.post("/v1/callback-urls", json=wish)).json()
        url = urlsplit(made["url"]).path
        token = canaries.keep(f"token for {provider}", url.rpartition("/")[2])
        canaries.keep(f"signature of {provider}'s token", token.rpartition(".")[2])
        for body in (b"{", b"[]", b"\xff", json.dumps(PUSH).encode()):
            await api.post(url, content=body)
        with contextlib.suppress(httpx.TransportError):  # it is answered before it is all there
            await api.post(url, content=b"x" * 1_100_000)
        await api.post(url, json={"challenge": "x" * 5000})
        await api.post(url, content=b"{}", headers={"content-encoding": "gzip"})
        for spoiled in (f"{url}x", f"{url}/", url.replace(provider, "opencomputing"), url[:-1]):
            await api.post(spoiled, json=PUSH)
        await api.get(url)
        await api.get(f"{url}?token={token}")
        await track_and_ask(api, provider)
        if provider == "atlascloud":
            await api.delete(f"/v1/callback-urls/{made['id']}")
            await api.post(url, json=PUSH)
    await track_and_ask(api, "opencomputing")


async def track_and_ask(api: httpx.AsyncClient, provider: str) -> None:
    """Track a task, and do not wait until it would be asked about."""
    task = await api.post("/v1/tasks", json={"provider": provider, "task_id": "9"})
    await api.post(f"/v1/tasks/{task.json()['id']}/refresh")


def providers_asked(process: Process) -> Callable[[], Awaitable[bool]]:
    """Whether providers have been asked, and have failed in two ways."""

    async def asked() -> bool:
        log = process.log.read_text()
        return all(words in log for words in ("the API key was refused", "out of order"))

    return asked


async def look_everywhere(api: httpx.AsyncClient, database_url: str) -> None:
    """Read all there is, once every delivery has come to its end."""

    async def sent() -> bool:
        with psycopg.connect(database_url) as connection:
            statuses = connection.execute("SELECT status FROM deliveries").fetchall()
        return bool(statuses) and {"pending", "in_flight"}.isdisjoint(row[0] for row in statuses)

    await until(sent, PATIENCE_SECONDS)
    for path in ("/docs", "/openapi.json", "/healthz", "/readyz", "/metrics", "/v1/audit"):
        await api.get(path)
    for name in ("tasks", "events", "deliveries", "subscriptions", "api-keys"):
        rows = (await api.get(f"/v1/{name}", params={"limit": 200})).json().get("data", [])
        for row in rows[:6]:
            await api.get(f"/v1/{name}/{row['id']}")


def damage(database_url: str) -> None:
    """Rows that stumble: a status that is none, a secret that no key opens."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE tasks SET status = 'swordfish'")
        connection.execute(
            "UPDATE subscriptions SET secret_locked = 'gAAAAAspoiled', active = true"
        )
        connection.execute("UPDATE counters SET value = value + 1 WHERE name = 'subscriptions'")
        connection.execute(
            "UPDATE deliveries SET status = 'pending', finished_at = NULL, due_at = now()"
        )


async def lose_the_store(process: Process, database_url: str) -> None:
    """Nobody is let into the database any more, and who was in is thrown out."""
    name = urlsplit(database_url).path.lstrip("/")
    server = database_url.replace(f"/{name}?", "/postgres?")
    with psycopg.connect(server, autocommit=True) as connection:
        for allowed in ("false", "true"):
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}".encode())
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )
            for path in ("/readyz", "/v1/tasks", "/v1/audit"):
                await process.api.get(path)
            await process.api.post("/v1/tasks", json={"provider": "minimax", "task_id": "10"})


def dump(database_url: str) -> str:
    """Every value of every table, but for the URLs of subscriptions."""
    said = []
    with psycopg.connect(database_url) as connection:
        names = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        ).fetchall()
        for (name,) in names:
            rows = connection.execute(f'SELECT * FROM "{name}"'.encode())
            columns = [column.name for column in rows.description or ()]
            for row in rows.fetchall():
                values = dict(zip(columns, row, strict=True))
                if name == "subscriptions":
                    del values["url"]
                said.append(f"{name} {values}")
    return "\n".join(said)


def fail_to_connect(folder: Path, canaries: Canaries) -> str:
    """What commands say that cannot reach the database, and that do not like a setting."""
    password = canaries.make("another DSN password")
    away = f"postgresql://u:{password}@/d?host=/nonexistent-folder-of-taskbell"
    ended = run(folder, "keys", "rotate", TASKBELL_DATABASE_URL=away, TASKBELL_SECRET_KEYS=password)
    assert ended.returncode == 1
    return ended.stdout + ended.stderr


def run(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TASKBELL, *words],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def assert_errors_of_all_kinds(heard: Mapping[str, str]) -> None:
    """The run was what it says: each of these was met."""
    for words in (
        "the signature does not hold",
        "not JSON: wrong at",
        "no such callback address",
        "send a valid API key",
        "too many wrong API keys",
        "write is needed",
        "is not a header name",
        "not a public address",
        "TASKBELL_PUBLIC_URL",
        "its log says more",
        "the event store is not available",
        "the API key was refused",
        "out of order",
        "connection refused",
        "TLS: wrong version number",
        "answered 307",
        "410 Gone",
    ):
        assert words in heard["answers"] + heard["log"] + heard["database"], words
    assert "Traceback" in heard["log"]


def control_what_is_heard(canaries: Canaries) -> None:
    """Each canary would be heard in each place, however it is spelt."""
    for place, text in canaries.texts.items():
        for where, said in canaries.heard.items():
            for spelling in (
                text,
                quote(text, safe=""),
                base64.b64encode(f"12{text}34".encode()).decode(),
            ):
                control = Canaries({place: text}, {where: f"{said} {spelling}"})
                assert control.singing() == {(place, where)}
