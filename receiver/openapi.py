"""The OpenAPI document, made from the table of endpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from receiver.endpoint import Endpoint
from receiver.glossary import EXAMPLES, meaning
from receiver.models import ProblemView
from receiver.problems import MEDIA_TYPE

_REF = "#/components/schemas/{model}"


def openapi(
    endpoints: Sequence[Endpoint], version: str, server: str | None = None
) -> dict[str, Any]:
    """OpenAPI 3.1 for these endpoints. server: the address that their paths are added to."""
    refs, schemas = _schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Taskbell",
            "version": version,
            "description": "Tasks of AI generation providers, and the events about them.",
        },
        **({"servers": [{"url": server}]} if server else {}),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer"}},
        },
    }


Refs = Mapping[tuple[Any, JsonSchemaMode], dict[str, Any]]


def _schemas(endpoints: Sequence[Endpoint]) -> tuple[Refs, dict[str, Any]]:
    wanted: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {
        (ProblemView, "serialization"): None
    }
    for endpoint in endpoints:
        if endpoint.body:
            wanted[endpoint.body, "validation"] = None
        for model in endpoint.answers.values():
            if model and not isinstance(model, str):
                wanted[model, "serialization"] = None
    refs, definitions = models_json_schema(list(wanted), ref_template=_REF)
    schemas: dict[str, Any] = definitions["$defs"]
    for name, schema in schemas.items():
        _explain(name, schema)
    return refs, schemas


def _explain(model: str, schema: dict[str, Any]) -> None:
    """Add what the fields mean, and an example, where somebody wrote them down."""
    for field, part in schema.get("properties", {}).items():
        if said := meaning(model, field):
            part["description"] = said
    if model in EXAMPLES:
        schema["examples"] = [EXAMPLES[model]]


def _operation(endpoint: Endpoint, refs: Refs) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "tags": [_tag(endpoint.path)],
        "operationId": _operation_id(endpoint),
        "parameters": [*_path_parameters(endpoint), *_query_parameters(endpoint)],
        "responses": _responses(endpoint, refs),
        "security": [] if endpoint.scope is None else [{"apiKey": []}],
    }
    if endpoint.scope:
        operation["description"] = f"Needs a key of scope `{endpoint.scope}`."
    if endpoint.body:
        schema = refs[endpoint.body, "validation"]
        operation["requestBody"] = {
            "required": any(field.is_required() for field in endpoint.body.model_fields.values()),
            "content": {"application/json": {"schema": schema}},
        }
    return operation


def _tag(path: str) -> str:
    """What an operation is about.

    >>> _tag("/v1/api-keys/{id}"), _tag("/healthz")
    ('API keys', 'Health')
    """
    found = re.match(r"/v1/([a-z-]+)", path)
    thing = found[1] if found else "health"
    return thing.capitalize().replace("-", " ").replace("Api", "API").replace("urls", "URLs")


def _operation_id(endpoint: Endpoint) -> str:
    words = re.sub(r"[^a-z0-9]+", "_", endpoint.path.lower()).strip("_")
    return f"{endpoint.method.lower()}_{words}"


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": meaning("", name) or "",
            "schema": {"type": "string"},
        }
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]


def _query_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    if endpoint.query is None:
        return []
    schema = endpoint.query.model_json_schema(ref_template=_REF)
    definitions = schema.get("$defs", {})
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": meaning(endpoint.query.__name__, name) or "",
            "schema": _inlined(part, definitions),
        }
        for name, part in schema["properties"].items()
    ]


def _inlined(part: Any, definitions: dict[str, Any]) -> Any:
    """A parameter's schema without references, and without null: a query has no such value."""
    if isinstance(part, list):
        return [_inlined(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _inlined(definitions[part["$ref"].rpartition("/")[2]], definitions)
    choices = [choice for choice in part.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        return _inlined(choices[0], definitions)
    return {
        key: _inlined(value, definitions)
        for key, value in part.items()
        if not (key == "default" and value is None)
    }


def _responses(endpoint: Endpoint, refs: Refs) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, model in endpoint.answers.items():
        answers[str(status)] = {"description": endpoint.summary}
        if isinstance(model, str):
            answers[str(status)]["content"] = {model: {"schema": {"type": "string"}}}
        elif model:
            schema = refs[model, "serialization"]
            answers[str(status)]["content"] = {"application/json": {"schema": schema}}
    problem = refs[ProblemView, "serialization"]
    for status in _problems(endpoint):
        answers[str(status)] = {
            "description": "A problem (RFC 9457)",
            "content": {MEDIA_TYPE: {"schema": problem}},
        }
    return answers


def _problems(endpoint: Endpoint) -> list[int]:
    statuses = {*endpoint.problems, 503}
    statuses.add(422)
    if endpoint.scope:
        statuses |= {401, 403, 429}
    if endpoint.body:
        statuses |= {400, 408, 413, 415}
    return sorted(statuses)
