"""Errors as the outside sees them: RFC 9457 problems that name the thing and nothing internal."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

from receiver.body import dump_json
from store.errors import CursorAheadError, CursorError

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """Answer this request with a problem. detail is shown to the client as it is.

    members: what a program reads besides (RFC 9457, 3.2): a code, and what goes with it.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, str | int] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = dict(members or {})


class Busy(Problem):
    """Too much is under way for this request. It may find room a little later."""


def problem_response(problem: Problem) -> Response:
    body = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        **problem.members,
    }
    return Response(dump_json(body), problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def store_away() -> Problem:
    return Problem(503, "the event store is not available; try again", {"Retry-After": "5"})


def no_such_cursor(error: CursorError) -> Problem:
    """410: a reader cannot go on from this cursor, and from where it can."""
    if isinstance(error, CursorAheadError):
        return Problem(
            410,
            f"this log has never given out cursor {error.cursor}, it ends at {error.known}: the"
            " database was restored, or is another one; read on with"
            f" after={error.known} for what is still to come, with after=0 for all there is",
            members={"code": "cursor_ahead", "newest": error.known},
        )
    return Problem(
        410,
        f"events after cursor {error.cursor} were deleted (TASKBELL_RETENTION_DAYS), the oldest one"
        f" that is kept has {error.known}: read on with after={error.known}, or with after=0 for all"
        " that is kept",
        members={"code": "cursor_expired", "oldest": error.known},
    )
