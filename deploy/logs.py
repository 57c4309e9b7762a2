"""Logs: one line an event. JSON for machines, short lines for a person at a terminal.

What looks like a secret is left out at the end of the way, here (deploy/redaction.py).
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TextIO

from deploy.redaction import redacted, redactor

_LONGEST = 500
_READ = 20_000  # of a longer text the rest is not looked at, and never shown
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


def hide(secrets: Iterable[str]) -> None:
    """Leave these values out of every line from now on, too."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, _Formatter):
            handler.formatter.redact = redactor(secrets)


class _Formatter(logging.Formatter):
    """redact: what every text goes through, message, fields and trace."""

    def __init__(self) -> None:
        super().__init__()
        self.redact: Callable[[str], str] = redacted

    def _plain(self, value: object) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        return self._short(str(value))

    def _short(self, text: str) -> str:
        # first: half a secret does not look like one
        if len(text) > _READ:
            text = text[:_READ].rpartition(" ")[0]
        text = self.redact(text)
        return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


class JsonFormatter(_Formatter):
    """{"time", "level", "logger", "message", …fields}."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._short(record.getMessage()),
            **{key: self._plain(value) for key, value in _fields(record)},
        }
        if record.exc_info:
            line["trace"] = self.redact(self.formatException(record.exc_info))
        return json.dumps(line)


class ConsoleFormatter(_Formatter):
    """12:00:00 INFO callbacks: push provider=minimax."""

    def format(self, record: logging.LogRecord) -> str:
        name = record.name.removeprefix("taskbell.")
        fields = "".join(f" {key}={self._plain(value)}" for key, value in _fields(record))
        event = self._short(record.getMessage())
        lines = [f"{_time(record)[11:19]} {record.levelname} {name}: {event}{fields}"]
        if record.exc_info:
            lines += self.redact(self.formatException(record.exc_info)).split("\n")
        return "\n".join(_printable(line) for line in lines)


def _printable(line: str) -> str:
    # also an exception may quote foreign text, and a terminal obeys its escape codes
    return "".join(letter if letter.isprintable() else "�" for letter in line)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return moment.removesuffix("+00:00") + "Z"


def _fields(record: logging.LogRecord) -> list[tuple[str, object]]:
    return [(key, value) for key, value in vars(record).items() if key not in _STANDARD]
