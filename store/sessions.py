"""Sessions of PostgreSQL: how one is opened, and what it is told before anything else.

What the server, the database or the role has as a default must not change what Taskbell's statements
mean, nor for how long they wait. Without a pooler, or with one that lends a server's connection for
the whole session, a session is told once, when it is opened. Behind a pooler in transaction mode any
transaction may run on another server's connection, so that each is told, together with its first
statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from store.address import Address

if TYPE_CHECKING:
    import psycopg

CONNECT_TIMEOUT_SECONDS = 2
STATEMENT_TIMEOUT_SECONDS = 10

Statement = tuple[str, Mapping[str, Any] | None]
"""SQL as the driver takes it, and its parameters."""

_CONNECT: dict[str, Any] = {
    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    "application_name": "taskbell",
    "client_encoding": "utf8",
    # a host that vanished says no goodbye: this side hangs up after ten seconds of silence
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "options": "",  # PGOPTIONS would go unseen past the checks, and poolers refuse it
}

_LIMITS = {
    "statement_timeout": f"{STATEMENT_TIMEOUT_SECONDS}s",
    "idle_in_transaction_session_timeout": "4s",
    "lock_timeout": "5s",
}
# by the server's version: an idle session waits for notices, or lies in a pool
_LIMITS_SINCE = {140_000: ("idle_session_timeout", "0"), 170_000: ("transaction_timeout", "0")}

# the server hangs up on a host that vanished; what a transaction of its holds locked is free after
# four seconds, before others give up waiting for it
_KEEPALIVES = {
    "tcp_keepalives_idle": "4",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}

_MEANING = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "extra_float_digits": "1",
}

# what the driver reads texts by. It learns of a change after a transaction's first answers, too late;
# poolers know these settings as each client's own, and see to them on whatever connection they lend
_TRACKED = {name: _MEANING[name] for name in ("client_encoding", "DateStyle", "TimeZone")}

BY_INDEX = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}
"""For who writes: all that is written is found through an index; a plan that was made while the
tables were small, and is kept, must not walk them when they have grown."""

_TELL = (
    "SELECT set_config(name, value, %(local)s)"
    " FROM unnest(%(names)s::text[], %(values)s::text[]) AS told(name, value)"
)
# where tables are looked for: the schemas that are there now, not those that appear later
_FIXED = """
SELECT (SELECT string_agg(quote_ident(name), ', ' ORDER BY place)
        FROM unnest(current_schemas(false)) WITH ORDINALITY AS found(name, place)),
       current_setting('synchronous_commit')
"""


@dataclass(slots=True)
class Sessions:
    """Opens sessions of one database.

    direct: where it is reached without a pooler; another address than `address` says that this one
    leads through a pooler in transaction mode.
    """

    address: Address
    direct: Address
    _fixed: Mapping[str, str] | None = None

    @property
    def pooled(self) -> bool:
        """Whether any transaction may run on another connection of the server."""
        return self.direct != self.address

    def open(
        self, arguments: Mapping[str, Any], more: Mapping[str, str]
    ) -> psycopg.Connection[Any]:
        """Open a session for the pools. more: settings of this pool's sessions.

        arguments: of SQLAlchemy's, for the driver. Raises psycopg.Error.
        """
        import psycopg

        if not self.pooled:
            connection = self._told(psycopg.connect(**_given(self.address), **arguments,
                                                    autocommit=True), more)  # fmt: skip
            connection.autocommit = False
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            return connection
        connection = self.untold(arguments)
        try:
            connection.execute(*_telling(_TRACKED, local=False))
            connection.autocommit = False
            # SQLAlchemy has questions of its own to a first connection
            with connection.pipeline():
                connection.execute(*self.first(connection, more))
        except BaseException:
            connection.close()
            raise
        return connection

    def untold(self, arguments: Mapping[str, Any]) -> psycopg.Connection[Any]:
        """Open a session behind the pooler that is told nothing yet, each statement a transaction.

        Raises psycopg.Error.
        """
        import psycopg

        connection = psycopg.connect(
            **_given(self.address), **arguments, prepare_threshold=None, autocommit=True
        )
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return connection

    def alone(self) -> psycopg.Connection[Any]:
        """Open a direct session beside the pools; each statement is a transaction of its own.

        Raises psycopg.Error.
        """
        import psycopg

        return self._told(psycopg.connect(**_given(self.direct), autocommit=True), _ALONE)

    def without_pooler(self) -> Sessions:
        """Return sessions of the direct address alone, with the settings of both."""
        direct = replace(self.direct, session={**self.direct.session, **self.address.session})
        return Sessions(direct, direct, self._fixed)

    def first(self, connection: psycopg.Connection[Any], more: Mapping[str, str]) -> Statement:
        """Return what a pooled transaction runs first. Raises psycopg.Error."""
        if self._fixed is None:
            self.alone().close()
        settings = self._settings(connection.info.server_version, more)
        return _telling(settings, local=True)

    def _told(
        self, connection: psycopg.Connection[Any], more: Mapping[str, str]
    ) -> psycopg.Connection[Any]:
        """Tell a session of its own all its settings, in one round trip."""
        try:
            settings = self._settings(connection.info.server_version, {**_KEEPALIVES, **more})
            with connection.pipeline():
                # a pooler that resets nothing hands on what another client prepared under our names
                connection.execute("DEALLOCATE ALL")
                connection.execute(*_telling(settings, local=False))
            if self._fixed is None:
                self._fix(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _settings(self, version: int, more: Mapping[str, str]) -> dict[str, str]:
        since = dict(setting for least, setting in _LIMITS_SINCE.items() if version >= least)
        fixed = self._fixed or {}
        return {**_LIMITS, **since, **more, **self.direct.session, **self.address.session,
                **_MEANING, **fixed}  # fmt: skip

    def _fix(self, connection: psycopg.Connection[Any]) -> None:
        """Keep to what was found first, whatever the role's defaults become later."""
        [path, synchronous] = connection.execute(_FIXED).fetchone() or ["", ""]
        if not path:
            return  # its schema may be made yet
        fixed = {"search_path": path}
        if synchronous == "off" and "synchronous_commit" not in self.address.session:
            fixed["synchronous_commit"] = "on"  # what was acknowledged is on the disk
        self._fixed = fixed
        connection.execute(*_telling(fixed, local=False))


_ALONE = {"default_transaction_isolation": "read committed"}


def _telling(settings: Mapping[str, str], *, local: bool) -> Statement:
    values = {"names": list(settings), "values": list(settings.values()), "local": local}
    return _TELL, values


def _given(address: Address) -> dict[str, Any]:
    given = address.parameters
    several = "," in given.get("host", "") or "," in given.get("hostaddr", "")
    # of several hosts, as a failover has them, the one that takes writes
    wanted = {"target_session_attrs": "read-write"} if several else {}
    return {**_CONNECT, **wanted, **given}
