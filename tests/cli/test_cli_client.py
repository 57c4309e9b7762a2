import ssl
from collections.abc import Callable

import httpx
import pytest

from deploy.cli.client import Client
from deploy.cli.errors import CommandError, KeyTooWeak, ServerAway, UsageError

KEY = "tb_abcd1234_" + "k" * 43
URL = "http://taskbell.test"


def client_of(
    handle: Callable[[httpx.Request], httpx.Response], api_key: str | None = KEY, url: str = URL
) -> Client:
    return Client(url, api_key, httpx.MockTransport(handle))


def problem(status: int, detail: str) -> httpx.Response:
    body = {"type": "about:blank", "title": "Trouble", "status": status, "detail": detail}
    return httpx.Response(status, json=body, headers={"content-type": "application/problem+json"})


def test_the_key_goes_along_to_the_server_that_was_named() -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"id": "task_1"})

    found = client_of(handle, url=URL + "/behind/a/proxy").get("/v1/tasks/task_1")

    assert found == {"id": "task_1"}
    assert str(seen[0].url) == URL + "/behind/a/proxy/v1/tasks/task_1"
    assert seen[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_redirect_is_not_followed() -> None:
    seen: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.host)
        return httpx.Response(302, headers={"location": "http://elsewhere.test/v1/tasks"})

    with pytest.raises(CommandError, match=r"redirects \(HTTP 302\): set TASKBELL_URL"):
        client_of(handle).get("/v1/tasks")

    assert seen == ["taskbell.test"]


@pytest.mark.parametrize(
    ("response", "kind", "message"),
    [
        pytest.param(problem(404, "no task task_9"), CommandError, "no task task_9", id="detail"),
        pytest.param(httpx.Response(409, json={"title": "Conflict"}), CommandError, "Conflict", id="title"),
        pytest.param(httpx.Response(401), CommandError, "the server refused TASKBELL_API_KEY", id="401"),
        pytest.param(problem(403, "needs admin"), KeyTooWeak, "needs admin", id="403"),
        pytest.param(problem(503, "store unavailable"), ServerAway, "store unavailable", id="503"),
        pytest.param(httpx.Response(502, text="<html>"), ServerAway, f"{URL} answered HTTP 502", id="proxy"),
        pytest.param(httpx.Response(429), ServerAway, f"{URL} answered HTTP 429", id="429"),
        pytest.param(httpx.Response(400, json=[1]), CommandError, f"{URL} answered HTTP 400", id="list"),
        pytest.param(
            httpx.Response(200, text="<html>"),
            CommandError,
            f"{URL} did not answer as Taskbell's API: is TASKBELL_URL right?",
            id="another-server",
        ),
        pytest.param(
            httpx.Response(200, json=[]),
            CommandError,
            f"{URL} did not answer as Taskbell's API: is TASKBELL_URL right?",
            id="not-an-object",
        ),
    ],
)  # fmt: skip
def test_an_answer_that_is_no_use_becomes_one_line(
    response: httpx.Response, kind: type[CommandError], message: str
) -> None:
    with pytest.raises(CommandError) as caught:
        client_of(lambda _request: response).get("/v1/tasks/task_9")

    assert (type(caught.value), str(caught.value)) == (kind, message)


def test_without_a_key_the_message_says_to_set_one() -> None:
    with pytest.raises(CommandError, match="wants an API key: set TASKBELL_API_KEY"):
        client_of(lambda _request: httpx.Response(401), api_key=None).get("/v1/tasks")


def test_an_answer_that_quotes_our_key_does_not_show_it() -> None:
    with pytest.raises(CommandError) as caught:
        client_of(lambda _request: problem(422, f"no such key {KEY}")).get("/v1/tasks")

    assert str(caught.value) == "no such key (the API key)"


@pytest.mark.parametrize("api_key", ["two words", "ключ", "line\nbreak", ""])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(api_key: str) -> None:
    with pytest.raises(UsageError) as caught:
        Client(URL, api_key)

    assert str(caught.value).startswith("TASKBELL_API_KEY holds blanks")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (httpx.ConnectError("refused"), f"no Taskbell server at {URL}: start one with `taskbell"),
        (httpx.ReadTimeout("slow"), f"{URL} did not answer in 10 s"),
        (httpx.RemoteProtocolError("gone"), f"{URL} broke off the conversation"),
        (httpx.LocalProtocolError(f"Illegal header value {KEY}"), f"{URL} broke off"),
    ],
)
def test_a_server_that_cannot_be_reached_may_be_asked_again(
    error: httpx.TransportError, message: str
) -> None:
    def handle(_request: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(ServerAway) as caught:
        client_of(handle).get("/v1/tasks")

    assert str(caught.value).startswith(message)


def test_a_bad_certificate_is_named_and_not_tried_again() -> None:
    def handle(_request: httpx.Request) -> httpx.Response:
        trouble = ssl.SSLCertVerificationError(1, "certificate verify failed")
        trouble.verify_message = "self-signed certificate"
        raise httpx.ConnectError("TLS") from trouble

    with pytest.raises(CommandError) as caught:
        client_of(handle).get("/v1/tasks")

    assert not isinstance(caught.value, ServerAway)
    assert str(caught.value) == f"no safe connection to {URL}: self-signed certificate"


def test_a_list_is_read_over_as_many_pages_as_it_takes() -> None:
    asked: list[dict[str, str]] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        start = int(request.url.params.get("cursor", 0))
        size = int(request.url.params["limit"])
        rows = [{"id": number} for number in range(start, min(start + size, 250))]
        following = str(start + size) if start + size < 250 else None
        return httpx.Response(200, json={"data": rows, "next_cursor": following})

    found = client_of(handle).listing("/v1/tasks", {"status": "failed"}, limit=1000)

    assert [row["id"] for row in found.rows] == list(range(250))
    assert found.more is None
    assert asked[1] == {"status": "failed", "cursor": "100", "limit": "100"}


def test_a_list_stops_at_its_limit_and_says_where_it_goes_on() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.url.params["limit"] == "2"
        return httpx.Response(200, json={"data": [{}, {}], "next_cursor": 7})

    found = client_of(handle).listing("/v1/events", {}, limit=2, cursor_name="after")

    assert (len(found.rows), found.more) == (2, "7")


# what a server at the end of its list may say
@pytest.mark.parametrize("page", [{"data": []}, {"data": [], "next_cursor": "9"}])
def test_an_empty_page_ends_a_list(page: dict[str, object]) -> None:
    found = client_of(lambda _request: httpx.Response(200, json=page)).listing("/v1", {}, limit=5)

    assert (found.rows, found.more) == ([], None)


def test_a_cursor_that_does_not_move_ends_a_list() -> None:
    page = {"data": [{"id": 1}], "next_cursor": "9"}

    found = client_of(lambda _request: httpx.Response(200, json=page)).listing(
        "/v1/events", {"after": "9"}, limit=50, cursor_name="after"
    )

    assert len(found.rows) == 1


@pytest.mark.parametrize("page", [{}, {"data": None}, {"data": [1]}])
def test_a_list_of_another_shape_is_refused(page: dict[str, object]) -> None:
    with pytest.raises(CommandError, match="did not answer as Taskbell's API"):
        client_of(lambda _request: httpx.Response(200, json=page)).listing("/v1", {}, limit=5)


def test_every_kind_of_call_stays_below_the_path_of_the_server() -> None:
    seen: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path)
        return httpx.Response(200, json={"data": [], "next_cursor": None})

    client = client_of(handle, url=URL + "/tools/taskbell")
    client.post("/v1/tasks", {})
    client.patch("/v1/subscriptions/sub_1", {})
    client.delete("/v1/subscriptions/sub_1")
    client.listing("/v1/events", {}, limit=5)
    with client.stream("/v1/events/stream", {}, {}, silence=1):
        pass

    assert len(seen) == 5
    assert all(path.startswith("/tools/taskbell/v1/") for path in seen)
