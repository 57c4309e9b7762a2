"""Deliveries are kept for paused subscriptions: an index of them, and what is skipped at a resume."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_INDEX = ("ix_deliveries_kept", "deliveries", ["subscription_id", "created_at", "id"])


def upgrade() -> None:
    op.add_column("subscriptions", sa.Column("skipped_through", sa.String(40), nullable=True))
    where = sa.text("status = 'pending' AND due_at IS NULL")
    op.create_index(*_INDEX, postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    op.drop_index(*_INDEX[:2])
    op.drop_column("subscriptions", "skipped_through")
