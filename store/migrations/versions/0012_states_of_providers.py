"""The states of providers, and the code of what went wrong with the last poll of a task."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# as it was when this was written, whatever store/tables.py says later
TIME = sa.String(32).with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
CURRENT = "until IS NULL"
PAST = "until IS NOT NULL"


def upgrade() -> None:
    op.create_table(
        "provider_states",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("provider", sa.String(40), nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("since", TIME, nullable=False),
        sa.Column("until", TIME, nullable=True),
        sa.Column("polled_at", TIME, nullable=True),
        sa.Column("asked_at", TIME, nullable=True),
        sa.Column("answered_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provider_states")),
    )
    op.create_index(
        "ix_provider_states_current",
        "provider_states",
        ["provider"],
        unique=True,
        postgresql_where=sa.text(CURRENT),
        sqlite_where=sa.text(CURRENT),
    )
    op.create_index(
        "ix_provider_states_past",
        "provider_states",
        ["until"],
        postgresql_where=sa.text(PAST),
        sqlite_where=sa.text(PAST),
    )
    op.create_index("ix_provider_states_provider_id", "provider_states", ["provider", "id"])
    op.add_column("tasks", sa.Column("poll_error_code", sa.String(64), nullable=True))


def downgrade() -> None:
    op.drop_column("tasks", "poll_error_code")
    op.drop_table("provider_states")
