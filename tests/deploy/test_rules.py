"""Which URLs a format takes: its service's own, or a fake one on networks the operator opened."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Sequence
from functools import partial

import pytest

from deploy.rules import SubscriptionRules
from deploy.sample import sample_event
from dispatch.guard import Guard
from dispatch.lookup import Resolve
from dispatch.refused import NoSuchHost
from dispatch.sink import sinks
from store.clock import ManualClock
from tests.conftest import START

PUBLIC, PRIVATE = "93.184.216.34", "10.0.0.7"
NAMES = {"fake.lan": PRIVATE, "evil.example.com": PUBLIC, "half.example.com": None}


async def resolve(name: str) -> Sequence[str]:
    found = NAMES.get(name, PUBLIC)
    if found is None:
        raise NoSuchHost(f"no such host: {name}")
    return [found]


def rules_of(guard: Guard) -> SubscriptionRules:
    return SubscriptionRules(guard, partial(sample_event, ManualClock(START)))


@pytest.fixture
def rules() -> SubscriptionRules:
    return rules_of(Guard(resolve=resolve))


@pytest.fixture
def open_rules() -> SubscriptionRules:
    """For an operator who opened a private network."""
    return rules_of(Guard(allow=(ipaddress.ip_network("10.0.0.0/8"),), resolve=resolve))


OWN = [
    ("slack", "https://hooks.slack.com/services/T00/B00/abc"),
    ("discord", "https://discord.com/api/webhooks/1300/a-b_c"),
    ("discord", "https://ptb.discord.com/api/v10/webhooks/1300/abc?thread_id=7"),
    ("feishu", "https://open.feishu.cn/open-apis/bot/v2/hook/0f-1a"),
    ("lark", "https://open.larksuite.com/open-apis/bot/v2/hook/0f-1a"),
    ("dingtalk", "https://oapi.dingtalk.com/robot/send?access_token=0f1a"),
    ("wecom", "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=0f-1a"),
    ("telegram", "https://api.telegram.org/bot12:A-b_c/sendMessage?chat_id=-1001"),
    ("telegram", "https://api.telegram.org/bot12:A-b_c?chat_id=@channel&message_thread_id=3"),
    (
        "teams",
        "https://prod-07.westeurope.logic.azure.com:443/workflows/0f/triggers/manual/paths/invoke"
        "?api-version=2016-06-01&sp=x&sig=abc",
    ),
    (
        "teams",
        "https://default0f.1a.environment.api.powerplatform.com/powerautomate/automations/direct/"
        "workflows/0f/triggers/manual/paths/invoke?api-version=1&sig=abc",
    ),
]


@pytest.mark.parametrize(("name", "url"), OWN)
async def test_a_services_own_url_is_taken(rules: SubscriptionRules, name: str, url: str) -> None:
    await rules.check_url(url, name)


async def test_a_services_url_is_taken_while_its_name_has_no_address() -> None:
    async def nothing(name: str) -> Sequence[str]:
        raise NoSuchHost(f"no such host: {name}")

    await rules_of(Guard(resolve=nothing)).check_url(OWN[0][1], "slack")


STRANGE = [
    ("slack", "https://evil.example.com/services/T00/B00/abc"),
    ("slack", "https://hooks.slack.com.evil.example.com/services/T00/B00/abc"),
    ("slack", "http://hooks.slack.com/services/T00/B00/abc"),
    ("slack", "https://hooks.slack.com:8443/services/T00/B00/abc"),
    ("slack", "https://hooks.slack.com/workflows/T00/B00/abc/def"),
    ("slack", "https://half.example.com/services/T00/B00/abc"),
    ("slack", f"https://{PUBLIC}/services/T00/B00/abc"),
    ("discord", "https://discord.com/api/webhooks/1300/abc/slack"),
    ("feishu", "https://open.larksuite.com/open-apis/bot/v2/hook/0f-1a"),
    ("lark", "https://open.feishu.cn/open-apis/bot/v2/hook/0f-1a"),
    ("dingtalk", "https://oapi.dingtalk.com/robot/send"),
    ("wecom", "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key="),
    ("telegram", "https://api.telegram.org/bot12:A-b_c/sendMessage"),
    ("telegram", "https://api.telegram.org/bot12:A-b_c/deleteWebhook?chat_id=1"),
    ("teams", "https://logic.azure.com/workflows/0f?sig=abc"),
    ("teams", "https://x.webhook.office.com/webhookb2/0f"),
]


@pytest.mark.parametrize(("name", "url"), STRANGE)
async def test_any_other_url_is_refused_with_the_form_and_not_repeated(
    rules: SubscriptionRules, name: str, url: str
) -> None:
    service = sinks()[name].service
    assert service is not None

    with pytest.raises(ValueError, match="takes messages at https://") as raised:
        await rules.check_url(url, name)

    assert str(raised.value) == service.rule
    assert "abc" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    ["http://10.1.2.3:8123/services/T00/B00/abc", "http://fake.lan:8123/services/T00/B00/abc"],
)
async def test_a_fake_service_may_stand_on_a_network_that_was_opened(
    rules: SubscriptionRules, open_rules: SubscriptionRules, url: str
) -> None:
    await open_rules.check_url(url, "slack")

    with pytest.raises(ValueError, match=r"address|local name"):
        await rules.check_url(url, "slack")


async def test_an_opened_network_opens_no_other_public_host(
    open_rules: SubscriptionRules,
) -> None:
    with pytest.raises(ValueError, match="Slack takes messages at"):
        await open_rules.check_url("https://evil.example.com/services/T00/B00/abc", "slack")


async def test_formats_for_any_url_ask_nothing_more(rules: SubscriptionRules) -> None:
    for name in ("webhook", "cloudevents"):
        assert rules.terms(name) is None
        await rules.check_url("https://half.example.com/x", name)
        with pytest.raises(ValueError, match="not a public address"):
            await rules.check_url("http://127.0.0.1/", name)


def resolver(*addresses: str) -> Resolve:
    async def resolve(host: str) -> list[str]:
        if not addresses:
            raise NoSuchHost(f"no such host: {host}")
        return list(addresses)

    return resolve


async def test_a_subscribers_name_may_get_its_address_later() -> None:
    rules = rules_of(Guard(resolve=resolver()))

    await rules.check_url("https://not-yet.example.com/hook", "webhook")


@pytest.mark.parametrize(
    "addresses", [("127.0.0.1",), ("93.184.216.34", "10.0.0.1"), ("::ffff:169.254.169.254",)]
)
async def test_a_subscribers_name_may_not_lead_inside(addresses: tuple[str, ...]) -> None:
    rules = rules_of(Guard(resolve=resolver(*addresses)))

    with pytest.raises(ValueError, match="not a public address"):
        await rules.check_url("https://rebinding.example.com/hook", "webhook")


def test_secrets_of_subscriptions_have_256_random_bits() -> None:
    rules = rules_of(Guard())

    secrets = {rules.new_secret() for _ in range(10)}

    assert len(secrets) == 10
    for secret in secrets:
        assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
