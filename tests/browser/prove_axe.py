"""The judge of accessibility is awake."""

from __future__ import annotations

from tests.browser.axe import cut_off, grave_findings, sticks_out
from tests.browser.windows import Windows

_GOOD = "<!doctype html><html lang=en><title>t</title><main><h1>Hello</h1><p>World</main>"
_BAD = (
    "<!doctype html><title>t</title><main><h1>Hello</h1><img src=data:, >"
    "<p style='color: #aaa; background: #fff'>pale<button></button></main>"
)
_WIDE = _GOOD + "<p id=long>" + "x" * 400


async def test_axe_finds_what_is_wrong_and_only_that(windows: Windows) -> None:
    page = await windows.open("http://127.0.0.1")
    await page.set_content(_GOOD)
    assert await grave_findings(page) == []

    await page.set_content(_BAD)
    found = "\n".join(await grave_findings(page))

    for rule in ("html-has-lang", "image-alt", "color-contrast", "button-name"):
        assert f"{rule} at " in found


async def test_what_is_wider_than_the_window_is_named(windows: Windows) -> None:
    page = await windows.open("http://127.0.0.1")
    await page.set_content(_GOOD)
    assert await sticks_out(page) == []

    await page.set_content(_WIDE)

    assert any("long" in element for element in await sticks_out(page))


async def test_what_is_cut_off_is_named_unless_it_is_in_the_title(windows: Windows) -> None:
    page = await windows.open("http://127.0.0.1")
    await page.set_content(f"<p id=cut style='overflow: hidden'>{'x' * 400}")
    assert any("cut" in element for element in await cut_off(page))

    await page.set_content(f"<p title=all style='overflow: hidden'>{'x' * 400}")

    assert await cut_off(page) == []
