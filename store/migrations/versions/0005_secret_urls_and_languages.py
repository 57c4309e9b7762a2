"""Subscriptions whose URL is a secret, with the service's own secret, and the readers' language."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # versions before this one leave them out of their inserts
    op.add_column("subscriptions", sa.Column("url_locked", sa.Text(), nullable=True))
    op.add_column("subscriptions", sa.Column("service_secret_locked", sa.Text(), nullable=True))
    op.add_column(
        "subscriptions",
        sa.Column("language", sa.String(8), nullable=False, server_default="en"),
    )


def downgrade() -> None:
    for name in ("language", "service_secret_locked", "url_locked"):
        op.drop_column("subscriptions", name)
