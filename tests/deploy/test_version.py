import tomllib
from pathlib import Path

from deploy import __version__

ROOT = Path(__file__).parents[2]


def test_the_version_is_the_same_wherever_it_is_written() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert project["version"] == __version__
