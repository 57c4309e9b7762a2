"""Keys and secrets are replaced while subscribers and providers go on with the old ones."""

from __future__ import annotations

from datetime import timedelta

import httpx

from deploy.demo import stage
from deploy.demo.server import LocalServer
from deploy.demo.simulator import Simulator
from deploy.demo.stage import PROVIDER_KEY
from deploy.demo.subscriber import Subscriber
from tests.e2e.checks import all_sent
from tests.e2e.process import until

OLD, NEW = "the-old-secret-key-" + 20 * "o", "the-new-secret-key-" + 20 * "n"


async def _push(url: str, task_id: str) -> int:
    async with httpx.AsyncClient(trust_env=False, verify=False) as provider:
        body = {"task_id": task_id, "status": "Success", "file_id": "1"}
        return (await provider.post(url, json=body)).status_code


async def test_a_subscriber_may_take_a_day_to_learn_its_new_secret(sqlite_url: str) -> None:
    simulator, subscriber = Simulator(PROVIDER_KEY), Subscriber("")
    async with stage.set_up(sqlite_url, simulator, subscriber, provider_keys=False) as scene:
        made = await scene.api.post("/v1/callback-urls", json={"provider": "minimax"})
        rotated = await scene.api.post(f"/v1/subscriptions/{scene.subscription_id}/rotate-secret")
        await _push(made.json()["url"], "1")
        await subscriber.wait_for(1)

        subscriber.secret = rotated.json()["secret"]
        await _push(made.json()["url"], "2")
        await subscriber.wait_for(2)

    assert set(subscriber.attempts.values()) == {1}


async def test_an_added_key_signs_and_the_old_one_still_opens(sqlite_url: str) -> None:
    simulator, subscriber = Simulator(PROVIDER_KEY), Subscriber("")
    old = {"TASKBELL_SECRET_KEYS": OLD}
    async with stage.set_up(
        sqlite_url, simulator, subscriber, environment=old, provider_keys=False
    ) as scene:
        first = await scene.api.post("/v1/callback-urls", json={"provider": "minimax"})
        await _push(first.json()["url"], "1")
        await subscriber.wait_for(1)
        old_secret = subscriber.secret
    token = first.json()["url"].rpartition("/")[2]

    later, both = Subscriber(""), {"TASKBELL_SECRET_KEYS": f"{OLD},{NEW}"}
    returned = Subscriber(old_secret)
    async with (
        stage.set_up(sqlite_url, simulator, later, environment=both, provider_keys=False) as scene,
        LocalServer(returned.app) as moved,
    ):
        subscriptions = await scene.all("/v1/subscriptions")
        (oldest,) = [each["id"] for each in subscriptions if each["id"] != scene.subscription_id]
        change = {"url": f"{moved.url}/hook"}
        await scene.api.patch(f"/v1/subscriptions/{oldest}", json=change)

        code = await _push(f"{scene.url}/callbacks/minimax/{token}", "2")
        await returned.wait_for(1)
        await later.wait_for(1)
        await until(lambda: all_sent(scene), timedelta(seconds=10).total_seconds())

    assert code == 200
    assert set(returned.attempts.values()) == {1}  # signed with the secret the old key locked
