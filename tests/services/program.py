"""The programs that these tests run beside Taskbell."""

from __future__ import annotations

import shutil

import pytest


def program(name: str) -> str:
    """Return the program's path, or skip the test and name what is missing.

    tests/services/run fails at the end when something is missing and CI=true.
    """
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"not run: there is no {name}; start this with tests/services/run")
    return found
