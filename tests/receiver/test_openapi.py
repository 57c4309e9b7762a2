"""The document of the API names what there is. (tests/receiver/prove_openapi.py holds the two against each other.)"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from starlette.routing import Route

from receiver.models import PATTERN_RULES
from store.clock import ManualClock
from tests.app import Taskbell, good, running

API = ("/v1/", "/healthz", "/readyz", "/metrics")
"""Prefixes of the API's paths. The other paths are callbacks and pages."""


@pytest.fixture
async def taskbell(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Taskbell]:
    async with running(sqlite_url, clock) as taskbell:
        yield taskbell


async def test_every_path_of_the_api_is_in_the_document(taskbell: Taskbell) -> None:
    document = good(await taskbell.door.get("/openapi.json"))

    served = {
        (route.path, method)
        for route in taskbell.app.routes
        if isinstance(route, Route) and route.path.startswith(API)
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {
        (path, method.upper())
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert described == served


async def test_operations_are_described_in_full(taskbell: Taskbell) -> None:
    document = good(await taskbell.door.get("/openapi.json"))

    operations = [
        (path, operation)
        for path, by_method in document["paths"].items()
        for operation in by_method.values()
    ]
    ids = Counter(operation["operationId"] for _, operation in operations)
    assert [name for name, times in ids.items() if times > 1] == []
    for path, operation in operations:
        assert operation["summary"], path
        named = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
        assert named == re.findall(r"{(\w+)}", path)
        assert "503" in operation["responses"], path
        open_to_all = path in {"/healthz", "/readyz"}
        assert operation["security"] == ([] if open_to_all else [{"apiKey": []}]), path


async def test_every_reference_in_the_document_leads_somewhere(taskbell: Taskbell) -> None:
    answer = await taskbell.door.get("/openapi.json")

    schemas = answer.json()["components"]["schemas"]
    for name in re.findall(r'"#/components/schemas/([^"]+)"', answer.text):
        assert name in schemas


async def test_every_pattern_that_inputs_are_held_to_has_words(taskbell: Taskbell) -> None:
    document = good(await taskbell.door.get("/openapi.json"))

    assert [each for each in patterns(document) if each not in PATTERN_RULES] == []


def patterns(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        for inner in schema.values():
            yield from patterns(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from patterns(inner)
