"""A Dockerfile as a list of instructions, for what looks at it and what does as it says."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/Dockerfile"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line, its continuations joined: COPY, 'deploy deploy'."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The words of an exec form or of a plain line, without options."""
        if self.text.startswith("["):
            found: list[str] = json.loads(self.text)
            return found
        return [word for word in shlex.split(self.text) if not word.startswith("--")]

    @property
    def pairs(self) -> dict[str, str]:
        """NAME=value …, of ENV and LABEL."""
        return dict(word.split("=", 1) for word in self.words)


def stages(path: Path = DOCKERFILE) -> list[list[Instruction]]:
    """The instructions of each stage, FROM first; what stands before the first FROM is left out."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found: list[list[Instruction]] = []
    for line in whole.splitlines():
        name, _, text = line.partition(" ")
        if name == "FROM":
            found.append([])
        if found and line:
            found[-1].append(Instruction(name, text.strip()))
    return found


def last(name: str) -> Instruction:
    """The last instruction of a name in the last stage: the one that counts."""
    return [each for each in stages()[-1] if each.name == name][-1]


def environment() -> dict[str, str]:
    """What the image sets, without PATH."""
    return {key: value for key, value in last("ENV").pairs.items() if key != "PATH"}
