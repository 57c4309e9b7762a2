"""The corpus of hostile inputs: where its rows are, which are for later, where the contract wins.

hostile_inputs.jsonl came with the threat model and is kept as it came; more_inputs.jsonl holds rows
of our own in the same form. Fields: `value` | `body` (text; list = one after the other) | `body_b64` |
`gen` ([text, times] to join) | `raw`, `raw_gen`, `raw_drip` (bytes on the socket) | `path`, `method`, `query`, `headers`,
`dns` (answers by name, `*` any; list of lists = one list a look-up), `config`, `response`, `confirm`.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Row = dict[str, Any]

FOLDER = Path(__file__).parent
SLOWEST_SECONDS = 1.0
"""No answer to a hostile row may take more of `cpu_seconds`: a busy machine adds nothing to it."""

cpu_seconds = time.process_time

LATER = {
    "tenants": ("A017", "A020", "A021", "A022", "A023"),
    "idempotency keys of clients": ("A059",),
}
"""Rows about what is not built yet, by class."""

CONTRACT = {
    "C048": "a challenge is echoed as the JSON value it is, whatever its type",
    "C049": "a challenge is echoed as the JSON value it is, whatever its type",
    "C050": "a challenge is echoed as the JSON value it is, whatever its type",
    "C051": "a challenge is echoed as the JSON value it is, whatever its type",
    "C052": "a challenge is echoed as the JSON value it is, whatever its type",
    "C204": "a success without outputs counts as processing, until the provider says it again",
}
"""Rows whose expectation interface.md overrules, and how. Everything else binds."""


def all_rows() -> list[Row]:
    files = ("hostile_inputs.jsonl", "more_inputs.jsonl")
    return [
        json.loads(line)
        for name in files
        for line in (FOLDER / name).read_text("utf-8").splitlines()
    ]


def chosen(fits: Callable[[Row], bool]) -> list[Any]:
    """The rows that a test takes, as its parameters. Those for later are skipped, and counted."""
    return [pytest.param(row, id=row["id"], marks=_later(row)) for row in all_rows() if fits(row)]


def _later(row: Row) -> list[pytest.MarkDecorator]:
    reasons = [why for why, ids in LATER.items() if row["id"] in ids]
    return [pytest.mark.skip(f"later: {why}") for why in reasons]


def bodies(row: Row) -> list[bytes]:
    """The bodies to send, one after the other."""
    if "body_b64" in row:
        return [base64.b64decode(row["body_b64"])]
    if "gen" in row:
        return [joined(row["gen"]).encode()]
    texts = row.get("body", "")
    return [text.encode() for text in ([texts] if isinstance(texts, str) else texts)]


def joined(parts: list[Any]) -> str:
    return "".join(text * times for text, times in parts)


# which test takes which rows


def is_url(row: Row) -> bool:
    return bool(row["target"] == "subscriber_url")


def is_raw(row: Row) -> bool:
    return "raw" in row or "raw_drip" in row


def is_confirm(row: Row) -> bool:
    return "confirm" in row


def is_poll(row: Row) -> bool:
    return row.get("via") == "poll"


def is_push(row: Row) -> bool:
    others = is_raw(row) or is_confirm(row) or is_poll(row)
    return row["target"] == "callback" and not others


def is_page(row: Row) -> bool:
    return bool(row["target"] == "api" and row["path"].startswith(("/dash/", "/login")))


def is_api(row: Row) -> bool:
    return bool(row["target"] == "api" and not is_page(row))


def is_custom_header(row: Row) -> bool:
    return row.get("direction") == "outbound-config"


def is_answer(row: Row) -> bool:
    return row.get("direction") == "response"


def is_verify(row: Row) -> bool:
    return row.get("direction") == "inbound-verify"


KINDS = (
    *(is_url, is_raw, is_confirm, is_poll, is_push, is_page, is_api),
    *(is_custom_header, is_answer, is_verify),
)
