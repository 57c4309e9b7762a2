"""Attempts counted by the hour, for the pages: a day of them is read without reading each."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# as it was when this was written, whatever store/tables.py says later
TIME = sa.String(32).with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
KEY = ("subscription_id", "hour", "bucket")


def upgrade() -> None:
    op.create_table(
        "attempt_hours",
        sa.Column("subscription_id", sa.String(40), nullable=False),
        sa.Column("hour", TIME, nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("delivered", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(*KEY, name=op.f("pk_attempt_hours")),
    )
    op.create_index("ix_attempt_hours_hour", "attempt_hours", ["hour"])


def downgrade() -> None:
    op.drop_table("attempt_hours")
