"""Whether people can use a page: axe-core's judgement, and what it does not look at."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from playwright.async_api import Page, ViewportSize

WHOLE = ViewportSize(width=1280, height=800)
_ZOOMED = ViewportSize(width=640, height=400)  # 1280 x 800 at 200 %
_PHONE = ViewportSize(width=320, height=568)

_SOURCE = Path(__file__).parent / "axe" / "axe.min.js"
_GRAVE = frozenset({"serious", "critical"})
# one row of a list is made like the other: half of the time goes to those further down
_JUDGE = """axe.run({exclude: ['tbody tr:nth-child(n+16)']}, {resultTypes: ['violations']})
  .then(results => results.violations)"""
_NAMED = """wanted => [...document.querySelectorAll('body *')].filter(element => {
  const style = getComputedStyle(element), open = style.overflowX === 'visible';
  const spills = element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 2;
  const wide = element.getBoundingClientRect().right > innerWidth + 1 || (spills && open);
  const cut = spills && ['hidden', 'clip'].includes(style.overflowX) && !element.title;
  return {wide, cut}[wanted];
}).map(element => element.outerHTML.slice(0, 160))"""


async def faults(page: Page) -> list[str]:
    """What keeps some people from using the page that is open: in both themes, at any width."""
    found = await grave_findings(page) + await unfit(page)
    await page.emulate_media(color_scheme="dark")
    found += await grave_findings(page)
    await page.emulate_media(color_scheme="light")
    await page.set_viewport_size(WHOLE)
    return found


async def unfit(page: Page) -> list[str]:
    """What does not fit at 200 % zoom or on a phone, at whose size the page is left."""
    found = []
    for size in (_ZOOMED, _PHONE):
        await page.set_viewport_size(size)
        spilt = await sticks_out(page) + await cut_off(page)
        found += [f"at {size['width']}: {fault}" for fault in spilt]
    return found


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
