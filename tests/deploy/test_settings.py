from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from deploy.service import confirms
from deploy.settings import (
    ClientSettings,
    ProviderSettings,
    SettingsError,
    client_settings,
    dev_key_file,
    known_names,
    load,
    secret_keys_file,
)
from receiver.provider import providers

KEY = "k" * 32


def set_to(name: str, value: str) -> Mapping[str, str]:
    return {f"TASKBELL_{name}": value}


def refused(environ: Mapping[str, str], dotenv: Path | None = None) -> str:
    """The line that the start ends with."""
    with pytest.raises(SettingsError) as caught:
        load(environ, dotenv)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_everything_has_a_default() -> None:
    settings = load({})

    assert settings.database_url == "sqlite:///taskbell.db"
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.public_url == "http://127.0.0.1:8000"
    assert settings.secret_keys == ()
    assert settings.api_key is None
    assert settings.allow_networks == ()
    assert settings.task_timeout_video == timedelta(seconds=7200)
    assert settings.task_timeout_image == timedelta(seconds=1800)
    assert [wait.total_seconds() for wait in settings.retry_schedule] == [
        5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400,
    ]  # fmt: skip
    assert settings.attempt_timeout == timedelta(seconds=15)
    assert settings.retention == timedelta(days=30)
    assert settings.roles == {"receive", "poll", "dispatch"}
    assert settings.providers == {
        name: ProviderSettings(
            base_url=provider.base_url,
            requests_per_second=provider.budget.requests_per_second,
            concurrency=provider.budget.concurrency,
            confirm="auto",
            api_key=None,
        )
        for name, provider in providers().items()
    }
    assert set(settings.providers) == {"minimax", "atlascloud", "opencomputing"}


def test_an_empty_setting_counts_as_unset() -> None:
    assert load({f"TASKBELL_{name}": " " for name in known_names()}) == load({})


def test_every_setting_is_read() -> None:
    values = {
        "DATABASE_URL": "postgresql://user:pass@db.example.com:5433/bell?sslmode=require",
        "HOST": "0.0.0.0",
        "PORT": "9000",
        "PUBLIC_URL": "https://bell.example.com/base/",
        "SECRET_KEYS": f"{KEY}, {KEY}2",
        "API_KEY": "a" * 32,
        "ALLOW_NETWORKS": "10.0.0.0/8, fd00::/8,192.168.1.5",
        "TASK_TIMEOUT_VIDEO_SECONDS": "60",
        "TASK_TIMEOUT_IMAGE_SECONDS": "0.5",
        "RETRY_SCHEDULE": "1, 2.5,3",
        "ATTEMPT_TIMEOUT_SECONDS": "300",
        "RETENTION_DAYS": "1",
        "ROLES": "poll, dispatch",
        "MINIMAX_API_KEY": "mm-0123456789abcd",
        "MINIMAX_BASE_URL": "https://api.minimax.io",
        "MINIMAX_CONFIRM": "Never",
        "MINIMAX_REQUESTS_PER_SECOND": "0.5",
        "MINIMAX_CONCURRENCY": "2",
    }

    settings = load({f"TASKBELL_{name}": value for name, value in values.items()})

    assert settings.database_url == values["DATABASE_URL"]
    assert (settings.host, settings.port) == ("0.0.0.0", 9000)
    assert settings.public_url == "https://bell.example.com/base"
    assert settings.secret_keys == (KEY, KEY + "2")
    assert settings.api_key == "a" * 32
    assert settings.allow_networks == (
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_network("fd00::/8"),
        ipaddress.ip_network("192.168.1.5/32"),
    )
    assert settings.task_timeout_video == timedelta(minutes=1)
    assert settings.task_timeout_image == timedelta(milliseconds=500)
    assert [wait.total_seconds() for wait in settings.retry_schedule] == [1, 2.5, 3]
    assert settings.attempt_timeout == timedelta(minutes=5)
    assert settings.retention == timedelta(days=1)
    assert settings.roles == {"poll", "dispatch"}
    assert settings.providers["minimax"] == ProviderSettings(
        base_url="https://api.minimax.io",
        requests_per_second=0.5,
        concurrency=2,
        confirm="never",
        api_key="mm-0123456789abcd",
    )


@pytest.mark.parametrize(
    ("environ", "public_url"),
    [
        ({"PORT": "9000"}, "http://127.0.0.1:9000"),
        ({"HOST": "::1"}, "http://[::1]:8000"),
        ({"HOST": "bell.example.com", "PORT": "80"}, "http://bell.example.com:80"),
        ({"PORT": "9000", "PUBLIC_URL": "https://bell.example.com"}, "https://bell.example.com"),
    ],
)
def test_the_public_url_follows_host_and_port(environ: dict[str, str], public_url: str) -> None:
    settings = load({f"TASKBELL_{name}": value for name, value in environ.items()})

    assert settings.public_url == public_url


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///taskbell.db",
        "sqlite:////var/lib/taskbell/taskbell.db",
        "postgresql://host/db",
        "postgresql://user:pa#ss/w:rd@host/db",
        "postgresql://user@[::1]:5432/db",
        "postgresql:///db?host=/run/postgresql",
        "postgres://host/db",
        "postgresql+psycopg://host/db",
    ],
)
def test_usual_database_urls_are_taken(url: str) -> None:
    assert load(set_to("DATABASE_URL", url)).database_url == url


BAD = [
    ("HOST", "a..b", "host name"),
    ("PORT", "soon", "port number"),
    ("PORT", "65536", "port number"),
    ("PORT", "-1", "port number"),
    ("PORT", "８０", "port number"),
    ("PUBLIC_URL", "bell.example.com", "https://"),
    ("PUBLIC_URL", "ftp://bell.example.com", "https://"),
    ("PUBLIC_URL", "https://bell.example.com/?a=b", "https://"),
    ("PUBLIC_URL", "https://bell.example.com:99999", "https://"),
    ("PUBLIC_URL", "https://bell.example.com:x", "https://"),
    ("PUBLIC_URL", "https://[::1", "https://"),
    ("PUBLIC_URL", "https://bell example.com", "https://"),
    ("PUBLIC_URL", "https://", "https://"),
    ("ALLOW_NETWORKS", "10.0.0.1/8", "CIDR"),
    ("ALLOW_NETWORKS", "localhost", "CIDR"),
    ("ALLOW_NETWORKS", "10.0.0.0/8,", "CIDR"),
    ("TASK_TIMEOUT_VIDEO_SECONDS", "2h", "seconds"),
    ("TASK_TIMEOUT_VIDEO_SECONDS", "0", "seconds"),
    ("TASK_TIMEOUT_IMAGE_SECONDS", "-5", "seconds"),
    ("TASK_TIMEOUT_IMAGE_SECONDS", "nan", "seconds"),
    ("TASK_TIMEOUT_IMAGE_SECONDS", "1e9", "seconds"),
    ("RETRY_SCHEDULE", "5,300,", "seconds"),
    ("RETRY_SCHEDULE", "5;300", "seconds"),
    ("RETRY_SCHEDULE", "0", "seconds"),
    ("RETRY_SCHEDULE", ",".join(["1"] * 51), "50"),
    ("ATTEMPT_TIMEOUT_SECONDS", "301", "300"),
    ("ATTEMPT_TIMEOUT_SECONDS", "0", "seconds"),
    ("RETENTION_DAYS", "0", "days"),
    ("RETENTION_DAYS", "1.5", "days"),
    ("ROLES", "receive,sleep", "receive, poll, dispatch"),
    ("ROLES", "receive,", "receive, poll, dispatch"),
    ("MINIMAX_BASE_URL", "api.minimax.io", "https://"),
    ("MINIMAX_CONFIRM", "maybe", "auto, always, never"),
    ("MINIMAX_REQUESTS_PER_SECOND", "0", "above 0"),
    ("ATLASCLOUD_CONCURRENCY", "0", "1 to 1000"),
    ("OPENCOMPUTING_CONCURRENCY", "1.5", "1 to 1000"),
    ("MINIMAX_CONFIRM", "always", "MINIMAX_API_KEY"),  # nobody could be asked
]


@pytest.mark.parametrize(("name", "value", "rule"), BAD)
def test_a_bad_value_is_refused_in_a_line_that_names_it(name: str, value: str, rule: str) -> None:
    line = refused(set_to(name, value))

    assert line.startswith(f"TASKBELL_{name} is {value!r}: ")
    assert rule in line


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("SECRET_KEYS", "hush", "key 1 of 1 has 4 characters"),
        ("SECRET_KEYS", f"{KEY},hush", "key 2 of 2 has 4 characters"),
        ("SECRET_KEYS", f"{KEY},", "key 2 of 2 has 0 characters"),
        ("SECRET_KEYS", f"{KEY}, {'hush' * 8},{KEY}", "key 3 is there twice"),
        ("API_KEY", "hush", "needs at least 32"),
        ("API_KEY", "hush hush hush hush hush hush hush", "blanks"),
        ("API_KEY", "hush" * 8 + "é", "outside ASCII"),
        ("MINIMAX_API_KEY", "hush hush", "blanks"),
        ("MINIMAX_API_KEY", "hush", "at least 16 characters, and this has 4"),
        ("ATLASCLOUD_API_KEY", "hushhushhushhus", "at least 16 characters, and this has 15"),
        ("MINIMAX_API_KEY", "hush\nhush", "blanks"),
        ("DATABASE_URL", "mysql://user:hush@host/db", "postgresql://"),
        ("DATABASE_URL", "postgresql://user:hush@host:port/db", "postgresql://"),
        ("DATABASE_URL", "hush.db", "sqlite:///"),
        ("DATABASE_URL", "sqlite://hush.db", "sqlite:///"),
        ("DATABASE_URL", "sqlite:///", "sqlite:///"),
        ("DATABASE_URL", "sqlite:///:memory:", "sqlite:///"),
        ("PUBLIC_URL", "https://user:hush@bell.example.com", "https://"),
        ("MINIMAX_BASE_URL", "https://user:hush@proxy.example.com", "https://"),
    ],
)
def test_a_bad_secret_is_refused_and_not_shown(name: str, value: str, rule: str) -> None:
    line = refused(set_to(name, value))

    assert line.startswith(f"TASKBELL_{name} ")
    assert rule in line
    assert "hush" not in line


def test_a_bad_key_under_its_plain_name_is_refused_by_that_name() -> None:
    assert refused({"MINIMAX_API_KEY": "a b"}).startswith("MINIMAX_API_KEY ")


@pytest.mark.parametrize(
    "name",
    [
        "TASKBELL_PROT",
        "TASKBELL_",
        "TASKBELL_port",
        "TASKBELL_MINIMAX_KEY",
        "TASKBELL_NOBODY_API_KEY",
        "TASKBELL_TASK_TIMEOUT_AUDIO_SECONDS",
    ],
)
def test_an_unknown_setting_is_refused_by_name(name: str) -> None:
    line = refused({name: "hush"})

    assert line.startswith(f"{name} is not a setting")
    assert "hush" not in line


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("TASKBELL_PROT", "did you mean TASKBELL_PORT?"),
        ("TASKBELL_port", "did you mean TASKBELL_PORT?"),
        ("TASKBELL_SECRET", "did you mean TASKBELL_"),
        ("TASKBELL_MINIMAX_APIKEY", "did you mean TASKBELL_MINIMAX_API_KEY?"),
        ("TASKBELL_DATABASE", "did you mean TASKBELL_DATABASE_URL?"),
    ],
)
def test_an_unknown_setting_is_told_the_nearest_one(name: str, near: str) -> None:
    assert near in refused({name: "hush"})


def test_other_peoples_variables_are_left_alone() -> None:
    assert load({"TASKBELLS": "x", "PORT": "soon", "HOME": "/", "API_KEY": "x"}) == load({})


def test_a_providers_plain_name_is_the_fallback() -> None:
    key, other = "sk-the-plain-name", "sk-our-own-name-for-it"
    plain = {"MINIMAX_API_KEY": key, "ATLASCLOUD_API_KEY": f" {key}\n"}

    both = load({**plain, **set_to("MINIMAX_API_KEY", other)})
    empty = load({**plain, **set_to("MINIMAX_API_KEY", "")})

    assert both.providers["minimax"].api_key == other
    assert empty.providers["minimax"].api_key == key
    assert empty.providers["atlascloud"].api_key == key
    assert empty.providers["opencomputing"].api_key is None


@pytest.mark.parametrize(
    ("name", "confirm", "key", "asks"),
    [
        ("minimax", "auto", None, False),
        ("minimax", "auto", "key", True),
        ("minimax", "always", "key", True),
        ("minimax", "never", None, False),
        ("minimax", "never", "key", False),
        # it signs what it pushes
        ("atlascloud", "auto", "key", False),
        ("atlascloud", "always", "key", True),
        ("atlascloud", "never", "key", False),
    ],
)
def test_a_push_waits_for_the_provider_when_it_can_be_asked(
    name: str, confirm: str, key: str | None, asks: bool
) -> None:
    upper = name.upper()
    environ = {
        **set_to(f"{upper}_CONFIRM", confirm),
        f"{upper}_API_KEY": (key and "sk-0123456789abcdef") or "",
    }

    assert confirms(load(environ).providers[name], providers()[name]) is asks


def test_secrets_are_in_no_picture_of_the_settings() -> None:
    settings = load(
        {
            "TASKBELL_SECRET_KEYS": "hush" * 8,
            "TASKBELL_API_KEY": "hush" * 8,
            "TASKBELL_DATABASE_URL": "postgresql://user:hush@host/db",
            "MINIMAX_API_KEY": "hush" * 4,
        }
    )
    client = client_settings({"TASKBELL_API_KEY": "hush"})

    assert "hush" not in repr(settings) + str(settings) + repr(client)


def test_the_environment_wins_over_the_env_file(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text(
        "# comments, quotes and export are understood\n"
        'TASKBELL_HOST="0.0.0.0"\n'
        "export TASKBELL_PORT=9000\n"
        "MINIMAX_API_KEY=sk-from-the-env-file\n"
        "UNRELATED=x\n"
        "TASKBELL_ROLES\n"
    )

    settings = load(set_to("PORT", "9001"), dotenv)

    assert (settings.host, settings.port) == ("0.0.0.0", 9001)
    assert settings.providers["minimax"].api_key == "sk-from-the-env-file"


def test_the_env_file_is_held_to_the_same_rules(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"

    dotenv.write_text("TASKBELL_PORT=soon\n")
    assert refused({}, dotenv).startswith("TASKBELL_PORT is 'soon'")

    dotenv.write_text("TASKBELL_PROT=9000\n")
    assert refused({}, dotenv).startswith("TASKBELL_PROT is not a setting")


def test_no_env_file_is_no_matter(tmp_path: Path) -> None:
    assert load({}, tmp_path / ".env") == load({})


def test_files_lie_beside_the_sqlite_file_and_nowhere_with_postgresql() -> None:
    sqlite = load(set_to("DATABASE_URL", "sqlite:////data/bell.db"))
    postgresql = load(set_to("DATABASE_URL", "postgresql://host/db"))

    assert sqlite.sqlite_path == Path("/data/bell.db")
    assert secret_keys_file(sqlite) == Path("/data/bell.db.secret-keys")
    assert dev_key_file(sqlite) == Path("/data/bell.db.dev-api-key")
    assert postgresql.sqlite_path is None
    assert secret_keys_file(postgresql) is None
    assert dev_key_file(postgresql) is None


# What client commands need


def test_a_client_asks_the_local_server() -> None:
    assert client_settings({}) == ClientSettings("http://127.0.0.1:8000", None)


def test_a_client_goes_where_it_is_told_with_the_key_it_is_given() -> None:
    environ = {"TASKBELL_URL": "https://bell.example.com/", "TASKBELL_API_KEY": "short"}

    assert client_settings(environ) == ClientSettings("https://bell.example.com", "short")


def test_a_client_beside_a_development_server_finds_its_key(tmp_path: Path) -> None:
    database = set_to("DATABASE_URL", f"sqlite:///{tmp_path / 'bell.db'}")
    (tmp_path / "bell.db.dev-api-key").write_text("left-for-us\n")

    assert client_settings(database).api_key == "left-for-us"
    assert client_settings({**database, **set_to("API_KEY", "given")}).api_key == "given"
    # another server must not be shown a key that is none of its
    elsewhere = set_to("URL", "https://bell.example.com")
    assert client_settings({**database, **elsewhere}).api_key is None


@pytest.mark.parametrize("url", ["bell.example.com", "https://", "https://user:hush@host"])
def test_a_clients_bad_url_is_refused_by_name(url: str) -> None:
    with pytest.raises(SettingsError, match="TASKBELL_URL") as caught:
        client_settings(set_to("URL", url))

    assert "hush" not in str(caught.value)
