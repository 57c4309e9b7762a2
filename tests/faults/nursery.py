"""Servers that start in a tenth of a second: forked from a process that has imported everything.

python -m tests.faults.nursery: a line on stdin is JSON, {"environment": …, "log": …, "tricks": …}, and
starts a server; its pid is answered. "code" may name a file for its exit code. All of them end with
this process, and it with its stdin.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import psycopg  # noqa: F401 - only imported here because the servers would, each for itself

from deploy import serving
from deploy.settings import load
from tests.faults import tricks

_PR_SET_PDEATHSIG = 1


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us
    gc.freeze()
    for line in sys.stdin:
        pid = os.fork() or _become(json.loads(line))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _become(wish: dict[str, Any]) -> NoReturn:
    code = 1
    try:
        _leave_home(Path(wish["log"]))
        for name, argument in wish["tricks"].items():
            getattr(tricks, name)(argument)
        serving.run(load(wish["environment"]), dev=False)
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, it is not the parent's
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if "code" in wish:
            Path(wish["code"]).write_text(str(code))
        os._exit(code)


def _leave_home(log: Path) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    quiet = os.open("/dev/null", os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for here, there in ((quiet, 0), (output, 1), (output, 2)):
        os.dup2(here, there)
    os.chdir(log.parent)


if __name__ == "__main__":
    main()
