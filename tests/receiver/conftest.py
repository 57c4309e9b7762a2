"""A Taskbell over ASGI for the tests of its HTTP face; no loop of it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from store.clock import ManualClock
from tests.app import Taskbell, running


@pytest.fixture
async def taskbell(database_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(database_url, clock) as taskbell:
        yield taskbell


@pytest.fixture
async def small(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    """For what does not depend on the database."""
    async with running(sqlite_url, clock) as taskbell:
        yield taskbell
