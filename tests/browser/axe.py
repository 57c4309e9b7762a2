"""Whether people can use a page: axe-core's judgement, and what it does not look at."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from playwright.async_api import Page

_SOURCE = Path(__file__).parent / "axe" / "axe.min.js"
_GRAVE = frozenset({"serious", "critical"})
_JUDGE = "axe.run({resultTypes: ['violations']}).then(results => results.violations)"
_NAMED = """wanted => [...document.querySelectorAll('body *')].filter(element => {
  const style = getComputedStyle(element), open = style.overflowX === 'visible';
  const spills = element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 2;
  const wide = element.getBoundingClientRect().right > innerWidth + 1 || (spills && open);
  const cut = spills && ['hidden', 'clip'].includes(style.overflowX) && !element.title;
  return {wide, cut}[wanted];
}).map(element => element.outerHTML.slice(0, 160))"""


async def grave_findings(page: Page) -> list[str]:
    """What axe-core calls serious or critical: rule, place, advice."""
    await page.evaluate(_source())  # over the debugger: the page's own policy does not apply
    found: list[dict[str, Any]] = await page.evaluate(_JUDGE)
    return [
        f"{violation['id']} at {' '.join(map(str, node['target']))}: {node['failureSummary']}"
        for violation in found
        if violation["impact"] in _GRAVE
        for node in violation["nodes"]
    ]


async def sticks_out(page: Page) -> list[str]:
    """What makes the whole page scroll sideways; empty when it does not."""
    if not await page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        return []
    elements: list[str] = await page.evaluate(_NAMED, "wide")
    return elements or ["something"]


async def cut_off(page: Page) -> list[str]:
    """What is wider than its place and cannot be read to its end, nor has it in a title."""
    elements: list[str] = await page.evaluate(_NAMED, "cut")
    return elements


@cache
def _source() -> str:
    return _SOURCE.read_text("utf-8")
