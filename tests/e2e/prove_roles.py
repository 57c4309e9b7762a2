"""Several processes on one PostgreSQL: each does its part, and none does another's again."""

from __future__ import annotations

from pathlib import Path

import httpx

from deploy.demo import stage
from deploy.demo.server import LocalServer
from deploy.demo.simulator import Simulator, base_urls
from deploy.demo.stage import PROVIDER_KEY, Stage
from deploy.demo.subscriber import Subscriber
from tests.e2e.checks import all_ended, all_sent, check_arrivals, check_tasks
from tests.e2e.process import processes, until
from tests.faults.servers import Nursery
from tests.patience import PATIENCE_SECONDS

JOBS = (
    stage.MINIMAX_V1,
    stage.MINIMAX_V2,
    stage.ATLAS_VIDEO,
    stage.ATLAS_IMAGE,
    stage.YUANJING_IMAGE,
)


async def test_processes_with_one_role_each_do_the_whole_job_together(
    postgresql_url: str, tmp_path: Path, home: Nursery
) -> None:
    simulator = Simulator(PROVIDER_KEY, durations=(0.2, 1.0), seed=3)
    subscriber = Subscriber("")
    async with LocalServer(simulator.app) as providers, LocalServer(subscriber.app) as hook:
        urls = base_urls(providers.url)
        known = {f"TASKBELL_{name.upper()}_BASE_URL": url for name, url in urls.items()}
        keys = {f"TASKBELL_{name.upper()}_API_KEY": PROVIDER_KEY for name in urls}
        roles = ("receive", "poll", "poll", "dispatch", "dispatch")
        settings = [{**known, **keys, "TASKBELL_ROLES": role} for role in roles]
        async with (
            processes(tmp_path, postgresql_url, *settings, home=home) as running,
            _client(PROVIDER_KEY) as provider_client,
        ):
            face = running[0]
            wish = {"url": f"{hook.url}/hook"}
            made = (await face.api.post("/v1/subscriptions", json=wish)).json()
            subscriber.secret = made["secret"]
            scene = Stage(
                url=face.url,
                api_key="",
                api=face.api,
                provider_urls=urls,
                simulator=simulator,
                subscriber=subscriber,
                subscription_id=made["id"],
                providers=provider_client,
            )
            for job in JOBS * 4:
                await scene.submit(job)

            await until(lambda: all_ended(scene), PATIENCE_SECONDS)
            await until(lambda: all_sent(scene), PATIENCE_SECONDS)
            tasks = await scene.all("/v1/tasks")
            pages = [(await process.api.get("/v1/tasks")).status_code for process in running]
            codes = [await process.stop() for process in running]

    check_tasks(simulator, tasks)
    check_arrivals(subscriber, tasks)
    assert set(subscriber.attempts.values()) == {1}
    assert pages == [200, 404, 404, 404, 404]
    assert codes == [0] * len(roles)


def _client(key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        headers={"authorization": f"Bearer {key}"},
        timeout=PATIENCE_SECONDS,
        trust_env=False,
        verify=False,
    )
