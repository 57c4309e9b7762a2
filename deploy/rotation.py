"""Stored secrets under a new key: `taskbell keys rotate`."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.secrets import with_secret_keys
from deploy.settings import Settings
from store.database import Database, open_directly
from store.errors import StoreError
from store.schema import usable
from store.store import Store
from store.subscriptions import Relock, relock
from store.vault import Vault


@dataclass(frozen=True, slots=True)
class Rotated:
    """How many secrets were moved to the newest key, how many lay there, and what no key opens."""

    moved: int = 0
    already: int = 0
    lost: tuple[str, ...] = ()


def rotate(settings: Settings, batch: int = 100) -> Rotated:
    """Encrypt every stored secret with the newest secret key, `batch` subscriptions at a time.

    PostgreSQL may serve meanwhile, if every process knows the newest key already. Raises
    SettingsError, StoreError.
    """
    path = settings.sqlite_path
    if path is not None and not path.is_file():
        raise StoreError(f"there is no database at {path}")
    vault = Vault(with_secret_keys(settings).secret_keys)
    store = _open(open_directly(settings.database_url, settings.direct_database_url))
    try:
        if not store.read_now(usable):
            raise StoreError("the database's schema is an older one: run `taskbell migrate` first")
        return _relock_all(store, vault, batch)
    finally:
        store.close()


def _open(database: Database) -> Store:
    try:
        return Store(database)
    except StoreError:
        # it read its keys when it started, and could not open what another one locked
        raise StoreError(
            f"{database.file} is in use by a running server: stop it, rotate, and start it"
            " with the same keys"
        ) from None


def _relock_all(store: Store, vault: Vault, batch: int) -> Rotated:
    total = Rotated()
    after: str | None = ""
    while after is not None:
        step = store.write_now(relock, Relock(vault, after, batch))
        total = Rotated(
            total.moved + step.moved, total.already + step.already, total.lost + step.lost
        )
        after = step.last
    return total
