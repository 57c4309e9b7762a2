"""The OpenAPI document as people read it: operations in groups, fields in words, a curl line each.

Two pages are made of it: /docs (receiver/manual_page.py), and deploy/docs/reference/api.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PROBLEM = "ProblemView"

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter, or a field of a body. shape: the name of the body it holds, if it has one."""

    name: str
    kind: str
    meaning: str
    shape: str | None = None
    required: bool = False
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """A body. words: all there are, when it is a word. example: JSON."""

    name: str
    meaning: str
    fields: tuple[Field, ...]
    words: tuple[str, ...]
    example: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer. shape and media_type are None for one without a body."""

    status: int
    shape: str | None
    media_type: str | None


@dataclass(frozen=True, slots=True)
class Operation:
    """A method on a path. problems: the statuses that are answered with a problem."""

    id: str
    method: str
    path: str
    summary: str
    key: str
    parameters: tuple[Field, ...]
    body: Shape | None
    curl: str
    answers: tuple[Answer, ...]
    problems: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    operations: tuple[Operation, ...]

    @property
    def anchor(self) -> str:
        return self.name.lower().replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Manual:
    version: str
    groups: tuple[Group, ...]
    shapes: tuple[Shape, ...]


def manual_of(document: Schema) -> Manual:
    """What an OpenAPI document says, in its own order. It must be one of receiver/openapi.py."""
    shapes = {
        name: _shape(name, schema) for name, schema in document["components"]["schemas"].items()
    }
    groups: dict[str, list[Operation]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            made = _operation(method.upper(), path, operation, shapes)
            groups.setdefault(operation["tags"][0], []).append(made)
    return Manual(
        version=document["info"]["version"],
        groups=tuple(Group(name, tuple(found)) for name, found in groups.items()),
        shapes=tuple(shapes.values()),
    )


def _operation(method: str, path: str, operation: Schema, shapes: Mapping[str, Shape]) -> Operation:
    wanted = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    body = shapes[_named(wanted["schema"]) or ""] if wanted else None
    answers = tuple(_answers(operation["responses"]))
    return Operation(
        id=operation["operationId"],
        method=method,
        path=path,
        summary=operation["summary"],
        key=operation.get("description", "Needs no key."),
        parameters=tuple(_parameter(each) for each in operation["parameters"]),
        body=body,
        curl=_curl(method, path, operation, body, answers),
        answers=tuple(each for each in answers if each.shape != PROBLEM),
        problems=tuple(each.status for each in answers if each.shape == PROBLEM),
    )


def _answers(responses: Schema) -> Iterator[Answer]:
    for status, response in responses.items():
        content = response.get("content")
        if not content:
            yield Answer(int(status), None, None)
            continue
        [(media_type, told)] = content.items()
        yield Answer(int(status), _named(told["schema"]), media_type)


def _curl(
    method: str, path: str, operation: Schema, body: Shape | None, answers: tuple[Answer, ...]
) -> str:
    """A command that does it. $ID stands for the id in its path."""
    words = ["curl"]
    if any(answer.media_type == "text/event-stream" for answer in answers):
        words.append("-N")
    if method != "GET":
        words.append(f"-X {method}")
    words.append(f'"$TASKBELL_URL{path.replace("{id}", "$ID").replace("{name}", "minimax")}"')
    lines = [" ".join(words)]
    if operation["security"]:
        lines.append('-H "Authorization: Bearer $TASKBELL_API_KEY"')
    if body is not None and body.example is not None:
        lines.append('-H "Content-Type: application/json"')
        lines.append(f"-d '{json.dumps(json.loads(body.example), ensure_ascii=False)}'")
    return " \\\n  ".join(lines)


def _parameter(told: Schema) -> Field:
    return _field(
        told["name"], {**told["schema"], "description": told["description"]}, told["required"]
    )


def _shape(name: str, schema: Schema) -> Shape:
    required = schema.get("required", ())
    examples = schema.get("examples", ())
    return Shape(
        name=name,
        meaning=schema.get("description", ""),
        fields=tuple(
            _field(each, part, each in required)
            for each, part in schema.get("properties", {}).items()
        ),
        words=tuple(schema.get("enum", ())),
        example=json.dumps(examples[0], indent=2, ensure_ascii=False) if examples else None,
    )


def _field(name: str, schema: Schema, required: bool) -> Field:
    default = schema.get("default")
    return Field(
        name=name,
        kind=kind_of(schema),
        meaning=schema.get("description", ""),
        shape=next(_references(schema), None),
        required=required,
        default=None if default is None else json.dumps(default),
    )


def kind_of(schema: Schema) -> str:
    """What values a schema allows, in a few words.

    >>> kind_of({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 9}, {"type": "null"}]})
    'integer, 1 to 9, or null'
    >>> kind_of({"type": "array", "items": {"type": "string"}, "maxItems": 20})
    'list of string, at most 20'
    """
    if named := _named(schema):
        return named
    if "anyOf" in schema:
        *others, last = (kind_of(each) for each in schema["anyOf"])
        comma = "," if "," in others[-1] else ""
        return f"{', '.join(others)}{comma} or {last}"
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        return _with(f"list of {kind_of(schema['items'])}", _most(schema.get("maxItems"), ""))
    kind = "time" if schema.get("format") == "date-time" else str(schema.get("type", "any"))
    return _with(kind, _range(schema), _most(schema.get("maxLength"), "characters"))


def _range(schema: Schema) -> str:
    low = schema.get("minimum")
    above, most = schema.get("exclusiveMinimum"), schema.get("maximum")
    if low is not None and most is not None:
        return f"{low} to {most}"
    if above is not None:
        return f"above {above}" + (f", at most {most}" if most is not None else "")
    return ""


def _most(count: int | None, what: str) -> str:
    return f"at most {count} {what}".rstrip() if count is not None else ""


def _with(kind: str, *rules: str) -> str:
    return ", ".join([kind, *filter(None, rules)])


def _named(schema: Schema) -> str | None:
    reference: str | None = schema.get("$ref")
    return None if reference is None else reference.rpartition("/")[2]


def _references(schema: Any) -> Iterator[str]:
    """The names of bodies that stand in a schema."""
    found: list[str] = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(schema))
    yield from found
