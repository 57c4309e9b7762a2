"""deploy/environment.sh makes .venv once, whoever else wants it at the same moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.settings import process_environment
from tests.patience import PATIENCE_SECONDS

SCRIPT = Path(__file__).parents[2] / "deploy" / "environment.sh"
PREPARE = f'set -eu; root=$PWD; . {SCRIPT}; prepare runtime "$root/lock"'
PYTHON = """#!/bin/sh
# a Python whose pip takes its time, and notices company
case "$*" in
  *"-m venv "*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;;
  *"-m pip "*) mkdir busy || echo company >>log; sleep 0.2; rmdir busy; echo installed >>log;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "lock").write_text("a==1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    python = tmp_path / "bin" / "python3.11"
    python.parent.mkdir()
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def preparing(checkout: Path) -> subprocess.Popen[str]:
    path = f"{checkout / 'bin'}:{process_environment()['PATH']}"
    return subprocess.Popen(
        ["sh", "-c", PREPARE], cwd=checkout, env={"PATH": path}, stderr=subprocess.PIPE, text=True
    )


def test_two_that_start_together_install_once(checkout: Path) -> None:
    both = [preparing(checkout) for _ in range(2)]

    for each in both:
        _, said = each.communicate(timeout=PATIENCE_SECONDS)
        assert each.returncode == 0, said
    assert (checkout / "log").read_text().split() == ["installed"] * 2  # packages, then this one
    assert not (checkout / ".venv.lock").exists()


def test_who_was_killed_while_installing_holds_nobody_up(checkout: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (checkout / ".venv.lock").mkdir()
    (checkout / ".venv.lock" / "pid").write_text(f"{gone.pid}\n")

    later = preparing(checkout)

    assert later.communicate(timeout=PATIENCE_SECONDS)
    assert later.returncode == 0
