"""The schema's version: what the database has, what the code needs, and how to get there."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from store.database import MIGRATION_LOCK, Database, translated
from store.errors import SchemaError

HEAD = "0001"
"""The newest migration. A test holds it against store/migrations/versions."""


def current_version(connection: Connection) -> str | None:
    """The database's version, or None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.execute(
        text("SELECT version_num FROM alembic_version")
    ).scalar()
    return version


def migrate(database: Database) -> str | None:
    """Bring the schema to HEAD, in one transaction; the version it had before.

    Safe to run from several processes at once. Raises SchemaError when the database is newer than
    this code, StoreUnavailableError when it does not answer.
    """
    with translated(), database.writer.begin() as connection:
        database.lock(connection, MIGRATION_LOCK)
        version = current_version(connection)
        if version == HEAD:
            return version
        _upgrade(connection, version)
        return version


def _upgrade(connection: Connection, version: str | None) -> None:
    # alembic takes a second to import: only when there is something to do
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise SchemaError(
            f"the database's schema ({version}) is newer than this taskbell ({HEAD});"
            " start the version that made it, or a later one"
        )
    command.upgrade(config, "head")
