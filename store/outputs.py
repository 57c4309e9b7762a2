"""Outputs as they are kept: a link whole or not at all, and then a note that says why."""

from __future__ import annotations

import re
from dataclasses import replace

from store.events import Output
from store.text import CUT, clean

LONGEST_URL = 8_192

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=:)")
_LINKS = ("http", "https")
_SHOWN = 40


def whole_or_noted(output: Output) -> Output:
    """The output, without its URL and with a note when that cannot be given whole.

    >>> whole_or_noted(Output(url="data:image/png;base64,iVBORw0KGgo=")).note
    'the result came inline (data:image/png, 34 characters) and not as a link: only links are kept'
    """
    url = output.url
    if not url:
        return output
    note = _why_not(url)
    return replace(output, url=None, note=note) if note else replace(output, url=clean(url))


def _why_not(url: str) -> str | None:
    scheme = _SCHEME.match(url)
    name = scheme[0].lower() if scheme else ""
    if name in _LINKS and url[len(name) : len(name) + 3] == "://":
        if len(url) <= LONGEST_URL and CUT not in url:
            return None
        return f"the link has {_length(url)}: Taskbell keeps up to {LONGEST_URL:,}"
    if name == "data":
        media = re.match(r"data:[\w.+/-]*", url, re.IGNORECASE)
        what = media[0][:_SHOWN] if media else name
        return (
            f"the result came inline ({what}, {_length(url)}) and not as a link:"
            " only links are kept"
        )
    if name and len(name) < _SHOWN:
        return f"the link begins with {name}: and only http and https links are passed on"
    return f"the result came inline ({_length(url)}) and not as a link: only links are kept"


def _length(url: str) -> str:
    return f"over {len(url) - 1:,} characters" if url.endswith(CUT) else f"{len(url):,} characters"
