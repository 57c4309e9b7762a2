"""Where this machine's Chromium is. As a program (tests/browser/install): fails when there is none."""

from __future__ import annotations

import shutil
import sys

MISSING = (
    "no Chromium on PATH, so tests/browser cannot run: install one with"
    " 'apt-get install chromium fonts-wqy-microhei', or put its folder on PATH"
)
# the shell takes two thirds of the time: it has no windows to draw
_NAMES = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, _NAMES)), None)


if __name__ == "__main__":
    sys.exit(None if find_chromium() else MISSING)
