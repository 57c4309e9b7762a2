"""Every command on the pages does what its page says, typed as it stands (tests/docs/reader.py)."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path

from tests.docs.pages import CHINESE, ROOT, Page, page, pages
from tests.docs.reader import Reader, World, world

README, TUTORIAL = "README.md", "deploy/docs/tutorial.md"
HOW_TO = "deploy/docs/how-to/"
REFERENCE = "deploy/docs/reference/"  # tests/receiver/test_manual.py runs its commands
READY = "deploy/run tasks"
"""The last thing that `./deploy/run` prints when it has started."""

PROVIDER_PAGES = (
    "deploy/docs/how-to/minimax.md",
    "deploy/docs/how-to/atlas-cloud.md",
    "deploy/docs/how-to/opencomputing.md",
)
CHAT_PAGES = ("slack", "feishu", "dingtalk")


def how_tos() -> list[Page]:
    return [each for each in pages() if each.name.startswith(HOW_TO)]


def test_every_page_with_commands_is_run_here_or_is_of_reference() -> None:
    here = {README, TUTORIAL, *(each.name for each in how_tos())}
    english = [each for each in pages() if not (ROOT / each.name).is_relative_to(CHINESE)]
    others = {each.name for each in english if each.blocks() and each.name not in here}

    assert [name for name in others if not name.startswith(REFERENCE)] == []


def written(folder: Path) -> set[str]:
    """The files that a reader's commands left in the checkout, but for the desk's own."""
    desk = {"body.json", "headers.txt"}
    return {each.name for each in folder.iterdir() if each.is_file()} - desk


def ignored_by_git(name: str) -> bool:
    patterns = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    return any(fnmatch(name, pattern.removeprefix("/")) for pattern in patterns)


async def test_the_readme_leads_from_nothing_to_three_videos_told_to_everybody(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as around, Reader(around) as reader:
        printed = await reader.read(page(README))
        await around.receiver.wait_for("/hook", "task.succeeded", 3)
        await around.receiver.wait_for("/", "task.succeeded", 3)  # to whom it listens for
        await around.chats["slack"].wait_for(3)

    told = [json.loads(body) for path, body in around.receiver.bodies if path == "/hook"]
    last = [event["data"]["task"] for event in told if event["type"] == "task.succeeded"]
    metadata = {task["provider"]: task["metadata"] for task in last}
    assert metadata["minimax"] == {"customer": "42"}  # of its callback URL, though it was tracked
    assert "whsec_" in printed
    assert all(map(ignored_by_git, written(tmp_path))), written(tmp_path)
    assert around.simulator.stats.challenges_answered == 1
    assert printed.count("accepted") == 4, printed  # doctor: three providers' keys, and ours
    check_messages(around)


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
    """What their pages export, and the longest of the commands that start it there."""
    blocks = [block for name in PROVIDER_PAGES for block in page(name).blocks()]
    keys = [block.text for block in blocks if block.text.startswith("export ")]
    servers = [block.text for block in blocks if block.test is not None]
    assert len(keys) == len(servers) == len(PROVIDER_PAGES)
    return "".join([*keys, max(servers, key=len)])


def check_messages(around: World) -> None:
    """Each was one that its service takes, and no refusal came back."""
    for name in CHAT_PAGES:
        for call in around.chats[name].calls:
            around.chats[name].fake.rules(call)
