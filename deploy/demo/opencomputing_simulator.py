"""元境's image and video tasks, as documented: no pushes, a query in several shapes.

Source: the provider's public api_zh.md (flat answers, error texts) and the gateway module's own
notes (wrapped answers), read 2026-11-20.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deploy.demo.book import Book, Order, Phase, SimulatedTask
from deploy.demo.wire import authorized, read_object, trouble
from store.events import Failure, Kind

_FAMILY = "task"
_WORDS = {Phase.QUEUED: "PENDING", Phase.PROCESSING: "RUNNING"}


class OpenComputing:
    """Must be polled. Failures come without a reason: no field for one is documented."""

    name = "opencomputing"

    def __init__(self, book: Book, api_key: str) -> None:
        self._book = book
        self._api_key = api_key

    @property
    def routes(self) -> list[Route]:
        video, image = partial(self._submit, Kind.VIDEO), partial(self._submit, Kind.IMAGE)
        return [
            Route("/llmage/v1/video/generations", video, methods=["POST"]),
            Route("/llmage/v1/image/generations", image, methods=["POST"]),
            Route("/llmage/v1/tasks", self._query),
        ]

    async def _submit(self, kind: Kind, request: Request) -> Response:
        if not authorized(request, self._api_key):
            return _error(401)
        body = await read_object(request)
        for name in ("model", "catelogid", "prompt"):
            if not body.get(name):
                return JSONResponse({"error": f"Missing required parameter: {name}"}, 400)
        task = self._book.submit(
            Order(
                provider=self.name,
                family=_FAMILY,
                kind=kind,
                model=str(body["model"]),
                succeeded=("SUCCEEDED",),
                failed="FAILED",
                failures=(Failure("", ""),),
                make_id=_make_id,
            )
        )
        return JSONResponse({"taskid": task.id, "status": "CREATED"})

    async def _query(self, request: Request) -> Response:
        task_id = request.query_params.get("taskid", "")
        self._book.asked(self.name, task_id)
        if not authorized(request, self._api_key):
            return _error(401)
        if (mishap := trouble(self._book, self.name, _error)) is not None:
            return mishap
        task = self._book.find(self.name, task_id, _FAMILY)
        if task is None:
            return JSONResponse(_wrapped({"status": "UNKNOWN"}))
        return JSONResponse(_shaped(task, self._book.phase(task), self._book.variant(task)))


def _make_id(random: Random) -> str:
    return f"luid_{random.getrandbits(96):024x}"


def _error(status: int) -> Response:
    # their documented 429 is about the balance, so a rate limit must not use its words
    words = {401: "Invalid API Key", 429: "Too many requests"}
    return JSONResponse({"error": words.get(status, "Internal Server Error")}, status)


def _wrapped(data: dict[str, Any]) -> dict[str, Any]:
    return {"status": "ok", "data": data}


def _shaped(task: SimulatedTask, phase: Phase, variant: int) -> dict[str, Any]:
    """Flat as in the page, the same wrapped, or wrapped with `output`. None of them names the task."""
    if phase is not Phase.ENDED:
        body: dict[str, Any] = {"status": _WORDS[phase]}
    elif task.output is None:
        body = {"status": task.ending}
    elif variant % 3 == 1:
        body = {"status": task.ending, "output": [task.output]}
    else:
        body = {"usage": _usage(task), **_media(task, task.output), "status": task.ending}
    return body if variant % 3 == 2 else _wrapped(body)


def _media(task: SimulatedTask, url: str) -> dict[str, str]:
    if task.kind is Kind.VIDEO:
        return {"image": url.replace(".mp4", "-cover.jpeg"), "video": url}
    return {"image": url}


def _usage(task: SimulatedTask) -> dict[str, Any]:
    if task.kind is Kind.IMAGE:
        return {"action": "t2i", "credits": 1, "model": task.model}
    return {
        "action": "t2v",
        "credits": 10,
        "type": "text2video",
        "model": task.model,
        "resolution": "540p",
        "off_peak": False,
        "duration": 1,
    }
