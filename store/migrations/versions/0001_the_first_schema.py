"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# as it was when this was written, whatever store/tables.py says later
TIME = sa.String(32).with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scope", sa.String(8), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_keys_digest")),
    )
    op.create_table(
        "attempts",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("delivery_id", sa.String(40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("result", sa.String(12), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
    )
    op.create_index("ix_attempts_delivery_id", "attempts", ["delivery_id"], unique=False)

    op.create_table(
        "counters",
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    op.create_table(
        "events",
        sa.Column("cursor", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("type", sa.String(40), nullable=False),
        sa.Column("provider", sa.String(40), nullable=True),
        sa.Column("task_id", sa.String(40), nullable=True),
        sa.Column("subject", sa.String(40), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("cursor", name=op.f("pk_events")),
        sa.UniqueConstraint("id", name=op.f("uq_events_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_task_id", "events", ["task_id"], unique=False)
    op.create_index("ix_events_type_cursor", "events", ["type", "cursor"], unique=False)

    op.create_table(
        "receipts",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("provider", sa.String(40), nullable=False),
        sa.Column("token_id", sa.String(64), nullable=False),
        sa.Column("provider_task_id", sa.String(128), nullable=True),
        sa.Column("task_id", sa.String(40), nullable=True),
        sa.Column("received_at", TIME, nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_receipts")),
    )
    op.create_index("ix_receipts_received_at", "receipts", ["received_at"], unique=False)
    op.create_index("ix_receipts_task_id", "receipts", ["task_id"], unique=False)

    op.create_table(
        "subscriptions",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("format", sa.String(40), nullable=False),
        sa.Column("types", sa.Text(), nullable=True),
        sa.Column("providers", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("headers_locked", sa.Text(), nullable=True),
        sa.Column("header_names", sa.Text(), nullable=False),
        sa.Column("secret_locked", sa.Text(), nullable=False),
        sa.Column("old_secret_locked", sa.Text(), nullable=True),
        sa.Column("old_secret_until", TIME, nullable=True),
        sa.Column("max_in_flight", sa.Integer(), nullable=True),
        sa.Column("rate_per_second", sa.Float(), nullable=True),
        sa.Column("next_send_at", TIME, nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("failing_since", TIME, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("deleted_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscriptions")),
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("provider", sa.String(40), nullable=False),
        sa.Column("provider_task_id", sa.String(128), nullable=False),
        sa.Column("family", sa.String(40), nullable=True),
        sa.Column("kind", sa.String(10), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("status", sa.String(12), nullable=False),
        sa.Column("provider_status", sa.Text(), nullable=True),
        sa.Column("progress", sa.Float(), nullable=True),
        sa.Column("outputs", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("usage", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("deadline_at", TIME, nullable=False),
        sa.Column("source", sa.String(8), nullable=False),
        sa.Column("confirmed", sa.Boolean(), nullable=False),
        sa.Column("expect_push", sa.Boolean(), nullable=False),
        sa.Column("rescued_by_poll", sa.Boolean(), nullable=False),
        sa.Column("next_poll_at", TIME, nullable=True),
        sa.Column("polls", sa.Integer(), nullable=False),
        sa.Column("poll_claims", sa.Integer(), nullable=False),
        sa.Column("poll_failures", sa.Integer(), nullable=False),
        sa.Column("poll_fence", sa.Integer(), nullable=False),
        sa.Column("poll_owner", sa.String(64), nullable=True),
        sa.Column("poll_error", sa.Text(), nullable=True),
        sa.Column("hint", sa.Text(), nullable=True),
        sa.Column("hint_at", TIME, nullable=True),
        sa.Column("token_id", sa.String(64), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
        sa.UniqueConstraint(
            "provider", "provider_task_id", name=op.f("uq_tasks_provider_provider_task_id")
        ),
    )
    op.create_index(
        "ix_tasks_deadline",
        "tasks",
        ["deadline_at"],
        unique=False,
        postgresql_where=sa.text("status NOT IN ('succeeded', 'failed', 'canceled', 'timed_out')"),
        sqlite_where=sa.text("status NOT IN ('succeeded', 'failed', 'canceled', 'timed_out')"),
    )
    op.create_index(
        "ix_tasks_due",
        "tasks",
        ["provider", "next_poll_at"],
        unique=False,
        postgresql_where=sa.text("next_poll_at IS NOT NULL AND version > 0"),
        sqlite_where=sa.text("next_poll_at IS NOT NULL AND version > 0"),
    )
    op.create_index(
        "ix_tasks_ended",
        "tasks",
        ["updated_at"],
        unique=False,
        postgresql_where=sa.text("status NOT IN ('queued', 'processing')"),
        sqlite_where=sa.text("status NOT IN ('queued', 'processing')"),
    )
    op.create_index(
        "ix_tasks_held",
        "tasks",
        ["provider", "hint_at"],
        unique=False,
        postgresql_where=sa.text("hint_at IS NOT NULL"),
        sqlite_where=sa.text("hint_at IS NOT NULL"),
    )
    op.create_index("ix_tasks_status_id", "tasks", ["status", "id"], unique=False)
    op.create_index(
        "ix_tasks_token",
        "tasks",
        ["token_id"],
        unique=False,
        postgresql_where=sa.text("next_poll_at IS NOT NULL"),
        sqlite_where=sa.text("next_poll_at IS NOT NULL"),
    )
    op.create_index(
        "ix_tasks_unverified",
        "tasks",
        ["provider", "next_poll_at"],
        unique=False,
        postgresql_where=sa.text("next_poll_at IS NOT NULL AND version = 0"),
        sqlite_where=sa.text("next_poll_at IS NOT NULL AND version = 0"),
    )

    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("event_id", sa.String(40), nullable=False),
        sa.Column("subscription_id", sa.String(length=40), nullable=False),
        sa.Column("task_id", sa.String(40), nullable=True),
        sa.Column("task_version", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(12), nullable=False),
        sa.Column("due_at", TIME, nullable=True),
        sa.Column("owner", sa.String(64), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("claims", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["subscription_id"], ["subscriptions.id"], name=op.f("fk_deliveries_subscription_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
    )
    op.create_index(
        "ix_deliveries_dead",
        "deliveries",
        ["id"],
        unique=False,
        postgresql_where=sa.text("status IN ('dead', 'canceled')"),
        sqlite_where=sa.text("status IN ('dead', 'canceled')"),
    )
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["subscription_id", "due_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('pending', 'in_flight')"),
        sqlite_where=sa.text("status IN ('pending', 'in_flight')"),
    )
    op.create_index("ix_deliveries_event_id", "deliveries", ["event_id"], unique=False)
    op.create_index(
        "ix_deliveries_in_flight",
        "deliveries",
        ["subscription_id", "due_at"],
        unique=False,
        postgresql_where=sa.text("status = 'in_flight'"),
        sqlite_where=sa.text("status = 'in_flight'"),
    )
    op.create_index(
        "ix_deliveries_lane",
        "deliveries",
        ["task_id"],
        unique=False,
        postgresql_where=sa.text("status IN ('pending', 'in_flight')"),
        sqlite_where=sa.text("status IN ('pending', 'in_flight')"),
    )
    op.create_index(
        "ix_deliveries_subscription_id_id", "deliveries", ["subscription_id", "id"], unique=False
    )

    op.execute("INSERT INTO counters (name, value) VALUES ('subscriptions', 0)")


def downgrade() -> None:
    op.drop_index("ix_deliveries_subscription_id_id", "deliveries")
    op.drop_index(
        "ix_deliveries_lane",
        "deliveries",
        postgresql_where=sa.text("status IN ('pending', 'in_flight')"),
        sqlite_where=sa.text("status IN ('pending', 'in_flight')"),
    )
    op.drop_index(
        "ix_deliveries_in_flight",
        "deliveries",
        postgresql_where=sa.text("status = 'in_flight'"),
        sqlite_where=sa.text("status = 'in_flight'"),
    )
    op.drop_index("ix_deliveries_event_id", "deliveries")
    op.drop_index(
        "ix_deliveries_due",
        "deliveries",
        postgresql_where=sa.text("status IN ('pending', 'in_flight')"),
        sqlite_where=sa.text("status IN ('pending', 'in_flight')"),
    )
    op.drop_index(
        "ix_deliveries_dead",
        "deliveries",
        postgresql_where=sa.text("status IN ('dead', 'canceled')"),
        sqlite_where=sa.text("status IN ('dead', 'canceled')"),
    )

    op.drop_table("deliveries")
    op.drop_index(
        "ix_tasks_unverified",
        "tasks",
        postgresql_where=sa.text("next_poll_at IS NOT NULL AND version = 0"),
        sqlite_where=sa.text("next_poll_at IS NOT NULL AND version = 0"),
    )
    op.drop_index(
        "ix_tasks_token",
        "tasks",
        postgresql_where=sa.text("next_poll_at IS NOT NULL"),
        sqlite_where=sa.text("next_poll_at IS NOT NULL"),
    )
    op.drop_index("ix_tasks_status_id", "tasks")
    op.drop_index(
        "ix_tasks_held",
        "tasks",
        postgresql_where=sa.text("hint_at IS NOT NULL"),
        sqlite_where=sa.text("hint_at IS NOT NULL"),
    )
    op.drop_index(
        "ix_tasks_ended",
        "tasks",
        postgresql_where=sa.text("status NOT IN ('queued', 'processing')"),
        sqlite_where=sa.text("status NOT IN ('queued', 'processing')"),
    )
    op.drop_index(
        "ix_tasks_due",
        "tasks",
        postgresql_where=sa.text("next_poll_at IS NOT NULL AND version > 0"),
        sqlite_where=sa.text("next_poll_at IS NOT NULL AND version > 0"),
    )
    op.drop_index(
        "ix_tasks_deadline",
        "tasks",
        postgresql_where=sa.text("status NOT IN ('succeeded', 'failed', 'canceled', 'timed_out')"),
        sqlite_where=sa.text("status NOT IN ('succeeded', 'failed', 'canceled', 'timed_out')"),
    )

    op.drop_table("tasks")
    op.drop_table("subscriptions")
    op.drop_index("ix_receipts_task_id", "receipts")
    op.drop_index("ix_receipts_received_at", "receipts")

    op.drop_table("receipts")
    op.drop_index("ix_events_type_cursor", "events")
    op.drop_index("ix_events_task_id", "events")

    op.drop_table("events")
    op.drop_table("counters")
    op.drop_index("ix_attempts_delivery_id", "attempts")

    op.drop_table("attempts")
    op.drop_table("api_keys")
