"""deploy/compose*.yaml: what they start is what Taskbell takes. tests/deployment/run has the schema."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.cli import build_app
from deploy.service import DRAIN_SECONDS
from deploy.serving import GRACE_SECONDS
from deploy.settings import ROLES, load
from tests.deployment.compose import FILES, MANY, SINGLE, environment_of, ours, read
from tests.deployment.dockerfile import ROOT, last

SERVICES = [
    pytest.param(path, name, id=f"{path.name}-{name}") for path in FILES for name in ours(path)
]


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


@pytest.mark.parametrize(("path", "name"), SERVICES)
def test_a_service_starts_with_its_environment(path: Path, name: str) -> None:
    service = ours(path)[name]
    commands = {each.callback.__name__ for each in build_app().registered_commands if each.callback}

    settings = load(environment_of(service))

    assert service.get("command", last("CMD").words)[0] in commands
    assert settings.secret_keys
    assert settings.public_url == "https://taskbell.example.com"
    assert (settings.sqlite_path is not None) == (path == SINGLE)
    for port in service.get("ports", []):
        assert port == f"127.0.0.1:8000:{settings.port}"


@pytest.mark.parametrize(("path", "name"), SERVICES)
def test_a_service_can_do_no_more_than_it_must(path: Path, name: str) -> None:
    service = ours(path)[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert seconds(service["stop_grace_period"]) > GRACE_SECONDS + DRAIN_SECONDS + 1


def test_one_server_keeps_its_file_and_its_keys_in_a_volume() -> None:
    [service] = ours(SINGLE).values()

    assert service["volumes"] == [f"data:{last('VOLUME').text}"]
    assert "data" in read(SINGLE)["volumes"]


def test_each_role_has_a_service_and_each_waits_for_the_schema() -> None:
    services = ours(MANY)
    serving = {name: service for name, service in services.items() if name != "migrate"}
    roles = [load(environment_of(service)).roles for service in serving.values()]

    assert sorted(roles, key=sorted) == sorted(({role} for role in ROLES), key=sorted)
    for service in serving.values():
        assert service["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert services["migrate"]["restart"] == "no"
    assert services["migrate"]["depends_on"]["postgresql"]["condition"] == "service_healthy"
    assert "healthcheck" in read(MANY)["services"]["postgresql"]


def test_only_ours_reach_the_database_and_it_reaches_nothing() -> None:
    compose = read(MANY)
    database = compose["services"]["postgresql"]

    assert database["networks"] == ["database"]
    assert compose["networks"]["database"]["internal"] is True
    assert "ports" not in database
    used = {name for service in compose["services"].values() for name in service["networks"]}
    assert used == set(compose["networks"])


def test_the_example_names_every_secret_and_fills_in_none() -> None:
    text = (ROOT / "deploy/example.env").read_text()

    assert re.findall(r"^#(\w+)=(.*)$", text, re.MULTILINE) == [
        ("TASKBELL_SECRET_KEYS", ""),
        ("TASKBELL_API_KEY", ""),
        ("POSTGRES_PASSWORD", ""),
        ("MINIMAX_API_KEY", ""),
        ("ATLASCLOUD_API_KEY", ""),
        ("OPENCOMPUTING_API_KEY", ""),
    ]
