"""deploy/audit: what a finding, a clean lock and an unreachable database come to."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.patience import PATIENCE_SECONDS

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.mark.parametrize(
    ("tool", "code", "out", "err"),
    [
        pytest.param("exit 0", 0, "", "no vulnerability is known", id="nothing known"),
        pytest.param(
            "echo 'yarl 1.24 PYSEC-1'; exit 1", 1, "yarl 1.24 PYSEC-1\n", "", id="a finding"
        ),
        pytest.param(
            "echo 'ERROR: no route to the database' >&2; exit 1",
            0,
            "",
            "not audited: the advisory database cannot be asked (ERROR: no route to the database)\n",
            id="nobody to ask",
        ),
    ],
)
def test_only_a_finding_fails(tmp_path: Path, tool: str, code: int, out: str, err: str) -> None:
    (tmp_path / "deploy").mkdir()
    for name in ("audit", "environment.sh", "requirements.lock"):
        shutil.copy(DEPLOY / name, tmp_path / "deploy" / name)
    program = tmp_path / ".venv/pip-audit/bin/pip-audit"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{tool}\n")
    program.chmod(0o755)

    ended = subprocess.run(
        [tmp_path / "deploy/audit"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (code, out)
    assert err in ended.stderr
    assert ended.stderr.count("\n") <= 1
