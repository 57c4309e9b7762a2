"""Secrets at rest."""

from __future__ import annotations

import pytest

from store.vault import Vault, VaultError

OLD = "old-" + "k" * 32
NEW = "new-" + "k" * 32
OTHER = "other-" + "k" * 32
SECRET = "whsec_c2VjcmV0"


@pytest.mark.parametrize("value", [SECRET, "", "长\ud800\x00", {"x-token": SECRET}, {}])
def test_what_was_locked_comes_out_again(value: str | dict[str, str]) -> None:
    vault = Vault([OLD])

    locked = vault.lock(value)

    assert vault.open(locked) == value
    assert locked.isascii()
    assert SECRET not in locked


def test_the_same_secret_never_looks_the_same() -> None:
    vault = Vault([OLD])

    assert vault.lock(SECRET) != vault.lock(SECRET)


def test_an_old_key_opens_and_the_newest_locks() -> None:
    locked = Vault([OLD]).lock(SECRET)
    both = Vault([OLD, NEW])

    assert both.open(locked) == SECRET
    assert Vault([NEW]).open(both.lock(SECRET)) == SECRET
    with pytest.raises(VaultError):
        Vault([OLD]).open(both.lock(SECRET))


def test_a_relocked_secret_needs_the_old_key_no_more() -> None:
    locked = Vault([OLD]).lock(SECRET)

    moved = Vault([OLD, NEW]).relock(locked)

    assert Vault([NEW]).open(moved) == SECRET


def test_what_lies_under_the_newest_key_stays_as_it_is() -> None:
    both = Vault([OLD, NEW])
    locked = both.lock(SECRET)

    assert both.relock(locked) == locked


@pytest.mark.parametrize("change", ["key", "cut", "flip", "empty", "text", "foreign letters"])
def test_what_no_key_opens_is_said_without_the_secret(change: str) -> None:
    locked = Vault([OLD]).lock(SECRET)
    spoiled = {
        "key": locked,
        "cut": locked[:-4],
        "flip": locked[:-8] + ("A" if locked[-8] != "A" else "B") + locked[-7:],
        "empty": "",
        "text": "not a token",
        "foreign letters": "gAAAA\ud800é",
    }[change]

    for work in (Vault([OTHER]).open, Vault([OTHER]).relock):
        with pytest.raises(VaultError, match="TASKBELL_SECRET_KEYS") as failure:
            work(spoiled)

        assert failure.value.__cause__ is None
        assert OTHER not in str(failure.value)


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param([], id="none"),
        pytest.param([""], id="empty"),
        pytest.param(["k" * 31], id="one character short"),
        pytest.param([OLD, ""], id="an empty one among good ones"),
        pytest.param(["short", NEW], id="a short one among good ones"),
    ],
)
def test_a_short_key_is_refused(keys: list[str]) -> None:
    with pytest.raises(ValueError, match="at least 32 characters"):
        Vault(keys)
