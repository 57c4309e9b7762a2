"""Takes a secret URL's parts out of what is kept of an answer: error pages repeat what was asked."""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import parse_qsl, unquote, urlsplit

from dispatch.service import Service
from dispatch.sink import Answer, Outcome

MASK = "•••"
_SHORTEST = 4  # anything shorter is in every text, and opens no door


def redacted(
    outcome: Outcome, answer: Answer, url: str, service: Service
) -> tuple[Outcome, Answer]:
    """The verdict and the answer without them."""
    parts = _parts(url, service)
    if not parts:
        return outcome, answer
    pattern = re.compile("|".join(map(re.escape, parts)))
    body = re.sub(pattern.pattern.encode(), MASK.encode(), answer.body)
    return replace(outcome, reason=pattern.sub(MASK, outcome.reason)), replace(answer, body=body)


def _parts(url: str, service: Service) -> list[str]:
    """Segments of the path and values of the query, longest first, as sent and as read.

    What every URL of the service has is no secret.
    """
    split = urlsplit(url)
    values = [value for _, value in parse_qsl(split.query)]
    sent = [*split.path.split("/"), *re.split("[&=]", split.query), *values]
    found = {part for each in sent for part in (each, unquote(each))}
    secret = [p for p in found if len(p) >= _SHORTEST and p not in service.form]
    return sorted(secret, key=len, reverse=True)
