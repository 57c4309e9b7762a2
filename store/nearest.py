"""The message for a name that is not known: what it is not, the nearest that is, and all there are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST = 60
_PLAIN = re.compile(r"[A-Za-z0-9_.*\[\]-]{1,60}")


def not_known(name: str, what: str, known: Iterable[str]) -> str:
    """Return what is to be said of a name that is none of those known.

    The name itself is not repeated: it may be somebody's key in the wrong place.

    >>> not_known("minmax", "a provider", ["atlascloud", "minimax"])
    "not a provider; did you mean 'minimax'? Known: atlascloud, minimax"
    """
    names = list(known)
    near = nearest(name, names)
    hint = f"; did you mean {near!r}?" if near else "."
    return f"not {what}{hint} Known: {', '.join(names)}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like this one, in whatever case; None when none is.

    >>> nearest("Minimaxx", ["minimax"]), nearest("x", ["minimax"])
    ('minimax', None)
    """
    by_folded = {each.casefold(): each for each in known}
    found = get_close_matches(name[:_LONGEST].casefold(), by_folded, n=1)
    return by_folded[found[0]] if found else None


def quoted(name: str) -> str:
    """Return a name from outside in quotes, or dots for what no name of ours looks like.

    >>> quoted("typse"), quoted("<script>")
    ("'typse'", "'…'")
    """
    return repr(name) if _PLAIN.fullmatch(name) else "'…'"
