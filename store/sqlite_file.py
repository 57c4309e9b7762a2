"""The SQLite file itself: who may read it, whether it can be worked on, and who works on it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from store.errors import StoreError, UnfitError

_PRIVATE = 0o600
_HEADER = b"SQLite format 3\0"


def real(path: Path) -> Path:
    """Return the one name of a file that has several: absolute, without links and dots."""
    return Path(os.path.realpath(path))


def lock_file(path: Path) -> Path:
    """Return the file that a process holds while it works on a SQLite file."""
    return Path(f"{real(path)}.lock")


def create(path: Path) -> None:
    """Make an empty file, its owner's only whatever the umask, unless there is one.

    SQLite gives the files beside it the same mode.
    """
    with contextlib.suppress(FileExistsError):
        handle = os.open(real(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, _PRIVATE)
        try:
            os.fchmod(handle, _PRIVATE)
        finally:
            os.close(handle)


def check_place(path: Path) -> None:
    """Look at the file's place without opening it as a database.

    Raises UnfitError, which names the path and says what to do.
    """
    file = real(path)
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        if not file.parent.is_dir():
            raise UnfitError(
                f"there is no folder {file.parent} for the database {path}", f"make it, or {_OTHER}"
            ) from None
        _check_writable(file.parent, path)
        return
    except OSError as error:
        raise UnfitError(f"{path} cannot be a database ({error.strerror})", _OTHER) from None
    if stat.S_ISDIR(mode):
        raise UnfitError(f"{path} is a folder", f"name a file in it: sqlite:///{path}/taskbell.db")
    if not stat.S_ISREG(mode):
        raise UnfitError(f"{path} is not an ordinary file", _OTHER)
    _check_writable(file, path)
    _check_writable(file.parent, path)


_OTHER = "set TASKBELL_DATABASE_URL to another one"


def _check_writable(each: Path, path: Path) -> None:
    rights = os.W_OK | os.R_OK | (os.X_OK if each.is_dir() else 0)
    if not os.access(each, rights):
        what = f"the folder {each}" if each.is_dir() else f"the file {each}"
        raise UnfitError(
            f"{what} cannot be written, and the database {path} needs that",
            f"let this user write to it, or {_OTHER}",
        )


def check_header(path: Path) -> None:
    """Raise UnfitError when the file is something else than a SQLite database.

    Only for a file that this process has no connection to: closing it ends SQLite's own locks.
    """
    try:
        with real(path).open("rb") as file:
            start = file.read(len(_HEADER))
    except FileNotFoundError:
        return
    except OSError as error:
        raise UnfitError(f"{path} cannot be read ({error.strerror})", _OTHER) from None
    if start and start != _HEADER:
        raise UnfitError(f"{path} is not a SQLite database", _OTHER)


def exposed(path: Path) -> Iterator[tuple[Path, int]]:
    """Yield each file of the database that others than its owner may read or write, and its mode."""
    for ending in ("", "-wal", "-shm"):
        each = Path(f"{real(path)}{ending}")
        with contextlib.suppress(OSError):
            mode = stat.S_IMODE(each.stat().st_mode)
            if mode & 0o066:
                yield each, mode


Held = contextlib.ExitStack
"""The locks of one process on one file; close() gives them up."""


def hold(path: Path, *, touch: bool = True) -> Held:
    """Make sure this is the only Taskbell process on a file, by whatever name; keep what it returns.

    touch: make the database's file and the lock's, if they are not there. Close it only after the
    last connection. Raises StoreError when another process has the file.
    """
    held = Held()
    try:
        if touch or lock_file(path).exists():
            _lock_beside(path, held)
        if touch:
            create(path)
        _lock_itself(path, held)
    except BaseException:
        held.close()
        raise
    return held


def check_name(path: Path) -> None:
    """Raise StoreError when a server works on the file under another name.

    What it wrote lately is beside the name that it knows, and is not seen under this one.
    """
    beside, itself = lock_file(path), real(path)
    if _is_held(itself) and not _is_held(beside):
        raise StoreError(
            f"{path} is in use by a running server under another name of the same file: give its"
            " name there"
        )


def _is_held(path: Path) -> bool:
    """Return whether a process holds a file of this name."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    finally:
        os.close(handle)
    return False


_SEVERAL = "several processes need PostgreSQL: set TASKBELL_DATABASE_URL"


def _lock_beside(path: Path, held: Held) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    file = held.enter_context(os.fdopen(os.open(lock_file(path), flags, _PRIVATE), "r+"))
    with contextlib.suppress(OSError):  # another user's, of a version that made it everybody's
        os.fchmod(file.fileno(), _PRIVATE)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = file.read(20).strip() or "unknown"
        raise StoreError(
            f"{path} is in use by another taskbell process (pid {owner}); {_SEVERAL}"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()


def _lock_itself(path: Path, held: Held) -> None:
    """Lock the file whatever its name is: it may have hard links, or be mounted twice."""
    handle = os.open(real(path), os.O_RDONLY | os.O_CLOEXEC)
    held.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # elsewhere than on this machine's own file systems there may be no such lock
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise StoreError(
                f"{path} is in use by another taskbell process, under another name of the same file;"
                f" {_SEVERAL}"
            ) from None
