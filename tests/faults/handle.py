"""A hold on a process that is nobody's child here: its number may be given away, this is not."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time


class Handle:
    """close() it in the end; the process goes on."""

    def __init__(self, pid: int) -> None:
        """Raises ProcessLookupError."""
        self.pid = pid
        self._file = os.pidfd_open(pid)

    @property
    def ended(self) -> bool:
        return bool(select.select([self._file], [], [], 0)[0])

    def send(self, number: signal.Signals) -> None:
        if not self.ended:
            signal.pidfd_send_signal(self._file, number)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.send(signal.SIGKILL)
        select.select([self._file], [], [])

    async def end(self, seconds: float) -> None:
        """Wait for it. Raises TimeoutError."""
        give_up = time.monotonic() + seconds
        while not self.ended:
            if time.monotonic() > give_up:
                raise TimeoutError(f"process {self.pid} still runs after {seconds:g} s")
            await asyncio.sleep(0.005)

    def close(self) -> None:
        os.close(self._file)
