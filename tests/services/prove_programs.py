"""Each service answers with a version: what the other proofs here need is there."""

from __future__ import annotations

import subprocess

import pytest

from tests.services.program import program


@pytest.mark.parametrize("words", [("nginx", "-v"), ("caddy", "version"), ("pgbouncer", "-V")])
def test_the_service_tells_its_version(words: tuple[str, str]) -> None:
    name, option = words

    done = subprocess.run([program(name), option], check=True, capture_output=True, text=True)

    assert any(letter.isdigit() for letter in done.stdout + done.stderr)
