"""Indexes of what a callback token left behind: tasks nobody has confirmed, receipts of refuted ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_TASKS = ("ix_tasks_unconfirmed", "tasks", ["token_id"])
_RECEIPTS = ("ix_receipts_refuted", "receipts", ["token_id", "id"])


def upgrade() -> None:
    for index, condition in ((_TASKS, "version = 0"), (_RECEIPTS, "verdict = 'refuted'")):
        where = sa.text(condition)
        op.create_index(*index, postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    op.drop_index(*_RECEIPTS[:2])
    op.drop_index(*_TASKS[:2])
