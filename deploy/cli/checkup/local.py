"""What can be seen on this machine: the settings, the database, the disk."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.cli.checkup.finding import Finding, fail, ok, skip, warn
from deploy.network import DIRECT, of, shown
from deploy.settings import (
    PREFIX,
    ProviderSettings,
    Settings,
    SettingsError,
    known_names,
    load,
    unknown_names,
)
from store.clock import Clock, system_clock
from store.database import Database, open_database, translated
from store.errors import SchemaError, StoreError, UnfitError
from store.fitness import check
from store.schema import HEAD, current_version, usable
from store.sqlite_file import exposed

_MB = 1024 * 1024
LOW_DISK_BYTES = 1024 * _MB
NO_DISK_BYTES = 100 * _MB
MOST_DRIFT_SECONDS = 5.0


def settings(values: Mapping[str, str]) -> tuple[Settings | None, list[Finding]]:
    """The settings as far as they can be read, and what is wrong with them."""
    unknown = unknown_names(values)
    findings = [
        fail("settings", f"{name} is not a setting of taskbell", _meant(name)) for name in unknown
    ]
    try:
        read = load({name: value for name, value in values.items() if name not in unknown})
    except SettingsError as error:
        return None, [*findings, fail("settings", str(error), "set it right, or unset it")]
    if not findings:
        given = sum(name.startswith(PREFIX) for name in values)
        findings = [ok("settings", f"{given} set, all known")]
    return read, findings


def _meant(name: str) -> str:
    close = difflib.get_close_matches(name.removeprefix(PREFIX), known_names(), n=1)
    meant = f"did you mean {PREFIX}{close[0]}? " if close else ""
    return f"{meant}deploy/docs/reference/settings.md lists them all; the server does not start with it"


def database(chosen: Settings, clock: Clock) -> Sequence[Finding]:
    """Whether it answers, can be worked on, and has this version's schema. Changes nothing in it."""
    path = chosen.sqlite_path
    if path is not None and not path.exists():
        return [warn("database", f"there is no {path} yet", "taskbell serve makes it; or is this"
                     " another folder than the server's?")]  # fmt: skip
    opened = None
    try:
        opened = open_database(chosen.database_url, chosen.direct_database_url)
        check(opened)
        found = _look_into(opened, clock)
    except SchemaError as error:
        return [fail("database", str(error), "upgrade taskbell here")]
    except UnfitError as error:
        return [fail("database", error.text, error.todo)]
    except StoreError as error:
        return [fail("database", str(error), _CHECK_THE_URL)]
    finally:
        if opened is not None:
            opened.dispose()
    if path is not None:
        found += [
            warn("database", text, todo) for text, todo in map(_open_to_others, exposed(path))
        ]
    return found


_CHECK_THE_URL = "check TASKBELL_DATABASE_URL: host, user, password, name; is the server up?"


def _open_to_others(found: tuple[Path, int]) -> tuple[str, str]:
    each, mode = found
    return f"others on this machine can read {each} (mode {mode:04o})", f"chmod 600 {each}"


def _look_into(opened: Database, clock: Clock) -> list[Finding]:
    with translated(), opened.reader.begin() as connection:
        version = current_version(connection)
        fits = usable(connection)
        told, _ = opened.now(connection, system_clock, "SELECT 1")
    if not fits:
        text = f"its schema is {version or 'missing'}, this version needs {HEAD}"
        return [fail("database", text, "taskbell migrate")]
    found = [ok("database", f"{opened.name}: schema {version}")]
    if opened.postgresql:
        found.append(drift("database clock", (clock() - told).total_seconds()))
    return found


def drift(check: str, seconds: float, within: float = MOST_DRIFT_SECONDS) -> Finding:
    """How far this machine's clock is ahead of another one."""
    if abs(seconds) <= within:
        return ok(check, "the clocks agree")
    text = f"the clock here is {abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}"
    return fail(check, text, "set it by NTP: signatures more than 5 min off are refused")


def disk(chosen: Settings) -> Sequence[Finding]:
    path = chosen.sqlite_path
    if path is None:
        return [skip("disk", "PostgreSQL's own business")]
    folder = Path(path).absolute().parent
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return [fail("disk", f"{folder}: {error.strerror}", "check TASKBELL_DATABASE_URL")]
    return [room(folder, free)]


def room(folder: Path, free: int) -> Finding:
    """What so many free bytes mean."""
    text = f"{free // _MB:,} MB free at {folder}"
    todo = "make room: pushes are answered with 503 when the disk is full; TASKBELL_RETENTION_DAYS"
    if free < NO_DISK_BYTES:
        return fail("disk", text, todo)
    return warn("disk", text, todo) if free < LOW_DISK_BYTES else ok("disk", text)


def network(chosen: Settings, values: Mapping[str, str]) -> Sequence[Finding]:
    """Which of the network's own settings are in force for providers, and which are not."""
    given = of(values)
    parts = [_reached(name, settings) for name, settings in chosen.providers.items()]
    authorities = [
        f"{name}={given.given[name]}"
        for name in (*_AUTHORITIES, f"{PREFIX}CA_FILE")
        if name in given.given
    ]
    parts.append(f"certificates: {', '.join(authorities) or 'the usual authorities'}")
    found = [ok("network", f"{'; '.join(parts)}; deliveries go straight, whatever is set")]
    todo = f"set {PREFIX}PROVIDER_PROXY to an http:// or https:// proxy, or to {DIRECT}"
    return found + [warn("network", f"not in force: {text}", todo) for text in given.unusable()]


_AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def _reached(name: str, chosen: ProviderSettings) -> str:
    route = chosen.route
    how = f"through {shown(route.way.proxy)}" if route.way.proxy else "straight"
    return f"{name}: {how} ({route.because})" if route.because else f"{name}: {how}"
