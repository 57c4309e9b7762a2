"""Logs: one line an event. JSON for machines, short lines for a person at a terminal.

Nobody logs a secret on purpose. What looks like one all the same, in an exception's text say, is
left out at the end of the way, here.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import TextIO

_LONGEST = 500
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def set_up(
    stream: TextIO | None = None, *, console: bool | None = None, level: int = logging.INFO
) -> None:
    """Send everything to stderr; console None means: when it is a terminal."""
    out = stream or sys.stderr
    handler = logging.StreamHandler(out)
    pretty = out.isatty() if console is None else console
    handler.setFormatter(ConsoleFormatter() if pretty else JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # these print whole URLs at INFO, and URLs hold tokens
    for name in ("httpx", "httpcore", "aiohttp", "alembic", "uvicorn"):
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


class JsonFormatter(logging.Formatter):
    """{"time", "level", "logger", "message", …fields}."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _short(record.getMessage()),
            **{key: _plain(value) for key, value in _fields(record)},
        }
        if record.exc_info:
            line["trace"] = redacted(self.formatException(record.exc_info))
        return json.dumps(line)


class ConsoleFormatter(logging.Formatter):
    """12:00:00 INFO callbacks: push provider=minimax."""

    def format(self, record: logging.LogRecord) -> str:
        name = record.name.removeprefix("taskbell.")
        fields = "".join(f" {key}={_plain(value)}" for key, value in _fields(record))
        event = _short(record.getMessage())
        lines = [f"{_time(record)[11:19]} {record.levelname} {name}: {event}{fields}"]
        if record.exc_info:
            lines += redacted(self.formatException(record.exc_info)).split("\n")
        return "\n".join(_printable(line) for line in lines)


def _printable(line: str) -> str:
    # also an exception may quote foreign text, and a terminal obeys its escape codes
    return "".join(letter if letter.isprintable() else "�" for letter in line)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return moment.removesuffix("+00:00") + "Z"


def _fields(record: logging.LogRecord) -> list[tuple[str, object]]:
    return [(key, value) for key, value in vars(record).items() if key not in _STANDARD]


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    return _short(str(value))


def _short(text: str) -> str:
    text = redacted(text)  # first: half a secret does not look like one
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def redacted(text: str) -> str:
    """Without what looks like a key, a token, a password in an address, or a web address's path.

    >>> redacted("POST https://hooks.example.com/T00/B00/x failed: Bearer abc")
    'POST https://hooks.example.com/… failed: Bearer …'
    >>> redacted("postgresql://taskbell:hush@db/taskbell")
    'postgresql://…@db/taskbell'
    """
    text = _USER_INFO.sub(r"\1…@", text)
    return _SECRET.sub(lambda found: f"{found[found.lastgroup or 0]}…", text)


_USER_INFO = re.compile(r"""(\b[a-z+]+://)[^\s"'/@]*@""")
_SECRET = re.compile(
    r"""(?P<bearer>\b[Bb]earer\ )[^\s"',]+
    | (?P<signing>\bwhsec_)[\w+/=-]+
    | (?P<ours>\btb_[0-9a-f]{8}_)[\w-]+
    | (?P<provider>\bsk-)[\w-]{8,}
    | (?P<callback>\bcbt_)[\w-]{8,}
    | (?P<token>\beyJ)[\w-]{8,}(?:\.[\w-]+)*
    | (?P<locked>\bgAAAAA)[\w=-]+
    | (?P<address>\bhttps?://[^\s"'/?\#]+[/?\#])[^\s"']+
    """,
    re.VERBOSE,
)
