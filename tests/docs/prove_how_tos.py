"""Every command of the tutorial and the how-tos does what its page says (tests/docs/reader.py). About a minute."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pages import page
from tests.docs.reader import Reader, world
from tests.docs.test_blocks import (
    CHAT_PAGES,
    README,
    TUTORIAL,
    check_messages,
    how_tos,
    ignored_by_git,
    written,
)

READY = "deploy/run tasks"
"""The last thing that `./deploy/run` prints when it has started."""

PROVIDER_PAGES = (
    "deploy/docs/how-to/minimax.md",
    "deploy/docs/how-to/atlas-cloud.md",
    "deploy/docs/how-to/opencomputing.md",
)


async def test_the_tutorial_leads_from_nothing_to_an_event_and_one_that_did_not_arrive(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as around, Reader(around) as reader:
        await reader.read(page(TUTORIAL))

    assert "subscription.json" in written(tmp_path)
    assert all(map(ignored_by_git, written(tmp_path))), written(tmp_path)
    assert (tmp_path / "subscription.json").stat().st_mode & 0o077 == 0


async def test_the_how_tos_run_beside_one_server(tmp_path: Path) -> None:
    """It has the keys of all providers, as if the reader had begun with each of their pages.

    What the README has too, word for word, runs there.
    """
    known = {block.text for block in page(README).blocks()}
    async with world(tmp_path) as around, Reader(around) as reader:
        await reader.start(around.filled_in(server_of_the_providers()), READY, around.environ)
        printed = {each.name: await reader.read(each, known) for each in how_tos()}
        for name in CHAT_PAGES:
            await around.chats[name].wait_for(1)
        await around.receiver.wait_for("/", "task.failed")  # what was triggered, to the port

    for name in PROVIDER_PAGES[:2]:
        assert "succeeded" in printed[name]
    assert all(map(ignored_by_git, written(tmp_path))), written(tmp_path)
    check_messages(around)


def server_of_the_providers() -> str:
    """Return the exports of the providers' pages and the longest command that starts the server."""
    blocks = [block for name in PROVIDER_PAGES for block in page(name).blocks()]
    keys = [block.text for block in blocks if block.text.startswith("export ")]
    servers = [block.text for block in blocks if block.test is not None]
    assert len(keys) == len(servers) == len(PROVIDER_PAGES)
    return "".join([*keys, max(servers, key=len)])
