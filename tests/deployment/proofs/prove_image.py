"""What deploy/Dockerfile says, done without an engine in an empty folder: built, started, asked, stopped.

An absolute path of an instruction is one below that folder, the base image is this machine's
Python, and the user is whoever runs this.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

from store.clock import monotonic
from tests.deployment.dockerfile import DOCKERFILE, ROOT, Instruction, last, stages
from tests.ports import free_port

OUR_PLACES = re.compile(r"(?<![\w.}])/(?=opt/|data\b|src\b)")
"""The slash that begins a path of the image's own."""


@dataclass(slots=True)
class Image:
    """One stage after the other, each a new root; those before it lie beside it."""

    folder: Path
    stage: str = "none"
    place: Path = field(init=False)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def begin(self, name: str) -> None:
        """A new stage. The one before keeps its files under its name, and scripts their paths."""
        if self.root.exists():
            self.root.rename(self.folder / self.stage)
        self.stage, self.place = name, self.root
        programs = self.root / "usr/local/bin"
        programs.mkdir(parents=True)
        (programs / "python").symlink_to(_python())
        self.environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(self.root)}

    def here(self, text: str) -> str:
        return OUR_PLACES.sub(f"{self.root}/", text)

    def do(self, step: Instruction) -> None:
        match step.name:
            case "FROM":
                self.begin(step.text.partition(" AS ")[2] or "last")
            case "WORKDIR":
                self.place = Path(self.here(step.text))
                self.place.mkdir(parents=True, exist_ok=True)
            case "RUN":
                self.run("sh", "-euc", self.here(re.sub(r"-o \d+ -g \d+ ", "", step.text)))
            case "COPY":
                self.copy(step)
            case "ENV":
                for name, value in step.pairs.items():
                    whole = value.replace("$PATH", self.environment["PATH"])
                    self.environment[name] = self.here(whole)

    def run(self, *words: str) -> None:
        subprocess.run(words, cwd=self.place, env=self.environment, check=True, timeout=600)

    def copy(self, step: Instruction) -> None:
        *sources, target = step.words
        stage = re.search(r"--from=(\w+)", step.text)
        for source in sources:
            origin = self.folder / stage[1] / source[1:] if stage else ROOT / source
            to = self.place / self.here(target)
            to = to / origin.name if target.endswith("/") else to
            to.parent.mkdir(parents=True, exist_ok=True)
            if origin.is_dir():
                ignore = None if stage else _ignored
                shutil.copytree(origin, to, symlinks=True, ignore=ignore, dirs_exist_ok=True)
            else:
                shutil.copy(origin, to)

    def files(self) -> dict[Path, int]:
        """All there is but the volume, and when it was written."""
        volume = Path(self.here(last("VOLUME").text))
        return {
            path: path.lstat().st_mtime_ns
            for path in self.root.rglob("*")
            if not path.is_dir() and not path.is_relative_to(volume)
        }


def _python() -> str:
    """A Python with pip, of the version that the image has."""
    [version] = re.findall(r"^ARG PYTHON_IMAGE=python:([\d.]+)-", DOCKERFILE.read_text(), re.M)
    found = shutil.which(f"python{version}")
    assert found, f"the image has Python {version}, and this machine does not"
    return found


def _ignored(folder: str, names: list[str]) -> set[str]:
    lines = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    out = {line.removeprefix("**/") for line in lines if line.startswith(("**/", "deploy/"))}
    inside = Path(folder).relative_to(ROOT)
    return {name for name in names if out & {name, str(inside / name)}}


def test_the_image_builds_serves_is_found_healthy_and_stops(tmp_path: Path) -> None:
    image = Image(tmp_path)
    for stage in stages():
        for step in stage:
            image.do(step)
    before = image.files()
    environment = {**image.environment, "TASKBELL_PORT": str(free_port())}
    check = json.loads(last("HEALTHCHECK").text.partition(" CMD ")[2])
    program = shutil.which(last("ENTRYPOINT").words[0], path=environment["PATH"])
    assert program is not None

    server = subprocess.Popen(
        [program, *last("CMD").words],
        cwd=image.place,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        healthy = _healthy(server, check, environment)
    finally:
        server.send_signal(getattr(signal, last("STOPSIGNAL").text))
        output, _ = server.communicate(timeout=30)

    assert healthy
    assert server.returncode == 0
    assert "Your admin API key" in output
    assert {file.name for file in image.place.iterdir()} >= {
        "taskbell.db",
        "taskbell.db.secret-keys",
    }
    assert image.files() == before  # a read-only root would have done
    assert not (image.root / "src").exists()
    assert not list((image.root / "opt/taskbell/bin").glob("pip*"))
    assert not list(image.root.rglob("docs/*.md"))


def _healthy(server: subprocess.Popen[str], check: list[str], environment: dict[str, str]) -> bool:
    give_up, pause = monotonic() + 20, threading.Event()
    while monotonic() < give_up and server.poll() is None:
        if subprocess.run(check, env=environment, capture_output=True, check=False).returncode == 0:
            return True
        pause.wait(0.2)
    return False
