"""The compose files as Docker would read them: variables filled in, every container's environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

from tests.deployment.dockerfile import ROOT, environment

SINGLE = ROOT / "deploy/compose.yaml"
MANY = ROOT / "deploy/compose.postgresql.yaml"
FILES = (SINGLE, MANY)

FILLED = {"POSTGRES_PASSWORD": "f00d", "TASKBELL_SECRET_KEYS": "k" * 32}
"""What an operator puts into taskbell.env beside what example.env has."""


def read(path: Path) -> dict[str, Any]:
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: FILLED[found[1]], path.read_text())
    assert "${" not in text
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def ours(path: Path) -> dict[str, Mapping[str, Any]]:
    """The services that run Taskbell."""
    return {name: service for name, service in read(path)["services"].items() if "build" in service}


def environment_of(service: Mapping[str, Any]) -> dict[str, str]:
    assert service["env_file"] == "taskbell.env"
    example = dotenv_values(ROOT / "deploy/example.env")
    written = {key: str(value) for key, value in example.items()}
    return {**environment(), **written, **FILLED, **service.get("environment", {})}
