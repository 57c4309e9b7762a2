"""The simulated providers on real sockets: their shapes, their pushes, and what goes wrong."""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deploy.demo.faults import Faults
from deploy.demo.server import LocalServer
from deploy.demo.simulator import Simulator, base_urls
from store.clock import monotonic

KEY = "simulated-key"
SOON = (0.002, 0.01)
OK = {"status_code": 0, "status_msg": "success"}
PROMPT = {"model": "m", "catelogid": "t2v", "prompt": "a cat"}

VIDEO = "/v1/video_generation"
TEMPLATE = "/v1/video_template_generation"
V2 = "/v2/video_generation"
ATLAS = "/api/v1/model/generateVideo"


@dataclass
class Seconds:
    """Monotonic time that the test moves."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Receiver:
    """An address for callbacks. statuses: what the next pushes are answered, then 200."""

    echo: bool = True
    statuses: list[int] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    challenges: list[Any] = field(default_factory=list)

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route("/hook", self._hook, methods=["POST"])])

    async def _hook(self, request: Request) -> Response:
        body = await request.json()
        if "challenge" in body:
            self.challenges.append(body["challenge"])
            return JSONResponse({"challenge": body["challenge"] if self.echo else "another"})
        self.times.append(monotonic())
        self.bodies.append(body)
        self.raw.append(await request.body())
        self.headers.append(request.headers)
        return JSONResponse({}, self.statuses.pop(0) if self.statuses else 200)


@asynccontextmanager
async def asking(simulator: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        LocalServer(simulator.app) as server,
        httpx.AsyncClient(
            base_url=server.url,
            trust_env=False,
            verify=False,
            headers={"Authorization": f"Bearer {KEY}"},
        ) as client,
    ):
        yield client


async def push(
    simulator: Simulator, receiver: Receiver, *paths: str, address: str = "/hook"
) -> list[httpx.Response]:
    """Submit a task to each path with the receiver's address, and wait until all is pushed."""
    async with AsyncExitStack() as stack:
        hook = (await stack.enter_async_context(LocalServer(receiver.app))).url + address
        client = await stack.enter_async_context(asking(simulator))
        answers = []
        for path in paths:
            name = "webhook_url" if path.startswith("/api") else "callback_url"
            answers.append(await client.post(path, json={**PROMPT, name: hook}))
        await simulator.settle()
    return answers


async def life(
    simulator: Simulator, seconds: Seconds, submit: str, query: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Submit a task, query it while queued, processing and ended: the answers."""
    async with asking(simulator) as client:
        submitted = (await client.post(submit, json=PROMPT)).json()
        task_id = simulator.tasks[-1].id
        queries = []
        for moment in (100.0, 102.0, 104.0):
            seconds.now = moment
            queries.append((await client.get(query.format(task_id))).json())
    return submitted, queries


def slow(seconds: Seconds, **options: Any) -> Simulator:
    """Tasks are queued for one second, then processing for three."""
    return Simulator(KEY, durations=(4, 4), monotonic=seconds, **options)


async def test_minimax_v1_video_names_a_file_whose_url_a_second_call_gives() -> None:
    seconds = Seconds()
    simulator = slow(seconds)

    submitted, queries = await life(
        simulator, seconds, VIDEO, "/v1/query/video_generation?task_id={}"
    )
    async with asking(simulator) as client:
        file = (await client.get(f"/v1/files/retrieve?file_id={queries[-1]['file_id']}")).json()

    task = simulator.tasks[0]
    assert submitted == {"task_id": task.id, "base_resp": OK}
    assert queries == [
        {"task_id": task.id, "status": "Queueing", "base_resp": OK},
        {"task_id": task.id, "status": "Processing", "base_resp": OK},
        {
            "task_id": task.id,
            "status": "Success",
            "file_id": str(task.file_id),
            "video_width": 1920,
            "video_height": 1080,
            "base_resp": OK,
        },
    ]
    assert file["base_resp"] == OK
    assert file["file"]["file_id"] == task.file_id
    assert file["file"]["download_url"] == task.output


async def test_minimax_templates_answer_with_a_url() -> None:
    seconds = Seconds()
    simulator = slow(seconds)

    submitted, queries = await life(
        simulator, seconds, TEMPLATE, "/v1/query/video_template_generation?task_id={}"
    )

    task = simulator.tasks[0]
    assert submitted == {"task_id": task.id, "base_resp": OK}
    assert [answer["status"] for answer in queries] == ["Preparing", "Processing", "Success"]
    assert queries[-1]["video_url"] == task.output


async def test_minimax_v2_wraps_everything_in_task() -> None:
    seconds = Seconds()
    simulator = slow(seconds)

    submitted, queries = await life(simulator, seconds, V2, "/v2/query/video_generation/{}")

    task = simulator.tasks[0]
    assert submitted == {"task_id": task.id}
    assert [answer["task"]["status"] for answer in queries] == ["queued", "running", "succeeded"]
    assert queries[-1]["task"]["id"] == task.id
    assert queries[-1]["task"]["content"] == {"url": task.output}
    assert queries[-1]["task"]["task_type"] == "generation"


async def test_minimax_speech_writes_its_ids_as_numbers() -> None:
    seconds = Seconds()
    simulator = slow(seconds)

    submitted, queries = await life(
        simulator, seconds, "/v1/t2a_async_v2", "/v1/query/t2a_async_query_v2?task_id={}"
    )

    task = simulator.tasks[0]
    ids = {"task_id": int(task.id), "file_id": task.file_id}
    assert submitted.items() >= {**ids, "usage_characters": 0}.items()
    assert queries[1] == {**ids, "status": "Processing", "base_resp": OK}
    assert queries[2] == {**ids, "status": "Success", "base_resp": OK}


async def test_atlascloud_answers_wrapped_and_unwrapped_in_turn() -> None:
    seconds = Seconds()
    simulator = slow(seconds)

    submitted, queries = await life(simulator, seconds, ATLAS, "/api/v1/model/prediction/{}")

    task = simulator.tasks[0]
    assert submitted == {"code": 200, "data": {"id": task.id, "status": "starting"}}
    assert queries[0]["code"] == 200
    assert queries[0]["data"]["status"] == "starting"
    assert queries[1]["status"] == "processing"
    assert queries[2]["data"]["status"] == "completed"
    assert queries[2]["data"]["outputs"] == [task.output]
    assert queries[2]["data"]["metrics"] == {"predict_time": 4.0}


async def test_atlascloud_submits_answer_in_two_shapes_and_ends_have_two_words() -> None:
    simulator = Simulator(KEY, durations=(0, 0))

    async with asking(simulator) as client:
        await client.post(ATLAS, json=PROMPT)
        second = (await client.post("/api/v1/model/generateImage", json=PROMPT)).json()

    task = simulator.tasks[1]
    assert (second["id"], second["status"], second["model"]) == (task.id, "processing", "m")
    assert [task.ending for task in simulator.tasks] == ["completed", "succeeded"]
    assert str(task.output).endswith(".png")


async def test_opencomputing_answers_in_three_shapes_and_never_names_the_task() -> None:
    seconds = Seconds()
    simulator = slow(seconds)
    query = "/llmage/v1/tasks?taskid={}"

    submitted, queries = await life(simulator, seconds, "/llmage/v1/video/generations", query)
    task = simulator.tasks[0]
    async with asking(simulator) as client:
        flat, wrapped = [(await client.get(query.format(task.id))).json() for _ in range(2)]

    assert submitted == {"taskid": task.id, "status": "CREATED"}
    assert queries[0] == {"status": "PENDING"}
    assert queries[1] == {"status": "ok", "data": {"status": "RUNNING"}}
    assert queries[2] == {"status": "ok", "data": {"status": "SUCCEEDED", "output": [task.output]}}
    assert flat["status"] == wrapped["data"]["status"] == "SUCCEEDED"
    assert flat["video"] == wrapped["data"]["video"] == task.output
    assert flat["image"].endswith("-cover.jpeg")
    assert flat["usage"]["action"] == "t2v"
    assert not any("taskid" in json.dumps(answer) for answer in (*queries, flat, wrapped))


async def test_opencomputing_names_a_missing_parameter() -> None:
    async with asking(Simulator(KEY)) as client:
        answer = await client.post(
            "/llmage/v1/image/generations", json={"model": "m", "catelogid": "t2i"}
        )

    assert answer.status_code == 400
    assert answer.json() == {"error": "Missing required parameter: prompt"}


@pytest.mark.parametrize(
    ("query", "status", "path", "word"),
    [
        ("/v1/query/video_generation?task_id=7", 200, "base_resp.status_code", 2013),
        ("/v1/query/video_template_generation?task_id=7", 200, "base_resp.status_code", 2013),
        ("/v1/query/t2a_async_query_v2?task_id=7", 200, "base_resp.status_code", 2013),
        ("/v1/files/retrieve?file_id=x", 200, "base_resp.status_code", 2013),
        ("/v2/query/video_generation/7", 500, "error.message", "record not found (1000)"),
        ("/api/v1/model/prediction/7", 404, "msg", "not found"),
        ("/llmage/v1/tasks?taskid=7", 200, "data.status", "UNKNOWN"),
    ],
)
async def test_an_unknown_id_is_answered_as_the_provider_does(
    query: str, status: int, path: str, word: object
) -> None:
    async with asking(Simulator(KEY)) as client:
        answer = await client.get(query)

    assert answer.status_code == status
    assert _at(answer.json(), path) == word


def _at(body: Any, path: str) -> Any:
    for name in path.split("."):
        body = body[name]
    return body


async def test_a_task_is_unknown_to_the_query_of_another_family() -> None:
    simulator = Simulator(KEY)

    async with asking(simulator) as client:
        await client.post(TEMPLATE, json=PROMPT)
        task_id = simulator.tasks[0].id
        answer = await client.get("/v1/query/video_generation", params={"task_id": task_id})

    assert answer.json()["base_resp"]["status_code"] == 2013


@pytest.mark.parametrize(
    ("method", "path", "status", "where", "word"),
    [
        ("POST", VIDEO, 200, "base_resp.status_code", 2049),
        ("POST", "/v1/t2a_async_v2", 200, "base_resp.status_code", 2049),
        ("GET", "/v1/query/video_generation", 200, "base_resp.status_code", 2049),
        ("GET", "/v1/files/retrieve", 200, "base_resp.status_code", 2049),
        ("POST", V2, 401, "error.type", "authorized_error"),
        ("GET", "/v2/query/video_generation/1", 401, "error.type", "authorized_error"),
        ("POST", ATLAS, 401, "msg", "unauthorized"),
        ("GET", "/api/v1/model/prediction/1", 401, "code", 401),
        ("POST", "/llmage/v1/video/generations", 401, "error", "Invalid API Key"),
        ("GET", "/llmage/v1/tasks", 401, "error", "Invalid API Key"),
    ],
)
async def test_a_wrong_key_is_refused_as_the_provider_does(
    method: str, path: str, status: int, where: str, word: object
) -> None:
    simulator = Simulator(KEY)

    async with asking(simulator) as client:
        answer = await client.request(method, path, headers={"Authorization": "Bearer wrong"})

    assert answer.status_code == status
    assert _at(answer.json(), where) == word
    assert not simulator.tasks


async def test_the_challenge_comes_while_the_submit_call_is_open() -> None:
    simulator, receiver = Simulator(KEY, durations=SOON), Receiver()

    [answer] = await push(simulator, receiver, VIDEO)

    assert answer.json()["base_resp"] == OK
    assert len(receiver.challenges) == 1
    assert len(receiver.challenges[0]) == 32
    assert (simulator.stats.challenges_sent, simulator.stats.challenges_answered) == (1, 1)
    assert simulator.stats.challenge_seconds[0] < 3


async def test_a_challenge_may_be_any_json_value() -> None:
    simulator = Simulator(KEY, durations=SOON, make_challenge=lambda _: {"n": [1, True, None]})
    receiver = Receiver()

    [answer] = await push(simulator, receiver, V2)

    assert answer.status_code == 200
    assert receiver.challenges == [{"n": [1, True, None]}]


@pytest.mark.parametrize("address", ["/hook", "/nowhere", "not a port"])
async def test_a_submit_whose_address_fails_the_challenge_makes_no_task(address: str) -> None:
    simulator, receiver = Simulator(KEY, durations=SOON), Receiver(echo=False)

    v1, v2 = await push(simulator, receiver, TEMPLATE, V2, address=address)

    message = "invalid params, fail to check callback url"
    assert v1.status_code == 200
    assert v1.json() == {"base_resp": {"status_code": 2013, "status_msg": message}}
    assert v2.status_code == 400
    assert v2.json()["error"] == {
        "type": "bad_request_error",
        "message": f"{message} (2013)",
        "http_code": "400",
    }
    assert not simulator.tasks
    assert not receiver.bodies
    assert simulator.stats.challenges_answered == 0


async def test_an_address_that_echoes_too_late_fails_the_challenge() -> None:
    simulator = Simulator(KEY, challenge_deadline_seconds=0.0)

    [answer] = await push(simulator, Receiver(), VIDEO)

    assert answer.json()["base_resp"]["status_code"] == 2013


async def test_minimax_pushes_every_change_in_both_casings() -> None:
    simulator, receiver = Simulator(KEY, durations=(0.01, 0.01)), Receiver()

    await push(simulator, receiver, VIDEO, VIDEO)

    first, second = simulator.tasks
    assert [body for body in receiver.bodies if body["task_id"] == first.id] == [
        {"task_id": first.id, "status": "Processing", "base_resp": OK},
        {
            "task_id": first.id,
            "status": "Success",
            "file_id": str(first.file_id),
            "base_resp": OK,
        },
    ]
    statuses = [body["status"] for body in receiver.bodies if body["task_id"] == second.id]
    assert statuses == ["processing", "success"]
    assert simulator.stats.pushes_sent == 4


async def test_template_pushes_bring_a_file_or_a_url() -> None:
    simulator, receiver = Simulator(KEY, durations=SOON), Receiver()

    await push(simulator, receiver, TEMPLATE, TEMPLATE)

    first, second = simulator.tasks
    ends = {b["task_id"]: b for b in receiver.bodies if b["status"].lower() == "success"}
    assert ends[first.id]["file_id"] == str(first.file_id)
    assert ends[second.id]["video_url"] == second.output


async def test_v2_pushes_have_the_shape_of_the_query() -> None:
    simulator, receiver = Simulator(KEY, durations=SOON), Receiver()

    await push(simulator, receiver, V2)

    task = simulator.tasks[0]
    assert [body["task"]["status"] for body in receiver.bodies] == ["running", "succeeded"]
    assert receiver.bodies[-1]["task"]["content"] == {"url": task.output}


async def test_failures_have_their_documented_shapes() -> None:
    simulator = Simulator(KEY, durations=SOON, faults=Faults(fail=1))
    receiver = Receiver()

    await push(simulator, receiver, VIDEO, VIDEO, V2, ATLAS)

    by_id = {_task_id(body): body for body in receiver.bodies}
    fail, failed, v2, atlas = (by_id[task.id] for task in simulator.tasks)
    sensitive = {"status_code": 1027, "status_msg": "output new_sensitive"}
    assert (fail["status"], fail["base_resp"]) == ("Fail", sensitive)
    assert failed["status"] == "failed"
    assert v2["task"]["status"] == "failed"
    assert v2["task"]["error"]["code"] == "1026"
    assert (atlas["status"], atlas["payload"]["error_code"]) == ("ERROR", 1039)
    assert [task.ending for task in simulator.tasks] == ["Fail", "Fail", "failed", "failed"]
    assert all(task.output is None for task in simulator.tasks)


async def test_failed_queries_answer_200() -> None:
    simulator = Simulator(KEY, durations=(0, 0), faults=Faults(fail=1))

    async with asking(simulator) as client:
        await client.post(VIDEO, json=PROMPT)
        await client.post(ATLAS, json=PROMPT)
        await client.post("/llmage/v1/video/generations", json=PROMPT)
        minimax, atlas, opencomputing = (task.id for task in simulator.tasks)
        answers = [
            await client.get("/v1/query/video_generation", params={"task_id": minimax}),
            await client.get(f"/api/v1/model/prediction/{atlas}"),
            await client.get("/llmage/v1/tasks", params={"taskid": opencomputing}),
        ]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    first, second, third = (answer.json() for answer in answers)
    assert (first["status"], first["base_resp"]["status_code"]) == ("Fail", 1027)
    assert (second["data"]["status"], second["data"]["error_code"]) == ("failed", 1039)
    assert second["data"]["outputs"] == []
    assert third == {"status": "FAILED"}


def _task_id(body: Mapping[str, Any]) -> str:
    return str(body.get("task_id") or body.get("session_id") or body["task"]["id"])


async def test_atlascloud_signs_its_webhook_with_a_published_key() -> None:
    simulator = Simulator(KEY, durations=SOON, signing_seed=bytes(range(32)))
    receiver = Receiver()

    await push(simulator, receiver, ATLAS)
    async with asking(simulator) as client:
        [jwk] = (await client.get("/api/v1/webhooks/jwks.json")).json()["keys"]

    task = simulator.tasks[0]
    [headers] = receiver.headers
    assert jwk["x"] == "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
    assert headers["X-AtlasCloud-Webhook-Id"] == task.id
    assert headers["X-AtlasCloud-Webhook-Event"] == "video.task.terminal"
    assert headers["X-AtlasCloud-Webhook-Key-Id"] == jwk["kid"]
    _verify(jwk["x"], headers, receiver.raw[0])
    assert (
        receiver.bodies[0].items()
        >= {
            "session_id": task.id,
            "event_type": "video.task.terminal",
            "status": "OK",
            "payload": {"model": "m", "status": "completed", "outputs": [task.output]},
        }.items()
    )


def _verify(x: str, headers: Mapping[str, str], body: bytes) -> None:
    signature = headers["X-AtlasCloud-Webhook-Signature-Ed25519"]
    timestamp = headers["X-AtlasCloud-Webhook-Timestamp"]
    key = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(x + "="))
    key.verify(base64.urlsafe_b64decode(signature + "=="), timestamp.encode() + b"." + body)


async def test_a_forger_has_not_atlasclouds_key() -> None:
    simulator = Simulator(KEY, durations=SOON, faults=Faults(forged=1))
    receiver = Receiver()

    await push(simulator, receiver, ATLAS)
    async with asking(simulator) as client:
        [jwk] = (await client.get("/api/v1/webhooks/jwks.json")).json()["keys"]

    forged, real = receiver.raw
    assert receiver.bodies[0]["session_id"] != simulator.tasks[0].id
    with pytest.raises(InvalidSignature):
        _verify(jwk["x"], receiver.headers[0], forged)
    _verify(jwk["x"], receiver.headers[1], real)


async def test_atlascloud_tries_a_refused_webhook_three_times_and_minimax_once() -> None:
    simulator, receiver = Simulator(KEY, durations=SOON), Receiver(statuses=[500] * 9)

    await push(simulator, receiver, ATLAS)
    await push(simulator, receiver, VIDEO)

    assert [_task_id(body) for body in receiver.bodies] == [
        *[simulator.tasks[0].id] * 3,
        *[simulator.tasks[1].id] * 2,
    ]
    assert (simulator.stats.pushes_sent, simulator.stats.pushes_refused) == (5, 5)


@pytest.mark.parametrize("address", ["ftp://host/hook", "hook", 7, "http://h/" + "x" * 1024])
async def test_atlascloud_refuses_an_address_it_could_not_use(address: object) -> None:
    simulator = Simulator(KEY)

    async with asking(simulator) as client:
        answer = await client.post(ATLAS, json={"webhook_url": address})

    assert (answer.status_code, answer.json()["msg"]) == (400, "invalid webhook_url")
    assert not simulator.tasks


@pytest.mark.parametrize(
    ("faults", "statuses", "counts"),
    [
        # statuses as they arrive; counts: sent, dropped, repeated, forged
        pytest.param(Faults(), ["Processing", "Success"], (2, 0, 0, 0), id="none"),
        pytest.param(Faults(drop=1), [], (0, 2, 0, 0), id="drop"),
        pytest.param(
            Faults(duplicate=1),
            ["Processing", "Processing", "Success", "Success"],
            (4, 0, 2, 0),
            id="duplicate",
        ),
        pytest.param(Faults(reorder=1), ["Success", "Processing"], (2, 0, 0, 0), id="reorder"),
        pytest.param(
            Faults(forged=1),
            ["Success", "Processing", "Success", "Success"],
            (2, 0, 0, 2),
            id="forged",
        ),
        pytest.param(Faults(drop_first=1), ["Processing"], (1, 1, 0, 0), id="drop_first"),
        pytest.param(
            Faults(duplicate_first=1),
            ["Processing", "Success", "Success"],
            (3, 0, 1, 0),
            id="duplicate_first",
        ),
    ],
)
async def test_pushes_go_wrong_as_told_and_are_counted(
    faults: Faults, statuses: list[str], counts: tuple[int, int, int, int]
) -> None:
    simulator, receiver = Simulator(KEY, durations=SOON, faults=faults), Receiver()

    await push(simulator, receiver, VIDEO)

    stats = simulator.stats
    assert [body["status"] for body in receiver.bodies] == statuses
    assert counts == (
        stats.pushes_sent,
        stats.pushes_dropped,
        stats.pushes_repeated,
        stats.pushes_forged,
    )


async def test_the_counters_lose_one_ending_and_repeat_the_next() -> None:
    faults = Faults(drop_first=1, duplicate_first=1)
    simulator, receiver = Simulator(KEY, durations=SOON, faults=faults), Receiver()

    await push(simulator, receiver, *[ATLAS] * 3)

    lost, repeated, plain = simulator.tasks
    ids = [_task_id(body) for body in receiver.bodies]
    assert [ids.count(task.id) for task in (lost, repeated, plain)] == [0, 2, 1]


async def test_a_delayed_push_comes_that_much_after_the_end() -> None:
    simulator = Simulator(KEY, durations=(0, 0), faults=Faults(delay_seconds=0.03))
    receiver = Receiver()

    await push(simulator, receiver, ATLAS)

    assert receiver.times[0] >= simulator.tasks[0].ends_from + 0.03


async def test_one_provider_may_have_faults_of_its_own() -> None:
    simulator = Simulator(KEY, durations=SOON, provider_faults={"atlascloud": Faults(drop=1)})
    receiver = Receiver()

    await push(simulator, receiver, ATLAS, VIDEO)

    assert {_task_id(body) for body in receiver.bodies} == {simulator.tasks[1].id}


QUERIES = [
    "/v1/query/video_generation?task_id=1",
    "/v2/query/video_generation/1",
    "/api/v1/model/prediction/1",
    "/llmage/v1/tasks?taskid=1",
]


@pytest.mark.parametrize("query", QUERIES)
async def test_a_rate_limited_query_is_answered_429(query: str) -> None:
    faults = Faults(rate_limited=1, retry_after_seconds=7)
    simulator = Simulator(KEY, faults=faults)

    async with asking(simulator) as client:
        answer = await client.get(query)

    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "7"
    assert simulator.stats.rate_limited == 1


async def test_minimax_v1_also_hides_its_rate_limit_in_a_200() -> None:
    simulator = Simulator(KEY, faults=Faults(rate_limited=1))

    async with asking(simulator) as client:
        answers = [await client.get(QUERIES[0]) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [429, 200]
    assert all(a.json()["base_resp"]["status_code"] == 1002 for a in answers)
    assert all("Retry-After" not in answer.headers for answer in answers)


@pytest.mark.parametrize("query", QUERIES)
async def test_an_unavailable_provider_answers_with_a_server_error(query: str) -> None:
    async with asking(Simulator(KEY, faults=Faults(unavailable=1))) as client:
        answer = await client.get(query)

    assert answer.status_code in (500, 502, 503)


async def test_a_query_may_be_answered_with_a_page() -> None:
    async with asking(Simulator(KEY, faults=Faults(html=1))) as client:
        answer = await client.get(QUERIES[2])

    assert answer.status_code == 200
    assert answer.text.startswith("<!doctype html>")


async def test_a_hanging_query_is_cut_off() -> None:
    async with asking(Simulator(KEY, faults=Faults(hang=1, hang_seconds=0.01))) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(QUERIES[2])


async def test_a_hanging_query_does_not_outlive_its_caller() -> None:
    async with asking(Simulator(KEY, faults=Faults(hang=1, hang_seconds=3600))) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get(QUERIES[2], timeout=0.05)


async def test_trouble_ends_when_told() -> None:
    simulator = Simulator(KEY, faults=Faults(unavailable=1))

    async with asking(simulator) as client:
        simulator.change_faults(Faults())
        answer = await client.get("/llmage/v1/tasks?taskid=1")

    assert answer.status_code == 200


async def test_queries_are_counted_by_provider_and_by_task() -> None:
    simulator = Simulator(KEY)

    async with asking(simulator) as client:
        for _ in range(2):
            await client.get("/llmage/v1/tasks?taskid=a")
        await client.get("/api/v1/model/prediction/b")

    assert simulator.stats.queries == {"opencomputing": 2, "atlascloud": 1}
    assert simulator.stats.queries_by_task == {"a": 2, "b": 1}


async def test_two_simulators_with_one_seed_make_the_same_tasks() -> None:
    fates = []
    for _ in range(2):
        simulator = Simulator(KEY, seed=7, faults=Faults(fail=0.5))
        async with asking(simulator) as client:
            for path in (VIDEO, ATLAS, VIDEO, ATLAS):
                await client.post(path, json=PROMPT)
        fates.append(
            [(t.id, t.ending, t.output, t.ends_from - t.runs_from) for t in simulator.tasks]
        )

    first, second = fates
    assert [fate[:3] for fate in first] == [fate[:3] for fate in second]
    assert [fate[3] for fate in first] == pytest.approx([fate[3] for fate in second])


async def test_settling_waits_for_tasks_that_push_nothing() -> None:
    simulator = Simulator(KEY, durations=(0.02, 0.02))

    async with asking(simulator) as client:
        await client.post("/llmage/v1/video/generations", json=PROMPT)
        await simulator.settle()
        answer = await client.get(f"/llmage/v1/tasks?taskid={simulator.tasks[0].id}")

    assert answer.json()["status"] == "SUCCEEDED"


async def test_stopping_leaves_pushes_unsent() -> None:
    simulator, receiver = Simulator(KEY, durations=(3600, 3600)), Receiver()

    async with (
        LocalServer(receiver.app) as server,
        asking(simulator) as client,
    ):
        await client.post(VIDEO, json={"callback_url": f"{server.url}/hook"})

    assert len(receiver.challenges) == 1
    assert receiver.bodies == []


def test_base_urls_are_those_the_adapters_expect() -> None:
    assert base_urls("http://127.0.0.1:9") == {
        "minimax": "http://127.0.0.1:9",
        "atlascloud": "http://127.0.0.1:9/api/v1",
        "opencomputing": "http://127.0.0.1:9",
    }
