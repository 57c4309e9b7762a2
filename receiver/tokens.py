"""Callback tokens: the signed last part of a callback URL, and the only proof a push brings."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from itsdangerous import BadData, URLSafeSerializer

from receiver.body import dump_json, parse_json
from receiver.spelling import spell, unspell
from store.callback_tokens import make_token_id

MAX_CHARACTERS = 2048
MAX_METADATA_BYTES = 1024
MIN_KEY_CHARACTERS = 32
_REMEMBERED_MOST = 2_000  # spellings; a token's text verifies at every push it brings
_SKEW = timedelta(minutes=10)  # hosts' clocks differ, and a push may wait in a queue


@dataclass(frozen=True, slots=True)
class CallbackToken:
    """What a token carries. Several spellings of one token verify: token_id is its identity.

    single_task: it is for the first task that is pushed with it, and for no other.
    """

    provider: str
    token_id: str
    expires_at: datetime | None
    metadata: Mapping[str, Any]
    single_task: bool = False


class CallbackTokens:
    """Issues and reads callback tokens. What they carry can be read by whoever holds them.

    keys: oldest first; the last one signs, all verify. Raises ValueError when there is none or
    one is too short (itsdangerous takes even an empty key).
    """

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys or any(len(key) < MIN_KEY_CHARACTERS for key in keys):
            raise ValueError(f"secret keys need at least {MIN_KEY_CHARACTERS} characters each")
        self._serializer = URLSafeSerializer(
            list(keys),
            salt="taskbell.callback.v1",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )
        self._verified: dict[str, CallbackToken] = {}

    def issue(
        self,
        provider: str,
        token_id: str,
        *,
        expires_at: datetime | None,
        metadata: Mapping[str, Any],
        single_task: bool = False,
    ) -> str:
        """Sign a token; expires_at is kept to the second. Raises ValueError for bad metadata."""
        payload: dict[str, Any] = {
            "provider": provider,
            "id": token_id,
            "exp": None if expires_at is None else int(expires_at.timestamp()),
            "meta": _checked(metadata),
        }
        if single_task:
            payload["single"] = True
        return spell(str(self._serializer.dumps(payload)))

    def read(self, provider: str, text: str, now: datetime) -> CallbackToken | None:
        """The token, or None when it is not ours, not this provider's or expired. Never raises.

        Text is no identity: upper-case letters or another last character verify just the same.
        Anything remembered about a token is remembered under its token_id.
        """
        if len(text) > MAX_CHARACTERS or not text.isascii():
            return None
        token = self._verified.get(text) or self._verify(text)
        if token is None or token.provider != provider:
            return None
        return None if _expired(token, now) else token

    def _verify(self, text: str) -> CallbackToken | None:
        try:
            token = _token(self._serializer.loads(unspell(text)))
        except (BadData, ValueError, OverflowError, OSError):
            return None
        if token is not None:  # what is not ours is not remembered: there is no end of that
            if len(self._verified) >= _REMEMBERED_MOST:
                self._verified.clear()
            self._verified[text] = token
        return token


def new_token_id(expires_at: datetime | None = None) -> str:
    """cb_ and 26 lower-case letters and digits, of which 16 are random: 80 bits."""
    return make_token_id(expires_at, secrets.randbits(80))


def _checked(metadata: Mapping[str, Any]) -> dict[str, Any]:
    try:
        raw = dump_json(dict(metadata))
        clean: dict[str, Any] = parse_json(raw)
    except (TypeError, ValueError, RecursionError):
        raise ValueError("metadata is not a JSON object") from None
    if len(raw) > MAX_METADATA_BYTES:
        raise ValueError(f"metadata has {len(raw)} bytes of JSON, at most {MAX_METADATA_BYTES} fit")
    return clean


def _token(payload: Any) -> CallbackToken | None:
    match payload:
        case {
            "provider": str(provider),
            "id": str(token_id),
            "exp": int() | None as exp,
            "meta": dict(metadata),
        }:
            single_task = payload.get("single") is True
            return CallbackToken(provider, token_id, _moment(exp), metadata, single_task)
        case _:
            return None


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _expired(token: CallbackToken, now: datetime) -> bool:
    return token.expires_at is not None and now - token.expires_at > _SKEW
