"""What an attempt's error says of a redirect."""

from __future__ import annotations

import pytest

from dispatch.answers import judge_http
from dispatch.sink import Answer, Result
from tests.conftest import START

LONG = "a" * 300


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("https://b.example/secret?key=hush#x", "b.example (https)"),
        ("HTTP://B.Example:8443", "b.example (http)"),
        ("https://me:hush@b.example/c", "b.example (https)"),
        ("//b.example/c", "b.example"),
        ("\\\\b.example\\c", "b.example"),
        ("https://b.example\\@hush.example/", "b.example (https)"),
        ("https://[2001:db8::1]:444/hush", "[2001:db8::1] (https)"),
        ("/login?next=hush", "another path of the same host"),
        ("login/hush", "another path of the same host"),
        ("?hush", "another path of the same host"),
        ("", "no place: there is no Location"),
        ("   ", "no place: there is no Location"),
        ("javascript:hush()", "a place that cannot be read"),
        ("https://", "a place that cannot be read"),
        ("https:///hush", "a place that cannot be read"),
        (f"https://{LONG}/", "a place that cannot be read"),
        ("https://a b/hush", "a place that cannot be read"),
        (
            "https://\ud83d\ude00.example/".encode("utf-16", "surrogatepass").decode("utf-16"),
            "a place that cannot be read",
        ),
        ("https://a.example/hush, https://b.example/hush", "a.example (https)"),
        ("https://a.example, https://b.example", "a place that cannot be read"),
        ("https://b.example%2fhush/", "a place that cannot be read"),
        ("https://\x00b.example/", "a place that cannot be read"),
    ],
)
@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_only_the_host_of_where_it_points_is_named(status: int, location: str, place: str) -> None:
    outcome = judge_http(Answer(status, {"location": location}, b"", 0.1), START, "hush")

    assert outcome.result is Result.RETRY
    assert outcome.reason == f"answered {status}: redirects are not followed; it points to {place}"


@pytest.mark.parametrize("status", [304, 305, 306, 400])
def test_what_is_no_redirect_points_nowhere(status: int) -> None:
    outcome = judge_http(Answer(status, {"location": "https://b.example/"}, b"", 0.1), START)

    assert outcome.reason == f"answered {status}"
