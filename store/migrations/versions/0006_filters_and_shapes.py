"""What a subscription asks of an event, what it makes of it, and by which method it is sent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in _columns():
        op.add_column("subscriptions", column)


def downgrade() -> None:
    for column in _columns():
        op.drop_column("subscriptions", column.name)


def _columns() -> list[sa.Column[str]]:
    return [
        sa.Column("filter", sa.Text(), nullable=True),
        sa.Column("shape", sa.Text(), nullable=True),
        sa.Column("method", sa.String(5), nullable=True),
    ]
