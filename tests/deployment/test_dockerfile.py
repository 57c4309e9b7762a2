"""deploy/Dockerfile says what it should; tests/deployment/run does as it says."""

from __future__ import annotations

import re
from pathlib import Path

from deploy.cli import build_app
from deploy.settings import load
from tests.deployment.dockerfile import DOCKERFILE, ROOT, environment, last, stages


def test_it_runs_as_nobody_that_the_host_knows_in_a_folder_of_its_own() -> None:
    user, _, group = last("USER").text.partition(":")

    assert user.isdigit()
    assert int(user) > 1000
    assert group == user
    assert last("VOLUME").text == last("WORKDIR").text == "/data"


def test_the_environment_it_sets_is_one_that_starts() -> None:
    settings = load(environment())

    assert settings.sqlite_path == Path("/data/taskbell.db")
    assert settings.host == "0.0.0.0"
    assert str(settings.port) == last("EXPOSE").text


def test_it_starts_and_stops_without_a_shell_in_between() -> None:
    commands = {each.callback.__name__ for each in build_app().registered_commands if each.callback}

    assert last("ENTRYPOINT").words == ["taskbell"]
    assert last("CMD").words[0] in commands
    assert last("STOPSIGNAL").text == "SIGTERM"
    assert ' CMD ["python", ' in last("HEALTHCHECK").text


def test_packages_come_from_the_lock_with_hashes_and_are_not_compiled() -> None:
    [packages, ours] = [
        each.text for each in stages()[0] if each.name == "RUN" and " install " in each.text
    ]

    assert packages.endswith("--only-binary :all: --require-hashes -r deploy/requirements.lock")
    assert "--no-deps" in ours


def test_what_it_copies_exists_and_its_ignore_file_lets_it_through() -> None:
    sources = {
        word
        for stage in stages()
        for each in stage
        if each.name == "COPY" and "--from" not in each.text
        for word in each.words[:-1]
    }
    ignored = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    let_through = {line[1:] for line in ignored if line.startswith("!")}

    assert all((ROOT / source).exists() for source in sources)
    assert {source.split("/")[0] for source in sources} == let_through
    assert "*" in ignored


def test_the_python_it_names_is_one_that_the_project_takes() -> None:
    [image] = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    [oldest] = re.findall(r'requires-python = ">=(.+)"', (ROOT / "pyproject.toml").read_text())

    assert image.startswith(f"python:{oldest}-slim-")
