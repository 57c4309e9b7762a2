"""Everything a server knows, into one file and back: `taskbell backup`, `taskbell restore`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deploy.secrets import with_secret_keys
from deploy.settings import Settings, SettingsError, secret_keys_file
from store.claims import release
from store.copying import Counts, back_up, original, restore
from store.database import Database, open_directly
from store.errors import StoreError
from store.fitness import check
from store.store import Store
from store.subscriptions import lost_secrets
from store.vault import Vault


@dataclass(frozen=True, slots=True)
class Restored:
    """How many rows each table got, and which stored secrets no key opens."""

    counts: Counts
    lost: tuple[str, ...] = ()


def write_backup(settings: Settings, path: Path) -> Counts:
    """Back up the database of these settings. Raises StoreError, OSError."""
    source = settings.sqlite_path
    if source is not None and not source.is_file():
        raise StoreError(f"there is no database at {source}")
    database = open_directly(settings.database_url, settings.direct_database_url)
    try:
        return back_up(database, path)
    finally:
        database.dispose()


def read_backup(settings: Settings, path: Path) -> Restored:
    """Fill the empty database of these settings from a file.

    Raises SettingsError when the keys are not those that the file's secrets were stored with,
    StoreError, OSError.
    """
    vault = Vault(_given_keys(settings))
    with original(path) as source:
        lost = _lost(source, vault)
        database = open_directly(settings.database_url, settings.direct_database_url)
        try:
            check(database)
            counts = restore(source, database)
        finally:
            database.dispose()
    _end_leases(settings)
    return Restored(counts, lost)


def _end_leases(settings: Settings) -> None:
    """What the old server had under way is nobody's here: due at once, not when leases run out."""
    store = Store(open_directly(settings.database_url, settings.direct_database_url))
    store.write_now(release, None)
    store.close()


def _given_keys(settings: Settings) -> tuple[str, ...]:
    """The keys that are set or kept; a fresh one would open nothing."""
    kept = secret_keys_file(settings)
    if not settings.secret_keys and (kept is None or not kept.is_file()):
        place = f", or put its file of secret keys at {kept}" if kept else ""
        raise SettingsError(
            "TASKBELL_SECRET_KEYS is not set: without the keys of the server that was backed up,"
            f" subscriptions' secrets and callback URLs are worthless. Set it{place}"
        )
    return with_secret_keys(settings).secret_keys


def _lost(source: Database, vault: Vault) -> tuple[str, ...]:
    with source.reader.begin() as connection:
        found, lost = lost_secrets(connection, vault)
    if found and len(lost) == found:
        raise SettingsError(
            "TASKBELL_SECRET_KEYS opens none of the secrets that are stored in the file: it takes"
            " the keys of the server that was backed up"
        )
    return lost
