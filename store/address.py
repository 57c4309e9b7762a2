"""The address of the database: the one reader of a database URL. It imports no driver."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote


@dataclass(frozen=True, slots=True)
class Address:
    """A SQLite file, or how libpq reaches a PostgreSQL database.

    parameters: libpq's keywords; they may hold a password. session: settings that `options` asks
    for, by their names in lower case.
    """

    file: Path | None = None
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    session: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def database(self) -> str:
        """The SQLite file's path, or the database's name."""
        return str(self.file) if self.file is not None else self.parameters.get("dbname", "")

    @property
    def name(self) -> str:
        """The address without its secrets, for logs and messages."""
        if self.file is not None:
            return f"sqlite:///{self.file}"
        given = self.parameters
        user = given.get("user", "")
        if "password" in given:
            user += ":***"
        ports = given.get("port", "").split(",")
        hosts = given.get("host", "").split(",")
        ports = ports * len(hosts) if len(ports) == 1 else ports
        where = ",".join(_place(*each) for each in zip(hosts, ports, strict=False))
        return f"postgresql://{user}{'@' if user else ''}{where}/{self.database}"


def _place(host: str, port: str) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}" if port else shown


def read_address(url: str) -> Address:
    """Return what sqlite:///path or postgresql://user:pass@host/db leads to.

    Raises ValueError with the rule that is broken; no part of a URL that may be secret is in it.

    >>> read_address("sqlite:////data/my%20tasks.db").file
    PosixPath('/data/my tasks.db')
    >>> read_address("postgresql://bell:hush@a,b:5433/tasks?application_name=x").name
    'postgresql://bell:***@a,b:5433/tasks'
    """
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in url):
        raise ValueError("it holds a line break or another control character")
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "sqlite":
        return Address(file=_sqlite_file(rest))
    if separator and scheme in _POSTGRESQL:
        return _postgresql(rest)
    if separator and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise ValueError(f"'{scheme}' is not a database Taskbell knows: {_LIKE}")
    raise ValueError(f"it must be like {_LIKE}")


_POSTGRESQL = ("postgresql", "postgres", "postgresql+psycopg")
_LIKE = "sqlite:///taskbell.db or postgresql://user:pass@host/db"


def _sqlite_file(rest: str) -> Path:
    text, question, query = rest.partition("?")
    if question:
        name = query.partition("=")[0]
        raise ValueError(
            f"a SQLite file takes no parameters, and here is '{name}'; write a question mark that"
            " belongs to the file's name as %3F"
        )
    if not text.startswith("/"):
        raise ValueError("SQLite needs a file after three slashes: sqlite:///taskbell.db")
    path = unquote(text[1:], errors="surrogateescape")
    if path in ("", ":memory:"):
        raise ValueError("SQLite needs a file: sqlite:///taskbell.db")
    if path.startswith("file:"):
        raise ValueError(
            "a file: address is not taken; write the path itself: sqlite:////data/taskbell.db"
        )
    if "\0" in path:
        raise ValueError("a file's name cannot hold %00")
    return Path(path)


_PARTS = re.compile(
    r"(?:(?P<user>[^:/@]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<hosts>[^/?]*)(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?"
)


def _postgresql(rest: str) -> Address:
    parts = _PARTS.fullmatch(rest)
    if parts is None:
        raise ValueError(f"it must be like {_LIKE}")
    if "@" in parts["hosts"] or "@" in (parts["database"] or ""):
        raise ValueError("there is an @ in the password, the user or the name: write it as %40")
    found: dict[str, str] = {}
    for name, text in (
        ("user", parts["user"]),
        ("password", parts["password"]),
        ("dbname", parts["database"]),
    ):
        if text:
            found[name] = unquote(text)
    found |= _hosts([each for each in parts["hosts"].split(",") if parts["hosts"]])
    given = _parameters(parts["query"] or "")
    session, options = _options(given.pop("options", ""))
    for name in found.keys() & given.keys():
        if found[name] != given[name]:
            raise ValueError(f"it has two values of '{name}', one of them as a parameter")
    found |= given
    if options:
        found["options"] = options
    if any("\0" in value for value in (*found.values(), *session.values())):
        raise ValueError("it holds %00")
    return Address(parameters=found, session=session)


_HOST = re.compile(r"(?:\[(?P<ipv6>[^\[\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[0-9]*))?")


def _hosts(texts: list[str]) -> dict[str, str]:
    """Libpq's host and port from host:port texts."""
    hosts, ports = [], []
    for text in texts:
        found = _HOST.fullmatch(text)
        if found is None or not _port(found["port"] or ""):
            raise ValueError(
                "its host and port must be like postgresql://user:pass@db.example.com:5432/db; commas"
                " go between several"
            )
        hosts.append(unquote(found["ipv6"] or found["name"] or ""))
        ports.append(found["port"] or "")
    if not hosts:
        return {}
    return {"host": ",".join(hosts)} | ({"port": ",".join(ports)} if any(ports) else {})


def _port(text: str) -> bool:
    return not text or (len(text) <= 5 and 0 < int(text) <= 65535)


def _parameters(query: str) -> dict[str, str]:
    """The parameters of the URL, as libpq knows them."""
    found: dict[str, str] = {}
    hosts: list[str] = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in PARAMETERS:
            near = difflib.get_close_matches(name, PARAMETERS, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"'{name[:40]}' is not a connection parameter of PostgreSQL{meant}")
        if name in _REFUSED:
            raise ValueError(f"its parameter '{name}' cannot be used: {_REFUSED[name]}")
        if name == "host":
            hosts.append(value)
        elif name in found:
            raise ValueError(f"its parameter '{name}' is there twice")
        else:
            found[name] = value
    if found.pop("client_encoding", "utf8").lower().replace("-", "") not in ("utf8", "auto"):
        raise ValueError("its parameter 'client_encoding' cannot be used: Taskbell speaks UTF8")
    return found | _named_hosts(hosts)


def _named_hosts(values: list[str]) -> dict[str, str]:
    """Of `host` parameters: libpq's own, or several host:port as SQLAlchemy has them."""
    if any(re.fullmatch(r"[\w.-]+:[0-9]+", value, re.ASCII) for value in values):
        return _hosts(values)
    return {"host": ",".join(values)} if values else {}


_REFUSED = {"replication": "Taskbell needs an ordinary connection"}

OURS = frozenset(
    {
        *("client_encoding", "datestyle", "intervalstyle", "timezone", "bytea_output"),
        *("standard_conforming_strings", "extra_float_digits", "default_transaction_isolation"),
        *("transaction_isolation", "transaction_read_only", "transaction_deferrable"),
        *("enable_seqscan", "enable_hashjoin", "enable_mergejoin"),
    }
)
"""Settings of a session that Taskbell's own work depends on, in lower case."""


def _options(text: str) -> tuple[dict[str, str], str]:
    """The settings that `options` asks for; and words for a proxy on the way, as they are.

    Raises ValueError for what would be lost, or would break Taskbell.
    """
    settings: dict[str, str] = {}
    others: list[str] = []
    words = iter(_words(text))
    for word in words:
        if word == "-c":
            name, equals, value = next(words, "").partition("=")
        elif word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
        elif word.startswith("-c"):
            name, equals, value = word[2:].partition("=")
        elif re.fullmatch(r"[a-z]+=[\w.-]+", word, re.ASCII):
            others.append(word)  # as Neon's endpoint=…: PostgreSQL itself refuses it
            continue
        else:
            name, equals, value = "", "", ""
        if not equals or not re.fullmatch(r"[A-Za-z_][\w.]*", name, re.ASCII):
            raise ValueError(
                f"its parameter 'options' has '{word[:40]}', and takes only -c name=value"
            )
        if name.lower() in OURS:
            raise ValueError(f"its options set {name}, which Taskbell sets itself: leave it out")
        settings[name.lower()] = value
    return settings, " ".join(others)


def _words(text: str) -> Iterator[str]:
    """Split at blanks; a backslash keeps what follows it, as in libpq's options."""
    for word in re.findall(r"(?:\\.|[^\s\\])+", text):
        yield re.sub(r"\\(.)", r"\1", word)


PARAMETERS = (
    *("service", "user", "password", "passfile", "channel_binding", "connect_timeout", "dbname"),
    *("host", "hostaddr", "port", "client_encoding", "options", "application_name"),
    *("fallback_application_name", "keepalives", "keepalives_idle", "keepalives_interval"),
    *("keepalives_count", "tcp_user_timeout", "sslmode", "sslnegotiation", "sslcompression"),
    *("sslcert", "sslkey", "sslcertmode", "sslpassword", "sslrootcert", "sslcrl", "sslcrldir"),
    *("sslsni", "requirepeer", "require_auth", "min_protocol_version", "max_protocol_version"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version", "gssencmode", "krbsrvname"),
    *("gsslib", "gssdelegation", "replication", "target_session_attrs", "load_balance_hosts"),
    *("scram_client_key", "scram_server_key", "oauth_issuer", "oauth_client_id"),
    *("oauth_client_secret", "oauth_scope", "servicefile", "sslkeylogfile"),
)
"""Keywords of libpq 18. Older ones name those that they do not know."""
