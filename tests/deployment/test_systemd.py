"""deploy/systemd: units that start what settings take. tests/deployment/run has systemd judge them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from deploy.service import DRAIN_SECONDS
from deploy.serving import GRACE_SECONDS
from deploy.settings import ROLES, load
from tests.deployment.compose import FILLED
from tests.deployment.dockerfile import ROOT

FOLDER = ROOT / "deploy/systemd"
UNITS = ("taskbell.service", "taskbell@.service")


def directives(unit: str) -> Mapping[str, list[str]]:
    """What [Service] says, every value of a name in its order."""
    text = (FOLDER / unit).read_text().partition("[Service]\n")[2].partition("[Install]")[0]
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def environment(unit: str, role: str = "") -> dict[str, str]:
    words = " ".join(directives(unit)["Environment"]).replace("%i", role).split()
    return dict(word.split("=", 1) for word in words)


def test_one_server_keeps_its_file_where_it_may_write() -> None:
    unit = directives("taskbell.service")
    settings = load({**environment("taskbell.service"), **FILLED})

    assert str(settings.sqlite_path) == f"/var/lib/{unit['StateDirectory'][0]}/taskbell.db"
    assert unit["WorkingDirectory"] == [f"/var/lib/{unit['StateDirectory'][0]}"]


@pytest.mark.parametrize("role", ROLES)
def test_an_instance_is_a_role(role: str) -> None:
    settings = load({**environment("taskbell@.service", role), **FILLED})

    assert settings.roles == {role}


@pytest.mark.parametrize("unit", UNITS)
def test_a_process_is_given_the_time_it_takes_to_stop(unit: str) -> None:
    [seconds] = directives(unit)["TimeoutStopSec"]

    assert int(seconds) > GRACE_SECONDS + DRAIN_SECONDS + 1


def test_both_units_are_locked_up_alike() -> None:
    one, role = (directives(unit) for unit in UNITS)
    own = {"Environment", "EnvironmentFile", "StateDirectory", "StateDirectoryMode"}

    assert {k: v for k, v in one.items() if k not in own | {"WorkingDirectory"}} == {
        k: v for k, v in role.items() if k not in own
    }
    for name in ("NoNewPrivileges", "DynamicUser", "PrivateTmp", "MemoryDenyWriteExecute"):
        assert one[name] == ["yes"]
    assert one["CapabilityBoundingSet"] == [""]
