"""What the store can fail with. The type says what to do next."""

from __future__ import annotations


class StoreError(Exception):
    """Root of everything the store raises on purpose."""


class StoreUnavailableError(StoreError):
    """The database did not answer, or is out of room. Nothing is known to be written; try later."""


class ReadOnlyError(StoreUnavailableError):
    """The connection is good for reading only. Nothing was written; another one may be better."""


class NotFoundError(StoreError):
    """No row of that id."""


class ConflictError(StoreError):
    """The row is not in a state that allows this; the message says which."""


class CursorError(StoreError):
    """No reader can go on from that cursor of the event log. known: the one to name instead."""

    def __init__(self, cursor: int, known: int) -> None:
        super().__init__(f"cursor {cursor}: {known}")
        self.cursor = cursor
        self.known = known


class CursorAheadError(CursorError):
    """This log has never given it out. known: the newest that it has."""


class CursorExpiredError(CursorError):
    """Events after it were deleted. known: the oldest that is kept."""


class TooLargeError(StoreError):
    """What is to be stored is over its size limit; the message says which, and by how much."""


class ChangedMeanwhileError(ConflictError):
    """The row is not the one that was read; read it again, decide again."""


class SchemaError(StoreError):
    """The database's schema does not fit this code."""


class UnfitError(StoreError):
    """The database is not one that Taskbell can work on: what is wrong, and what to do."""

    def __init__(self, text: str, todo: str) -> None:
        super().__init__(f"{text}: {todo}")
        self.text = text
        self.todo = todo
