"""Settings: the one place that reads the environment. Bad or unknown ones are refused by name."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from dotenv import dotenv_values

from deploy import network
from deploy.network import DIRECTLY, Route
from deploy.setting_names import GENERAL, OF_A_PROVIDER
from receiver.provider import Provider, providers
from receiver.redaction import SHORTEST_KEY
from receiver.way import STRAIGHT, Way
from store.address import read_address
from store.nearest import nearest, not_known
from store.vault import MINIMUM_KEY_LENGTH

PREFIX = "TASKBELL_"
T = TypeVar("T")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Role = Literal["receive", "poll", "dispatch"]
OWN_PATHS = frozenset(
    (
        *(
            "v1",
            "callbacks",
            "submit",
            "mcp",
            "openapi.json",
            "docs",
            "healthz",
            "readyz",
            "metrics",
        ),
        *("login", "logout", "settings", "static", "live"),
        *("tasks", "events", "subscriptions", "deliveries", "providers"),
    )
)
"""What the paths of the app begin with."""

ROLES: tuple[Role, ...] = ("receive", "poll", "dispatch")
Confirm = Literal["auto", "always", "never"]
CONFIRM: tuple[Confirm, ...] = ("auto", "always", "never")


class SettingsError(Exception):
    """A setting that cannot be used. The message names it, its value if it is no secret, and why."""


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """How one provider is reached and how hard it may be asked."""

    base_url: str
    requests_per_second: float
    concurrency: int
    confirm: Confirm = "auto"
    api_key: str | None = field(default=None, repr=False)
    route: Route = DIRECTLY


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a Taskbell process is told. deploy/setting_names.py has names and defaults."""

    database_url: str = field(default="sqlite:///taskbell.db", repr=False)
    direct_database_url: str | None = field(default=None, repr=False)  # None: the same
    host: str = "127.0.0.1"
    port: int = 8000
    public_url: str = "http://127.0.0.1:8000"
    secret_keys: tuple[str, ...] = field(default=(), repr=False)  # oldest first; empty: make one
    api_key: str | None = field(default=None, repr=False)
    allow_networks: tuple[Network, ...] = ()
    task_timeout_video: timedelta = timedelta(seconds=7200)
    task_timeout_image: timedelta = timedelta(seconds=1800)
    retry_schedule: tuple[timedelta, ...] = tuple(
        timedelta(seconds=s) for s in (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
    )
    attempt_timeout: timedelta = timedelta(seconds=15)
    retention: timedelta = timedelta(days=30)
    roles: frozenset[Role] = frozenset(ROLES)
    providers: Mapping[str, ProviderSettings] = field(default_factory=dict)

    @property
    def sqlite_path(self) -> Path | None:
        """The SQLite file, or None with PostgreSQL."""
        return read_address(self.database_url).file


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What a client command needs to find its server."""

    url: str = "http://127.0.0.1:8000"
    api_key: str | None = field(default=None, repr=False)
    way: Way = STRAIGHT


def process_environment() -> Mapping[str, str]:
    return MappingProxyType(dict(os.environ))


def wants_traces(environ: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's own variables say where traces go."""
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    named = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return not off and any(environ.get(name) for name in named)


def load(environ: Mapping[str, str], dotenv: Path | None = None) -> Settings:
    """Settings from environment variables over a .env file. Raises SettingsError."""
    values = merged(environ, dotenv)
    _refuse_unknown(values)
    _refuse_unusable_network(values)
    host = _read(values, "HOST", _host, "127.0.0.1")
    port = _read(values, "PORT", _port, 8000)
    default = Settings()
    database_url = _read(values, "DATABASE_URL", _database_url, default.database_url)
    direct_url = _read(values, "DIRECT_DATABASE_URL", _direct_database_url, None)
    if direct_url is not None and read_address(database_url).file is not None:
        raise SettingsError(
            f"{PREFIX}DIRECT_DATABASE_URL is for PostgreSQL behind a pooler, and {PREFIX}DATABASE_URL"
            " is a SQLite file: unset one of them"
        )
    return Settings(
        database_url=database_url,
        direct_database_url=direct_url,
        host=host,
        port=port,
        public_url=_read(values, "PUBLIC_URL", _public_url, local_url(host, port)),
        secret_keys=_read(values, "SECRET_KEYS", _secret_keys, ()),
        api_key=_read(values, "API_KEY", _secret, None),
        allow_networks=_read(values, "ALLOW_NETWORKS", _networks, ()),
        task_timeout_video=_read(
            values, "TASK_TIMEOUT_VIDEO_SECONDS", _seconds, default.task_timeout_video
        ),
        task_timeout_image=_read(
            values, "TASK_TIMEOUT_IMAGE_SECONDS", _seconds, default.task_timeout_image
        ),
        retry_schedule=_read(values, "RETRY_SCHEDULE", _schedule, default.retry_schedule),
        attempt_timeout=_read(
            values, "ATTEMPT_TIMEOUT_SECONDS", _attempt_timeout, default.attempt_timeout
        ),
        retention=_read(values, "RETENTION_DAYS", _days, default.retention),
        roles=_read(values, "ROLES", _roles, default.roles),
        providers={
            name: _provider(values, name, provider) for name, provider in providers().items()
        },
    )


def client_settings(environ: Mapping[str, str], dotenv: Path | None = None) -> ClientSettings:
    """Where the server is, and our key: TASKBELL_API_KEY, else what `serve --dev` left for us.

    The server is TASKBELL_URL, else the one that these settings would start here. Raises
    SettingsError.
    """
    values = merged(environ, dotenv)
    here = local_url(_read(values, "HOST", _host, "127.0.0.1"), _read(values, "PORT", _port, 8000))
    url = _read(values, "URL", _web_address, here)
    key = values.get(PREFIX + "API_KEY") or None
    if key is None and urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1"):
        database = _read(values, "DATABASE_URL", _database_url, Settings().database_url)
        left = dev_key_file(Settings(database_url=database))
        if left is not None and left.is_file():
            key = left.read_text(encoding="ascii").strip() or None
    _refuse_unusable_certificates(values, "SSL_CERT_FILE")
    return ClientSettings(
        url=url, api_key=key, way=network.of(values).route(url, of_a_provider=False).way
    )


def webhook_secret(environ: Mapping[str, str], dotenv: Path | None = None) -> str | None:
    """TASKBELL_WEBHOOK_SECRET, blanks and all: the commands say what is wrong with it."""
    return merged(environ, dotenv).get(PREFIX + "WEBHOOK_SECRET") or None


def local_url(host: str, port: int) -> str:
    """How a process on this machine reaches a server that listens there.

    >>> local_url("0.0.0.0", 8000), local_url("::1", 80)
    ('http://127.0.0.1:8000', 'http://[::1]:80')
    """
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared with, not listened on
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def dev_key_file(settings: Settings) -> Path | None:
    """Where a development server keeps its API key, so that commands beside it find it."""
    return _beside_the_file(settings, ".dev-api-key")


def secret_keys_file(settings: Settings) -> Path | None:
    """Where secret keys made on first start are kept: beside the SQLite file."""
    return _beside_the_file(settings, ".secret-keys")


def _beside_the_file(settings: Settings, ending: str) -> Path | None:
    """Return the path of what is kept beside the SQLite file, by whatever name that is called.

    What lies beside a link, as earlier versions put it, is found there.
    """
    path = settings.sqlite_path
    if path is None:
        return None
    named = path.with_name(path.name + ending)
    real = Path(os.path.realpath(path))
    if named.exists() or not path.is_symlink():
        return named
    return real.with_name(real.name + ending)


def merged(environ: Mapping[str, str], dotenv: Path | None) -> dict[str, str]:
    """The variables of a .env file under those of the environment."""
    from_file = dotenv_values(dotenv) if dotenv and dotenv.is_file() else {}
    merged = {key: value for key, value in from_file.items() if value is not None}
    return {**merged, **environ}


def known_names() -> frozenset[str]:
    """Every TASKBELL_* name there is, without the prefix."""
    general = {setting.name for setting in GENERAL}
    return frozenset(general) | {
        f"{provider.upper()}_{setting.name}"
        for provider in providers()
        for setting in OF_A_PROVIDER
    }


def unknown_names(values: Mapping[str, str]) -> list[str]:
    """The TASKBELL_* names among them that are no settings."""
    known = known_names()
    ours = [name for name in sorted(values) if name.startswith(PREFIX)]
    return [name for name in ours if name.removeprefix(PREFIX) not in known]


def _refuse_unknown(values: Mapping[str, str]) -> None:
    for name in unknown_names(values):
        near = nearest(name, [PREFIX + known for known in known_names()])
        hint = f"did you mean {near}? " if near else ""
        raise SettingsError(
            f"{name} is not a setting of Taskbell; {hint}deploy/docs/reference/settings.md lists all"
        )


def _refuse_unusable_network(values: Mapping[str, str]) -> None:
    """Refuse a proxy of ours that cannot be used, and files of certificates that cannot be read."""
    proxy = _read(values, "PROVIDER_PROXY", str, "")
    why_not = network.why_not_a_proxy(proxy) if proxy and proxy.lower() != network.DIRECT else None
    if why_not:
        raise SettingsError(
            f"{PREFIX}PROVIDER_PROXY has a value that cannot be used: {why_not};"
            f" {network.DIRECT!r} is for no proxy"
        )
    _refuse_unusable_certificates(values, f"{PREFIX}CA_FILE", "SSL_CERT_FILE")


def _refuse_unusable_certificates(values: Mapping[str, str], *names: str) -> None:
    for name in names:
        path = values.get(name, "").strip()
        try:
            if path:
                Way(ca_file=path).tls()
        except OSError as error:  # an SSLError is one, too
            why = "it is not PEM" if isinstance(error, ssl.SSLError) else error.strerror
            raise SettingsError(
                f"{name} is {path!r}: no certificates can be read from it ({why})"
            ) from None


def _provider(values: Mapping[str, str], name: str, provider: Provider) -> ProviderSettings:
    upper = name.upper()
    key = _provider_key(values, upper)
    confirm: Confirm = _read(values, f"{upper}_CONFIRM", _confirm, "auto")
    if confirm == "always" and key is None:
        raise SettingsError(
            f"{PREFIX}{upper}_CONFIRM is 'always': set {upper}_API_KEY too, or nobody can be asked"
        )
    base_url = _read(values, f"{upper}_BASE_URL", _web_address, provider.base_url)
    return ProviderSettings(
        base_url=base_url,
        route=network.of(values).route(base_url, of_a_provider=True),
        requests_per_second=_read(
            values,
            f"{upper}_REQUESTS_PER_SECOND",
            _positive_number,
            provider.budget.requests_per_second,
        ),
        concurrency=_read(values, f"{upper}_CONCURRENCY", _count, provider.budget.concurrency),
        confirm=confirm,
        api_key=key,
    )


def _provider_key(values: Mapping[str, str], upper: str) -> str | None:
    """The key under our name for it, else under the one that the provider's own tools read."""
    for name in (f"{PREFIX}{upper}_API_KEY", f"{upper}_API_KEY"):
        key = values.get(name, "").strip()
        if key:
            try:
                return _whole_key(_header_safe(key))
            except ValueError as error:
                raise SettingsError(f"{name} has a value that cannot be used: {error}") from None
    return None


def _whole_key(key: str) -> str:
    if len(key) < SHORTEST_KEY:
        raise ValueError(
            f"a provider's API key has at least {SHORTEST_KEY} characters, and this has {len(key)}"
        )
    return key


def _read(values: Mapping[str, str], name: str, parse: Callable[[str], T], default: T) -> T:
    """A setting, or its default when it is unset or empty. parse raises ValueError with the rule."""
    text = values.get(PREFIX + name, "").strip()
    if not text:
        return default
    try:
        return parse(text)
    except ValueError as error:
        # an @ in an address may stand behind a password
        secret = "@" in text or any(word in name for word in ("KEY", "DATABASE_URL"))
        shown = "has a value that cannot be used" if secret else f"is {text!r}"
        raise SettingsError(f"{PREFIX}{name} {shown}: {error}") from None


def _host(text: str) -> str:
    try:
        text.encode("idna")  # as bind() will
    except UnicodeError:
        raise ValueError("it must be an IP address or a host name") from None
    return text


def _number(text: str, rule: str) -> float:
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", text):
        raise ValueError(rule)
    return float(text)


def _whole(text: str, rule: str, low: int, high: int) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
        raise ValueError(rule)
    return int(text)


def _port(text: str) -> int:
    return _whole(text, "it must be a port number, 0 to 65535", 0, 65535)


def _count(text: str) -> int:
    return _whole(text, "it must be a whole number, 1 to 1000", 1, 1000)


def _positive_number(text: str) -> float:
    rule = "it must be a number above 0"
    number = _number(text, rule)
    if number <= 0:
        raise ValueError(rule)
    return number


def _seconds(text: str) -> timedelta:
    rule = "it must be a number of seconds, above 0"
    seconds = _number(text, rule)
    if not 0 < seconds <= 365 * 86400:
        raise ValueError(rule)
    return timedelta(seconds=seconds)


def _attempt_timeout(text: str) -> timedelta:
    timeout = _seconds(text)
    if timeout > timedelta(minutes=5):
        raise ValueError("an attempt may take 300 seconds at most")
    return timeout


def _days(text: str) -> timedelta:
    return timedelta(days=_whole(text, "it must be a whole number of days, 1 to 3650", 1, 3650))


def _schedule(text: str) -> tuple[timedelta, ...]:
    waits = tuple(_seconds(part.strip()) for part in text.split(","))
    if len(waits) > 50:
        raise ValueError("it may name 50 waits at most")
    return waits


def _roles(text: str) -> frozenset[Role]:
    wanted = {part.strip() for part in text.split(",")}
    unknown = wanted.difference(ROLES)
    if unknown:
        raise ValueError(not_known(min(unknown), "a role", ROLES))
    return frozenset(role for role in ROLES if role in wanted)


def _confirm(text: str) -> Confirm:
    for word in CONFIRM:
        if text.lower() == word:
            return word
    raise ValueError(not_known(text, "a way to confirm", CONFIRM))


def _networks(text: str) -> tuple[Network, ...]:
    networks = []
    for part in text.split(","):
        try:
            networks.append(ipaddress.ip_network(part.strip()))
        except ValueError:
            raise ValueError(
                f"'{part.strip()}' is not a network in CIDR form, like 10.0.0.0/8"
            ) from None
    return tuple(networks)


def _web_address(text: str) -> str:
    rule = "it must be an address like https://taskbell.example.com"
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError(rule) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(rule)
    if parts.username is not None or any(ord(letter) <= 32 or ord(letter) > 126 for letter in text):
        raise ValueError(rule)
    return text.rstrip("/")


def _public_url(text: str) -> str:
    address = _web_address(text)
    path = urlsplit(address).path
    if not re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*", path):
        raise ValueError(
            "its path may have letters, digits, '.', '_', '~' and '-', and no part that begins with a dot"
        )
    first = path.split("/")[1] if path else ""
    if first in OWN_PATHS:
        # behind a proxy that cuts the path off, nobody could tell the one from the other
        raise ValueError(f"/{first} is a path of Taskbell's own: choose another one")
    return address


def _database_url(text: str) -> str:
    read_address(text)
    return text


def _direct_database_url(text: str) -> str:
    if read_address(text).file is not None:
        raise ValueError("it must be PostgreSQL's own address: postgresql://user:pass@host/db")
    return text


def _secret(text: str) -> str:
    if len(text) < MINIMUM_KEY_LENGTH:
        raise ValueError(f"it has {len(text)} characters and needs at least {MINIMUM_KEY_LENGTH}")
    return _header_safe(text)


def _secret_keys(text: str) -> tuple[str, ...]:
    return checked_keys(part.strip() for part in text.split(","))


def checked_keys(keys: Iterable[str]) -> tuple[str, ...]:
    """Secret keys that may be used. Raises ValueError, without a key in it."""
    found = tuple(keys)
    for place, key in enumerate(found, start=1):
        if len(key) < MINIMUM_KEY_LENGTH:
            raise ValueError(
                f"key {place} of {len(found)} has {len(key)} characters"
                f" and needs at least {MINIMUM_KEY_LENGTH}"
            )
        if key in found[: place - 1]:
            raise ValueError(f"key {place} is there twice; a new key must be another one")
    return found


def _header_safe(text: str) -> str:
    if any(ord(letter) <= 32 or ord(letter) > 126 for letter in text):
        raise ValueError("it holds blanks or letters outside ASCII; a key has neither")
    return text
