"""deploy/kubernetes: what the manifests name exists here. tests/deployment/run has the schemas."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from starlette.routing import Route

from deploy.cli import build_app
from deploy.service import DRAIN_SECONDS
from deploy.serving import GRACE_SECONDS
from deploy.settings import ROLES, load
from store.clock import ManualClock
from tests.app import running
from tests.deployment.dockerfile import ROOT, environment, last

FOLDER = ROOT / "deploy/kubernetes"
Manifest = dict[str, Any]


def read(name: str) -> list[Manifest]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def pod(role: str) -> Manifest:
    found: Manifest = read(f"{role}.yaml")[0]["spec"]["template"]
    return found


def container(role: str) -> Manifest:
    found: Manifest = pod(role)["spec"]["containers"][0]
    return found


@pytest.mark.parametrize("role", ROLES)
def test_a_pod_is_told_what_settings_take_and_nothing_by_kubernetes_itself(role: str) -> None:
    [config], [secret] = read("config.yaml"), read("secret.example.yaml")
    own = {each["name"]: each["value"] for each in container(role)["env"]}

    settings = load({**environment(), **config["data"], **secret["stringData"], **own})

    assert settings.roles == {role}
    assert settings.sqlite_path is None
    assert settings.secret_keys
    assert settings.port == container(role)["ports"][0]["containerPort"]
    # a Service named taskbell would give each pod a TASKBELL_PORT of tcp://…
    assert pod(role)["spec"]["enableServiceLinks"] is False


def test_the_roles_differ_in_nothing_but_their_name() -> None:
    texts = {
        re.sub(rf"\b{role}\b", "ROLE", (FOLDER / f"{role}.yaml").read_text().partition("\n")[2])
        for role in ROLES
    }

    assert len(texts) == 1


async def test_probes_ask_for_pages_that_there_are(sqlite_url: str, clock: ManualClock) -> None:
    probes = [container("receive")[f"{each}Probe"] for each in ("startup", "liveness", "readiness")]
    async with running(sqlite_url, clock) as taskbell:
        pages = {route.path for route in taskbell.app.routes if isinstance(route, Route)}

    assert [each["httpGet"]["path"] for each in probes] == ["/healthz", "/healthz", "/readyz"]
    assert {"/healthz", "/readyz", "/metrics"} <= pages
    assert read("pod-monitor.yaml")[0]["spec"]["podMetricsEndpoints"][0]["path"] == "/metrics"
    assert {each["httpGet"]["port"] for each in probes} == {
        container("receive")["ports"][0]["name"]
    }


def test_a_pod_is_given_the_time_it_takes_to_stop() -> None:
    spec = pod("dispatch")["spec"]
    [_, pause] = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]

    needed = int(pause) + GRACE_SECONDS + DRAIN_SECONDS + 1

    assert spec["terminationGracePeriodSeconds"] > needed


def test_pods_keep_to_the_restricted_profile() -> None:
    spec = pod("poll")["spec"]
    user, _, group = last("USER").text.partition(":")

    assert (spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsGroup"]) == (
        int(user),
        int(group),
    )
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    for each in (*spec["initContainers"], *spec["containers"]):
        assert each["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_what_is_started_are_commands() -> None:
    commands = {each.callback.__name__ for each in build_app().registered_commands if each.callback}
    spec = pod("receive")["spec"]

    for each in (*spec["initContainers"], *spec["containers"]):
        assert set(each["args"]) <= commands


def test_the_service_and_the_ingress_lead_to_what_receives() -> None:
    service, ingress = read("service.yaml")
    [rule] = ingress["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]

    assert service["spec"]["selector"].items() <= pod("receive")["metadata"]["labels"].items()
    assert service["spec"]["ports"][0]["targetPort"] == container("receive")["ports"][0]["name"]
    assert (backend["name"], backend["port"]["name"]) == ("taskbell", "http")
    assert f"https://{rule['host']}" == read("config.yaml")[0]["data"]["TASKBELL_PUBLIC_URL"]


def test_each_role_keeps_a_process_while_nodes_are_drained() -> None:
    for role in ROLES:
        deployment, budget = read(f"{role}.yaml")
        assert (
            budget["spec"]["selector"]["matchLabels"]
            == deployment["spec"]["selector"]["matchLabels"]
        )
        assert deployment["spec"]["replicas"] > budget["spec"]["minAvailable"]


def test_the_kustomization_names_every_file_that_may_be_committed() -> None:
    [kustomization] = read("kustomization.yaml")
    apart = {"kustomization.yaml", "secret.example.yaml", "pod-monitor.yaml"}

    assert set(kustomization["resources"]) | apart == {each.name for each in FOLDER.iterdir()}


def test_the_metadata_service_and_the_inside_are_out_of_reach() -> None:
    [policy] = read("network.yaml")
    blocks = [
        to["ipBlock"] for rule in policy["spec"]["egress"] for to in rule["to"] if "ipBlock" in to
    ]
    [internet] = [block for block in blocks if block["cidr"] == "0.0.0.0/0"]

    assert {"169.254.0.0/16", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"} <= set(
        internet["except"]
    )
