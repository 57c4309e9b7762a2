"""The dashboard and the alerts name what /metrics really has. tests/deployment/run tries the alerts."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from deploy.service import make_service
from deploy.settings import load
from store.clock import ManualClock
from store.database import open_database
from store.deliveries import Attempt, Finished, finish
from store.events import EVENT_TYPES, Verdict
from tests.app import SECRET_KEYS
from tests.deployment.dockerfile import ROOT
from tests.making import catch, poll, push, registered, subscribe, tell

FOLDER = ROOT / "deploy/monitoring"
ALERTS = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((FOLDER / "grafana.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

SCRAPED = {"instance", "job", "__name__"}
"""Labels that Prometheus adds."""
SPOKEN = {
    *("and", "by", "count", "histogram_quantile", "increase", "label_values", "max", "min"),
    *("rate", "sum", "instance", "e9"),
}
"""Words of PromQL and Grafana, and labels that stand alone."""


@pytest.fixture
async def known(sqlite_url: str, clock: ManualClock) -> dict[str, set[str]]:
    """What a process tells that has seen everything once: each sample's labels."""
    values = {"TASKBELL_DATABASE_URL": sqlite_url, "TASKBELL_SECRET_KEYS": ",".join(SECRET_KEYS)}
    service = make_service(load(values), open_database(sqlite_url), clock=clock)
    store, metrics = service.store, service.metrics
    subscribe(store)
    tell(store, registered("1", expect_push=True))
    tell(store, poll("1"))
    [delivery] = catch(store).deliveries
    attempt = Attempt(clock(), timedelta(seconds=1), "delivered", 200)
    store.write_now(finish, Finished(delivery, attempt, delivered=True))
    tell(store, push("2"))
    metrics.challenged("minimax", 0.1)
    metrics.refused("minimax", 404)
    metrics.waited("minimax", 0.1)
    metrics.asked("minimax", "rate_limited")
    await store.detach()  # what was written before it is counted
    text = (await metrics.page())[0].decode()
    await service.close()
    found: dict[str, set[str]] = {"up": set()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions() -> list[str]:
    panels = [target["expr"] for panel in PANELS for target in panel["targets"]]
    variables = [
        each["definition"] for each in DASHBOARD["templating"]["list"] if each["type"] == "query"
    ]
    return [*panels, *variables, *(alert["expr"] for alert in ALERTS)]


def names(expression: str) -> set[str]:
    """The metrics that an expression reads: its words, without labels, durations and grouping."""
    bare = re.sub(r'\{[^}]*\}|\[[^\]]*\]|"[^"]*"|\bby \([^)]*\)', " ", expression)
    return set(re.findall(r"[a-z_]\w*", bare)) - SPOKEN


def labels(expression: str) -> set[str]:
    """The labels that an expression chooses or groups by."""
    chosen = re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', expression)
    grouped = ",".join(re.findall(r"\bby \(([^)]*)\)", expression))
    return {*chosen, *(each.strip() for each in grouped.split(",") if each.strip())}


async def test_every_metric_and_label_that_is_asked_for_exists(known: dict[str, set[str]]) -> None:
    for expression in expressions():
        read = names(expression)
        assert read <= known.keys(), expression
        told = set.union(*(known[name] for name in read))
        assert labels(expression) <= told | SCRAPED, expression


async def test_every_metric_of_ours_is_looked_at(known: dict[str, set[str]]) -> None:
    read = {_family(name) for expression in expressions() for name in names(expression)}

    assert {_family(name) for name in known if name.startswith("taskbell_")} <= read


def _family(name: str) -> str:
    return re.sub(r"_(bucket|count|sum)$", "", name)


def test_the_words_that_are_asked_for_are_ones_that_are_told() -> None:
    asked = set(re.findall(r'(type|verdict)="([^"]+)"', " ".join(expressions())))
    told = {("type", each) for each in EVENT_TYPES} | {("verdict", each) for each in Verdict}

    assert asked
    assert asked <= told


def test_an_alert_says_what_is_wrong_and_what_to_do() -> None:
    for alert in ALERTS:
        assert alert["labels"]["severity"] in ("critical", "warning"), alert["alert"]
        assert alert["annotations"].keys() == {"summary", "description"}, alert["alert"]


def test_every_alert_is_tried() -> None:
    tried = (ROOT / "tests/deployment/alerts_test.yml").read_text()

    assert {alert["alert"] for alert in ALERTS} == set(re.findall(r'alertname="(\w+)"', tried))


def test_panels_lie_beside_each_other_and_have_numbers_of_their_own() -> None:
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len(numbers) == len(set(numbers))


def test_no_address_of_a_server_is_in_the_dashboard() -> None:
    assert "://" not in json.dumps(DASHBOARD)
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
