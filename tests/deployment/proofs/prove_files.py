"""What the judges of each format say of the files in deploy/."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deployment.compose import FILES, read
from tests.deployment.dockerfile import DOCKERFILE, ROOT
from tests.deployment.test_systemd import FOLDER as UNITS_FOLDER
from tests.deployment.test_systemd import UNITS

EXPOSURE = 20
"""systemd's measure of what a unit may do, 0 to 100; above 40 it calls it exposed."""


def said(*words: str | Path) -> str:
    """What a program says. Fails with it when the program does."""
    assert shutil.which(words[0]), f"there is no {words[0]}: start this with tests/deployment/run"
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    assert said("hadolint", "--failure-threshold", "style", DOCKERFILE) == ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_compose_files_fit_the_specification(path: Path) -> None:
    import compose_spec  # which only tests/deployment/run has

    compose = compose_spec.PyCompose.from_yaml(yaml.safe_dump(read(path)))

    compose.validate()


def test_the_alerts_speak_when_they_should_and_on_a_quiet_day_none_does() -> None:
    rules = "deploy/monitoring/alerts.yml"

    assert "SUCCESS" in said("promtool", "check", "rules", rules)
    assert "SUCCESS" in said("promtool", "test", "rules", "tests/deployment/alerts_test.yml")


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "taskbell-key").touch()
    text = (ROOT / "deploy/monitoring/prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus", str(tmp_path)))
    shutil.copy(ROOT / "deploy/monitoring/alerts.yml", tmp_path)

    said("promtool", "check", "config", tmp_path / "prometheus.yml")


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit whose program is on this machine."""
    name: str = request.param
    text = (UNITS_FOLDER / name).read_text()
    path = tmp_path / name.replace("@", "@receive")
    path.write_text(text.replace("/opt/taskbell/bin/taskbell", "/bin/true"))
    return path


def test_systemd_understands_every_line_and_finds_little_exposed(unit: Path) -> None:
    assert said("systemd-analyze", "verify", "--man=no", unit) == ""
    said("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", unit)


def manifests() -> list[dict[str, Any]]:
    """What Kubernetes itself has kinds for."""
    texts = [path.read_text() for path in sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))]
    found = [each for text in texts for each in yaml.safe_load_all(text)]
    return [
        each for each in found if not each["apiVersion"].startswith(("kustomize", "monitoring"))
    ]


@pytest.mark.parametrize(
    "manifest", manifests(), ids=lambda each: f"{each['kind']}-{each['metadata']['name']}"
)
def test_manifests_fit_the_schema_of_kubernetes(manifest: dict[str, Any]) -> None:
    import kubernetes_validate

    kubernetes_validate.validate(manifest, "1.37", strict=True)
