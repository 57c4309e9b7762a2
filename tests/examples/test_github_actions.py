"""The GitHub Actions workflow reads what the shape writes, and no foreign text gets into a script."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tests.examples.test_lines import EXAMPLES, LINES

TEXT = (EXAMPLES / "github-actions.yml").read_text(encoding="utf-8")
FLOW: Any = yaml.safe_load(TEXT)
[LINE] = [line for line in LINES if line.file == "github-actions.yml"]


def test_it_starts_on_the_types_that_are_subscribed() -> None:
    types = [LINE.words[place + 1] for place, word in enumerate(LINE.words) if word == "--type"]

    # YAML 1.1 reads `on` as a truth
    assert FLOW[True]["repository_dispatch"]["types"] == types


def test_it_reads_fields_that_the_shape_writes() -> None:
    shape = LINE.words[LINE.words.index("--shape") + 1]
    written = set(re.findall(r"(\w+): ", shape.partition("client_payload: {")[2]))

    read = set(re.findall(r"github\.event\.client_payload\.(\w+)", TEXT))

    assert read
    assert read <= written


def test_no_script_holds_an_expression() -> None:
    scripts = [step["run"] for step in FLOW["jobs"]["ended"]["steps"] if "run" in step]

    assert scripts
    assert not any("${{" in script for script in scripts)
