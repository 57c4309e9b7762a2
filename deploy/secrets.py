"""Secrets made on first start: kept beside the SQLite file, readable by their owner only."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from deploy.settings import (
    Settings,
    SettingsError,
    checked_keys,
    dev_key_file,
    secret_keys_file,
)
from store.keys import new_key_text


def with_secret_keys(settings: Settings) -> Settings:
    """Settings that surely have secret keys: the given ones, the kept ones, or a fresh one.

    Raises SettingsError with PostgreSQL and no keys: several hosts must share them.
    """
    if settings.secret_keys:
        return settings
    path = secret_keys_file(settings)
    if path is None:
        raise SettingsError(
            "TASKBELL_SECRET_KEYS is not set, and PostgreSQL needs it: every process must have the"
            " same. Make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
        )
    text = _kept(path, lambda: secrets.token_urlsafe(48))
    try:
        keys = checked_keys(part.strip() for part in text.split(","))
    except ValueError as error:
        raise SettingsError(f"{path} has a value that cannot be used: {error}") from None
    return replace(settings, secret_keys=keys)


def with_dev_api_key(settings: Settings) -> Settings:
    """Settings that surely have an API key, kept so that commands beside the server find it."""
    if settings.api_key:
        return settings
    path = dev_key_file(settings)
    if path is None:
        return replace(settings, api_key=new_key_text())
    return replace(settings, api_key=_kept(path, new_key_text))


def _kept(path: Path, make: Callable[[], str]) -> str:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(make() + "\n")
    return path.read_text(encoding="ascii").strip()
