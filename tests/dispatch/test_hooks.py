"""Whose webhook a URL is by its host, and what is only an example of one."""

from __future__ import annotations

import base64
import random

import pytest

from dispatch.hooks import advice, default_format, format_at, misuse, placeholder
from dispatch.places import normalized, origin

TEAMS = "https://prod-07.westeurope.logic.azure.com:443/workflows/0f/triggers/manual/paths/invoke?sig=aB3"
HOSTS = [
    ("slack", "https://hooks.slack.com/services/T01/B01/aB3"),
    ("slack", "https://hooks.slack-gov.com/services/T01/B01/aB3"),
    ("slack", "https://HOOKS.Slack.com.:443/services/T01/B01/aB3"),
    ("discord", "https://discord.com/api/webhooks/13/aB3"),
    ("discord", "https://discordapp.com/api/webhooks/13/aB3"),
    ("discord", "https://ptb.discord.com/api/v10/webhooks/13/aB3"),
    ("discord", "https://canary.discord.com/api/webhooks/13/aB3"),
    ("feishu", "https://open.feishu.cn/open-apis/bot/v2/hook/0f-1a"),
    ("lark", "https://open.larksuite.com/open-apis/bot/v2/hook/0f-1a"),
    ("dingtalk", "https://oapi.dingtalk.com/robot/send?access_token=0f1a"),
    ("wecom", "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=0f-1a"),
    ("telegram", "https://api.telegram.org/bot12:A-b/sendMessage?chat_id=-1001"),
    ("teams", TEAMS),
    ("teams", "https://d0f.1a.environment.api.powerplatform.com/powerautomate/x?sig=aB3"),
    ("teams", "https://prod-1.usgovtexas.logic.azure.us/workflows/0f?sig=aB3"),
    ("teams", "https://tenant.webhook.office.com/webhookb2/0f"),
    # nobody's
    ("webhook", "https://hooks.slack.com.evil.example.net/services/T01/B01/aB3"),
    ("webhook", "https://myhooks.slack.com.example/x"),
    ("webhook", "https://logic.azure.com/workflows/0f?sig=aB3"),
    ("webhook", "https://evildiscord.com/api/webhooks/13/aB3"),
    ("webhook", "https://open.feishu.cn@a.example/open-apis/bot/v2/hook/0f"),
    ("webhook", "https://a.example/?https://hooks.slack.com/services/T01/B01/aB3"),
    ("webhook", "https://[::1"),
    ("webhook", "json://hooks.slack.com.example/x"),
]


@pytest.mark.parametrize(("name", "url"), HOSTS)
def test_the_host_chooses_the_format(name: str, url: str) -> None:
    assert default_format(url) == name


EXAMPLES = [
    "https://hooks.slack.com/services/T…/B…/…",
    "https://hooks.slack.com/services/T.../B.../...",
    "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
    "https://hooks.slack.com/services/TXXXXXXXX/BXXXXXXXX/aB3dE5",
    "https://hooks.slack.com/services/T01/B01/xxxx",
    "https://hooks.slack.com/services/T01/B01/<token>",
    "https://hooks.slack.com/services/T01/B01/%3Ctoken%3E",
    "https://hooks.slack.com/services/YOUR/WEBHOOK/URL",
    "https://hooks.slack.com/services/T01/B01/REDACTED",
    "https://oapi.dingtalk.com/robot/send?access_token=secret",
    "https://hooks.slack.com/services/%E2%80%A6",
    "https://discord.com/api/webhooks/<id>/<token>",
    "https://discord.com/api/webhooks/{webhook.id}/{webhook.token}",
    "https://discord.com/api/webhooks/WEBHOOK_ID/WEBHOOK_TOKEN",
    "https://discordapp.com/api/webhooks/your-id/your-token",
    "https://canary.discord.com/api/webhooks/123/$DISCORD_TOKEN",
    "https://open.feishu.cn/open-apis/bot/v2/hook/xxxxxxxxxxxxxxxxx",
    "https://open.feishu.cn/open-apis/bot/v2/hook/xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
    "https://open.larksuite.com/open-apis/bot/v2/hook/****",
    "https://oapi.dingtalk.com/robot/send?access_token=XXXXXX",
    "https://oapi.dingtalk.com/robot/send?access_token=YOUR_ACCESS_TOKEN",
    "https://oapi.dingtalk.com/robot/send?access_token=[token]",
    "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=693axxx6-7aoc-4bc4-97a0-0ec2sifa5aaa",
    "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=KEY",
    "https://api.telegram.org/bot<token>/sendMessage?chat_id=…",
    "https://api.telegram.org/botTOKEN/sendMessage?chat_id=12",
    "https://api.telegram.org/bot123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11/sendMessage?chat_id=1",
    "https://api.telegram.org/bot12:A-b/sendMessage?chat_id=<chat_id>",
    "https://….logic.azure.com/workflows/…",
    "https://prod-XX.westus.logic.azure.com/workflows/0f?sig=aB3",
    "https://prod-07.westus.logic.azure.com/workflows/0f?sig=YOUR_SIGNATURE",
]


@pytest.mark.parametrize("url", EXAMPLES)
def test_an_example_is_no_webhook(url: str) -> None:
    assert format_at(url) is not None
    assert placeholder(url)


@pytest.mark.parametrize("url", [url for name, url in HOSTS if name != "webhook"])
def test_a_webhook_is_no_example(url: str) -> None:
    assert not placeholder(url)


def test_random_tokens_are_no_examples() -> None:
    dice = random.Random(1)
    for _ in range(5_000):
        token = base64.urlsafe_b64encode(dice.randbytes(51)).decode()
        assert not placeholder(f"https://discord.com/api/webhooks/1300/{token}"), token


SHAPE = "{text: id}"


@pytest.mark.parametrize(
    ("url", "format_name", "shape", "refused"),
    [
        (HOSTS[0][1], "webhook", None, True),
        (HOSTS[0][1], "cloudevents", None, True),
        (HOSTS[0][1], "cloudevents", SHAPE, True),
        (HOSTS[0][1], "webhook", SHAPE, False),  # that shape may be a message of Slack's
        (HOSTS[0][1], "slack", None, False),
        (HOSTS[4][1], "webhook", None, True),
        (HOSTS[9][1], "webhook", None, True),
        (HOSTS[11][1], "webhook", None, True),
        (TEAMS, "webhook", None, False),  # a Logic App takes any JSON
        ("https://hooks.slack.com/triggers/E01/1/aB3", "webhook", None, False),
        ("https://open.feishu.cn/anycross/trigger/callback/0f", "webhook", None, False),
        ("https://a.example/services/T01/B01/aB3", "webhook", None, False),
    ],
)
def test_a_format_that_the_chat_cannot_read_is_refused_where_it_is_sure(
    url: str, format_name: str, shape: str | None, refused: bool
) -> None:
    assert bool(misuse(url, format_name, shape)) is refused


def test_the_refusal_says_how_it_is_opened() -> None:
    said = misuse(HOSTS[3][1], "webhook", None)

    assert said is not None
    assert "aB3" not in said
    assert all(word in said for word in ("'webhook'", "Discord", "'discord'", "shape"))


def test_advice_needs_no_more_than_the_host() -> None:
    assert "'slack'" in (advice("https://hooks.slack.com/…", "webhook") or "")
    assert advice("https://hooks.slack.com/…", "slack") is None
    assert advice("https://a.example/x", "webhook") is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://a.example/x", "HTTPS://A.Example.:443/x#part"),
        ("http://a.example", "http://a.example:80/"),
        ("https://a.example/%7Eb?c=%2f", "https://a.example/~b?c=%2F"),
        ("http://[0:0:0:0:0:0:0:1]:8080/", "http://[::1]:8080"),
    ],
)
def test_spellings_of_one_url_are_one(one: str, other: str) -> None:
    assert origin(one) == origin(other)
    assert normalized(one) == normalized(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://a.example/x", "https://a.example/X"),
        ("https://a.example/x", "https://a.example/x/"),
        ("https://a.example/x?a=1", "https://a.example/x?a=2"),
        ("https://a.example/a%2Fb", "https://a.example/a/b"),
        ("https://a.example/x", "http://a.example/x"),
    ],
)
def test_different_urls_stay_different(one: str, other: str) -> None:
    assert normalized(one) != normalized(other)
