"""The schema's version: what the database has, what the code needs, and how to get there.

Two versions of Taskbell may run on one database while it is upgraded: code works on the schema it
was written for, and on every later one whose OLDEST is not above its own HEAD.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, exc, inspect, select, text

from store.database import MIGRATION_LOCK, Database, direct_database, translated
from store.errors import SchemaError, StoreError
from store.tables import counters

HEAD = "0014"
"""The newest migration. A test holds it against store/migrations/versions."""

OLDEST = "0004"
"""The oldest HEAD whose code works on the schema of this one.

A migration that only adds leaves it as it is: a table, an index, a column that older inserts may
leave out. Taking away needs two versions: one whose code does without, then one that takes it away
and has the first one's HEAD here.
"""


def current_version(connection: Connection) -> str | None:
    """The database's version, or None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.execute(
        text("SELECT version_num FROM alembic_version")
    ).scalar()
    return version


def usable(connection: Connection) -> bool:
    """Whether this code may work on the database as it is. Raises SchemaError: it is too new."""
    version = current_version(connection)
    if version is None or version < HEAD:
        return False
    if version > HEAD and _oldest(connection, version) > HEAD:
        raise SchemaError(
            f"the database's schema ({version}) is newer than this taskbell ({HEAD}) can work on;"
            " start the version that made it, or a later one"
        )
    return True


def migrate(database: Database) -> str | None:
    """Bring the schema to HEAD, in one transaction, unless it is there; the version it had before.

    Safe to run from several processes at once. Raises SchemaError when the database is too new for
    this code, StoreUnavailableError when it does not answer, StoreError when it refuses.
    """
    with translated(), database.reader.begin() as connection:
        if usable(connection):
            return current_version(connection)
    # behind a pooler in transaction mode no statement may take long, nor a transaction
    direct = direct_database(database)
    try:
        return _upgrade(direct)
    except exc.DBAPIError as error:
        reason = str(error.orig).strip().split("\n")[0][:200]
        raise StoreError(f"the tables could not be made or changed: {reason}") from None
    finally:
        if direct is not database:
            direct.dispose()


def _upgrade(database: Database) -> str | None:
    # alembic takes a second to import: only when there is something to do, and before the lock
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with translated(), database.writer.begin() as connection:
        database.lock(connection, MIGRATION_LOCK)
        version = current_version(connection)
        if not usable(connection):  # another process may have been faster
            database.lift_time_limits(connection)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            _record_oldest(connection)
        return version


def _oldest(connection: Connection, version: str) -> str:
    """The oldest HEAD that works on a newer schema, as the code that made it wrote it down."""
    number = connection.execute(
        select(counters.c.value).where(counters.c.name == _counter(version))
    ).scalar()
    return version if number is None else f"{number:04}"


def _record_oldest(connection: Connection) -> None:
    if OLDEST < HEAD:
        values = {"name": _counter(HEAD), "value": int(OLDEST)}
        connection.execute(counters.insert().values(values))


def _counter(version: str) -> str:
    return f"oldest for schema {version}"
