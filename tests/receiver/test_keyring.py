"""The key ring: what it caches, when it fetches, and which keys it takes."""

import asyncio
import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from receiver.failures import Blame
from receiver.keyring import JwksKeyRing, read_jwks
from receiver.provider import KeyRing, KeysUnavailable, ProviderError
from store.clock import ManualClock

URL = "https://keys.example/jwks.json"
RAW = bytes(range(32))


def entry(key_id: str, raw: bytes = RAW) -> dict[str, Any]:
    x = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    return {"kty": "OKP", "crv": "Ed25519", "kid": key_id, "x": x}


class Page:
    """A JWKS page that can change and fail."""

    def __init__(self, *key_ids: str) -> None:
        self.body: Any = {"keys": [entry(key_id) for key_id in key_ids]}
        self.down = False
        self.fetches = 0

    async def __call__(self, url: str) -> Any:
        self.fetches += 1
        await asyncio.sleep(0)  # let the others run, as a network would
        if self.down:
            raise ProviderError("down", blame=Blame.WAY)
        return self.body


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 11, 20, tzinfo=UTC))


async def test_a_key_is_fetched_once_a_day(clock: ManualClock) -> None:
    page = Page("k1")
    ring: KeyRing = JwksKeyRing(page)

    assert await ring.ed25519(URL, "k1", clock()) == RAW
    clock.advance(hours=23)
    assert await ring.ed25519(URL, "k1", clock()) == RAW
    assert page.fetches == 1

    clock.advance(hours=1)
    assert await ring.ed25519(URL, "k1", clock()) == RAW
    assert page.fetches == 2


async def test_a_withdrawn_key_is_gone_after_the_next_fetch(clock: ManualClock) -> None:
    page = Page("k1")
    ring = JwksKeyRing(page)
    await ring.ed25519(URL, "k1", clock())
    page.body = {"keys": [entry("k2")]}
    clock.advance(hours=24)

    assert await ring.ed25519(URL, "k1", clock()) is None


async def test_a_new_key_is_found_at_once(clock: ManualClock) -> None:
    page = Page("k1")
    ring = JwksKeyRing(page)
    await ring.ed25519(URL, "k1", clock())
    page.body = {"keys": [entry("k1"), entry("k2", bytes(32))]}
    clock.advance(seconds=60)

    assert await ring.ed25519(URL, "k2", clock()) == bytes(32)


async def test_made_up_ids_fetch_once_a_minute(clock: ManualClock) -> None:
    page = Page("k1")
    ring = JwksKeyRing(page)

    found = [await ring.ed25519(URL, f"made-up-{number}", clock()) for number in range(100)]

    assert found == [None] * 100
    assert page.fetches == 1
    clock.advance(seconds=59)
    await ring.ed25519(URL, "made-up", clock())
    assert page.fetches == 1
    clock.advance(seconds=1)
    await ring.ed25519(URL, "made-up", clock())
    assert page.fetches == 2


async def test_a_failed_fetch_cools_down_too(clock: ManualClock) -> None:
    page = Page("k1")
    page.down = True
    ring = JwksKeyRing(page)

    for page.down in (True, False):
        with pytest.raises(KeysUnavailable):
            await ring.ed25519(URL, "k1", clock())
    assert page.fetches == 1

    clock.advance(seconds=60)
    assert await ring.ed25519(URL, "k1", clock()) == RAW


@pytest.mark.parametrize("broken", [None, [], "html", {}, {"keys": None}, {"keys": {}}])
async def test_a_page_that_breaks_leaves_the_old_keys(clock: ManualClock, broken: Any) -> None:
    page = Page("k1")
    ring = JwksKeyRing(page)
    await ring.ed25519(URL, "k1", clock())
    page.body = broken
    clock.advance(days=2)

    assert await ring.ed25519(URL, "k1", clock()) == RAW
    assert page.fetches == 2


async def test_old_keys_serve_seven_days(clock: ManualClock) -> None:
    page = Page("k1")
    ring = JwksKeyRing(page)
    await ring.ed25519(URL, "k1", clock())
    page.down = True

    clock.advance(days=6, hours=23)
    assert await ring.ed25519(URL, "k1", clock()) == RAW
    clock.advance(hours=1)
    with pytest.raises(KeysUnavailable):
        await ring.ed25519(URL, "k1", clock())


async def test_a_key_that_old_pages_do_not_name_may_be_on_the_one_that_cannot_be_read(
    clock: ManualClock,
) -> None:
    page = Page("k1")
    ring = JwksKeyRing(page)
    assert await ring.ed25519(URL, "k2", clock()) is None
    page.down = True

    clock.advance(minutes=2)
    with pytest.raises(KeysUnavailable):
        await ring.ed25519(URL, "k2", clock())
    assert await ring.ed25519(URL, "k1", clock()) == RAW


async def test_verifications_at_the_same_time_fetch_once(clock: ManualClock) -> None:
    page = Page("k1")
    ring = JwksKeyRing(page)

    found = await asyncio.gather(*(ring.ed25519(URL, "k1", clock()) for _ in range(20)))

    assert found == [RAW] * 20
    assert page.fetches == 1


async def test_a_canceled_fetch_leaves_the_ring_in_order(clock: ManualClock) -> None:
    page = Page("k1")
    ring = JwksKeyRing(page)
    first = asyncio.create_task(ring.ed25519(URL, "k1", clock()))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])

    with pytest.raises(KeysUnavailable):
        await ring.ed25519(URL, "k1", clock())
    clock.advance(seconds=60)
    assert await ring.ed25519(URL, "k1", clock()) == RAW


async def test_a_clock_set_back_does_not_freeze_the_ring(clock: ManualClock) -> None:
    page = Page("k1")
    ring = JwksKeyRing(page)
    await ring.ed25519(URL, "made-up", clock())
    page.body = {"keys": [entry("k2")]}
    clock.advance(hours=-2)

    assert await ring.ed25519(URL, "k2", clock()) == RAW


async def test_pages_do_not_share_keys(clock: ManualClock) -> None:
    pages = {"a": {"keys": [entry("k", RAW)]}, "b": {"keys": [entry("k", bytes(32))]}}

    async def fetch(url: str) -> Any:
        return pages[url]

    ring = JwksKeyRing(fetch)

    assert await ring.ed25519("a", "k", clock()) == RAW
    assert await ring.ed25519("b", "k", clock()) == bytes(32)


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param("text", id="not an object"),
        pytest.param({}, id="empty"),
        pytest.param(entry("k") | {"kid": None}, id="no id"),
        pytest.param(entry("k") | {"kid": ["k"]}, id="id not text"),
        pytest.param(entry("k") | {"kty": "RSA"}, id="RSA"),
        pytest.param(entry("k") | {"crv": "X25519"}, id="another curve"),
        pytest.param(entry("k") | {"x": 5}, id="x not text"),
        pytest.param(entry("k", RAW[:31]), id="31 bytes"),
        pytest.param(entry("k", RAW + b"0"), id="33 bytes"),
        pytest.param(entry("k") | {"x": "!" * 43}, id="not base64"),
        pytest.param(entry("k") | {"x": "/" * 43}, id="the other base64 alphabet"),
        pytest.param(entry("k") | {"x": "A" * 43 + "\n"}, id="newline behind"),
        pytest.param(entry("k") | {"x": "é" * 43}, id="non-ASCII"),
    ],
)
def test_an_odd_entry_is_passed_over(odd: Any) -> None:
    assert read_jwks({"keys": [odd, entry("good")]}) == {"good": RAW}


def test_padding_is_taken() -> None:
    padded = entry("k") | {"x": base64.urlsafe_b64encode(RAW).decode()}

    assert read_jwks({"keys": [padded]}) == {"k": RAW}


def test_the_first_of_two_keys_with_one_id_counts() -> None:
    assert read_jwks({"keys": [entry("k"), entry("k", bytes(32))]}) == {"k": RAW}


def test_thirty_two_keys_are_kept() -> None:
    keys = read_jwks({"keys": [entry(f"k{number}") for number in range(100)]})

    assert list(keys) == [f"k{number}" for number in range(32)]
