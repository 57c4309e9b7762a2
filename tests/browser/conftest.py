"""A Chromium for each file of tests, and windows in it that tolerate no trouble."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from deploy.settings import process_environment
from tests.app import SECRET_KEYS
from tests.browser.chromium import MISSING, find_chromium
from tests.browser.site import Site, serving
from tests.browser.visits import Visits
from tests.browser.windows import Windows
from tests.conftest import START
from tests.databases import copy_sqlite
from tests.seed.scene import Scene, seed

_NEEDED = "TESTS_NEED_BROWSER"
"""Set where a missing browser must not go unnoticed (.ci/run)."""

_ARGUMENTS = (
    "--no-sandbox",  # tests may run as root, where Chromium has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@pytest.fixture(scope="session")
def chromium_path() -> str:
    found = find_chromium()
    if found is None:
        if process_environment().get(_NEEDED):
            pytest.fail(MISSING, pytrace=False)
        pytest.skip(MISSING)  # says what to install; where it is needed it has failed above
    return found


# not for the session: anyio would run every later test on the event loop of such a fixture
@pytest.fixture(scope="module")
async def chromium(chromium_path: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium_path, args=list(_ARGUMENTS)
        )
        yield browser
        await browser.close()


@pytest.fixture
async def windows(chromium: Browser) -> AsyncIterator[Windows]:
    """Opens windows; the test fails when any of them had trouble."""
    opened = Windows(chromium)
    yield opened
    troubles = await opened.close()
    if troubles:
        pytest.fail("\n".join(troubles), pytrace=False)


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Scene]:
    """A database with the scene in it, to be copied."""
    path = tmp_path_factory.mktemp("scene") / "scene.db"
    return path, seed(f"sqlite:///{path}", SECRET_KEYS, START)


@pytest.fixture
async def site(seeded: tuple[Path, Scene], tmp_path: Path) -> AsyncIterator[Site]:
    """Taskbell over the scene, for one test."""
    template, scene = seeded
    async with serving(copy_sqlite(template, tmp_path / "scene.db"), scene) as served:
        yield served


@pytest.fixture
def visit(site: Site, windows: Windows) -> Visits:
    """Opens windows at pages of the site."""
    return Visits(site, windows)
