"""Why a signature does not match: each part is looked at, then typical changes are undone one by one.

Pure; nothing that is said here repeats a secret.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hmac import compare_digest
from typing import Any

from dispatch.signing import sign

TOLERANCE = timedelta(minutes=5)
"""How far from now the libraries of Standard Webhooks let a timestamp be."""

NAMES = ("webhook-id", "webhook-timestamp", "webhook-signature")

_ORDER = (
    *("id", "type", "timestamp", "data", "task", "previous_status", "provider"),
    *("provider_task_id", "family", "url", "kind", "file_id", "expires_at", "code", "message"),
    *("model", "status", "provider_status", "progress", "outputs", "error", "usage", "metadata"),
    *("version", "created_at", "updated_at", "finished_at", "deadline_at", "source", "late"),
    *("confirmed", "rescued_by_poll"),
)
"""The keys of an event and all in it, as store/events.py writes them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen of one part: secret, headers, id, timestamp, body or signature."""

    part: str
    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class _Message:
    """What a signature is made of, and what it would be made of had something not been changed."""

    message_id: str
    timestamp: str
    body: bytes


def examine(
    secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: datetime
) -> list[Finding]:
    """Look at every part; the signature matches when all findings are ok.

    headers: names in any spelling. secrets: one, or several when it is not known which.
    """
    usable, findings = _look_at_secrets(secrets)
    named, about_headers = _look_at_headers(headers)
    findings += about_headers
    if "webhook-timestamp" in named:
        findings.append(_look_at_timestamp(named["webhook-timestamp"], now))
    if "webhook-signature" in named:
        findings += _look_at_form(named["webhook-signature"])
    if set(named) == set(NAMES) and usable:
        findings += _compare(usable, named, body)
    return findings


# The secret


def _look_at_secrets(secrets: Sequence[str]) -> tuple[list[str], list[Finding]]:
    """Those that can be tried, mended where it is clear how."""
    usable, findings = [], []
    for place, secret in enumerate(secrets, start=1):
        number = f"number {place}: " if len(secrets) > 1 else ""
        trouble = _trouble_of(secret)
        mended = secret if trouble is None else _mended(secret)
        if _signs(mended):
            usable.append(mended)
        findings.append(
            Finding("secret", trouble is None, number + (trouble or "whsec_ and a key in base64"))
        )
    return usable, findings


def _trouble_of(secret: str) -> str | None:
    if _signs(secret):
        return None
    if not secret.strip():
        return "it is empty"
    if secret != secret.strip():
        return "it has blanks or a line break around it"
    if secret[0] in "'\"`" or secret[-1] in "'\"`":
        return "it has quotes around it"
    if re.search(r"\s", secret):
        return "it has blanks in it"
    if secret.startswith("tb_"):
        return "that is an API key of Taskbell's; the signing secret starts with whsec_"
    if secret.startswith(("sk-", "sk_", "Bearer ", "eyJ")):
        return "that looks like a provider's API key; the signing secret starts with whsec_"
    if secret.lower().startswith("whsec_") and not secret.startswith("whsec_"):
        return "its beginning must be whsec_, in small letters"
    if not secret.startswith("whsec_"):
        return "it does not start with whsec_"
    return _trouble_of_key(secret.removeprefix("whsec_"))


def _trouble_of_key(text: str) -> str:
    if re.search("[-_]", text):
        return "behind whsec_ it is base64 for URLs (- and _), not the usual one (+ and /)"
    if not re.fullmatch("[A-Za-z0-9+/]*={0,2}", text):
        return "behind whsec_ there are letters that base64 has not"
    if len(text) % 4:
        return "behind whsec_ it is no whole base64: a part or the = at its end is missing"
    try:
        return f"behind whsec_ there are {len(base64.b64decode(text))} bytes: 24 to 64 are right"
    except binascii.Error:
        return "behind whsec_ there is no base64"


def _mended(secret: str) -> str:
    text = re.sub(r"\s|^['\"`\s]+|['\"`\s]+$", "", secret)
    text = re.sub("^whsec_", "", text, flags=re.IGNORECASE).replace("-", "+").replace("_", "/")
    return "whsec_" + text + "=" * (-len(text) % 4)


def _signs(secret: str) -> bool:
    try:
        sign(secret, "id", 0, b"")
    except ValueError:
        return False
    return True


# The headers


def _look_at_headers(headers: Mapping[str, str]) -> tuple[dict[str, str], list[Finding]]:
    """The three by their right names, and what is to be said about those that are not there."""
    spelled = {_plain_name(name): name for name in headers}
    named: dict[str, str] = {}
    findings = []
    for name in NAMES:
        known = spelled.get(name)
        if known is None:
            findings.append(Finding("headers", False, f"{name} is missing{_hint(name, spelled)}"))
        else:
            named[name] = headers[known].strip()
    if not findings:
        findings.append(Finding("headers", True, "all three webhook-… headers are there"))
    return named, findings


def _plain_name(name: str) -> str:
    """As WSGI and CGI write it, too: HTTP_WEBHOOK_ID."""
    return name.strip().lower().replace("_", "-").removeprefix("http-")


def _hint(name: str, spelled: Mapping[str, str]) -> str:
    other = name.replace("webhook-", "svix-")
    if other in spelled:
        return f": there is {other}, so this is not from Taskbell"
    return ": a proxy in between may drop headers it does not know" if spelled else ""


# The time


def _look_at_timestamp(text: str, now: datetime) -> Finding:
    if not re.fullmatch("[0-9]{1,15}", text):
        return Finding("timestamp", False, f"{text[:40]!r} is not a number of seconds")
    seconds = int(text)
    if len(text) >= 12:
        return Finding("timestamp", False, f"{text} is in milliseconds: seconds are right")
    late = now.timestamp() - seconds
    if abs(late) <= TOLERANCE.total_seconds():
        return Finding("timestamp", True, f"{_span(late)} {'ago' if late >= 0 else 'ahead'}")
    if late > 0:
        words = f"{_span(late)} old: more than 5 min are refused. A message kept from then, or a clock here that is ahead"
    else:
        words = f"{_span(late)} ahead of the clock here: more than 5 min are refused. Set the clock"
    return Finding("timestamp", False, words)


def _span(seconds: float) -> str:
    """A time in words.

    >>> _span(-90), _span(7300)
    ('1 min 30 s', '2 h 1 min')
    """
    rest = int(abs(seconds))
    days, hours, minutes = rest // 86400, rest // 3600 % 24, rest // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest % 60} s" if minutes else f"{rest} s"


# The signature's form


def _look_at_form(header: str) -> Iterator[Finding]:
    if not header:
        yield Finding("signature", False, "the header is empty")
    elif not any(_well_formed(part) for part in header.split(" ")):
        yield Finding("signature", False, _wrong_form(header))


def _well_formed(part: str) -> bool:
    return re.fullmatch(r"v1,[A-Za-z0-9+/]{43}=", part) is not None


def _wrong_form(header: str) -> str:
    right = "v1, and 44 characters of base64 are right"
    if re.fullmatch("(v1[,=])?(sha256=)?[0-9a-fA-F]{64}", header):
        return f"it is written in hex: {right}"
    if re.search("(^|[, ])t=[0-9]+", header):
        return f"it is in another service's form (t=…,v1=…): {right}"
    if re.fullmatch("[A-Za-z0-9+/]{43}=", header):
        return "its beginning v1, is missing"
    if re.match("v1[a-z]?=", header) or header.startswith("v1 "):
        return f"a comma belongs behind v1: {right}"
    if re.fullmatch(r"v1,[A-Za-z0-9_-]{43}=?", header):
        return f"it is base64 for URLs, or cut: {right}"
    if version := re.match("(v[0-9a-z]+),", header):
        return f"it is of version {version[1][:8]}: only v1 is made with the secret"
    return f"{right}; this has {len(header)} characters of another form"


# The comparison


def _compare(secrets: Sequence[str], named: Mapping[str, str], body: bytes) -> list[Finding]:
    """Whether it matches; else which one change makes it match."""
    given = _signatures(named["webhook-signature"])
    timestamp = re.sub(r"^([0-9]{9,12})[0-9]{3}$", r"\1", named["webhook-timestamp"])  # of ms
    sent = _Message(named["webhook-id"], timestamp, body)
    if place := _matching(secrets, sent, given):
        which = f" with secret number {place}" if len(secrets) > 1 else ""
        return [Finding("signature", True, f"matches id, timestamp and body{which}")]
    for part, words, changed in _changes(sent):
        if _matching(secrets, changed, given):
            return [Finding(part, False, words)]
    return [*_about_the_id(sent), Finding("signature", False, _NOTHING)]


_NOTHING = (
    "no secret given here made it for this id, timestamp and body, and undoing the usual changes of"
    " a body does not help. Is it the secret of this subscription? It was shown once, when the"
    " subscription was made; after rotate-secret the old one signs for 24 hours only"
)


def _signatures(header: str) -> list[bytes]:
    """What was sent, also when it was written otherwise: as 32 bytes each."""
    found = []
    for part in re.split("[ ,]", header)[:20]:
        text = re.sub("^(v1|sha256)=", "", part)
        try:
            raw = bytes.fromhex(text) if len(text) == 64 else _from_base64(text)
        except ValueError:
            continue
        if len(raw) == 32:
            found.append(raw)
    return found


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4))


def _matching(secrets: Sequence[str], message: _Message, given: Sequence[bytes]) -> int | None:
    """The number of the secret that made one of the signatures, from 1."""
    if not re.fullmatch("[0-9]{1,15}", message.timestamp) or "." in message.message_id:
        return None
    for place, secret in enumerate(secrets, start=1):
        text = sign(secret, message.message_id, int(message.timestamp), message.body)
        expected = base64.b64decode(text.removeprefix("v1,"))
        if any(compare_digest(expected, each) for each in given):
            return place
    return None


def _changes(sent: _Message) -> Iterator[tuple[str, str, _Message]]:
    """One part undone at a time: which, what to say if that matches, and the message then."""
    for words, body in _bodies(sent.body):
        text = (
            f"was changed after it was signed: it matches {words}."
            " Verify the raw bytes of the request, before anything parses them"
        )
        yield "body", text, _Message(sent.message_id, sent.timestamp, body)
    for message_id in _ids(sent):
        text = f"{sent.message_id[:60]!r} is not what was signed: that was {message_id!r}"
        yield "id", text, _Message(message_id, sent.timestamp, sent.body)


def _bodies(body: bytes) -> Iterator[tuple[str, bytes]]:
    yield "without the line break at its end", body.rstrip(b"\r\n")
    yield "with a line break at its end", body + b"\n"
    yield "without the blanks around it", body.strip()
    yield "with LF line breaks instead of CRLF", body.replace(b"\r\n", b"\n")
    yield (
        "with CRLF line breaks instead of LF",
        body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
    )
    yield "without the byte order mark", body.removeprefix(b"\xef\xbb\xbf")
    try:
        value = json.loads(body)
        yield from _rewritten(value)
    except (ValueError, RecursionError):
        return


def _rewritten(value: Any) -> Iterator[tuple[str, bytes]]:
    """The same JSON, as others write it. Taskbell writes it compact, in UTF-8."""
    compact = (",", ":")
    yield "as compact JSON, without blanks and with letters unescaped", _dumped(value, compact)
    yield "as compact JSON with letters escaped (\\u…)", _dumped(value, compact, ascii_only=True)
    yield "as compact JSON with its keys in Taskbell's order", _dumped(_ordered(value), compact)
    yield "as compact JSON with its keys sorted", _dumped(value, compact, ordered=True)
    yield "as JSON with blanks behind commas and colons", _dumped(value, (", ", ": "))
    yield "as JSON with blanks and letters escaped", _dumped(value, (", ", ": "), ascii_only=True)
    for indent in (2, 4):
        text = json.dumps(value, indent=indent, ensure_ascii=False)
        yield f"as JSON indented by {indent}", text.encode("utf-8", "surrogatepass")


def _dumped(
    value: Any, separators: tuple[str, str], *, ascii_only: bool = False, ordered: bool = False
) -> bytes:
    text = json.dumps(value, separators=separators, ensure_ascii=ascii_only, sort_keys=ordered)
    return text.encode("utf-8", "surrogatepass")


def _ordered(value: Any) -> Any:
    """With the keys as Taskbell writes them, and 1.0 where JavaScript made a 1 of it."""
    if isinstance(value, list):
        return [_ordered(each) for each in value]
    if not isinstance(value, dict):
        return value
    known = [name for name in _ORDER if name in value]
    rest = [name for name in value if name not in known]
    return {name: _in_place(name, value[name]) for name in [*known, *rest]}


def _in_place(name: str, value: Any) -> Any:
    if name == "progress" and isinstance(value, int):
        return float(value)
    return value if name in ("metadata", "usage") else _ordered(value)


def _ids(sent: _Message) -> Iterator[str]:
    """Spellings of the id that may have been meant."""
    bare = sent.message_id.strip("\"' ")
    named = _id_in(sent.body)
    tail = bare.partition("_")[2] or bare
    candidates = (named, bare, bare.lower(), f"evt_{tail.lower()}", f"msg_{tail}", tail)
    seen = {sent.message_id, None}
    for candidate in candidates:
        if candidate not in seen:
            seen.add(candidate)
            yield str(candidate)


def _id_in(body: bytes) -> str | None:
    """Taskbell's events carry their id."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    named = found.get("id") if isinstance(found, dict) else None
    return named if isinstance(named, str) and len(named) <= 200 else None


def _about_the_id(sent: _Message) -> Iterator[Finding]:
    if "." in sent.message_id:
        yield Finding("id", False, "it has a dot in it: no signed id has")
    named = _id_in(sent.body)
    if named is not None and named.startswith("evt_") and named != sent.message_id:
        text = f"the header says {sent.message_id[:60]!r}, the body {named[:60]!r}: two messages?"
        yield Finding("id", False, text)
