"""The pages as texts: nothing leads nowhere, and no command is left out without a word."""

from __future__ import annotations

import re

import pytest

from deploy.settings import unknown_names
from tests.docs.pages import CHINESE, DOCS, ROOT, SHELL, SHOWN, Page, page, pages
from tests.docs.reference import HEADING

PAGES = [pytest.param(each, id=each.name) for each in pages()]
ENGLISH = [each for each in pages() if not (ROOT / each.name).is_relative_to(CHINESE)]
TRANSLATED = sorted(path.relative_to(CHINESE).as_posix() for path in CHINESE.rglob("*.md"))
NOTES = r"stays: .+|after Ctrl-C(; stays: .+)?|run by \S+\.py|not run: .+; \S+\.py"


@pytest.mark.parametrize("each", PAGES)
def test_every_block_is_run_or_says_why_not(each: Page) -> None:
    for block in each.all_blocks():
        place = f"{each.name}:{block.line}"
        assert block.language in {SHELL, *SHOWN}, f"{place} is of no known language"
        assert re.fullmatch(NOTES, block.note) or not block.note, f"{place}: {block.note!r}"
        if block.test is not None:
            assert (ROOT / block.test).is_file(), f"{place} names no test: {block.test}"


@pytest.mark.parametrize("each", ENGLISH, ids=lambda each: each.name)
def test_a_test_that_runs_a_block_knows_its_section(each: Page) -> None:
    for block in each.all_blocks():
        if block.note.startswith("run by ") and each.heading(block) and block.test is not None:
            knows = (ROOT / block.test).read_text(encoding="utf-8")
            assert each.heading(block).split(" (")[0] in knows or each.name in knows, block.line


@pytest.mark.parametrize("each", PAGES)
def test_no_note_stands_apart_from_its_block(each: Page) -> None:
    notes = re.findall(r"<!-- (.+?) -->", each.text.removeprefix(HEADING))

    assert notes == [block.note for block in each.all_blocks() if block.note]


@pytest.mark.parametrize("each", PAGES)
def test_every_link_leads_somewhere(each: Page) -> None:
    here = (ROOT / each.name).parent
    for link in each.links():
        path, _, anchor = link.partition("#")
        target = (here / path).resolve() if path else ROOT / each.name
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in page(target.relative_to(ROOT).as_posix()).anchors(), link


@pytest.mark.parametrize("each", PAGES)
def test_every_file_that_a_page_names_is_there(each: Page) -> None:
    named = re.findall(
        r"`(?:\./)?((?:deploy|dispatch|receiver|store|tests)/[\w./-]+\.\w+)`", each.text
    )

    assert [name for name in named if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("index", ["README.md", "zh-CN/README.md"])
def test_the_index_leads_to_every_page(index: str) -> None:
    start = DOCS / index
    listed = {(start.parent / link.partition("#")[0]).resolve() for link in indexed(index).links()}

    wanted = {path for path in start.parent.rglob("*.md") if path != start}
    if index == "README.md":
        wanted -= set(CHINESE.rglob("*.md")) - {CHINESE / "README.md"}
    assert sorted(wanted - listed) == []


def indexed(index: str) -> Page:
    return page((DOCS / index).relative_to(ROOT).as_posix())


@pytest.mark.parametrize("name", TRANSLATED)
def test_a_translated_page_has_the_same_commands(name: str) -> None:
    original = name if name == "README.md" else f"deploy/docs/{name}"

    assert commands(page(f"deploy/docs/zh-CN/{name}")) == commands(page(original))


def commands(each: Page) -> list[tuple[list[str], str]]:
    """What is to be typed and the notes; comments may be translated."""
    return [(block.commands, block.note) for block in each.blocks()]


def test_every_variable_that_is_shown_to_people_is_a_setting() -> None:
    """The server refuses to start with an unknown one, also in the environment of an example."""
    shown = [
        ROOT / "README.md",
        *(
            path
            for path in (ROOT / "deploy").rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        ),
    ]
    texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in shown}
    names = {
        (path.relative_to(ROOT).as_posix(), name)
        for path, text in texts.items()
        for name in re.findall(r"\bTASKBELL_[A-Z][A-Z_]*[A-Z]\b(?![_<*…])", text)
    }

    assert names
    assert unknown_names({name: "" for _, name in names}) == []
