"""The programs that these tests run beside Taskbell."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

CADDY_REPEATS = (2, 8)
"""The first version that can send a body again."""


def program(name: str) -> str:
    """Return the program's path, or skip the test and name what is missing.

    tests/services/run fails at the end when something is missing and CI=true.
    """
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"not run: there is no {name}; start this with tests/services/run")
    return found


def caddy_that_repeats() -> str:
    """Return the path of a Caddy that can repeat a push, or skip the test."""
    found = program("caddy")
    said = subprocess.run([found, "version"], check=True, capture_output=True, text=True).stdout
    version = tuple(map(int, re.findall(r"\d+", said)[:2]))
    if version < CADDY_REPEATS:
        pytest.skip(f"not run: Caddy {said.split()[0]} cannot repeat a push that it has sent")
    return found
