from __future__ import annotations

import pytest

from receiver.pages.reasons import explanation
from receiver.pages.words import LANGUAGES, words

MOVED = "redirects are not followed; it points to"
REASONS = [
    ("timed out after 15 s", None, "webhook", "too long"),
    ("connection timed out", None, "webhook", "too long"),
    ("connection refused", None, "webhook", "Nothing listens"),
    ("no route to host", None, "webhook", "no way"),
    ("connection closed without an answer", None, "webhook", "closed the connection"),
    ("TLS: certificate: certificate has expired", None, "webhook", "certificate"),
    ("TLS: wrong version number", None, "webhook", "No TLS"),
    ("the answer is not valid HTTP, or its headers are too large", None, "webhook", "not speak"),
    ("address refused: 10.0.0.1 is not public", None, "webhook", "TASKBELL_ALLOW_NETWORKS"),
    ("no such host: nowhere.example", None, "webhook", "no address"),
    ("the shape makes nothing of an event", None, "webhook", "shape"),
    ("parked: 5 attempts were started and never finished", None, "webhook", "set aside"),
    ("expired", None, "webhook", "longer than its event is kept"),
    ("skipped", None, "slack", "resumed without it"),
    ("410 Gone", 410, "webhook", "disabled"),
    ("answered 302", 302, "webhook", "Redirects are not followed"),
    (f"answered 302: {MOVED} b.example (https)", 302, "webhook", "to b.example (https)."),
    (f"answered 307: {MOVED} [::1] (http)", 307, "wecom", "to [::1] (http)."),
    (f"answered 301: {MOVED} no place: there is no Location", 301, "webhook", "not followed"),
    ("answered 401", 401, "webhook", "key or signature"),
    ("answered 404", 404, "webhook", "n8n"),
    ("answered 418", 418, "webhook", "refuses the request"),
    ("answered 429", 429, "webhook", "slower"),
    ("answered 503", 503, "webhook", "failed by itself"),
    # a chat's own code, not the status of its answer
    ("answered 19024: the bot wants a keyword", 200, "feishu", "keyword in every message"),
    ("answered 19022: ip not allowed", 200, "lark", "IP addresses"),
    ("answered 404: no_service", 404, "slack", "removed in Slack"),
    ("answered 93000: invalid webhook url (gone)", 200, "wecom", "removed from its group"),
    ("answered 9499: too many request (rate limit)", 400, "feishu", "limit of messages"),
    ("answered 9499: Bad Request", 400, "lark", "did not take the message"),
    ("answered 300001: message param text is null", 200, "dingtalk", "did not take"),
    ("answered 300001: token is not exist (gone)", 200, "dingtalk", "token does not exist"),
    ("answered 300001: ? (gone?) to 3 attempts in a row", 200, "dingtalk", "token does not exist"),
    ("answered 429: You are being rate limited. (rate limit)", 429, "discord", "slower"),
    ("answered 310000: keywords not in content", 200, "dingtalk", "safety settings"),
    ("answered 401: Invalid Webhook Token", 401, "discord", "token"),
    ("answered 403: Forbidden: bot was blocked by the user", 403, "telegram", "blocked"),
    ("answered WorkflowNotFound: gone", 404, "teams", "deleted in Teams"),
    ("answered 200 without taking the message", 200, "wecom", "looks good"),
]


@pytest.mark.parametrize(("error", "status", "format_name", "part"), REASONS)
def test_a_reason_is_said_in_words(
    error: str, status: int | None, format_name: str, part: str
) -> None:
    said = {
        language: explanation(words(language), error, status, format_name) for language in LANGUAGES
    }

    assert part in said["en"]
    assert said["zh"]
    assert not said["zh"].isascii()


def test_what_nobody_knows_is_left_to_the_error_itself() -> None:
    assert explanation(words("en"), "could not send", None, "webhook") == ""
    assert explanation(words("en"), None, None, "webhook") == ""
