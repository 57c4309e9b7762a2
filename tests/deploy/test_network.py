"""The network's own settings: which proxy a URL is reached through, and what is not in force."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.cli.checkup import local
from deploy.cli.checkup.finding import Level
from deploy.network import excepted, of, shown
from deploy.settings import SettingsError, client_settings, load
from tests.dispatch.certificates import Authority

PROXY = "http://proxy.example.com:3128"
URL = "https://api.example.com/v1"


def proxy(values: dict[str, str], url: str = URL, *, of_a_provider: bool = True) -> str | None:
    return of(values).route(url, of_a_provider=of_a_provider).way.proxy


@pytest.mark.parametrize(
    ("values", "url", "through"),
    [
        ({}, URL, None),
        ({"HTTPS_PROXY": PROXY}, URL, PROXY),
        ({"https_proxy": PROXY}, URL, PROXY),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other:1"}, URL, PROXY),
        ({"https_proxy": "", "HTTPS_PROXY": PROXY}, URL, None),  # switched off for this process
        ({"HTTPS_PROXY": "proxy.example.com:3128"}, URL, PROXY),
        ({"HTTP_PROXY": PROXY}, URL, None),
        ({"HTTP_PROXY": PROXY}, "http://api.example.com", PROXY),
        ({"ALL_PROXY": PROXY}, URL, PROXY),
        ({"ALL_PROXY": PROXY, "HTTPS_PROXY": "https://other:1"}, URL, "https://other:1"),
        ({"ALL_PROXY": "socks5://proxy:1080"}, URL, None),
        ({"HTTPS_PROXY": "socks5h://proxy:1080", "ALL_PROXY": PROXY}, URL, PROXY),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "example.com"}, URL, None),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "*"}, URL, None),
        ({"HTTPS_PROXY": PROXY}, "https://127.0.0.1:8443", None),
        ({"HTTPS_PROXY": PROXY}, "https://[::1]:8443", None),
        ({"HTTPS_PROXY": PROXY}, "https://localhost", None),
        ({"TASKBELL_PROVIDER_PROXY": PROXY}, URL, PROXY),
        ({"TASKBELL_PROVIDER_PROXY": PROXY, "HTTPS_PROXY": "http://other:1"}, URL, PROXY),
        ({"TASKBELL_PROVIDER_PROXY": PROXY, "NO_PROXY": "api.example.com"}, URL, None),
        ({"TASKBELL_PROVIDER_PROXY": "direct", "HTTPS_PROXY": PROXY}, URL, None),
    ],
)
def test_a_provider_is_reached_through_the_proxy_that_is_set(
    values: dict[str, str], url: str, through: str | None
) -> None:
    assert proxy(values, url) == through


def test_commands_heed_the_environment_and_not_the_providers_proxy() -> None:
    values = {"TASKBELL_PROVIDER_PROXY": "http://other:1", "HTTPS_PROXY": PROXY}

    assert proxy(values, of_a_provider=False) == PROXY
    assert client_settings({**values, "TASKBELL_URL": URL}).way.proxy == PROXY
    assert client_settings(values).way.proxy is None  # on this machine


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "named"),
    [
        ("example.com", "example.com", 443, True),
        ("example.com", "api.EXAMPLE.com", 443, True),
        (".example.com", "api.example.com", 443, True),
        ("*.example.com", "api.example.com", 443, True),
        ("example.com", "notexample.com", 443, False),
        ("a.b, example.com", "example.com", 443, True),
        ("a.b example.com", "example.com", 443, True),
        ("example.com:8443", "example.com", 443, False),
        ("example.com:8443", "example.com", 8443, True),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.1.2.3", "10.1.2.3", 443, True),
        ("fd00::/8", "fd00::1", 443, True),
        ("[fd00::1]", "fd00::1", 443, True),
        ("", "example.com", 443, False),
        (",, ,", "example.com", 443, False),
    ],
)
def test_hosts_are_excepted_as_elsewhere(no_proxy: str, host: str, port: int, named: bool) -> None:
    assert excepted(no_proxy, host, port) is named


@pytest.mark.parametrize(
    "value", ["socks5://proxy:1080", "ftp://proxy", "http://", "http://[", "http://proxy:0", ":"]
)
def test_a_proxy_of_ours_that_cannot_be_used_is_refused_by_name(value: str) -> None:
    with pytest.raises(SettingsError, match=r"^TASKBELL_PROVIDER_PROXY has a value"):
        load({"TASKBELL_PROVIDER_PROXY": value})


@pytest.mark.parametrize("name", ["TASKBELL_CA_FILE", "SSL_CERT_FILE"])
def test_certificates_that_cannot_be_read_are_refused_by_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")

    for path in (tmp_path / "missing.pem", tmp_path / "no.pem", tmp_path):
        with pytest.raises(SettingsError, match=f"^{name} is .*no certificates can be read"):
            load({name: str(path)})


def test_authorities_of_ours_are_for_providers_alone(tmp_path: Path) -> None:
    ca = str(Authority(tmp_path, "a.example").certificate)
    values = {"TASKBELL_CA_FILE": ca, "SSL_CERT_DIR": "/certificates"}

    way = load(values).providers["minimax"].route.way

    assert (way.more_ca_file, way.ca_file, way.ca_dir) == (ca, None, "/certificates")
    assert client_settings(values).way.more_ca_file is None


def test_no_password_of_a_proxy_is_shown() -> None:
    secret = "http://user:hush@proxy.example.com:3128"
    settings = load({"HTTPS_PROXY": secret})

    assert settings.providers["minimax"].route.way.proxy == secret
    assert shown(secret) == PROXY
    assert "hush" not in repr(settings) + repr(client_settings({"HTTPS_PROXY": secret}))


def test_doctor_tells_what_is_in_force_and_what_is_not() -> None:
    values = {
        "HTTPS_PROXY": "http://user:hush@proxy.example.com:3128",
        "ALL_PROXY": "socks5://user:hush@proxy.example.com:1080",
        "NO_PROXY": "opencomputing.ai",
        "TASKBELL_ATLASCLOUD_BASE_URL": "http://127.0.0.1:9009",
    }

    good, bad = local.network(load(values), values)

    assert (good.level, bad.level) == (Level.OK, Level.WARN)
    assert f"minimax: through {PROXY} (HTTPS_PROXY)" in good.text
    assert "atlascloud: straight" in good.text
    assert "opencomputing: straight (NO_PROXY)" in good.text
    assert "deliveries go straight" in good.text
    assert "not in force: ALL_PROXY: socks5:// proxies are not supported" in bad.text
    assert "TASKBELL_PROVIDER_PROXY" in bad.todo
    assert "hush" not in good.text + bad.text


def test_doctor_tells_whose_certificates_are_trusted(tmp_path: Path) -> None:
    ca = str(Authority(tmp_path, "a.example").certificate)
    values = {"SSL_CERT_FILE": ca}

    [found] = local.network(load(values), values)
    [usual] = local.network(load({}), {})

    assert f"certificates: SSL_CERT_FILE={ca}" in found.text
    assert "certificates: the usual authorities" in usual.text
