"""What is learned of how long models take, and which process asks a provider."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# as it was when this was written, whatever store/tables.py says later
TIME = sa.String(32).with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "durations",
        sa.Column("provider", sa.String(40), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("learned_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("provider", "model", "kind", name=op.f("pk_durations")),
    )
    op.create_table(
        "shifts",
        sa.Column("provider", sa.String(40), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("until", TIME, nullable=False),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("provider", name=op.f("pk_shifts")),
    )


def downgrade() -> None:
    op.drop_table("shifts")
    op.drop_table("durations")
