from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.headers import check_headers, with_custom


@pytest.mark.parametrize(
    "name",
    [
        # framing and hop-by-hop
        "Host",
        "Content-Length",
        "content-encoding",
        "Expect",
        "Proxy-Connection",
        "Proxy-Authenticate",
        # ours
        "User-Agent",
        "Accept-Encoding",
        "webhook-id",
        "Webhook-Signature",
        "WEBHOOK-ANYTHING",
        "ce-type",
        "CE-Extension",
        "Set-Cookie",
        # doors to metadata services
        "Metadata",
        "metadata-flavor",
        "X-aws-ec2-metadata-token-ttl-seconds",
        "X-Metadata-Token",
        "X-Google-Metadata-Request",
        "X-IDENTITY-HEADER",
        "X-aliyun-ecs-metadata-token",
        "X-Vault-Request",
        # a POST stays a POST
        "X-HTTP-Method-Override",
    ],
)
def test_names_that_are_not_the_users_are_refused_in_any_case(name: str) -> None:
    for spelling in (name, name.lower(), name.upper()):
        with pytest.raises(ValueError, match="may not be set"):
            check_headers({spelling: "x"})


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Authorization": "Bearer hush"}, id="what most people add"),
        pytest.param({"X-Api-Key": "a b\"c'd"}, id="blanks and quotes inside"),
        pytest.param({"x": ""}, id="an empty value"),
        pytest.param({"n" * 64: "v" * 1024}, id="the longest of each"),
        pytest.param({f"x-{number}": "1" for number in range(20)}, id="twenty"),
        pytest.param({"cell": "1", "hosted": "1", "team": "1"}, id="names that begin like ours"),
        pytest.param({}, id="none"),
    ],
)
def test_ordinary_headers_pass_as_given(headers: dict[str, str]) -> None:
    assert check_headers(headers) == headers


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        pytest.param({f"x-{n}": "1" for n in range(21)}, "at most 20", id="twenty-one"),
        pytest.param({"n" * 65: "v"}, "64 characters", id="a long name"),
        pytest.param({"x": "v" * 1025}, "1024", id="a long value"),
        pytest.param({"X-A": "1", "x-a": "2"}, "twice", id="the same name in two cases"),
        pytest.param({"x": " padded"}, "blanks at its ends", id="leading blank"),
        pytest.param({"x": "padded\t"}, "blanks at its ends", id="trailing tab"),
        pytest.param({"x": "a\x7fb"}, "printable ASCII", id="DEL"),
        pytest.param({"x\n": "1"}, "not a header name", id="newline after the name"),
    ],
)
def test_the_limits_hold(headers: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_headers(headers)


def test_a_refusal_does_not_quote_the_value() -> None:
    with pytest.raises(ValueError, match="Authorization") as caught:
        check_headers({"Authorization": "Bearer hush\n"})

    assert "hush" not in str(caught.value)


def test_a_refusal_does_not_quote_what_is_no_name() -> None:
    with pytest.raises(ValueError, match="header 2: that is not a header name") as caught:
        check_headers({"X-Team": "a", "Authorization: Bearer hush": ""})

    assert "hush" not in str(caught.value)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4))
def test_what_passes_cannot_break_out_of_its_line(headers: dict[str, str]) -> None:
    try:
        passed = check_headers(headers)
    except ValueError:
        return

    for name, value in passed.items():
        line = f"{name}: {value}"
        assert line.isascii()
        assert line.isprintable()
        assert name.strip() == name != ""
        assert ":" not in name


def test_ours_win_whatever_the_case() -> None:
    ours = {"webhook-id": "evt_1", "Content-Type": "application/json"}

    headers = with_custom(ours, {"WEBHOOK-ID": "forged", "content-type": "x", "X-Team": "a"})

    assert headers == {
        "webhook-id": "evt_1",
        "content-type": "application/json",
        "x-team": "a",
    }
