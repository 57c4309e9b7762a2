"""A chat service that a format is for: which URLs are its own, how fast it takes messages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True, slots=True)
class Service:
    """What a service asks of subscriptions in its format.

    Whoever has such a URL may post with it: it is stored encrypted and shown masked.

    form: how its URLs look, for people. hosts: in lower case; one that begins with a dot stands
    for every name under it. path: a pattern of the whole path. query: parameters that must be
    there. former_hosts: of webhooks that the service has ended. any_json: what stands at such a
    URL may also take other JSON than a chat's. signs: robots may have a secret of their own to be
    signed with.
    """

    title: str
    form: str
    hosts: tuple[str, ...]
    path: str
    rate_per_second: float
    query: tuple[str, ...] = ()
    former_hosts: tuple[str, ...] = ()
    any_json: bool = False
    signs: bool = False
    max_in_flight: int = 1  # a chat is read from top to bottom

    @property
    def rule(self) -> str:
        """What is told of a URL that is none of the service's; it never repeats the URL."""
        return f"{self.title} takes messages at {self.form}"

    def fits(self, url: str) -> bool:
        """Whether path and query are those of one of its webhooks."""
        parts = urlsplit(url)
        given = parse_qs(parts.query)
        return bool(re.fullmatch(self.path, parts.path)) and all(n in given for n in self.query)

    def at(self, host: str) -> bool:
        """Return whether a host, in lower case, is or was the service's."""
        return _among(host, (*self.hosts, *self.former_hosts))

    def owns(self, scheme: str, host: str, port: int) -> bool:
        """Whether that is the service's own door, and not somebody else's."""
        return _among(host, self.hosts) and (scheme, port) == ("https", 443)


def _among(host: str, hosts: tuple[str, ...]) -> bool:
    return any(host.endswith(each) if each.startswith(".") else host == each for each in hosts)
