"""Chat webhooks by their URL: whose host it is, and what is only an example of one."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote, urlsplit

from dispatch.service import Service
from dispatch.sink import sinks

_FORMAT_FOR_ANY_URL = "webhook"


def format_at(url: str) -> str | None:
    """Return the chat format that belongs to a URL's host, or None for a host of nobody's.

    >>> format_at("https://hooks.slack.com/services/T0/B0/x"), format_at("https://a.example/hook")
    ('slack', None)
    """
    host = _host(url)
    if not host:
        return None
    for name, sink in sinks().items():
        if sink.service is not None and sink.service.at(host):
            return name
    return None


def default_format(url: str) -> str:
    """Return the format of a subscription that names none."""
    return format_at(url) or _FORMAT_FOR_ANY_URL


def service_at(url: str) -> Service | None:
    """Return the chat service that a URL's host belongs to."""
    name = format_at(url)
    return None if name is None else sinks()[name].service


def placeholder(url: str) -> bool:
    """Return whether a chat's URL has a part that stands for a secret, as examples have.

    >>> placeholder("https://hooks.slack.com/services/T…/B…/…")
    True
    >>> placeholder("https://hooks.slack.com/services/T0123/B0123/hK3f9aQx")
    False
    """
    return any(_stands_for_another(part) for part in _parts(url))


def misuse(url: str, format_name: str, shape: str | None) -> str | None:
    """Return why a format that any URL can have does not work at a chat's webhook, or None.

    A shape may make the chat's own message, and a Teams workflow takes any JSON.
    """
    sink, name = sinks().get(format_name), format_at(url)
    if sink is None or sink.service is not None or name is None:
        return None
    service = sinks()[name].service
    if service is None or service.any_json or not service.fits(url):
        return None
    if shape is not None and format_name == _FORMAT_FOR_ANY_URL:
        return None
    return (
        f"format {format_name!r} makes no message that {service.title} takes: leave it out or give"
        f" {name!r}, or add a shape that makes {service.title}'s own JSON"
    )


def advice(url: str, format_name: str) -> str | None:
    """Return what to do about a subscription to a chat's host in a format for any URL, or None.

    url: may be masked; only its host is read.
    """
    sink, name = sinks().get(format_name), format_at(url)
    if sink is None or sink.service is not None or name is None:
        return None
    service = sinks()[name].service
    title = service.title if service else name
    return (
        f"the URL is on a host of {title}, which shows no event in format {format_name!r}: set"
        f" format to {name!r}, unless this URL takes any JSON or a shape makes {title}'s own"
    )


def _host(url: str) -> str:
    """Return the host in lower case without its final dot; "" when there is none to read."""
    try:
        host = urlsplit(url.strip()).hostname or ""
    except ValueError:
        return ""
    return host.lower().removesuffix(".")


def _parts(url: str) -> list[str]:
    """Return the labels of the host, the segments of the path and the values of the query."""
    try:
        split = urlsplit(url.strip())
    except ValueError:
        return []
    found = [*split.path.split("/"), *(value for _, value in parse_qsl(split.query))]
    found += [split.fragment, *split.netloc.split(".")]
    parts = [unquote(each).strip() for each in found]
    plain = [_BOT.sub("", part) for part in parts]  # Telegram's token stands in /bot<token>/
    return [each for part in (*parts, *plain) for each in (part, *part.split(":")) if each]


def _stands_for_another(part: str) -> bool:
    return bool(_EXAMPLE.search(part) or _WHOLE.fullmatch(part)) or part in _OF_MANUALS


_BOT = re.compile(r"^bot(?=.)", re.IGNORECASE)
_EXAMPLE = re.compile(
    r"…|\.\.\.|\*\*\*|•••"
    r"|<[^<>]*>?|\{[^{}]*\}?|\[[^\[\]]*\]?|\$\w+|%s"  # <token>, {token}, [token], $TOKEN
    r"|x{5,}"  # in 68 random letters once in half a million
    r"|(?:^|[^a-z0-9])x{3,}(?:$|[^a-z0-9])|prod-xx"
    r"|placeholder|(?:replace|change)[-_ ]?(?:me|this|with)(?![a-z])|goes[-_ ]here",
    re.IGNORECASE,
)
# whole parts only, and without digits: random letters must not look like any of these
_WHOLE = re.compile(
    r"[TB]?[xX]{2,}|[TB]X+"
    r"|(?i:(?:your[-_ ]?|my[-_ ]|insert[-_ ]|paste[-_ ])[a-z_ -]*)"
    r"|(?i::?(?:[a-z]+[-_ ]?)?token(?:[-_ ]here)?)"
    r"|:?(?:[A-Z]+_)*(?:KEY|ID|SECRET|HOOK|WEBHOOK|SIG|SIGNATURE|URL|UUID|HERE)"
    r"|(?i:redacted|dummy|secret|hidden|masked)"
    r"|0{8}-0{4}-0{4}-0{4}-0{12}|@?channelusername"
)
# what stands in the services' own pages
_OF_MANUALS = frozenset(
    {
        "123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11",
        "693axxx6-7aoc-4bc4-97a0-0ec2sifa5aaa",
        "693a91f6-7xxx-4bc4-97a0-0ec2sifa5aaa",
    }
)
