"""Every command on the pages does what its page says, typed as it stands (tests/docs/reader.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import CHINESE, ROOT, Page, page, pages
from tests.docs.reader import Reader, World, world

HOW_TO = "deploy/docs/how-to/"
REFERENCE = "deploy/docs/reference/"  # tests/receiver/test_manual.py runs its commands
READY = "deploy/run tasks"
"""The last thing that `./deploy/run` prints when it has started."""

CHAT_PAGES = ("slack", "feishu", "dingtalk")


def starting_anew() -> list[str]:
    """Pages that begin with nothing: they start a server of their own."""
    return [
        each.name
        for each in pages()
        if not (ROOT / each.name).is_relative_to(CHINESE)
        and not each.name.startswith((HOW_TO, REFERENCE))
        and each.blocks()
    ]


def how_tos() -> list[Page]:
    return [each for each in pages() if each.name.startswith(HOW_TO)]


@pytest.mark.parametrize("name", starting_anew())
async def test_a_page_that_begins_with_nothing_runs_from_top_to_bottom(
    name: str, tmp_path: Path
) -> None:
    async with world(tmp_path) as around, Reader(around) as reader:
        await reader.read(page(name))


async def test_the_how_tos_run_beside_a_server(tmp_path: Path) -> None:
    async with world(tmp_path) as around, Reader(around) as reader:
        await reader.start("./deploy/run", READY, around.environ)
        printed = {each.name: await reader.read(each) for each in how_tos()}
        for name in CHAT_PAGES:
            await around.chats[name].wait_for(1)

    for name in ("minimax", "atlas-cloud", "opencomputing"):
        assert "succeeded" in printed[f"{HOW_TO}{name}.md"]
    check_messages(around)


def check_messages(around: World) -> None:
    """Each was one that its service takes, and no refusal came back."""
    for name in CHAT_PAGES:
        for call in around.chats[name].calls:
            around.chats[name].fake.rules(call)
