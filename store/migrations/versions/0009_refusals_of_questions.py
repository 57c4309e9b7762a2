"""How often in a row a provider itself refused to answer about a task: that ends it, failures do not."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("poll_refusals", sa.Integer(), nullable=False, server_default="0")
    op.add_column("tasks", column)


def downgrade() -> None:
    op.drop_column("tasks", "poll_refusals")
