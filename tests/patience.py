"""How long a test waits for what must come: reached only by what never comes."""

from __future__ import annotations

PATIENCE_SECONDS = 60.0
"""Machines that run other work too may stand still for seconds; a test that goes by less is flaky."""
