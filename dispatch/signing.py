"""Standard Webhooks signatures: HMAC-SHA256 over id, time and body.

Source: standardwebhooks.com, specification 1.0.0, symmetric signatures, read 2026-11-20.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Sequence
from functools import lru_cache

_PREFIX = "whsec_"
_NEW_BYTES = 32
_SHORTEST_BYTES, _LONGEST_BYTES = 24, 64


def new_secret() -> str:
    """A fresh signing secret: whsec_ and the base64 of 32 random bytes."""
    return _PREFIX + base64.b64encode(os.urandom(_NEW_BYTES)).decode()


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """One signature, `v1,<base64>`; timestamp in unix seconds.

    Raises ValueError for a bad secret, and for an id with a dot: the dot separates what is
    signed, so id "a.1" and time 2 would sign like id "a" and time "1.2".
    """
    if "." in message_id:
        raise ValueError(f"a signed id has no dot: {message_id!r}")
    # the key's half of the work is done once; hmac.digest would also let go of the interpreter's
    # lock, and wait for it behind the writer's thread
    mac = _keyed(secret).copy()
    mac.update(f"{message_id}.{timestamp}.".encode())
    mac.update(body)
    return "v1," + base64.b64encode(mac.digest()).decode()


def signature_header(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of webhook-signature: one signature per secret, in the order given."""
    return " ".join(sign(secret, message_id, timestamp, body) for secret in secrets)


def signed_headers(
    secrets: Sequence[str], message_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """The three headers that let a subscriber check body, id and time."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature_header(secrets, message_id, timestamp, body),
    }


@lru_cache(maxsize=1024)
def _keyed(secret: str) -> hmac.HMAC:
    return hmac.new(_key(secret), digestmod=hashlib.sha256)


def _key(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        raise ValueError(f"a signing secret starts with {_PREFIX}")
    text = secret.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    # the second spelling of the same bytes (spare bits set) is refused by strict decoders elsewhere
    if not key or base64.b64encode(key).decode() != text:
        raise ValueError(f"a signing secret is {_PREFIX} and padded base64") from None
    if not _SHORTEST_BYTES <= len(key) <= _LONGEST_BYTES:
        raise ValueError(
            f"a signing secret holds {_SHORTEST_BYTES} to {_LONGEST_BYTES} bytes, not {len(key)}"
        )
    return key
