"""What deploy/Dockerfile says, done without an engine in an empty folder: built, started, asked, stopped.

The image's file system is a folder: every absolute path of an instruction is one below it. Only what
runs as root here is left out, and the base image is this machine's Python.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.demo.stage import free_port
from tests.deployment.dockerfile import DOCKERFILE, ROOT, Instruction, last, stages

PLACES = ("/opt/taskbell", "/data", "/src")


@dataclass(slots=True)
class Image:
    """A stage on its way: where its files lie, where it stands, what its processes see."""

    root: Path
    folder: Path = field(init=False)
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        programs = self.root / "usr/local/bin"
        programs.mkdir(parents=True)
        (programs / "python").symlink_to(_python())
        self.folder = self.root
        self.environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(self.root)}

    def here(self, text: str) -> str:
        """A text with the image's absolute paths as they are below the root."""
        return re.sub(
            "|".join(map(re.escape, PLACES)), lambda found: f"{self.root}{found[0]}", text
        )

    def do(self, step: Instruction, built: Mapping[str, Image]) -> None:
        match step.name:
            case "WORKDIR":
                self.folder = Path(self.here(step.text))
                self.folder.mkdir(parents=True, exist_ok=True)
            case "RUN":
                command = self.here(re.sub(r"-o \d+ -g \d+ ", "", step.text))
                subprocess.run(
                    ["sh", "-euc", command], cwd=self.folder, env=self.environment, check=True
                )
            case "COPY":
                self._copy(step, built)
            case "ENV":
                for name, value in step.pairs.items():
                    known = value.replace("$PATH", self.environment["PATH"])
                    self.environment[name] = self.here(known)

    def _copy(self, step: Instruction, built: Mapping[str, Image]) -> None:
        *sources, target = step.words
        stage = re.search(r"--from=(\w+)", step.text)
        for source in sources:
            origin = Path(built[stage[1]].here(source)) if stage else ROOT / source
            to = self._place(target, origin)
            to.parent.mkdir(parents=True, exist_ok=True)
            if origin.is_dir():
                shutil.copytree(origin, to, symlinks=True, ignore=_ignored)
            else:
                shutil.copy(origin, to)

    def _place(self, target: str, origin: Path) -> Path:
        place = self.folder / self.here(target)
        return place / origin.name if target.endswith("/") else place


def _python() -> str:
    """A Python with pip, of the version that the image has."""
    [version] = re.findall(r"^ARG PYTHON_IMAGE=python:([\d.]+)-", DOCKERFILE.read_text(), re.M)
    found = shutil.which(f"python{version}")
    assert found, f"the image has Python {version}, and this machine does not"
    return found


def _ignored(folder: str, names: list[str]) -> set[str]:
    """What the ignore file's last lines take out of what its first ones let through."""
    lines = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and line[0] not in "#!*" or line.startswith("**/")]
    inside = Path(folder).relative_to(ROOT) if Path(folder).is_relative_to(ROOT) else None
    if inside is None:
        return set()
    return {
        name
        for name in names
        if any(fnmatch.fnmatch(str(inside / name), pattern) for pattern in patterns)
    }
