"""Everything on real sockets in one process: simulated providers, Taskbell, an example subscriber.

The demo plays on it, and so do the end-to-end tests.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import httpx

from deploy.app import make_app
from deploy.demo.clock import QuickClock
from deploy.demo.server import LocalServer, bound
from deploy.demo.simulator import Simulator, base_urls
from deploy.demo.subscriber import Subscriber
from deploy.service import LOOPBACK, make_service
from deploy.settings import Settings, load
from store.database import open_database
from store.schema import migrate

PROVIDER_KEY = "sk-simulated-provider-key"


@dataclass(frozen=True, slots=True)
class Job:
    """One generation to submit. push: give the provider a callback URL."""

    provider: str
    path: str
    body: Mapping[str, Any]
    kind: str = "video"
    family: str | None = None
    push: bool = False
    label: str = ""


MINIMAX_V1 = Job(
    "minimax",
    "/v1/video_generation",
    {
        "model": "MiniMax-Hailuo-2.3",
        "prompt": "A man picks up a book [Pedestal up].",
        "duration": 6,
    },
    family="v1",
    push=True,
    label="MiniMax v1 video",
)
MINIMAX_TEMPLATE = Job(
    "minimax",
    "/v1/video_template_generation",
    {"template_id": "393769180141805569", "text_inputs": [{"value": "狮子"}]},
    family="template",
    push=True,
    label="MiniMax template",
)
MINIMAX_V2 = Job(
    "minimax",
    "/v2/video_generation",
    {"model": "MiniMax-H3", "content": [{"type": "text", "text": "waves"}], "duration": 5},
    family="v2",
    push=True,
    label="MiniMax v2 video",
)
MINIMAX_SPEECH = Job(
    "minimax",
    "/v1/t2a_async_v2",
    {"model": "speech-2.6-hd", "text": "Good morning."},
    kind="audio",
    family="speech",
    label="MiniMax speech",
)
ATLAS_VIDEO = Job(
    "atlascloud",
    "/model/generateVideo",
    {"model": "minimax/hailuo-2.3/i2v-standard", "prompt": "A beautiful sunset"},
    push=True,
    label="Atlas Cloud video",
)
ATLAS_IMAGE = Job(
    "atlascloud",
    "/model/generateImage",
    {"model": "seedream-3.0", "prompt": "A beautiful mountain landscape"},
    kind="image",
    label="Atlas Cloud image",
)
YUANJING_VIDEO = Job(
    "opencomputing",
    "/llmage/v1/video/generations",
    {"model": "happyhorse-1.0-t2v", "catelogid": "t2v", "prompt": "天上飞过万圣节南瓜"},
    label="元境 video",
)
YUANJING_IMAGE = Job(
    "opencomputing",
    "/llmage/v1/image/generations",
    {"model": "wan2.2-t2i-plus", "catelogid": "t2i", "prompt": "一只猫坐在月亮上"},
    kind="image",
    label="元境 image",
)


@dataclass(slots=True)
class Stage:
    """A running set. api is a client of Taskbell's management API, with its key in place.

    sign_in: a one-time link to the dashboard.
    """

    url: str
    api_key: str
    api: httpx.AsyncClient
    provider_urls: Mapping[str, str]
    simulator: Simulator
    subscriber: Subscriber
    subscription_id: str
    providers: httpx.AsyncClient
    tasks: list[dict[str, Any]] = field(default_factory=list)
    sign_in: str = ""

    async def submit(self, job: Job, *, metadata: Mapping[str, Any] | None = None) -> str:
        """Do as a user does: get a callback URL, submit to the provider, track. Our task's id."""
        body = dict(job.body)
        if job.push:
            made = await self._post("/v1/callback-urls", {"provider": job.provider})
            field_name = "webhook_url" if job.provider == "atlascloud" else "callback_url"
            body[field_name] = made["url"]
        answer = await self.providers.post(self.provider_urls[job.provider] + job.path, json=body)
        tracked = await self._post(
            "/v1/tasks",
            {
                "provider": job.provider,
                "task_id": submitted_id(answer.json()),
                "kind": job.kind,
                "model": job.body.get("model"),
                "family": job.family,
                "expect_push": job.push,
                "metadata": dict(metadata or {}),
            },
        )
        self.tasks.append(tracked)
        return str(tracked["id"])

    async def task(self, task_id: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.api.get(f"/v1/tasks/{task_id}")).json()
        return found

    async def all(self, path: str, **filters: str) -> list[dict[str, Any]]:
        """Every row of a list of the API."""
        rows: list[dict[str, Any]] = []
        parameter = "after" if path == "/v1/events" else "cursor"
        cursor: str | None = None
        while True:
            query = {"limit": "200", **filters, **({parameter: cursor} if cursor else {})}
            page = (await self.api.get(path, params=query)).json()
            rows.extend(page["data"])
            cursor = page["next_cursor"]
            if cursor is None:
                return rows

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = await self.api.post(path, json=dict(body))
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


def submitted_id(answer: Mapping[str, Any]) -> str:
    """The task id in any of the providers' submit answers."""
    inner = answer["data"] if isinstance(answer.get("data"), dict) else answer
    for name in ("task_id", "taskid", "id"):
        if name in inner:
            return str(inner[name])
    raise ValueError(f"the provider refused the job: {answer}")


@contextlib.asynccontextmanager
async def set_up(
    database_url: str,
    simulator: Simulator,
    subscriber: Subscriber,
    *,
    clock: QuickClock | None = None,
    environment: Mapping[str, str] | None = None,
    provider_keys: bool = True,
) -> AsyncIterator[Stage]:
    """Start the simulator, Taskbell and the subscriber, and subscribe it to everything.

    environment: more settings by their names. database_url may be new: it is migrated. clock: run
    all of Taskbell's waiting by this one.
    """
    async with (
        LocalServer(simulator.app) as providers,
        LocalServer(subscriber.app) as hook,
    ):
        with bound() as listener:
            port = listener.getsockname()[1]
            settings = _settings(
                database_url, port, providers.url, environment or {}, provider_keys
            )
            database = open_database(database_url)
            migrate(database)
            if clock is None:
                service = make_service(settings, database)
            else:
                service = make_service(
                    settings, database, clock=clock, monotonic=clock.elapsed, sleep=clock.sleep
                )
            async with (
                LocalServer(make_app(service), listener=listener) as taskbell,
                _client(str(settings.api_key), taskbell.url) as api,
                _client(PROVIDER_KEY) as provider_client,
            ):
                hooked = {"url": f"{hook.url}/hook"}
                made = (await api.post("/v1/subscriptions", json=hooked)).json()
                subscriber.secret = made["secret"]
                yield Stage(
                    url=taskbell.url,
                    sign_in=f"{taskbell.url}/login?once={service.once_links.issue()}",
                    api_key=str(settings.api_key),
                    api=api,
                    provider_urls=base_urls(providers.url),
                    simulator=simulator,
                    subscriber=subscriber,
                    subscription_id=made["id"],
                    providers=provider_client,
                )


def _settings(
    database_url: str,
    port: int,
    simulator_url: str,
    environment: Mapping[str, str],
    provider_keys: bool,
) -> Settings:
    environ = {
        "TASKBELL_DATABASE_URL": database_url,
        "TASKBELL_PORT": str(port),
        "TASKBELL_SECRET_KEYS": secrets.token_urlsafe(32),
        "TASKBELL_API_KEY": secrets.token_urlsafe(32),
        **environment,
    }
    for name, url in base_urls(simulator_url).items():
        environ[f"TASKBELL_{name.upper()}_BASE_URL"] = url
        if provider_keys:
            environ[f"TASKBELL_{name.upper()}_API_KEY"] = PROVIDER_KEY
    settings = load(environ)
    return replace(settings, allow_networks=(*settings.allow_networks, *LOOPBACK))


def _client(key: str, base_url: str = "") -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=base_url,
        headers={"authorization": f"Bearer {key}"},
        timeout=timedelta(seconds=30).total_seconds(),
        trust_env=False,
        verify=False,  # noqa: S501 - it speaks to this machine without TLS; authorities load slowly
    )
