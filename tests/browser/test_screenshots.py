"""The pictures of the documentation: SCREENSHOTS=1 ./tests/run tests/browser/test_screenshots.py

Without that they are taken all the same, to see that they can be, and thrown away.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.settings import process_environment
from tests.browser.screens import SCREENS
from tests.browser.visits import Visits

_IMAGES = Path(__file__).parents[2] / "deploy" / "docs" / "images"
_LARGEST = 200 * 1024
_SHOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "tasks-light": ("tasks", {}),
    "tasks-dark": ("tasks", {"theme": "dark"}),
    "tasks-zh": ("tasks", {"language": "zh"}),
    "task": ("a task that failed", {}),
}
"""By the names of their files: which screen, and how it is looked at."""


@pytest.mark.parametrize("name", _SHOWN)
async def test_a_picture_for_the_documentation(visit: Visits, tmp_path: Path, name: str) -> None:
    wanted = "SCREENSHOTS" in process_environment()
    path = (_IMAGES if wanted else tmp_path) / f"{name}.png"
    screen, how = _SHOWN[name]

    page = await visit(SCREENS[screen](visit.site.scene), **how)
    await page.screenshot(path=path, animations="disabled", caret="hide")

    assert path.stat().st_size < _LARGEST
