from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.secrets import with_dev_api_key, with_secret_keys
from deploy.settings import Settings, SettingsError, load
from receiver.tokens import CallbackTokens
from store.vault import Vault

KEY = "k" * 32


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(database_url=f"sqlite:///{tmp_path / 'data' / 'bell.db'}")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secret_keys_are_made_once_and_only_their_owner_reads_them(
    settings: Settings, tmp_path: Path
) -> None:
    first = with_secret_keys(settings)
    again = with_secret_keys(settings)

    kept = tmp_path / "data" / "bell.db.secret-keys"
    assert mode(kept) == 0o600
    assert first.secret_keys == again.secret_keys == (kept.read_text().strip(),)
    assert len(first.secret_keys[0]) >= 64
    Vault(first.secret_keys)
    CallbackTokens(first.secret_keys)


def test_two_installations_have_different_keys(settings: Settings, tmp_path: Path) -> None:
    other = replace(settings, database_url=f"sqlite:///{tmp_path / 'other.db'}")

    assert with_secret_keys(settings).secret_keys != with_secret_keys(other).secret_keys


def test_a_key_can_be_added_to_the_file(settings: Settings, tmp_path: Path) -> None:
    [first] = with_secret_keys(settings).secret_keys
    (tmp_path / "data" / "bell.db.secret-keys").write_text(f"{first}, {KEY}\n")

    assert with_secret_keys(settings).secret_keys == (first, KEY)


def test_keys_that_are_set_are_used_and_nothing_is_written(
    settings: Settings, tmp_path: Path
) -> None:
    given = replace(settings, secret_keys=(KEY,), api_key=KEY)

    assert with_secret_keys(given) is given
    assert with_dev_api_key(given) is given
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "\n", "hush\n", f"{KEY},\n", f"{KEY},{KEY}\n"])
def test_a_file_that_holds_a_short_key_or_one_twice_is_refused_by_its_name(
    settings: Settings, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "data" / "bell.db.secret-keys"
    path.parent.mkdir()
    path.write_text(text)

    with pytest.raises(SettingsError, match=r"bell\.db\.secret-keys") as caught:
        with_secret_keys(settings)

    assert "hush" not in str(caught.value)


def test_postgresql_needs_keys_that_every_process_shares() -> None:
    settings = load({"TASKBELL_DATABASE_URL": "postgresql://host/db"})

    with pytest.raises(SettingsError, match="TASKBELL_SECRET_KEYS is not set"):
        with_secret_keys(settings)


def test_a_development_key_is_left_for_commands_beside_the_server(
    settings: Settings, tmp_path: Path
) -> None:
    first = with_dev_api_key(settings)
    again = with_dev_api_key(settings)

    kept = tmp_path / "data" / "bell.db.dev-api-key"
    assert mode(kept) == 0o600
    assert first.api_key == again.api_key == kept.read_text().strip()
    assert first.api_key is not None
    assert first.api_key.startswith("tb_")


def test_with_postgresql_a_development_key_lasts_for_one_start() -> None:
    settings = load({"TASKBELL_DATABASE_URL": "postgresql://host/db"})

    assert with_dev_api_key(settings).api_key != with_dev_api_key(settings).api_key
