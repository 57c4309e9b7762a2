"""Commands on the pages do what their page says, typed as they stand (tests/docs/reader.py).

Here those of the README; tests/docs/prove_how_tos.py runs the others.
"""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path

from tests.docs.pages import CHINESE, ROOT, Page, page, pages
from tests.docs.reader import Reader, World, world

README, TUTORIAL = "README.md", "deploy/docs/tutorial.md"
HOW_TO = "deploy/docs/how-to/"
REFERENCE = "deploy/docs/reference/"  # tests/receiver/test_manual.py runs its commands
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


def check_messages(around: World) -> None:
    """Each was one that its service takes, and no refusal came back."""
    for name in CHAT_PAGES:
        for call in around.chats[name].calls:
            around.chats[name].fake.rules(call)
