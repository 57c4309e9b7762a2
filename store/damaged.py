"""Rows that cannot be read, by somebody's hand or a bad disk: none of them keeps the others waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from store.database import unreadable

Key = TypeVar("Key")
Found = TypeVar("Found")


def what_can_be_read(
    keys: Iterable[Key], read: Callable[[Key], Found], damaged: Callable[[Key, str], object]
) -> list[Found]:
    """Read them one by one; `damaged` is told of each that cannot be read, and why."""
    found = []
    for key in keys:
        try:
            found.append(read(key))
        except Exception as error:  # what cannot be read fails in many ways; the rest goes on up
            if not unreadable(error):
                raise
            damaged(key, f"{type(error).__name__}: {error}".splitlines()[0])
    return found
