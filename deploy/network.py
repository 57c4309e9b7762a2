"""The network's own settings: the usual variables for proxies and certificates, and ours. Pure.

They count for questions to providers and for the commands. Deliveries go straight to an address
that was checked, so no proxy of the environment is used for them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from receiver.way import STRAIGHT, Way

PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
DIRECT = "direct"
"""The value of our own setting that switches the environment's proxies off."""

_SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class Route:
    """way: how a URL is reached. because: the name of what decided on the proxy, or against it."""

    way: Way = STRAIGHT
    because: str = ""


DIRECTLY = Route()


@dataclass(frozen=True, slots=True)
class Network:
    """Made of variables by `of`. given: name to value, for those that are set and not empty."""

    given: Mapping[str, str]

    def route(self, url: str, *, of_a_provider: bool) -> Route:
        """How a URL is reached. A host of this machine is always reached straight."""
        parts = urlsplit(url)
        host = (parts.hostname or "").removesuffix(".")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        proxy, because = self._proxy(parts.scheme, ours=of_a_provider)
        if proxy is not None and is_local(host):
            proxy, because = None, "it is on this machine"
        elif proxy is not None and excepted(self.given.get("NO_PROXY", ""), host, port):
            proxy, because = None, "NO_PROXY"
        more = self.given.get("TASKBELL_CA_FILE") if of_a_provider else None
        way = Way(proxy, self.given.get("SSL_CERT_FILE"), self.given.get("SSL_CERT_DIR"), more)
        return Route(way, because)

    def unusable(self) -> list[str]:
        """The variables that are set and not in force, each with why."""
        found = []
        for name in PROXY_VARIABLES:
            if name in self.given and why_not_a_proxy(self.given[name]):
                found.append(f"{name}: {why_not_a_proxy(self.given[name])}")
        return found

    def _proxy(self, scheme: str, *, ours: bool) -> tuple[str | None, str]:
        own = self.given.get("TASKBELL_PROVIDER_PROXY") if ours else None
        if own:
            name = "TASKBELL_PROVIDER_PROXY"
            return (None, name) if own.lower() == DIRECT else (with_scheme(own), name)
        for name in (f"{scheme.upper()}_PROXY", "ALL_PROXY"):
            value = self.given.get(name)
            if value and not why_not_a_proxy(value):
                return with_scheme(value), name
        return None, ""


def of(values: Mapping[str, str]) -> Network:
    """The network settings among these variables; a lower-case name wins, as it does elsewhere."""
    given = {}
    for name in (*PROXY_VARIABLES, "NO_PROXY"):
        value = values.get(name.lower(), values.get(name, "")).strip()
        if value:
            given[name] = value
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "TASKBELL_PROVIDER_PROXY", "TASKBELL_CA_FILE"):
        value = values.get(name, "").strip()
        if value:
            given[name] = value
    return Network(given)


def with_scheme(proxy: str) -> str:
    """A proxy's URL; without a scheme it means http, as it does elsewhere."""
    return proxy if "://" in proxy else f"http://{proxy}"


def why_not_a_proxy(value: str) -> str | None:
    """Why a proxy cannot be used; None when it can. The value is not quoted: it may hold a password."""
    try:
        parts = urlsplit(with_scheme(value))
        sound = bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
        parts = urlsplit("")
    if not sound:
        return "it is no URL of a proxy, like http://proxy.example.com:3128"
    if parts.scheme.lower() not in _SCHEMES:
        return f"{parts.scheme}:// proxies are not supported, only http:// and https:// ones"
    return None


def shown(proxy: str) -> str:
    """A proxy's URL without user and password.

    >>> shown("http://user:secret@proxy.example.com:3128/")
    'http://proxy.example.com:3128'
    """
    parts = urlsplit(with_scheme(proxy))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def is_local(host: str) -> bool:
    """True for a name or address of this machine."""
    address = _address(host)
    if address is not None:
        return address.is_loopback
    return host == "localhost" or host.endswith(".localhost")


def excepted(no_proxy: str, host: str, port: int) -> bool:
    """True when a list of hosts, domains, addresses, networks or `*` names this host.

    >>> excepted("example.com, 10.0.0.0/8", "api.example.com", 443)
    True
    >>> excepted("example.com:8443", "api.example.com", 443)
    False
    """
    return any(_names(entry, host, port) for entry in re.split(r"[,\s]+", no_proxy) if entry)


def _names(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    address = _address(host)
    try:
        network = ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        network = None
    if network is not None:
        return address is not None and address in network
    name, _, wanted = entry.rpartition(":")
    if name and wanted.isdigit():
        return int(wanted) == port and _names(name, host, port)
    if address is not None:
        return False
    domain = entry.lower().removeprefix("*").strip(".")
    return host.lower() == domain or host.lower().endswith(f".{domain}")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
