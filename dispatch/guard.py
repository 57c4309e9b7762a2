"""Where deliveries may go: which URLs are sound, which addresses may be reached.

A URL is checked as text (`check_url`), its name is resolved, and every number that comes back is
checked. The client asks again for the very number it connects to, so what a name resolves to
later does not matter. The address rule is a table of our own: `ipaddress.is_global` differs
between Python versions and calls NAT64 and IPv4-compatible forms of loopback public.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from urllib.parse import urlsplit

from yarl import URL

from dispatch.lookup import Resolve, SystemResolver
from dispatch.refused import NoSuchHost as NoSuchHost
from dispatch.refused import Refused as Refused

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LONGEST_URL = 2048
LONGEST_NAME = 253
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


@dataclass(frozen=True, slots=True)
class Place:
    """What a sound URL points at: host in lower case without a final dot, and its port.

    address is set when the host is a number and there is nothing to resolve.
    """

    scheme: str
    host: str
    port: int
    address: Address | None = None


_PORTS = {"http": 80, "https": 443}

# Above 1023, and below 32768, where the kernel begins to hand out ports of its own. HTTP ports
# that developers use (3000, 5000, 8000, 8080, 9000 …) stay open.
_PORTS_OF_OTHERS = frozenset(
    {
        1080,  # SOCKS
        1099,  # Java RMI
        1433,  # SQL Server
        1434,
        1521,  # Oracle
        1723,  # PPTP
        1883,  # MQTT
        2049,  # NFS
        2181,  # ZooKeeper
        2375,  # Docker
        2376,
        2377,
        2379,  # etcd
        2380,
        2483,  # Oracle
        2484,
        3128,  # Squid
        3260,  # iSCSI
        3306,  # MySQL
        3389,  # remote desktop
        3690,  # Subversion
        4190,  # Sieve
        4222,  # NATS
        4369,  # Erlang
        4505,  # Salt
        4506,
        5060,  # SIP
        5061,
        5222,  # XMPP
        5269,
        5432,  # PostgreSQL
        5433,
        5671,  # AMQP
        5672,
        5900,  # VNC
        5984,  # CouchDB
        5985,  # WinRM
        5986,
        6000,  # X11
        6379,  # Redis
        6380,
        6432,  # PgBouncer
        6443,  # Kubernetes
        6665,  # IRC
        6666,
        6667,
        6668,
        6669,
        6697,
        7199,  # Cassandra
        8883,  # MQTT
        9042,  # Cassandra
        9092,  # Kafka
        9160,  # Cassandra
        9200,  # Elasticsearch
        9300,
        10250,  # kubelet
        10255,
        10256,
        11211,  # memcached
        11214,
        11215,
        15672,  # RabbitMQ
        25565,  # Minecraft
        25672,  # RabbitMQ
        26257,  # CockroachDB
        26379,  # Redis Sentinel
        27017,  # MongoDB
        27018,
        27019,
        28015,  # RethinkDB
        29015,
    }
)

# RFC 6761, 6762, 7686, 8375, 9476, ICANN's reserved .internal, and what clusters and routers use
_NOWHERE = frozenset({"alt", "invalid", "onion"})
_LOCAL_SUFFIXES = (
    "cluster",
    "consul",
    "corp",
    "docker",
    "example",
    "home",
    "home.arpa",
    "internal",
    "intranet",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "pod",
    "private",
    "svc",
    "test",
)

# IANA special-purpose registries, read 2026-11-20, and 168.63.129.16, Azure's WireServer
_CLOSED_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# one positive rule keeps out mapped, compatible, translated, NAT64, local and multicast forms
_OPEN_V6 = ipaddress.IPv6Network("2000::/3")
_CLOSED_V6 = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)

_TEXT = re.compile(r"[!-~]+")
_WHOLE = re.compile(r"(https?)://([^/?#]*)(?:[/?#].*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::([0-9]{1,5}))?")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")


def check_url(url: object, *, local_names: bool = False) -> Place:
    """Read a subscriber's URL, or raise Refused. Looks nothing up and judges no address.

    local_names lets `localhost`, a compose service or a `.internal` name through, for operators
    who opened networks: what such a name resolves to is checked all the same.
    """
    return _read(_check_text(url), local_names)


@lru_cache(maxsize=4096)  # the same URLs are checked for every delivery
def _read(text: str, local_names: bool) -> Place:
    whole = _WHOLE.fullmatch(text)
    if whole is None:
        raise Refused("scheme", "the URL must start with http:// or https://")
    scheme, authority = whole[1].lower(), whole[2]
    if "@" in authority:
        raise Refused("userinfo", "the URL must not hold a user name or password")
    if "%" in authority:
        raise Refused("percent-in-host", "the host must not be percent-encoded")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise Refused("authority", "the URL's host or port cannot be read")
    port = int(parts[3]) if parts[3] else _PORTS[scheme]
    place = _place(scheme, parts[1], parts[2], port, local_names)
    _check_port(port)
    _check_parsers(text, place)
    return place


def public(address: Address) -> bool:
    """Whether an address belongs to the public internet, by our own table."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    if address.scope_id is not None:
        return False
    return address in _OPEN_V6 and not any(address in network for network in _CLOSED_V6)


def _check_text(url: object) -> str:
    if not isinstance(url, str):
        raise Refused("not-a-string", "the URL must be text")
    if len(url) > LONGEST_URL:
        raise Refused("too-long", f"the URL is longer than {LONGEST_URL} characters")
    if not url.isascii():
        raise Refused("non-ascii", "the URL must be ASCII; write the host in punycode (xn--…)")
    if not _TEXT.fullmatch(url) or "\\" in url:
        raise Refused("bad-char", "the URL must hold no blanks, control characters or backslashes")
    return url


def _place(
    scheme: str, bracketed: str | None, host: str | None, port: int, local_names: bool
) -> Place:
    if bracketed is not None:
        try:
            v6 = ipaddress.IPv6Address(bracketed)
        except ValueError:
            raise Refused("unparseable", "the host is not an IPv6 address") from None
        return Place(scheme, str(v6), port, v6)
    name = (host or "").lower()
    if _ends_in_a_number(name):
        return Place(scheme, name, port, _strict_quad(name))
    return Place(scheme, _check_name(name, local_names), port)


def _ends_in_a_number(name: str) -> bool:
    """The WHATWG rule: such a host is an IPv4 address or nothing. Resolvers take 127.1 or 0x7f.1."""
    last = name.removesuffix(".").rpartition(".")[2]
    return _NUMBER.fullmatch(last) is not None


def _strict_quad(name: str) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address(name)
    except ValueError:
        raise Refused("numeric-host", "an IPv4 address is written as four decimals") from None


def _check_name(host: str, local_names: bool) -> str:
    name = host.removesuffix(".")
    labels = name.split(".")
    if len(name) > LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise Refused("bad-hostname", "the host is not a valid name")
    if labels[-1] in _NOWHERE:
        raise Refused("special-name", "the host's name leads nowhere")
    if local_names:
        return name
    if len(labels) == 1:
        raise Refused("single-label", "the host is a local name; use a full public one")
    if any(name.endswith(f".{suffix}") for suffix in _LOCAL_SUFFIXES):
        raise Refused("special-name", "the host is a local name; use a public one")
    return name


def _check_parsers(url: str, place: Place) -> None:
    """Two libraries must read the same as we do."""
    try:
        plain, client = urlsplit(url), URL(url, encoded=True)
        readings = {
            (plain.scheme, _plain_host(plain.hostname), plain.port or _PORTS[place.scheme]),
            (client.scheme, _plain_host(client.raw_host), client.port),
        }
    except ValueError:
        readings = set()
    if readings != {(place.scheme, place.host, place.port)}:
        raise Refused("unparseable", "the URL can be read in more than one way")


def _plain_host(host: str | None) -> str | None:
    if host is None:
        return None
    if ":" in host:
        return str(ipaddress.IPv6Address(host))
    return host.lower().removesuffix(".")


def _check_port(port: int) -> None:
    known = port in _PORTS.values()
    if not known and (port <= 1023 or port > 65535 or port in _PORTS_OF_OTHERS):
        raise Refused(
            "port",
            f"port {port} is not open to deliveries: use 80, 443 or one above 1023 "
            "that no other well-known service uses",
        )


class Guard:
    """Decides for one installation: the public internet, and what the operator opened."""

    def __init__(
        self,
        *,
        allow: Sequence[Network] = (),
        own: Collection[tuple[str, int]] = (),
        resolve: Resolve | None = None,
        lookup_limit: timedelta = timedelta(seconds=5),
    ) -> None:
        """Allow opens networks that are not public.

        own: (host, port) of our public URL and of where we listen; a delivery to it would come
        back as a push. Where the host is the wildcard address, every address of this machine is.
        """
        self._allow = tuple(allow)
        self._own = frozenset((_plain_host(host), port) for host, port in own)
        self._resolve = resolve or SystemResolver()
        self._lookup_seconds = lookup_limit.total_seconds()

    def check_url(self, url: object) -> Place:
        """Everything that can be said without looking the name up. Raises Refused."""
        place = check_url(url, local_names=bool(self._allow))
        if place.address is not None:
            self.check_address(str(place.address), place.port)
        elif (place.host, place.port) in self._own:
            raise _own_address()
        return place

    async def check(self, url: object) -> Place:
        """What saving a subscription asks: the URL, and every address its name has now.

        Raises Refused; NoSuchHost (a Refused) when the name has no address at the moment.
        """
        place = self.check_url(url)
        if place.address is None:
            await self.addresses(place.host, place.port)
        return place

    async def addresses(self, host: str, port: int) -> list[str]:
        """All addresses of a name. Raises Refused if any of them is, NoSuchHost if there is none."""
        try:
            async with asyncio.timeout(self._lookup_seconds):
                found = list(await self._resolve(host))
        except TimeoutError:
            raise NoSuchHost(f"looking up {host} took over {self._lookup_seconds:g} s") from None
        if not found:
            raise NoSuchHost(f"no such host: {host}")
        for text in found:
            self.check_address(text, port)
        return found

    def check_address(self, text: str, port: int) -> None:
        """Raise Refused unless a connection to this address may be made.

        The message does not say which address: what a name of an inner zone resolves to is not
        for a subscription's owner to learn.
        """
        address = _address(text)
        if address is None or not self._open(address):
            raise Refused("address", "the host is not a public address")
        if (str(address), port) in self._own or self._listens_on(address, port):
            raise _own_address()

    def address_allowed(self, text: str) -> bool:
        """Whether an address, as the resolver or the socket writes it, is public or was opened."""
        address = _address(text)
        return address is not None and self._open(address)

    def _open(self, address: Address) -> bool:
        if public(address):
            return True
        # connecting to these leads to another address, which has a spelling of its own
        if int(address) == 0 or (address.version == 6 and address.ipv4_mapped is not None):
            return False
        return any(address in network for network in self._allow)

    def _listens_on(self, address: Address, port: int) -> bool:
        return any((wildcard, port) in self._own for wildcard in _WILDCARDS) and _ours(address)


def _own_address() -> Refused:
    return Refused("own-address", "the host and port are those of Taskbell itself")


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _ours(address: Address) -> bool:
    """Whether an interface of this machine has the address: only such a one can be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as unsent:
            unsent.bind((str(address), 0))
    except OSError:
        return False
    return True
