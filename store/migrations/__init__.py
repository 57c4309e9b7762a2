"""Schema migrations (Alembic). Each keeps the code before it working: add first, remove later."""
