"""The index of tasks' receipts leaves out those without a task: SQLite looked through all of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_INDEX = ("ix_receipts_task_id", "receipts", ["task_id"])


def upgrade() -> None:
    where = sa.text("task_id IS NOT NULL")
    op.drop_index(*_INDEX[:2])
    op.create_index(*_INDEX, postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    op.drop_index(*_INDEX[:2])
    op.create_index(*_INDEX)
