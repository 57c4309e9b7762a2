"""Trace ids made from ours: every process puts what it did about a task into the same trace."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256


def trace_id(task_id: str) -> int:
    """128 bits, the same for a task everywhere."""
    return int.from_bytes(sha256(task_id.encode()).digest()[:16])


def span_id(event_id: str, subscription_id: str, started_at: datetime) -> int:
    """64 bits for an attempt: known before it, for its header, and again when it is recorded."""
    named = f"{event_id} {subscription_id} {started_at.isoformat()}"
    return int.from_bytes(sha256(named.encode()).digest()[:8])


def traceparent(trace: int, span: int) -> str:
    """The header's value. Source: W3C Trace Context, 3.2, read 2026-11-21.

    >>> traceparent(1, 2)
    '00-00000000000000000000000000000001-0000000000000002-01'
    """
    return f"00-{trace:032x}-{span:016x}-01"
