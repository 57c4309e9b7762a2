"""MiniMax's video (v1, template, v2), async speech and files API, as documented.

Source: platform.minimax.io and platform.minimaxi.com, video-generation-*, video-agent-*,
video-generation-v2-*, speech-t2a-async-query, file-management-retrieve, read 2026-11-20. That the
challenge comes during the submit call is what implementers report; the pages do not say when.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deploy.demo.book import Book, Order, Phase, SimulatedTask
from deploy.demo.courier import Courier
from deploy.demo.faults import Push
from deploy.demo.wire import authorized, read_object, trouble
from store.events import Failure, Kind

VIDEO, TEMPLATE, V2, SPEECH = "video", "template", "v2", "speech"

FAILURES = (
    Failure("1027", "output new_sensitive"),
    Failure("1026", "input new_sensitive"),
)
V2_FAILURES = (Failure("1026", "video description contains sensitive content"),)

_V1_WORDS = {
    VIDEO: {Phase.QUEUED: "Queueing", Phase.PROCESSING: "Processing"},
    TEMPLATE: {Phase.QUEUED: "Preparing", Phase.PROCESSING: "Processing"},
    SPEECH: {Phase.QUEUED: "Processing", Phase.PROCESSING: "Processing"},
}
_V2_WORDS = {Phase.QUEUED: "queued", Phase.PROCESSING: "running"}
# The pages' prose and some samples write pushes in lower case, and 'failed' where queries say 'Fail'.
_LOWER_CASE = {"Processing": "processing", "Success": "success", "Fail": "failed"}

_V2_ERRORS = {
    400: ("bad_request_error", " (2013)"),
    401: ("authorized_error", " (1004)"),
    429: ("rate_limit_error", " (1002)"),
}


class MiniMax:
    """Pushes every change of status, unsigned, once; challenges an address at each submit."""

    name = "minimax"

    def __init__(
        self,
        book: Book,
        courier: Courier,
        api_key: str,
        *,
        make_challenge: Callable[[Random], Any],
        challenge_deadline_seconds: float,
    ) -> None:
        self._book = book
        self._courier = courier
        self._api_key = api_key
        self._make_challenge = make_challenge
        self._challenges = book.random(self.name, "challenges")
        self._challenge_deadline_seconds = challenge_deadline_seconds

    @property
    def routes(self) -> list[Route]:
        video, template = partial(self._submit_v1, VIDEO), partial(self._submit_v1, TEMPLATE)
        return [
            Route("/v1/video_generation", video, methods=["POST"]),
            Route("/v1/video_template_generation", template, methods=["POST"]),
            Route("/v2/video_generation", self._submit_v2, methods=["POST"]),
            Route("/v1/t2a_async_v2", self._submit_speech, methods=["POST"]),
            Route("/v1/query/video_generation", partial(self._query_v1, VIDEO)),
            Route("/v1/query/video_template_generation", partial(self._query_v1, TEMPLATE)),
            Route("/v1/query/t2a_async_query_v2", partial(self._query_v1, SPEECH)),
            Route("/v2/query/video_generation/{task_id}", self._query_v2),
            Route("/v1/files/retrieve", self._retrieve_file),
        ]

    async def _submit_v1(self, family: str, request: Request) -> Response:
        if (refusal := self._unauthorized_v1(request)) is not None:
            return refusal
        body = await read_object(request)
        if not await self._address_is_good(body.get("callback_url")):
            return _v1(2013, "invalid params, fail to check callback url")
        model = body.get("model") if family == VIDEO else body.get("template_id")
        task = self._accept(family, Kind.VIDEO, model, body.get("callback_url"))
        return JSONResponse({"task_id": task.id, **_base_resp()})

    async def _submit_v2(self, request: Request) -> Response:
        if not authorized(request, self._api_key):
            return self._v2_error(401, "login fail")
        body = await read_object(request)
        if not await self._address_is_good(body.get("callback_url")):
            return self._v2_error(400, "invalid params, fail to check callback url")
        task = self._accept(V2, Kind.VIDEO, body.get("model"), body.get("callback_url"))
        return JSONResponse({"task_id": task.id})

    async def _submit_speech(self, request: Request) -> Response:
        if (refusal := self._unauthorized_v1(request)) is not None:
            return refusal
        body = await read_object(request)
        task = self._accept(SPEECH, Kind.AUDIO, body.get("model"), callback_url=None)
        return JSONResponse(
            {
                "task_id": int(task.id),
                "file_id": task.file_id,
                "task_token": f"token-{task.id}",
                "usage_characters": len(str(body.get("text", ""))),
                **_base_resp(),
            }
        )

    async def _query_v1(self, family: str, request: Request) -> Response:
        task_id = request.query_params.get("task_id", "")
        self._book.asked(self.name, task_id)
        if (refusal := self._unauthorized_v1(request)) is not None:
            return refusal
        if (mishap := trouble(self._book, self.name, self._v1_trouble)) is not None:
            return mishap
        task = self._book.find(self.name, task_id, family)
        if task is None:
            return _v1(2013, "invalid params, invalid task_id")
        return JSONResponse(_v1_task(task, self._book.phase(task)))

    async def _query_v2(self, request: Request) -> Response:
        task_id = request.path_params["task_id"]
        self._book.asked(self.name, task_id)
        if not authorized(request, self._api_key):
            return self._v2_error(401, "login fail")
        if (mishap := trouble(self._book, self.name, self._v2_trouble)) is not None:
            return mishap
        task = self._book.find(self.name, task_id, V2)
        if task is None:
            return self._v2_error(500, "record not found")
        return JSONResponse(v2_task(task, self._book.phase(task)))

    async def _retrieve_file(self, request: Request) -> Response:
        file_id = request.query_params.get("file_id", "")
        self._book.asked(self.name, f"file {file_id}")
        if (refusal := self._unauthorized_v1(request)) is not None:
            return refusal
        if (mishap := trouble(self._book, self.name, self._v1_trouble)) is not None:
            return mishap
        task = self._book.file(file_id)
        if task is None or task.output is None or self._book.phase(task) is not Phase.ENDED:
            return _v1(2013, "invalid params, file not found")
        return JSONResponse({"file": _file(task, task.output), **_base_resp()})

    async def _address_is_good(self, callback_url: Any) -> bool:
        """Challenge the address while the submit call is open. None given needs no challenge."""
        if callback_url is None:
            return True
        if not isinstance(callback_url, str):
            return False
        value = self._make_challenge(self._challenges)
        return await self._courier.challenge(callback_url, value, self._challenge_deadline_seconds)

    def _accept(
        self, family: str, kind: Kind, model: Any, callback_url: str | None
    ) -> SimulatedTask:
        task = self._book.submit(
            Order(
                provider=self.name,
                family=family,
                kind=kind,
                model=str(model or "MiniMax-Hailuo-2.3"),
                succeeded=("succeeded",) if family == V2 else ("Success",),
                failed={V2: "failed", SPEECH: "Failed"}.get(family, "Fail"),
                failures=V2_FAILURES if family == V2 else FAILURES,
                make_id=make_id,
                callback_url=callback_url,
            )
        )
        if callback_url is not None:
            self._schedule_pushes(task, callback_url)
        return task

    def _schedule_pushes(self, task: SimulatedTask, callback_url: str) -> None:
        write = v2_task if task.family == V2 else v1_push
        pushes = [
            Push(task.runs_from, write(task, Phase.PROCESSING), final=False),
            Push(task.ends_from, write(task, Phase.ENDED), final=True),
        ]
        random = self._book.random(self.name, task.number, "pushes")
        forge = partial(_forged, task.family)
        sent = self._book.dice(self.name).spoil(pushes, forge, random)
        self._courier.send(callback_url, sent, tries=1, sign=_unsigned)

    def _unauthorized_v1(self, request: Request) -> Response | None:
        if authorized(request, self._api_key):
            return None
        if "authorization" in request.headers:
            return _v1(2049, "invalid api key")
        return _v1(1004, "login fail, the Authorization header is missing")

    def _v1_trouble(self, status: int) -> Response:
        if status != 429:
            return _v1(1000, "unknown error", status)
        # documented is the code inside a 200; a gateway's plain 429 takes turns with it
        return _v1(1002, "rate limit", 429 if self._book.stats.rate_limited % 2 else 200)

    def _v2_trouble(self, status: int) -> Response:
        return self._v2_error(status, "rate limit" if status == 429 else "unavailable")

    def _v2_error(self, status: int, message: str) -> Response:
        kind, code = _V2_ERRORS.get(status, ("server_error", " (1000)"))
        error = {"type": kind, "message": message + code, "http_code": str(status)}
        request_id = f"{self._challenges.getrandbits(128):032x}"
        return JSONResponse({"type": "error", "error": error, "request_id": request_id}, status)


def make_id(random: Random) -> str:
    return str(random.randrange(10**14, 10**15))


def _unsigned(body: bytes, forged: bool) -> Mapping[str, str]:
    return {}


def _base_resp(code: int = 0, message: str = "success") -> dict[str, Any]:
    return {"base_resp": {"status_code": code, "status_msg": message}}


def _v1(code: int, message: str, status: int = 200) -> Response:
    return JSONResponse(_base_resp(code, message), status)


def _v1_task(task: SimulatedTask, phase: Phase) -> dict[str, Any]:
    """What the v1 query answers. Speech writes its ids as numbers and names its file from the start."""
    status = task.ending if phase is Phase.ENDED else _V1_WORDS[task.family][phase]
    body: dict[str, Any] = {"task_id": task.id, "status": status}
    if task.family == SPEECH:
        body |= {"task_id": int(task.id), "file_id": task.file_id}
    if phase is Phase.ENDED and task.failure is not None:
        return body | _base_resp(int(task.failure.code), task.failure.message)
    if phase is Phase.ENDED and task.family == VIDEO:
        body |= {"file_id": str(task.file_id), "video_width": 1920, "video_height": 1080}
    if phase is Phase.ENDED and task.family == TEMPLATE:
        body |= {"video_url": task.output}
    return body | _base_resp()


def v1_push(task: SimulatedTask, phase: Phase) -> dict[str, Any]:
    """The query's shape, with the two ways the pages show: tasks take turns with them.

    Samples of pushes leave out the size of the video; the template page's, capitalised, has a
    file_id where its query has a video_url.
    """
    body = _v1_task(task, phase)
    body.pop("video_width", None)
    body.pop("video_height", None)
    if task.number % 2 == 0:
        return body | {"status": _LOWER_CASE[body["status"]]}
    if body.pop("video_url", None) is not None:
        body["file_id"] = str(task.file_id)
    return body


def v2_task(task: SimulatedTask, phase: Phase) -> dict[str, Any]:
    """What the v2 query answers, and what is pushed."""
    ended = phase is Phase.ENDED
    seconds = 5 if ended and task.output else 0
    body: dict[str, Any] = {
        "id": task.id,
        "model": task.model,
        "status": task.ending if ended else _V2_WORDS[phase],
        "created_at": int(task.submitted_at.timestamp()),
        "updated_at": int((task.ended_at if ended else task.submitted_at).timestamp()),
        "resolution": "2K",
        "duration": 5,
        "usage": {
            "total_seconds": seconds,
            "input_seconds": 0,
            "output_seconds": seconds,
            "input_image_count": 0,
        },
        "ratio": "16:9",
        "task_type": "generation",
        "modality": "video",
    }
    if ended and task.output is not None:
        body["content"] = {"url": task.output}
    if ended and task.failure is not None:
        body["error"] = {"code": task.failure.code, "message": task.failure.message}
    return {"task": body}


def _file(task: SimulatedTask, url: str) -> dict[str, Any]:
    return {
        "file_id": task.file_id,
        "bytes": 5896337,
        "created_at": int(task.ended_at.timestamp()),
        "filename": url.rpartition("/")[2],
        "purpose": "t2a_async" if task.family == SPEECH else "video_generation",
        "download_url": url,
    }


def _forged(family: str, random: Random) -> dict[str, Any]:
    """A good end for a task that nobody submitted."""
    task_id = make_id(random)
    if family == V2:
        content = {"url": f"https://forged.example/{task_id}.mp4"}
        return {"task": {"id": task_id, "status": "succeeded", "content": content}}
    return {"task_id": task_id, "status": "Success", "file_id": make_id(random), **_base_resp()}
