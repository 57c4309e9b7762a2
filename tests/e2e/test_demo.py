"""`taskbell demo`, as a person types it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.docs.pages import page
from tests.e2e.process import TASKBELL
from tests.patience import PATIENCE_SECONDS

SHORT, _ = (
    [os.fspath(TASKBELL), *command.split()[1:]]
    for block in page("README.md").blocks(heading="Look at it")
    for command in block.commands
)


def test_the_demo_ends_well_in_under_20_seconds(tmp_path: Path) -> None:
    done = subprocess.run(
        SHORT,
        cwd=tmp_path,
        env={"PYTHONUTF8": "1", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "challenge answered in" in done.stdout
    assert "push missed, poll caught it" in done.stdout
    assert "at attempt 2" in done.stdout
    for title in ("MiniMax", "Atlas Cloud", "元境"):
        assert f"│ {title}" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last == "9 tasks, each with exactly one final event, each delivered and verified."
    assert list(tmp_path.iterdir()) == []
