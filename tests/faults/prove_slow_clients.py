"""A second signal hurries what the first one began. (Slow clients themselves are faults.)"""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.stopping import USUAL, held_up
from tests.patience import PATIENCE_SECONDS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_does_not_wait_for_what_is_under_way(
    tmp_path: Path, sqlite_url: str, number: signal.Signals
) -> None:
    hours = replace(USUAL, grace=2 * 3600)  # what is under way would be waited for
    async with held_up(tmp_path, sqlite_url, hours, ATTEMPT_TIMEOUT_SECONDS="300") as server:
        server.process.send_signal(number)
        await server.said("stopping: finishing")
        server.process.send_signal(number)

        assert await server.exit_code(PATIENCE_SECONDS) == 0
