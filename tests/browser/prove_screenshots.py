"""The pictures of the documentation: SCREENSHOTS=1 ./tests/run tests/browser/prove_screenshots.py

Without that they are taken all the same, to see that they can be, and thrown away.
"""

from __future__ import annotations

from pathlib import Path

from deploy.settings import process_environment
from tests.browser.screens import SCREENS, Where
from tests.browser.visits import Visits
from tests.browser.windows import Language, Theme

_IMAGES = Path(__file__).parents[2] / "deploy" / "docs" / "images"
_LARGEST = 200 * 1024
_SHOWN: dict[str, tuple[Where, Language, Theme]] = {
    "tasks-light": (SCREENS["tasks"]["tasks"], "en", "light"),
    "tasks-dark": (SCREENS["tasks"]["tasks"], "en", "dark"),
    "tasks-zh": (SCREENS["tasks"]["tasks"], "zh", "light"),
    "task": (SCREENS["tasks"]["one that failed"], "en", "light"),
    "event-zh": (SCREENS["events"]["one that was pushed"], "zh", "light"),
    "delivery": (SCREENS["deliveries"]["one that is dead"], "en", "light"),
    "subscription-dark": (SCREENS["subscriptions"]["a failing one"], "en", "dark"),
    "providers": (SCREENS["providers"]["providers"], "en", "light"),
}
"""By the names of their files: what is shown, and how."""


async def test_pictures_are_taken_for_the_documentation(visit: Visits, tmp_path: Path) -> None:
    folder = _IMAGES if "SCREENSHOTS" in process_environment() else tmp_path
    page = await visit("/login")

    for name, (where, language, theme) in _SHOWN.items():
        await page.emulate_media(color_scheme=theme)
        await page.goto(f"{where(visit.site.scene)}?lang={language}")
        await page.screenshot(path=folder / f"{name}.png", animations="disabled", caret="hide")

    sizes = {name: (folder / f"{name}.png").stat().st_size for name in _SHOWN}
    assert {name: size for name, size in sizes.items() if size > _LARGEST} == {}
