"""Text as strangers write it: none of it may ever be anything but text on a page."""

from __future__ import annotations

SCRIPT = "<script>alert('hostile')</script>"
IMAGE = "\"'><img src=x onerror=alert('hostile')>"
LINK = "javascript:alert('hostile')"
BACKWARDS = "invoice\u202egpj.exe \u2067\u05e9\u05dc\u05d5\u05dd\u2069 \u200f"
CONTROL = "nul \x00 escape \x1b[31m bell \x07 line\u2028end \\u0000"
TEMPLATE = "{{ 191 * 7919 }} ${191*7919} {% include '/etc/passwd' %}"
WORD = "W" * 102_400
"""Nothing to break a line at."""

TEXT = " ".join((SCRIPT, IMAGE, BACKWARDS, CONTROL, TEMPLATE))
