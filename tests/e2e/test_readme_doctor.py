"""The README's way to find out what is wrong, word for word but for ids and files of the reader's own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

import httpx

from deploy.demo.simulator import Simulator
from dispatch.signing import new_secret, signed_headers
from store.clock import system_clock
from tests.app import HOOK, bearer, good
from tests.e2e.process import until
from tests.e2e.test_readme import KEY, blocks, reader, run


async def test_a_reader_finds_out_what_is_wrong(tmp_path: Path) -> None:
    doctor, verify, replay = blocks("When something does not work")
    async with reader(tmp_path, Simulator(KEY)) as environ:
        subscription_id = await subscribed(environ)

        well, checked, replayed = await asyncio.gather(
            run(doctor, environ),
            run(request_kept(tmp_path, verify), environ),
            run(replay.replace("sub_…", subscription_id), environ),
        )

    assert well[0] == 0, well[1]
    levels = {line.split("  ")[0].strip() for line in well[1].splitlines() if line[:1] != " "}
    assert levels == {"ok", "warn"}  # of this machine's own address
    assert well[1].count("accepted") == 4, well[1]  # three providers' keys, and ours
    assert "answered in" in well[1]
    assert checked[0] == 1
    assert "it matches without the line break at its end" in checked[1]
    assert replayed == (0, f"nothing to replay to {HOOK}\n")


async def subscribed(environ: Mapping[str, str]) -> str:
    headers = bearer(environ["TASKBELL_API_KEY"])
    url = environ["TASKBELL_URL"]
    async with httpx.AsyncClient(
        base_url=url, trust_env=False, verify=False, headers=headers
    ) as api:

        async def ready() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return (await api.get("/readyz")).status_code == 200
            return False

        await until(ready, 20)
        made: str = good(await api.post("/v1/subscriptions", json={"url": HOOK}), 201)["id"]
    return made


def request_kept(folder: Path, command: str) -> str:
    """The command for a request whose body got a line break, and the secret's file."""
    secret = new_secret()
    headers = signed_headers([secret], "evt_1", int(system_clock().timestamp()), b"{}")
    (folder / "body.json").write_bytes(b"{}\n")
    (folder / "headers.txt").write_text("".join(f"{k}: {v}\n" for k, v in headers.items()))
    (folder / "secret.txt").write_text(secret)
    for name in ("body.json", "headers.txt"):
        command = command.replace(name, str(folder / name))
    return f"{command.strip()} --secret-file {folder}/secret.txt"
