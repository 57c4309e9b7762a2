"""Retry-After: seconds, dates, and everything else a stranger may put there."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.retry_after import LONGEST_WAIT, retry_after

NOW = datetime(2026, 11, 18, 11, 6, 40, tzinfo=UTC)
TO_MIDNIGHT = timedelta(seconds=46_400)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("120", timedelta(seconds=120), id="seconds"),
        pytest.param(" 120 ", timedelta(seconds=120), id="padded"),
        pytest.param("\t7", timedelta(seconds=7), id="tab"),
        pytest.param("0", timedelta(0), id="zero"),
        pytest.param("0005", timedelta(seconds=5), id="leading zeros"),
        pytest.param("86400", timedelta(days=1), id="one day"),
        pytest.param("86401", LONGEST_WAIT, id="over a day is cut"),
        pytest.param("9999999999", LONGEST_WAIT, id="ten digits"),
        pytest.param("99999999999", None, id="eleven digits"),
        pytest.param("9" * 20, None, id="twenty digits"),
        pytest.param("9" * 5_000, None, id="more digits than int() takes"),
        pytest.param("-5", None, id="negative"),
        pytest.param("+5", None, id="plus sign"),
        pytest.param("1.5", timedelta(seconds=2), id="a fraction is rounded up"),
        pytest.param("120.5", timedelta(seconds=121), id="as it was seen"),
        pytest.param("120.000", timedelta(seconds=120), id="a fraction of nothing"),
        pytest.param("0.001", timedelta(seconds=1), id="less than a second"),
        pytest.param(" 3.25\t", timedelta(seconds=4), id="a fraction, padded"),
        pytest.param("86399.9", LONGEST_WAIT, id="a fraction short of a day"),
        pytest.param("-0.5", None, id="negative fraction"),
        pytest.param("1.5.2", None, id="two points"),
        pytest.param("1,5", timedelta(seconds=5), id="a comma separates"),
        pytest.param(".5", None, id="no whole number"),
        pytest.param("1.5e3", None, id="fraction with an exponent"),
        pytest.param("NaN", None, id="NaN"),
        pytest.param("1_000", None, id="underscore"),
        pytest.param("1e3", None, id="exponent"),
        pytest.param("１２０", None, id="full-width digits"),
        pytest.param("²", None, id="superscript: isdigit() is true, int() raises"),
        pytest.param("120\x00", None, id="NUL"),
        pytest.param("120, 130", timedelta(seconds=130), id="two headers joined"),
        pytest.param("130,soon, -5", timedelta(seconds=130), id="one of them is usable"),
        pytest.param("5, Thu, 19 Nov 2026 00:00:00 GMT", TO_MIDNIGHT, id="seconds and a date"),
        pytest.param(
            "Thursday, 19-Nov-26 00:00:00 GMT, Thu Nov 19 00:00:00 2026",
            TO_MIDNIGHT,
            id="two dates",
        ),
        pytest.param("abc", None, id="text"),
        pytest.param("", None, id="empty"),
        pytest.param("   ", None, id="blank"),
        pytest.param(None, None, id="absent"),
        pytest.param("Thu, 19 Nov 2026 00:00:00 GMT", TO_MIDNIGHT, id="HTTP date"),
        pytest.param("Thursday, 19-Nov-26 00:00:00 GMT", TO_MIDNIGHT, id="RFC 850 date"),
        pytest.param("Thu Nov 19 00:00:00 2026", TO_MIDNIGHT, id="asctime date is UTC"),
        pytest.param("Thu, 19 Nov 2026 00:00:00 -0000", TO_MIDNIGHT, id="zone -0000 is UTC"),
        pytest.param("Thu, 19 Nov 2026 00:00:00 XYZ", TO_MIDNIGHT, id="unknown zone is UTC"),
        pytest.param("Thu, 19 Nov 2026 08:00:00 +0800", TO_MIDNIGHT, id="a real offset"),
        pytest.param("Thu, 19 Nov 2026 00:00:00 +9999", None, id="impossible offset"),
        pytest.param("Thu, 19 Nov 2026 99:00:00 GMT", None, id="impossible hour"),
        pytest.param("Thu, 19 Nov ２０２６ 00:00:00 GMT", None, id="full-width year"),
        pytest.param("Wed, 18 Nov 2026 11:06:40 GMT", None, id="this very moment"),
        pytest.param("Wed, 18 Nov 2026 11:06:39 GMT", None, id="a second ago"),
        pytest.param("Thu, 01 Jan 1970 00:00:00 GMT", None, id="long ago"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 -2359", LONGEST_WAIT, id="end of the calendar"),
        pytest.param("Thu, 19 Nov 2026 00:00:00 GMT" + " " * 5_000, None, id="far too long"),
    ],
)
def test_a_header_is_a_wait_or_nothing(value: str | None, expected: timedelta | None) -> None:
    assert retry_after(value, NOW) == expected


def test_the_zone_of_now_does_not_matter() -> None:
    in_shanghai = NOW.astimezone(timezone(timedelta(hours=8)))

    assert retry_after("Thu, 19 Nov 2026 00:00:00 GMT", in_shanghai) == TO_MIDNIGHT


@given(
    st.text()
    | st.text(alphabet="0123456789 :,+-GMTUZNovThu", max_size=40)
    | st.from_regex(r"[A-Z][a-z]{2}, ?\d{1,4} [A-Z][a-z]{2} \d{1,6} [\d:]{1,9} [+-]?\w{1,6}")
)
def test_no_text_raises_and_no_wait_is_over_a_day(value: str) -> None:
    wait = retry_after(value, NOW)

    assert wait is None or timedelta(0) <= wait <= LONGEST_WAIT
