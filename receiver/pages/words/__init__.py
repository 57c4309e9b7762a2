"""The words of the pages, in each language: en.toml and zh.toml, with the same keys."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any

LANGUAGES = {"en": "English", "zh": "简体中文"}
"""By the name of the catalogue: how a language calls itself."""

TAGS = {"en": "en", "zh": "zh-Hans"}
"""For `<html lang>`."""

_FOLDER = Path(__file__).parent


class Words:
    """A catalogue: `words("tasks.title")`, `words("tasks.changed", n=3)`."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.texts = dict(_flat(tomllib.loads(_file(language).read_text("utf-8"))))

    def __call__(self, key: str, **values: object) -> str:
        """The text of a key, with its {names} filled in; with n it may have a `.one` of its own.

        Raises KeyError for a key that is not in the catalogue.
        """
        if values.get("n") == 1 and f"{key}.one" in self.texts:
            key += ".one"
        return self.texts[key].format(**values)

    def or_else(self, key: str, text: str) -> str:
        """The text of a key that may be missing, for words that a service could have invented."""
        return self.texts.get(key, text)


@cache
def words(language: str) -> Words:
    return Words(language)


def wished(header: str) -> str:
    """The language that a browser asks for first, of those there are (Accept-Language, RFC 9110).

    >>> wished("de, zh-CN;q=0.9, en;q=0.8"), wished("fr;q=1, en;q=0, *;q=0.1"), wished("")
    ('zh', 'en', 'en')
    """
    wishes = sorted(map(_wish, header[:500].split(",")), key=itemgetter(0), reverse=True)
    known = (name for quality, name in wishes if name in LANGUAGES and quality > 0)
    return next(known, "en")


def _wish(text: str) -> tuple[float, str]:
    tag, _, quality = text.partition(";q=")
    try:
        return float(quality or 1), tag.strip().lower().partition("-")[0]
    except ValueError:
        return 0.0, ""


def _file(language: str) -> Path:
    return _FOLDER / f"{language}.toml"


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, value
