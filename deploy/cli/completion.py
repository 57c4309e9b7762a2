"""What the shell is told when the Tab key is pressed behind an option whose values are known.

Adapters and sinks are named by their files, and not imported: a Tab must not take a second.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable

from store.events import EVENT_TYPES, FAMILIES


def provider_names(incomplete: str) -> list[str]:
    import receiver.providers

    return _beginning(incomplete, _modules(receiver.providers.__path__))


def formats(incomplete: str) -> list[str]:
    import dispatch.sinks

    return _beginning(incomplete, _modules(dispatch.sinks.__path__))


def event_types(incomplete: str) -> list[str]:
    return _beginning(incomplete, (*FAMILIES, *EVENT_TYPES))


def languages(incomplete: str) -> list[str]:
    return _beginning(incomplete, ("en", "zh"))


def _modules(path: Iterable[str]) -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(path))


def _beginning(incomplete: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]
