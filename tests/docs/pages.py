"""The pages people read, cut into their code blocks.

What a block of commands needs besides running is said in a comment on the line above it, which
readers of the page do not see:

    <!-- stays: WORDS -->         goes on in a terminal of its own; ready when it prints WORDS
    <!-- after Ctrl-C -->         what was started last is ended first; "; stays: …" may follow
    <!-- run by FILE -->          that test runs this very block
    <!-- not run: REASON; FILE -->    cannot be run here; that test holds what can be held
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "deploy/docs"
CHINESE = DOCS / "zh-CN"

SHELL = "sh"
SHOWN = frozenset({"console", "http", "ini", "js", "json", "mermaid", "python", "text", "yaml"})
"""Languages of blocks that are read, not run."""

_FENCE = re.compile(r"^( *)```(\S*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_NOTE = re.compile(r"<!-- (.+?) -->\n\Z")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. line: of its fence in the page, from 1. note: the comment above it."""

    language: str
    text: str
    line: int
    note: str

    @property
    def waits_for(self) -> str | None:
        """What it prints when it is ready, if it stays."""
        found = re.fullmatch(r"(?:after Ctrl-C; )?stays: (.+)", self.note)
        return found[1] if found else None

    @property
    def after_ctrl_c(self) -> bool:
        return self.note.startswith("after Ctrl-C")

    @property
    def test(self) -> str | None:
        """The test that stands in for running it here."""
        found = re.fullmatch(r"(?:run by|not run: .+;) (\S+\.py)", self.note)
        return found[1] if found else None

    @property
    def commands(self) -> list[str]:
        """Its lines without comments and blank lines."""
        lines = (re.sub(r"(^|\s+)# .*", "", line).rstrip() for line in self.text.splitlines())
        return [line for line in lines if line]


@dataclass(frozen=True, slots=True)
class Page:
    """name: its path from the repository's root."""

    name: str
    text: str

    def blocks(self, language: str = SHELL, heading: str = "") -> list[Block]:
        """Its blocks of one language, in order; those below one heading, if it is given."""
        return [
            block
            for block in self.all_blocks()
            if block.language == language and self.heading(block).startswith(heading)
        ]

    def all_blocks(self) -> Iterator[Block]:
        for found in _FENCE.finditer(self.text):
            before = self.text[: found.start()]
            note = _NOTE.search(before)
            text = textwrap.dedent(found[3])
            yield Block(found[2], text, before.count("\n") + 1, note[1] if note else "")

    def heading(self, block: Block) -> str:
        """The second-level heading that it stands under."""
        above = "\n".join(self.text.splitlines()[: block.line])
        headings: list[str] = re.findall(r"^## (.+)$", above, re.MULTILINE)
        return headings[-1] if headings else ""

    def links(self) -> list[str]:
        """Where it points to within the repository: path, or path#anchor."""
        prose = _FENCE.sub("", self.text)
        found = re.findall(r"\]\(([^)\s]+)\)", prose) + re.findall(r'(?:src|href)="([^"]+)"', prose)
        return [link for link in found if not re.match(r"[a-z]+:", link)]

    def anchors(self) -> set[str]:
        """The ids that its headings get where it is shown."""
        prose = _FENCE.sub("", self.text)
        return {_anchor(each) for each in re.findall(r"^#+ (.+)$", prose, re.MULTILINE)}


def _anchor(heading: str) -> str:
    r"""GitHub's id of a heading.

    >>> _anchor("What it `promises`, and 元境")
    'what-it-promises-and-元境'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def page(name: str) -> Page:
    return Page(name, (ROOT / name).read_text(encoding="utf-8"))


@cache
def pages() -> list[Page]:
    """README and everything under deploy/docs."""
    found = sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md"))
    return [page(name) for name in ("README.md", *found)]
