"""The words of the pages: two catalogues that say the same, and which of them somebody gets."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from string import Formatter

import pytest

import receiver.pages
from receiver.pages.words import LANGUAGES, TAGS, words
from store.clock import ManualClock
from tests.app import Taskbell, running
from tests.pages import Document, browser

_PAGES = Path(receiver.pages.__file__).parent
_NAMED = re.compile(r"""(?:\bt|words)\(\s*["']([a-z_]+\.[a-z_.0-9]+)["'][,)]""")


@pytest.fixture
async def taskbell(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(sqlite_url, clock) as taskbell:
        yield taskbell


def test_every_language_has_the_same_words() -> None:
    english, *others = (words(language) for language in LANGUAGES)

    for other in others:
        assert list(other.texts) == list(english.texts)
    assert LANGUAGES.keys() == TAGS.keys()


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "en"])
def test_a_translation_has_the_same_names_in_braces(language: str) -> None:
    for key, text in words("en").texts.items():
        assert names(words(language).texts[key]) == names(text), key


def names(text: str) -> set[str | None]:
    return {name for _, name, _, _ in Formatter().parse(text)} - {None}


def test_every_word_that_a_page_asks_for_is_there() -> None:
    files = [*_PAGES.glob("templates/*.html"), *_PAGES.glob("*.py")]
    asked = {key for file in files for key in _NAMED.findall(file.read_text("utf-8"))}

    assert len(asked) > 80
    assert asked <= words("en").texts.keys()


@pytest.mark.parametrize(
    ("query", "cookie", "header", "tag"),
    [
        ("", None, "", "en"),
        ("", None, "zh-CN,zh;q=0.9,en;q=0.8", "zh-Hans"),
        ("", None, "de, fr;q=0.5", "en"),
        ("", None, ";;q=x,,zh;q=2,\udcff", "zh-Hans"),
        ("", "en", "zh-CN", "en"),
        ("?lang=zh", "en", "en", "zh-Hans"),
        ("?lang=xx", None, "zh", "zh-Hans"),
    ],
)
async def test_the_address_decides_the_language_then_a_choice_then_the_browser(
    taskbell: Taskbell, query: str, cookie: str | None, header: str, tag: str
) -> None:
    person = browser(taskbell)
    if cookie is not None:
        await person.press("/login", "/settings", language=cookie, next="/login")

    raw = header.encode("utf-8", "surrogateescape")
    answer = await person.client.get(f"/login{query}", headers={b"accept-language": raw})

    [html] = Document(answer.text).all("html")
    assert html.attributes["lang"] == tag


@pytest.mark.parametrize(
    ("wanted", "shown"), [("dark", "dark"), ("light", "light"), ("neon", "auto")]
)
async def test_a_theme_is_kept(taskbell: Taskbell, wanted: str, shown: str) -> None:
    person = browser(taskbell)

    answer = await person.press("/login", "/settings", theme=wanted, next="/login")
    page = Document(await person.see(answer.headers["location"]))

    assert page.all("html", data_theme=shown)
