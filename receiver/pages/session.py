"""Who looks at the pages: a signed cookie with a session's secret (receiver/logins.py has the session).

Everybody has a session, signed in or not: the token that each form carries is bound to it. So
another site can neither press our buttons nor sign a person in under a key of its own.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from itsdangerous import BadData, Signer, URLSafeSerializer

from receiver.tokens import MIN_KEY_CHARACTERS
from store.clock import Clock

LASTS = timedelta(hours=12)
_LONGEST_COOKIE = 1_000
_SKEW = timedelta(minutes=10)  # hosts' clocks differ
_HMAC = {"key_derivation": "hmac", "digest_method": hashlib.sha256}


@dataclass(frozen=True, slots=True)
class Session:
    """One browser's. id: random, and a secret; signed_in: the store has a session of it."""

    id: str
    signed_in: bool
    began_at: datetime


class Sessions:
    """Makes and reads session cookies, and the tokens of forms.

    keys: oldest first; the last one signs, all verify. public_url: how browsers reach us; under
    https the cookie is for this very host and never sent in the clear. Raises ValueError when
    there is no key or one is too short.
    """

    def __init__(self, keys: Sequence[str], public_url: str, clock: Clock) -> None:
        if not keys or any(len(key) < MIN_KEY_CHARACTERS for key in keys):
            raise ValueError(f"secret keys need at least {MIN_KEY_CHARACTERS} characters each")
        public = urlsplit(public_url)
        self.secure = public.scheme == "https"
        # cookies know no ports: two Taskbells on one machine would sign each other out
        self.cookie = _secure_name(public.path) if self.secure else f"taskbell-{public.port or 80}"
        self._clock = clock
        self._serializer = URLSafeSerializer(
            list(keys), salt="taskbell.session.v1", signer_kwargs=_HMAC
        )
        self._forms = Signer(
            list(keys), salt="taskbell.form.v1", key_derivation="hmac", digest_method=hashlib.sha256
        )

    def begin(self, *, signed_in: bool = False) -> Session:
        """A new one, with an id of its own also at sign-in: whoever knew the old id knows nothing."""
        return Session(secrets.token_hex(32), signed_in, self._clock().replace(microsecond=0))

    def read(self, cookie: str) -> Session | None:
        """The session of a cookie; None when it is not ours, or over."""
        if not 0 < len(cookie) <= _LONGEST_COOKIE or not cookie.isascii():
            return None
        try:
            session = _session(self._serializer.loads(cookie))
        except (BadData, ValueError, OverflowError, OSError):
            return None
        return session if session and self.lasts(session) else None

    def lasts(self, session: Session) -> bool:
        """Whether its time is not over yet."""
        return -_SKEW <= self._clock() - session.began_at < LASTS

    def write(self, session: Session) -> str:
        """The cookie's value."""
        return self._serializer.dumps(
            {"id": session.id, "in": session.signed_in, "at": int(session.began_at.timestamp())}
        )

    def form_token(self, session: Session) -> str:
        return self._forms.get_signature(session.id).decode()

    def fits(self, session: Session, form_token: str) -> bool:
        """Whether a form was made for this session."""
        return self._forms.verify_signature(session.id, form_token.encode("utf-8", "replace"))


def _secure_name(path: str) -> str:
    """Return a name that browsers take over TLS only; __Host- is for cookies of a whole host."""
    return "__Secure-taskbell" if path else "__Host-taskbell"


def _session(payload: object) -> Session | None:
    match payload:
        case {"id": str(session_id), "in": bool(signed_in), "at": int(at)}:
            return Session(session_id, signed_in, datetime.fromtimestamp(at, UTC))
        case _:
            return None
