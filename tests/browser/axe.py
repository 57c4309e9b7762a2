"""Whether people can use a page: axe-core's judgement, and what it does not look at."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from playwright.async_api import Page

_SOURCE = Path(__file__).parent / "axe" / "axe.min.js"
_GRAVE = frozenset({"serious", "critical"})
_WIDER = """() => [...document.querySelectorAll('body *')]
  .filter(element => element.getBoundingClientRect().right > innerWidth + 1
    || (element.scrollWidth > element.clientWidth + 1
      && getComputedStyle(element).overflowX === 'visible'))
  .map(element => element.outerHTML.slice(0, 120))"""


async def grave_findings(page: Page) -> list[str]:
    """What axe-core calls serious or critical: rule, place, advice."""
    await page.evaluate(_source())  # over the debugger: the page's own policy does not apply
    found: dict[str, Any] = await page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        f"{violation['id']} at {' '.join(map(str, node['target']))}: {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in _GRAVE
        for node in violation["nodes"]
    ]


async def sticks_out(page: Page) -> list[str]:
    """What makes the whole page scroll sideways; empty when it does not."""
    wide = await page.evaluate("document.documentElement.scrollWidth > innerWidth")
    elements: list[str] = await page.evaluate(_WIDER) if wide else []
    return elements or ["something"] * wide


@cache
def _source() -> str:
    return _SOURCE.read_text("utf-8")
