"""A second signal hurries what the first one began. (Slow clients themselves are faults.)"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from store.clock import monotonic
from tests.faults.stopping import USUAL, held_up

MOST_SECONDS = 4.0
"""The delivery under way would be waited for for ten."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_does_not_wait_for_what_is_under_way(
    tmp_path: Path, sqlite_url: str, number: signal.Signals
) -> None:
    async with held_up(tmp_path, sqlite_url, USUAL, ATTEMPT_TIMEOUT_SECONDS="60") as server:
        began = monotonic()
        server.process.send_signal(number)
        await server.said("stopping: finishing")
        server.process.send_signal(number)

        assert await server.exit_code(20) == 0
        assert monotonic() - began < MOST_SECONDS
