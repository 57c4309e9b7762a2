"""What is installed elsewhere: the wheel has everything that is read at run time."""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import run
from zipfile import ZipFile

ROOT = Path(__file__).parents[2]
BESIDE_CODE = ("receiver/pages/templates", "receiver/pages/words", "receiver/static")


def test_the_wheel_has_the_pages_their_words_and_the_files_beside_them(tmp_path: Path) -> None:
    build = (sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory")
    run([*build, tmp_path], cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        packed = set(archive.namelist())

    files = [path for folder in BESIDE_CODE for path in (ROOT / folder).iterdir() if path.is_file()]
    assert len(files) > 12
    assert {path.relative_to(ROOT).as_posix() for path in files} <= packed
    assert not [name for name in packed if name.startswith("tests/")]
