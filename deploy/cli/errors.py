"""What a command could not do, told in one line. deploy/cli/frame.py shows it."""

from __future__ import annotations


class CommandError(Exception):
    """The thing asked about failed. The message is shown as it is, behind `taskbell: `."""

    exit_code = 1


class UsageError(CommandError):
    """The words or settings given to the command are wrong; the message names them."""

    exit_code = 2


class ServerAway(CommandError):
    """The server cannot be reached or cannot answer now: the same question may work later."""


class KeyTooWeak(CommandError):
    """The API key may not do that; the message says what it may."""


class CursorGone(CommandError):
    """Events cannot be read on from a cursor. known: the newest one that there is, or the oldest."""

    def __init__(self, message: str, known: int) -> None:
        super().__init__(message)
        self.known = known
