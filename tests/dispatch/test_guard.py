"""The guard's rules one by one, and its address table line by line.

A corpus of hostile URLs goes through the whole of Taskbell in tests/corpus.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yarl
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

import dispatch.guard
from dispatch.guard import Guard, Place, check_url, public
from dispatch.lookup import SystemResolver
from dispatch.refused import NoSuchHost, Refused
from tests.corpus.rows import all_rows, is_url
from tests.patience import PATIENCE_SECONDS

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
PUBLIC = "93.184.216.34"


class Names:
    """A name server with a table: each look-up takes the next answer and repeats the last."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def _reason(error: Refused | None) -> str:
    return "ok" if error is None else error.reason


@pytest.mark.parametrize(
    ("url", "place"),
    [
        pytest.param("http://EXAMPLE.com", Place("http", "example.com", 80), id="no path"),
        pytest.param("hTTps://example.com./h", Place("https", "example.com", 443), id="final dot"),
        pytest.param(
            "https://a.example.com:8443/", Place("https", "a.example.com", 8443), id="port"
        ),
        pytest.param("http://example.com?x=1", Place("http", "example.com", 80), id="query only"),
        pytest.param("http://example.com#@evil", Place("http", "example.com", 80), id="fragment"),
        pytest.param("http://example.com/@x:y", Place("http", "example.com", 80), id="@ in a path"),
        pytest.param(
            "http://1.1.1.1:443/",
            Place("http", "1.1.1.1", 443, ipaddress.IPv4Address("1.1.1.1")),
            id="IPv4",
        ),
        pytest.param(
            "https://[2606:4700:0:0::1111]/",
            Place("https", "2606:4700::1111", 443, ipaddress.IPv6Address("2606:4700::1111")),
            id="IPv6 in a long form",
        ),
    ],
)
def test_a_sound_url_says_where_it_points(url: str, place: Place) -> None:
    assert check_url(url) == place


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        pytest.param("", "bad-char", id="empty"),
        pytest.param("http://", "authority", id="no host"),
        pytest.param("http:///path", "authority", id="three slashes"),
        pytest.param("http://:80/", "authority", id="port without a host"),
        pytest.param("http://./", "bad-hostname", id="only a dot"),
        pytest.param("http://example.com../", "bad-hostname", id="two final dots"),
        pytest.param("http://a-.com/", "bad-hostname", id="label ends in a hyphen"),
        pytest.param(f"http://{'a' * 64}.com/", "bad-hostname", id="label of 64"),
        pytest.param(f"http://{'a.' * 126}bc/", "bad-hostname", id="name of 254"),
        pytest.param("http://[::1", "authority", id="bracket left open"),
        pytest.param("http://[::1]x/", "authority", id="text after the bracket"),
        pytest.param("http://[fe80::1%eth0]/", "percent-in-host", id="zone"),
        pytest.param("http://[1.2.3.4]/", "unparseable", id="IPv4 in brackets"),
        pytest.param("http://example.com:+80/", "authority", id="signed port"),
        pytest.param("http://example.com:099999/", "authority", id="six digits"),
        pytest.param("http://0x/", "numeric-host", id="an empty hex number"),
        pytest.param("http://a.b.1/", "numeric-host", id="last label is a number"),
        pytest.param("http://example.com\t/", "bad-char", id="tab, which urlsplit drops"),
        pytest.param("http://example.com/a b", "bad-char", id="blank in the path"),
        pytest.param("http://x.onion/", "special-name", id="onion"),
        pytest.param("http://x.invalid/", "special-name", id="invalid"),
        pytest.param("http://svc.internal/", "special-name", id="internal"),
        pytest.param("https+unix://x/", "scheme", id="a scheme that begins well"),
        pytest.param(b"http://example.com/", "not-a-string", id="bytes"),
    ],
)
def test_an_unsound_url_is_refused(url: object, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        check_url(url)

    assert caught.value.reason == reason


def test_a_refusal_does_not_repeat_what_may_be_secret() -> None:
    for url in (
        "http://user:hush@example.com/",
        "http://example.com:22/hush",
        "http://x y/hush",
        "http://hush/",
        "http://hush.internal/",
        "http://hush.onion/",
        "http://hush..example.com/",
    ):
        with pytest.raises(Refused) as caught:
            check_url(url)

        assert "hush" not in str(caught.value)


async def test_a_refusal_does_not_tell_what_an_inner_name_resolves_to() -> None:
    guard = Guard(resolve=Names(["10.11.12.13"]))

    with pytest.raises(Refused) as caught:
        await guard.check("http://split-horizon.example.com/")

    assert str(caught.value) == "the host is not a public address"


@pytest.mark.parametrize("port", [80, 443, 1024, 3000, 5000, 8000, 8080, 8443, 9000, 49152, 65535])
def test_ports_of_web_servers_are_open(port: int) -> None:
    assert check_url(f"http://example.com:{port}/").port == port


@pytest.mark.parametrize(
    "port",
    [
        *(0, 1, 21, 22, 25, 53, 81, 110, 444, 993, 1023),
        *(1433, 2375, 2379, 3306, 3389, 5432, 5672, 6379, 6443, 6667, 9042, 9092, 9200),
        *(10250, 11211, 15672, 27017, 28015),
        *(65536, 99999),  # not ports at all
    ],
)
def test_ports_of_other_services_are_closed(port: int) -> None:
    with pytest.raises(Refused, match=f"port {port} ") as caught:
        check_url(f"http://example.com:{port}/")

    assert caught.value.reason == "port"


def test_no_port_the_kernel_hands_out_is_on_the_list() -> None:
    for port in range(32768, 65536):
        check_url(f"http://example.com:{port}/")


@pytest.mark.parametrize(
    "text",
    [
        # both ends of every closed IPv4 block
        *("0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255"),
        *("100.64.0.0", "100.100.100.200", "100.127.255.255", "127.0.0.1", "127.255.255.255"),
        *("168.63.129.16", "169.254.0.0", "169.254.169.254", "169.254.255.255"),
        *("172.16.0.0", "172.31.255.255", "192.0.0.0", "192.0.0.8", "192.0.0.255"),
        *("192.0.2.0", "192.0.2.255", "192.31.196.1", "192.52.193.1", "192.88.99.1"),
        *("192.168.0.0", "192.168.255.255", "192.175.48.1", "198.18.0.0", "198.19.255.255"),
        *("198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.0"),
        "255.255.255.255",
        # outside 2000::/3: local, mapped, compatible, translated, NAT64, multicast, SRv6
        *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:100.64.0.1", "::ffff:8.8.8.8"),
        *("::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::7f00:1"),
        *("100::1", "100:0:0:1::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254"),
        *("fe80::1", "fec0::1", "ff02::1", "1fff:ffff::1"),
        # inside 2000::/3
        *("2001::1", "2001:20::1", "2001:1ff:ffff::1", "2001:db8::1", "2002:7f00:1::1"),
        *("2002:808:808::1", "2620:4f:8000::1", "3fff::1", "3fff:fff:ffff::1"),
        # a zone
        "2606:4700::1%eth0",
    ],
)
def test_closed_addresses(text: str) -> None:
    assert not Guard().address_allowed(text)


@pytest.mark.parametrize(
    "text",
    [
        # just outside the closed blocks
        *("1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0"),
        *("126.255.255.255", "128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255"),
        *("169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.0.3.0"),
        *("192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255"),
        *("2000::1", "2001:200::1", "2001:db7::1", "2001:db9::1", "2003::1", "2606:4700::1111"),
        *("3fff:1000::1", "3ffe::1"),
    ],
)
def test_public_addresses(text: str) -> None:
    assert Guard().address_allowed(text)


@pytest.mark.parametrize("text", ["", "example.com", "127.1", "0x7f.0.0.1", "1.2.3.4 ", "１.1.1.1"])
def test_what_is_not_an_address_is_not_allowed(text: str) -> None:
    assert not Guard().address_allowed(text)


@pytest.mark.parametrize(
    "text",
    [
        # where Python's own opinion changed between 3.11 and 3.14, or was always wrong
        *("::ffff:100.64.0.1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1"),
        *("3fff::1", "192.0.0.8", "2001:20::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
        *("::127.0.0.1", "::ffff:0:127.0.0.1", "fec0::1", "ff02::1", "224.0.0.1", "192.88.99.1"),
        *("5f00::1", "100:0:0:1::1", "4000::1", "168.63.129.16", "100.64.0.1"),
    ],
)
def test_addresses_that_python_versions_disagree_about_are_closed(text: str) -> None:
    assert not public(ipaddress.ip_address(text))


def test_no_rule_is_left_to_the_standard_library() -> None:
    source = Path(dispatch.guard.__file__).read_text("utf-8").replace("`ipaddress.is_global`", "")

    assert re.findall(r"\bis_\w+|ipv4_mapped|sixtofour|teredo", source) == ["ipv4_mapped"]


VERDICTS = """
import json, sys
from dispatch.guard import Guard, Refused
def verdict(url):
    try:
        return str(Guard().check_url(url).host)
    except Refused as refused:
        return refused.reason
print(json.dumps([verdict(url) for url in json.load(sys.stdin)]))
"""


@pytest.mark.parametrize("version", ["3.12", "3.13", "3.14"])
def test_other_python_versions_give_the_same_verdict(version: str) -> None:
    python = other_python(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    urls = [row["value"] for row in all_rows() if is_url(row)]
    packages = str(Path(yarl.__file__).parents[1])  # compiled for us; it can do without
    ran = subprocess.run(
        [python, "-c", VERDICTS],
        input=json.dumps(urls).encode(),
        capture_output=True,
        check=True,
        cwd=Path(dispatch.guard.__file__).parents[1],
        env={
            "PYTHONPATH": packages,
            "PYTHONDONTWRITEBYTECODE": "1",
            **{f"{name}_NO_EXTENSIONS": "1" for name in ("YARL", "MULTIDICT", "PROPCACHE")},
        },
    )

    assert json.loads(ran.stdout) == [verdict(url) for url in urls]


def other_python(version: str) -> str | None:
    """A program of that version that can be run from anywhere."""
    python = shutil.which(f"python{version}")
    if python is None:
        return None
    asked = subprocess.run(
        [python, "-c", "import sys; print(sys.executable)"], capture_output=True, check=False
    )
    return asked.stdout.decode().strip() or None


def verdict(url: object) -> str:
    try:
        return Guard().check_url(url).host
    except Refused as refused:
        return refused.reason


@given(st.ip_addresses(v=6))
def test_no_ipv6_address_outside_the_unicast_block_is_public(
    address: ipaddress.IPv6Address,
) -> None:
    if int(address) >> 125 != 1:
        assert not public(address)


@given(st.ip_addresses(v=4))
def test_no_form_that_embeds_an_ipv4_address_is_public(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    prefixes = ["::", "::ffff:0:0", "::ffff:0:0:0", "64:ff9b::", "64:ff9b:1::"]

    forms = [int(ipaddress.IPv6Address(prefix)) + number for prefix in prefixes]
    forms.append((0x2002 << 112) + (number << 80))  # 6to4

    assert not any(public(ipaddress.IPv6Address(form)) for form in forms)


@given(st.ip_addresses(v=4))
def test_our_table_is_never_more_open_than_the_standard_librarys(
    address: ipaddress.IPv4Address,
) -> None:
    if address.is_private or address.is_multicast or address.is_reserved or address.is_link_local:
        assert not public(address)


PIECES = st.sampled_from(
    [
        *("http", "https", "HTTP", "ftp", "://", ":", "/", "//", "@", "#", "?", "\\", "%", "%2e"),
        *("[", "]", "[::1]", "[2606:4700::1111]", "[::ffff:1.2.3.4]", "%25eth0", "::", "fe80::1"),
        *("127.0.0.1", "93.184.216.34", "1.1", "0x7f", "0177", "2130706433", "08", ".", "..", "-"),
        *("example.com", "EXAMPLE", "localhost", "internal", "xn--e1afmkfd", "a_b", "user", "x.y"),
        *("80", "443", "8080", ":80", ":443", ":99999", ":-1", ":", "0", "22", "+1", "１", "٣"),
        *(
            " ",
            "\t",
            "\n",
            "\r",
            "\0",
            "\x7f",
            "\xa0",
            "\u200b",
            "。",
            "．",
            "ⓔ",
            "ſ",
            "ß",
            "\ud800",
        ),
    ]
)
WHOLE = st.tuples(
    st.sampled_from(["http://", "https://", "HTTPS://", ""]), st.lists(PIECES, max_size=6)
).map(lambda parts: parts[0] + "".join(parts[1]))


@settings(max_examples=500)
@given(WHOLE | st.text(max_size=60).map("http://".__add__))
def test_an_accepted_url_leads_to_the_same_place_for_everybody(url: str) -> None:
    try:
        place = check_url(url)
    except Refused:
        return

    plain, client = urlsplit(url), URL(url, encoded=True)
    default = {"http": 80, "https": 443}[plain.scheme]
    assert plain.scheme == client.scheme == place.scheme
    assert plain.username is plain.password is None
    assert (plain.port or default) == client.port == place.port
    if place.address is None:
        hosts = {str(plain.hostname), str(client.raw_host).lower()}
        assert {host.removesuffix(".") for host in hosts} == {place.host}
    else:
        hosts = {str(plain.hostname), str(client.raw_host)}
        assert {ipaddress.ip_address(host) for host in hosts} == {place.address}


@given(WHOLE, st.lists(st.ip_addresses().map(str), min_size=1, max_size=4))
async def test_what_the_guard_lets_through_is_public_in_every_answer(
    url: str, answers: list[str]
) -> None:
    try:
        place = await Guard(resolve=Names(answers)).check(url)
    except Refused:
        return

    reached = [place.address] if place.address else [ipaddress.ip_address(x) for x in answers]
    for address in reached:
        # the standard library's opinion is a lower bound, on whatever version this runs
        assert address.is_global
        assert not address.is_multicast


@given(number=st.integers(0, 2**32 - 1), form=st.sampled_from(["{}", "{:#x}", "0{:o}", "{:#x}."]))
def test_an_ipv4_address_has_one_spelling(number: int, form: str) -> None:
    with pytest.raises(Refused):
        check_url(f"http://{form.format(number)}/")


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8080/",
        "http://subscriber:8080/",  # a compose service
        "http://host.docker.internal/",
        "http://printer.local/",
        "http://127.0.0.1:8080/",
        "http://[::1]:8080/",
    ],
)
async def test_local_names_need_an_opened_network(url: str) -> None:
    with pytest.raises(Refused):
        await Guard(resolve=Names(["127.0.0.1"])).check(url)

    await Guard(allow=LOOPBACK, resolve=Names(["127.0.0.1", "::1"])).check(url)


async def test_an_opened_network_opens_nothing_else() -> None:
    guard = Guard(allow=LOOPBACK, resolve=Names(["10.0.0.5"]))

    with pytest.raises(Refused, match="not a public address"):
        await guard.check("http://subscriber/")
    with pytest.raises(Refused):
        await guard.check("http://[::ffff:127.0.0.1]/")
    with pytest.raises(Refused):
        await guard.check("http://hidden.onion/")


@pytest.mark.parametrize("everything", ["0.0.0.0/0", "::/0"])
def test_no_network_opens_an_address_that_leads_to_another(everything: str) -> None:
    guard = Guard(allow=[ipaddress.ip_network(everything)])

    assert guard.address_allowed("127.0.0.2" if "." in everything else "fd00::1")
    for text in ("0.0.0.0", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0"):
        assert not guard.address_allowed(text)


@pytest.mark.parametrize(
    ("own", "url", "reason"),
    [
        pytest.param(
            ("Hooks.example.com", 443),
            "https://hooks.example.com./callbacks/x",
            "own-address",
            id="name",
        ),
        pytest.param(
            ("hooks.example.com", 443), "https://hooks.example.com:8443/", "ok", id="port"
        ),
        pytest.param(("hooks.example.com", 443), "https://www.example.com/", "ok", id="sibling"),
        pytest.param(("127.0.0.1", 8000), "http://127.0.0.1:8000/", "own-address", id="number"),
        pytest.param(("127.0.0.1", 8000), "http://localhost:8000/", "own-address", id="resolved"),
        pytest.param(("127.0.0.1", 8000), "http://localhost:9000/", "ok", id="our machine"),
        pytest.param(("::1", 8000), "http://[0:0::1]:8000/", "own-address", id="long form"),
        pytest.param(("0.0.0.0", 8000), "http://127.9.9.9:8000/", "own-address", id="wildcard"),
        pytest.param(("::", 8000), "http://127.0.0.1:8000/", "own-address", id="IPv6 wildcard"),
        pytest.param(("0.0.0.0", 8000), "http://a.example.com:8000/", "own-address", id="a name"),
        pytest.param(("0.0.0.0", 8000), "http://127.0.0.1:9000/", "ok", id="another port of ours"),
        pytest.param(("0.0.0.0", 8000), "http://93.184.216.34:8000/", "ok", id="not our machine"),
    ],
)
async def test_taskbell_does_not_deliver_to_itself(
    own: tuple[str, int], url: str, reason: str
) -> None:
    guard = Guard(allow=LOOPBACK, own=[own], resolve=Names(["127.0.0.1"]))

    refused: Refused | None = None
    try:
        await guard.check(url)
    except Refused as error:
        refused = error

    assert _reason(refused) == reason


async def test_one_bad_answer_among_many_blocks() -> None:
    guard = Guard(resolve=Names([PUBLIC, "2606:4700::1111", "fd00::1"]))

    with pytest.raises(Refused, match="not a public address"):
        await guard.addresses("mixed.example.com", 443)


async def test_a_name_is_looked_up_anew_each_time() -> None:
    guard = Guard(resolve=Names([PUBLIC], ["127.0.0.1"]))

    assert await guard.addresses("rebind.example.com", 443) == [PUBLIC]
    with pytest.raises(Refused):
        await guard.addresses("rebind.example.com", 443)


async def test_a_slow_name_server_is_no_such_host() -> None:
    async def silent(host: str) -> Sequence[str]:
        await asyncio.Event().wait()
        return [PUBLIC]

    guard = Guard(resolve=silent, lookup_limit=timedelta(seconds=0.05))

    with pytest.raises(NoSuchHost, match=r"took over 0\.05 s"):
        await guard.addresses("slow.example.com", 443)


async def test_the_system_resolver_knows_this_machine() -> None:
    addresses = await SystemResolver()("localhost")

    assert addresses
    assert set(addresses) <= {"127.0.0.1", "::1"}


async def test_a_dead_name_server_holds_one_thread_however_many_give_up() -> None:
    asked: list[str] = []
    answer = threading.Event()

    def look_up(host: str) -> list[str]:
        asked.append(host)
        answer.wait(PATIENCE_SECONDS)
        return ["93.184.216.34"]

    resolver = SystemResolver(2, look_up)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await resolver("dead.example.com")
    last = asyncio.create_task(resolver("dead.example.com"))
    await asyncio.sleep(0)
    answer.set()

    assert await last == ["93.184.216.34"]
    assert asked == ["dead.example.com"]
    assert await resolver("dead.example.com")
    assert len(asked) == 2


async def test_the_system_resolver_says_when_there_is_no_such_name() -> None:
    with pytest.raises(NoSuchHost):
        await SystemResolver()("::1%nowhere")  # an interface that is not there: no query is sent
