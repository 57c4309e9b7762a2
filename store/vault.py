"""Secrets at rest: encrypted with the operator's keys, readable with any of them."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MINIMUM_KEY_LENGTH = 32


class VaultError(Exception):
    """A stored secret that none of the keys opens."""


class Vault:
    """Locks and opens short secrets. keys: oldest first; the newest locks.

    Raises ValueError for no key at all or one under 32 characters: an empty key would work, and
    protect nothing.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys or any(len(key) < MINIMUM_KEY_LENGTH for key in keys):
            raise ValueError(f"each secret key needs at least {MINIMUM_KEY_LENGTH} characters")
        newest_first = [Fernet(_derive(key)) for key in reversed(keys)]
        self._newest = newest_first[0]
        self._fernet = MultiFernet(newest_first)

    def lock(self, value: str | Mapping[str, str]) -> str:
        return self._fernet.encrypt(json.dumps(value).encode()).decode("ascii")

    def open(self, locked: str) -> Any:
        """What was locked. Raises VaultError."""
        with _translated():
            return json.loads(self._fernet.decrypt(_token(locked)))

    def relock(self, locked: str) -> str:
        """The same secret under the newest key; as it is when it lies there. Raises VaultError."""
        with contextlib.suppress(InvalidToken):
            self._newest.decrypt(_token(locked))
            return locked
        with _translated():
            return self._fernet.rotate(_token(locked)).decode("ascii")


def _token(locked: str) -> bytes:
    return locked.encode("ascii", "replace")  # a damaged one is no token either way


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except InvalidToken:
        raise VaultError(
            "a stored secret was locked with a key that TASKBELL_SECRET_KEYS no longer names"
        ) from None


def _derive(key: str) -> bytes:
    # a key of its own for this use: the same text also signs callback URLs
    hkdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"taskbell.vault.v1")
    return base64.urlsafe_b64encode(hkdf.derive(key.encode()))
