"""Partial indexes get conditions of their own; one that was whole becomes partial.

PostgreSQL takes a partial index for empty when its last ANALYZE saw no such rows, and then walks
any one whose condition fits the question, even where it serves none of its values.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_OPEN = "status IN ('pending', 'in_flight')"
_INDEXES = (
    (
        *("ix_deliveries_due", "deliveries", ["subscription_id", "due_at"]),
        *(_OPEN, "finished_at IS NULL"),
    ),
    (
        *("ix_deliveries_lane", "deliveries", ["task_id"]),
        *(_OPEN, f"{_OPEN} AND task_id IS NOT NULL"),
    ),
    (
        *("ix_tasks_token", "tasks", ["token_id"]),
        *("next_poll_at IS NOT NULL", "next_poll_at IS NOT NULL AND token_id IS NOT NULL"),
    ),
    (
        *("ix_receipts_received_at", "receipts", ["received_at"]),
        *("", "task_id IS NULL"),
    ),
)


def upgrade() -> None:
    for name, table, columns, _, condition in _INDEXES:
        _replace(name, table, columns, condition)


def downgrade() -> None:
    for name, table, columns, condition, _ in _INDEXES:
        _replace(name, table, columns, condition)


def _replace(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition) if condition else None
    op.drop_index(name, table)
    op.create_index(name, table, columns, postgresql_where=where, sqlite_where=where)
