"""Why an attempt failed, as a key of the catalogues: what it means, and what to do about it."""

from __future__ import annotations

import re

from receiver.pages.words import Words

_KINDS = (
    ("timeout", r"timed out|connection timed out"),
    ("refused", r"connection refused"),
    ("unreachable", r"no route to host|network is unreachable|host is (?:down|unreachable)"),
    ("dropped", r"connection (?:reset|closed)"),
    ("certificate", r"TLS: certificate"),
    ("tls", r"TLS:"),
    ("not_http", r"the answer is not valid HTTP"),
    ("blocked", r"address refused"),
    ("no_host", r"no such host|the name servers|looking up"),
    ("shape", r"the shape "),
    ("format", r"format '"),
    ("parked", r"parked:"),
    ("gone", r"410 Gone"),
    ("expired", r"expired$"),
    ("skipped", r"skipped$"),
)
_PATTERNS = tuple((kind, re.compile(pattern)) for kind, pattern in _KINDS)
_STATUS = {
    400: "bad_request",
    401: "denied",
    403: "denied",
    404: "not_found",
    405: "method",
    410: "gone",
    413: "too_large",
    429: "too_many",
}
_ANSWERED = re.compile(r"answered (\w{1,60})(?:: (\w{1,60})?)?")
# what dispatch/refusals.py makes of a code by the words beside it
_NOTE = re.compile(r"\((gone\??|rate limit)\)(?: to \d+ attempts in a row)?$")
_POINTS_TO = re.compile(
    r"answered 3\d\d: redirects are not followed; it points to ([\w.\[\]:-]+(?: \(https?\))?)$"
)
_FAMILIES = {"lark": "feishu"}


def explanation(words: Words, error: str | None, status: int | None, format_name: str) -> str:
    """In the words of a language; "" when there is nothing to add to the error itself."""
    said = _ANSWERED.match(error or "")
    family = _FAMILIES.get(format_name, format_name)
    note = _NOTE.search(error or "")
    if said and note and note[1] == "rate limit":
        return words.or_else(f"service.{family}.limited", words("reason.too_many"))
    for code in said.groups() if said else ():
        keys = (f"gone_{code}", code) if note and note[1].startswith("gone") else (code,)
        for key in keys if code else ():
            known = words.or_else(f"service.{family}.{key}", "")
            if known:
                return known
    elsewhere = _POINTS_TO.match(error or "")
    if elsewhere:
        return words("reason.redirect_to", host=elsewhere[1])
    return words.or_else(f"reason.{_kind(error or '', status)}", "")


def _kind(error: str, status: int | None) -> str:
    for kind, pattern in _PATTERNS:
        if pattern.match(error):
            return kind
    if status is None:
        return ""
    if status in _STATUS:
        return _STATUS[status]
    if 200 <= status < 300:
        return "not_taken" if error else ""
    return {3: "redirect", 4: "client_error", 5: "server_error"}.get(status // 100, "")
