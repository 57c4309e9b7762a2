"""Errors as the outside sees them: RFC 9457 problems that name the thing and nothing internal."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

from receiver.body import dump_json

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """Answer this request with a problem. detail is shown to the client as it is."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


def problem_response(problem: Problem) -> Response:
    body = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
    }
    return Response(dump_json(body), problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def store_away() -> Problem:
    return Problem(503, "the event store is not available; try again", {"Retry-After": "5"})
