"""Callback tokens: what verifies, what does not, and that nothing raises."""

import base64
import random
import re
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer

from receiver.spelling import unspell
from receiver.tokens import CallbackToken, CallbackTokens, new_token_id

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
OLD, NEW = "o" * 32, "n" * 32
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def issue(tokens: CallbackTokens, **changes: Any) -> str:
    values: dict[str, Any] = {"expires_at": None, "metadata": {}} | changes
    return tokens.issue("minimax", "id1", **values)


def signed(payload: object, *, salt: str = "taskbell.callback.v1") -> str:
    """A token with our key and any payload."""
    tokens = CallbackTokens([NEW])
    serializer = tokens._serializer
    return URLSafeSerializer(
        serializer.secret_keys, salt=salt, signer_kwargs=serializer.signer_kwargs
    ).dumps(payload)


def test_a_token_brings_back_what_it_was_given() -> None:
    tokens = CallbackTokens([NEW])
    expires_at = NOW + timedelta(hours=1)

    text = tokens.issue("minimax", "id1", expires_at=expires_at, metadata={"客户": ["42", None]})

    assert tokens.read("minimax", text, NOW) == CallbackToken(
        "minimax", "id1", expires_at, {"客户": ["42", None]}
    )


METADATA = [
    pytest.param({}, id="none"),
    pytest.param({"customer": "42"}, id="little"),
    pytest.param({"a": "x" * 900}, id="compressed"),
    pytest.param({"a": "".join(random.Random(0).choices(LETTERS, k=1_016))}, id="incompressible"),
    pytest.param({"客户": ["42", None]}, id="not ASCII"),
]


@pytest.mark.parametrize("metadata", METADATA)
def test_a_token_is_lower_case_letters_and_digits_that_begin_with_a_letter(
    metadata: dict[str, Any],
) -> None:
    text = issue(CallbackTokens([NEW]), metadata=metadata)

    assert re.fullmatch(r"cbt_[a-z0-9]+", text)


@pytest.mark.parametrize("metadata", METADATA)
@pytest.mark.parametrize("single_task", [True, False])
def test_an_older_token_with_dots_goes_on_to_work(
    metadata: dict[str, Any], single_task: bool
) -> None:
    tokens = CallbackTokens([NEW])
    new = issue(tokens, metadata=metadata, single_task=single_task)

    old = unspell(new)

    assert re.fullmatch(r"\.?[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}", old)
    assert tokens.read("minimax", old, NOW) == tokens.read("minimax", new, NOW)
    assert tokens.read("minimax", old, NOW)


@pytest.mark.parametrize(
    "fold", [str.upper, str.lower, str.swapcase, str.title], ids=lambda fold: fold.__name__
)
def test_a_token_survives_who_folds_the_case_of_a_path(fold: Callable[[str], str]) -> None:
    tokens = CallbackTokens([NEW])

    assert tokens.read("minimax", fold(issue(tokens)), NOW)


def test_a_usual_token_fits_into_the_shortest_path_segment_that_servers_take() -> None:
    # IIS takes 260 characters, a file name has 255
    tokens = CallbackTokens([NEW])
    ends = NOW + timedelta(days=7)
    metadata = {"customer": "customer-000042"}

    text = tokens.issue(
        "opencomputing", new_token_id(ends), expires_at=ends, metadata=metadata, single_task=True
    )

    assert len(text) <= 255


def test_a_token_without_expiry_lasts() -> None:
    tokens = CallbackTokens([NEW])

    assert tokens.read("minimax", issue(tokens), NOW + timedelta(days=10_000))


@pytest.mark.parametrize(
    ("late", "valid"),
    [
        (timedelta(seconds=-1), True),
        (timedelta(minutes=10), True),  # the skew that is forgiven
        (timedelta(minutes=10, seconds=1), False),
        (timedelta(days=400), False),
        (timedelta(days=-400), True),  # our clock was set back
    ],
)
def test_a_token_ends_ten_minutes_after_its_expiry(late: timedelta, valid: bool) -> None:
    tokens = CallbackTokens([NEW])
    text = issue(tokens, expires_at=NOW)

    assert (tokens.read("minimax", text, NOW + late) is not None) is valid


@pytest.mark.parametrize("step", [timedelta(hours=-1), timedelta(hours=1)], ids=["back", "ahead"])
def test_a_clock_that_is_set_ends_only_what_it_says_is_over(step: timedelta) -> None:
    """A token may seem to come from the future then: its age is not looked at."""
    tokens = CallbackTokens([NEW])
    soon = issue(tokens, expires_at=NOW + timedelta(minutes=30))
    late = issue(tokens, expires_at=NOW + timedelta(hours=2))

    assert tokens.read("minimax", late, NOW + step)
    assert (tokens.read("minimax", soon, NOW + step) is None) is (step > timedelta(0))
    assert tokens.read("minimax", soon, NOW)  # the clock is right again


def test_a_token_of_another_provider_is_nothing() -> None:
    tokens = CallbackTokens([NEW])

    assert tokens.read("atlascloud", issue(tokens), NOW) is None


def test_a_rotation_keeps_old_tokens_until_the_old_key_is_gone() -> None:
    text = issue(CallbackTokens([OLD]))

    assert CallbackTokens([OLD, NEW]).read("minimax", text, NOW)
    assert CallbackTokens([NEW]).read("minimax", text, NOW) is None


def test_the_last_key_signs() -> None:
    text = issue(CallbackTokens([OLD, NEW]))

    assert CallbackTokens([NEW]).read("minimax", text, NOW)


def test_several_spellings_are_one_token() -> None:
    tokens = CallbackTokens([NEW])
    text = issue(tokens)
    old = unspell(text)

    read = [tokens.read("minimax", each, NOW) for each in (text, text.upper(), old, old + "=")]

    assert [token and token.token_id for token in read] == ["id1"] * 4


TEXT = unspell(issue(CallbackTokens([NEW])))
SPELT = issue(CallbackTokens([NEW]))
PAYLOAD, SIGNATURE = TEXT.rsplit(".", 1)
BOMB = base64.urlsafe_b64encode(zlib.compress(b"0" * 10_000_000)).decode().rstrip("=")[:1500]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(".", id="dot"),
        pytest.param("AAAA", id="random text"),
        pytest.param("A" * 4_096, id="4,096 characters"),
        pytest.param("\0", id="NUL"),
        pytest.param("\nINFO forged", id="newline"),
        pytest.param("../admin", id="path"),
        pytest.param("é", id="non-ASCII"),
        pytest.param(TEXT + "é", id="good, with a non-ASCII letter behind"),
        pytest.param("\ud800", id="lone surrogate"),
        pytest.param(PAYLOAD, id="no signature"),
        pytest.param(f"{PAYLOAD}.", id="empty signature"),
        pytest.param(f"{PAYLOAD[:-2]}AA.{SIGNATURE}", id="payload changed"),
        pytest.param(TEXT + "A" * 2_048, id="good, then too long"),
        pytest.param("cbt_", id="a new token's beginning alone"),
        pytest.param("cbt_" + "a" * 40, id="shorter than a signature"),
        pytest.param("cbt_" + "1" * 160, id="no base 32"),
        pytest.param(SPELT[:-8], id="new, cut"),
        pytest.param(SPELT[4:], id="new, without its beginning"),
        pytest.param(SPELT + "aaaaaaaa", id="new, with more behind"),
        pytest.param(
            SPELT[:60] + ("a" if SPELT[60] != "a" else "b") + SPELT[61:], id="new, changed"
        ),
        pytest.param("cbt_" + SPELT, id="begun twice"),
        pytest.param(f".{BOMB}.{SIGNATURE}", id="compressed bomb, wrong signature"),
        pytest.param(issue(CallbackTokens(["x" * 32])), id="foreign key"),
        pytest.param(
            signed({"provider": "minimax", "id": "id1", "exp": None, "meta": {}}, salt="cookie"),
            id="our key under another salt",
        ),
        pytest.param(signed(None), id="null payload"),
        pytest.param(signed(["minimax", "id1"]), id="list payload"),
        pytest.param(signed({"provider": "minimax"}), id="fields missing"),
        pytest.param(
            signed({"provider": "minimax", "id": 1, "exp": None, "meta": {}}), id="id not text"
        ),
        pytest.param(
            signed({"provider": "minimax", "id": "1", "exp": "x", "meta": {}}), id="odd expiry"
        ),
        pytest.param(
            signed({"provider": "minimax", "id": "1", "exp": 10**30, "meta": {}}), id="year 10^22"
        ),
        pytest.param(
            signed({"provider": "minimax", "id": "1", "exp": 10**12, "meta": {}}), id="year 33658"
        ),
        pytest.param(
            signed({"provider": "minimax", "id": "1", "exp": None, "meta": []}), id="list metadata"
        ),
    ],
)
def test_anything_else_is_nothing(text: str) -> None:
    assert CallbackTokens([NEW]).read("minimax", text, NOW) is None


def test_the_control_of_the_table_above_is_good() -> None:
    text = signed({"provider": "minimax", "id": "id1", "exp": None, "meta": {}})

    assert CallbackTokens([NEW]).read("minimax", text, NOW)


@given(
    st.text()
    | st.from_regex(r"cbt_[a-z2-7]{0,200}", fullmatch=True)
    | st.from_regex(r"\.?[A-Za-z0-9_=-]{0,60}\.[A-Za-z0-9_=-]{0,60}", fullmatch=True)
)
def test_no_text_raises_or_verifies(text: str) -> None:
    assert CallbackTokens([OLD, NEW]).read("minimax", text, NOW) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(json_values | st.fixed_dictionaries(dict.fromkeys(("id", "exp", "meta"), json_values)))
def test_no_signed_payload_raises(payload: object) -> None:
    if isinstance(payload, dict):
        payload["provider"] = "minimax"

    token = CallbackTokens([NEW]).read("minimax", signed(payload), NOW)

    assert token is None or token.provider == "minimax"


@pytest.mark.parametrize(
    "keys", [[], [""], ["short"], [NEW, "o" * 31], "a bare string of more than thirty-two letters"]
)
def test_weak_keys_are_refused_and_not_quoted(keys: list[str]) -> None:
    with pytest.raises(ValueError, match="at least 32 characters") as caught:
        CallbackTokens(keys)

    assert "short" not in str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        pytest.param({"a": "x" * 1_017}, "1025 bytes", id="one byte too many"),
        pytest.param({"a": "元" * 200}, "at most 1024", id="six bytes an escaped character"),
        pytest.param({"a": datetime}, "not a JSON object", id="not JSON"),
        pytest.param({"a": float("nan")}, "not a JSON object", id="NaN"),
        pytest.param({1: "a", "1": "b"}, "not a JSON object", id="keys that become equal"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(metadata: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        issue(CallbackTokens([NEW]), metadata=metadata)


def test_the_largest_metadata_still_reads() -> None:
    tokens = CallbackTokens([NEW])
    noise = "".join(random.Random(0).choices(LETTERS, k=1_016))  # does not compress

    token = tokens.read("minimax", issue(tokens, metadata={"a": noise}), NOW)

    assert token
    assert token.metadata == {"a": noise}


def test_token_ids_are_short_and_unequal() -> None:
    ids = {new_token_id() for _ in range(1_000)}

    assert len(ids) == 1_000
    assert all(re.fullmatch(r"cb_z{10}[0-9a-z]{16}", each) for each in ids)


@pytest.mark.parametrize("single_task", [True, False])
def test_a_token_says_whether_it_is_for_one_task(single_task: bool) -> None:
    tokens = CallbackTokens([NEW])

    token = tokens.read("minimax", issue(tokens, single_task=single_task), NOW)

    assert token
    assert token.single_task is single_task


@pytest.mark.parametrize("value", [1, "true", None, [True]])
def test_only_true_makes_it_for_one_task(value: object) -> None:
    payload = {"provider": "minimax", "id": "id1", "exp": None, "meta": {}, "single": value}

    token = CallbackTokens([NEW]).read("minimax", signed(payload), NOW)

    assert token
    assert not token.single_task
