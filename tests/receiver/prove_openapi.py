"""The API and its document hold each other to account; schemathesis is the judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from schemathesis.python import asgi
from starlette.applications import Starlette

from deploy.app import make_app
from deploy.service import make_service
from deploy.settings import load
from store.clock import ManualClock
from store.database import open_database
from tests.app import ADMIN_KEY, HOOK, SECRET_KEYS
from tests.databases import copy_sqlite

EXAMPLES = 2
"""Per operation, in each of the phases that try random data."""

JUDGE = {
    "seed": 1,
    "generation": {"max-examples": EXAMPLES, "deterministic": True},
    "checks": {
        # providers, types, URLs and headers have rules that JSON Schema cannot say
        "positive_data_acceptance": {"expected-statuses": ["2xx", "404", "409", "410", "422"]}
    },
}
WITH_KEY = {"auth": {"openapi": {"apiKey": {"bearer": ADMIN_KEY}}}}


@pytest.fixture
def app(sqlite_template: Path, tmp_path: Path, clock: ManualClock) -> Iterator[Starlette]:
    """An app whose lifespan the judge starts, in a thread of its own."""
    url = copy_sqlite(sqlite_template, tmp_path / "taskbell.db")
    settings = load(
        {
            "TASKBELL_DATABASE_URL": url,
            "TASKBELL_SECRET_KEYS": ",".join(SECRET_KEYS),
            "TASKBELL_API_KEY": ADMIN_KEY,
            "TASKBELL_ROLES": "receive",
        }
    )
    yield make_app(make_service(settings, open_database(url), clock=clock))
    asgi.shutdown_lifespans()


_SLOWED = "Expected 401 or 403, got `429 Too Many Requests`"


def judge(app: Starlette, config: dict[str, Any]) -> tuple[list[str], Counter[int]]:
    """Return the complaints of schemathesis, and a count of answers by status."""
    loaded = schemathesis.openapi.from_asgi(
        "/openapi.json", app, config=SchemathesisConfig.from_dict(config)
    )
    # its example has a name that would be looked up, again and again
    loaded.raw_schema["components"]["schemas"]["SubscriptionInput"]["examples"] = [{"url": HOOK}]
    # these wait, as they should; they have tests of their own
    schema = loaded.exclude(path_regex=r"/(wait|stream)$")
    complaints: list[str] = []
    statuses: Counter[int] = Counter()
    for event in from_schema(schema).execute():
        if isinstance(event, FatalError | NonFatalError):
            complaints.append(str(event))
        elif isinstance(event, ScenarioFinished):
            recorder = event.recorder
            for case_id, interaction in recorder.interactions.items():
                if interaction.response is not None:
                    statuses[interaction.response.status_code] += 1
                for check in recorder.checks.get(case_id, ()):
                    if check.failure_info is not None:
                        request, failure = interaction.request, check.failure_info.failure
                        if _SLOWED in failure.message:
                            continue  # with so many endpoints it guesses over 30 keys a minute
                        complaints.append(
                            f"{request.method} {request.uri} {request.body!r}: {failure.message}"
                        )
    return complaints, statuses


def test_the_api_does_what_its_document_says(app: Starlette) -> None:
    complaints, statuses = judge(app, JUDGE | WITH_KEY)

    assert complaints == []
    assert {200, 201, 204, 401, 404, 405, 422} <= set(statuses)
    assert not [status for status in statuses if status >= 500]


def test_without_a_key_nothing_but_health_answers(app: Starlette) -> None:
    only_auth = {"checks": {"enabled": False, "ignored_auth": {"enabled": True}}}
    no_chance = {"phases": {"fuzzing": {"enabled": False}, "stateful": {"enabled": False}}}

    complaints, statuses = judge(app, JUDGE | only_auth | no_chance)

    assert complaints == []
    assert statuses[401] + statuses[429] > 100  # it guesses keys too
    assert set(statuses) <= {200, 401, 404, 405, 422, 429}
