"""The n8n workflow: its nodes are ones that n8n has, and its Verify node runs in a real Node."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dispatch.signing import new_secret, signed_headers
from tests.dispatch.chat_events import about, failure
from tests.examples.node import NODE, ROOT

FLOW = json.loads((ROOT / "deploy/examples/n8n.json").read_text(encoding="utf-8"))
NODES: Mapping[str, Any] = {node["name"]: node for node in FLOW["nodes"]}

# dist/types/nodes.json of n8n-nodes-base 2.41.2, read 2026-11-21: versions and parameters
KNOWN: Mapping[str, tuple[set[float], set[str]]] = {
    "webhook": ({1, 1.1, 2, 2.1}, {"httpMethod", "path", "responseMode", "options"}),
    "code": ({1, 2}, {"mode", "language", "jsCode"}),
    "removeDuplicates": ({2}, {"operation", "logic", "dedupeValue", "options"}),
    "switch": ({3, 3.1, 3.2, 3.3, 3.4}, {"mode", "rules", "options"}),
    "noOp": ({1}, set()),
    "stickyNote": ({1}, {"content", "height", "width"}),
}

# what n8n gives a Code node: the first item, the module it was allowed, the raw body
RUN = """
const { code, headers, body } = JSON.parse(require('fs').readFileSync(0));
const given = { first: () => ({ json: { headers } }) };
const self = { helpers: { getBinaryDataBuffer: async () => Buffer.from(body, 'base64') } };
const AsyncFunction = (async () => {}).constructor;
new AsyncFunction('$input', 'require', code).call(self, given, require)
  .then((items) => console.log(JSON.stringify(items)), (error) => console.log(error.message));
"""


def verify(headers: Mapping[str, str], body: bytes, secret: str) -> Any:
    """The items that the node hands on, or what it threw."""
    code = NODES["Verify"]["parameters"]["jsCode"].replace("whsec_…", secret)
    given = {"code": code, "headers": headers, "body": base64.b64encode(body).decode()}
    done = subprocess.run(
        [NODE, "-e", RUN], input=json.dumps(given), capture_output=True, text=True, check=True
    )
    try:
        return json.loads(done.stdout)
    except ValueError:
        return done.stdout.strip()


SECRET = new_secret()
BODY = about().body


def signed(body: bytes = BODY, late: timedelta = timedelta(0), *secrets: str) -> dict[str, str]:
    seconds = int((datetime.now(UTC) - late).timestamp())  # noqa: TID251 - Node reads it, too
    return signed_headers(secrets or (SECRET,), "evt_1", seconds, body)


def test_every_node_is_one_that_n8n_has() -> None:
    for node in NODES.values():
        versions, parameters = KNOWN[node["type"].removeprefix("n8n-nodes-base.")]
        assert node["typeVersion"] in versions
        assert node["parameters"].keys() <= parameters


def test_every_connection_joins_two_nodes_and_none_is_left_out() -> None:
    joined = [
        (start, end["node"])
        for start, ways in FLOW["connections"].items()
        for way in ways["main"]
        for end in way
    ]

    reached = {end for _, end in joined}
    assert {name for pair in joined for name in pair} == NODES.keys() - {"How to use it"}
    assert NODES.keys() - reached == {"Taskbell", "How to use it"}
    kinds = NODES["How it ended"]["parameters"]["rules"]["values"]
    assert len(FLOW["connections"]["How it ended"]["main"]) == len(kinds)


def test_the_webhook_keeps_the_raw_body_and_answers_at_once() -> None:
    parameters = NODES["Taskbell"]["parameters"]

    assert parameters["options"] == {"rawBody": True}
    assert (parameters["httpMethod"], parameters["responseMode"]) == ("POST", "onReceived")


@pytest.mark.parametrize("event", [about(), failure("1026", "元"), about(outputs=[])])
def test_a_signed_event_goes_on(event: Any) -> None:
    [item] = verify(signed(event.body, timedelta(0), new_secret(), SECRET), event.body, SECRET)

    whole = json.loads(event.body)
    task, outputs = whole["data"]["task"], whole["data"]["task"]["outputs"]
    assert item["json"] == {
        "id": whole["id"],
        "type": whole["type"],
        "task": task,
        "url": outputs[0]["url"] if outputs else None,
        "error": task["error"],
    }


@pytest.mark.parametrize(
    ("late", "other", "body"),
    [
        (0, {}, BODY + b" "),
        (0, {"webhook-id": "evt_2"}, BODY),
        (0, {"webhook-signature": "v1,AAAA v1"}, BODY),
        (6, {}, BODY),
    ],
    ids=["another body", "another id", "another signature", "late"],
)
def test_anything_else_stops_there(late: int, other: dict[str, str], body: bytes) -> None:
    said = verify(signed(BODY, timedelta(minutes=late)) | other, body, SECRET)

    assert said == ("webhook-timestamp is not a time near now" if late else "no signature matches")


def test_a_request_without_headers_stops_there() -> None:
    assert verify({}, BODY, SECRET) == "webhook-timestamp is not a time near now"
