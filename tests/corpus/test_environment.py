"""A server whose environment names proxies, passwords and a home full of traps uses none of them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.corpus.live import Server, answer, until
from tests.e2e.process import processes

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
PROVIDER_KEY = "provider-key-0123456789"


async def test_proxies_passwords_and_cookies_go_into_no_request(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("default login netrc-user password netrc-password\n")
    (tmp_path / ".netrc").chmod(0o600)
    async with (
        Server().serving() as canary,
        Server().serving() as provider,
        Server().serving() as hook,
        processes(
            tmp_path,
            f"sqlite:///{tmp_path / 'taskbell.db'}",
            {
                **dict.fromkeys(PROXIES, f"http://127.0.0.1:{canary.port}"),
                "NO_PROXY": "",
                "HOME": str(tmp_path),
                "NETRC": str(tmp_path / ".netrc"),
                "TASKBELL_MINIMAX_BASE_URL": f"http://127.0.0.1:{provider.port}",
                "TASKBELL_MINIMAX_API_KEY": PROVIDER_KEY,
            },
        ) as (server,),
    ):
        said = json.dumps({"task_id": "1", "status": "Success", "video_url": "https://a.example"})
        head = "HTTP/1.1 200 OK\r\nset-cookie: a=b; path=/\r\ncontent-type: application/json\r\n"
        provider.script = answer(f"{head}content-length: {len(said)}\r\n\r\n{said}".encode())
        hook.script = answer(f"{head}content-length: 0\r\n\r\n".encode())

        wish = {"url": f"http://127.0.0.1:{hook.port}/hook"}
        subscription = (await server.api.post("/v1/subscriptions", json=wish)).json()
        await server.api.post("/v1/tasks", json={"provider": "minimax", "task_id": "1"})

        async def delivered() -> bool:
            found = (await server.api.get("/v1/deliveries?status=delivered")).json()["data"]
            return any(each["event_type"] == "task.succeeded" for each in found)

        await until(delivered)
        await server.api.post(f"/v1/subscriptions/{subscription['id']}/test")

    assert canary.requests == []
    assert provider.requests
    for asked in provider.requests:
        assert f"\r\nauthorization: bearer {PROVIDER_KEY}\r\n".encode() in asked.lower()
        assert b"\r\ncookie:" not in asked.lower()
    assert len(hook.requests) >= 3
    for sent in hook.requests:
        head_sent = sent.partition(b"\r\n\r\n")[0].lower()
        assert b"authorization" not in head_sent
        assert b"cookie" not in head_sent
        assert sent.startswith(b"POST /hook HTTP/1.1\r\n")
