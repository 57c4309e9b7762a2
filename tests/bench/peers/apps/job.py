# mypy: ignore-errors
# ruff: noqa: TID251
"""What every Python peer does the same: its settings, the push's body, the signature.

It runs without Taskbell's packages, so the time is its own.
"""

import base64
import hmac
import json
import os
import time
from pathlib import Path

from pydantic import BaseModel

_SETTINGS = json.loads(Path("peer.json").read_text())
BROKER, SINKS = _SETTINGS["broker"], _SETTINGS["sinks"]
_KEY = base64.b64decode(_SETTINGS["secret"].removeprefix("whsec_"))
TIMEOUT_SECONDS = 15


class Push(BaseModel, extra="allow"):
    task_id: str
    status: str
    file_id: str | None = None


def signed_headers(message_id: str, body: str) -> dict[str, str]:
    """Standard Webhooks: HMAC-SHA256 over id, time and body."""
    now = int(time.time())
    digest = hmac.digest(_KEY, f"{message_id}.{now}.{body}".encode(), "sha256")
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(now),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


def say_ready() -> None:
    """This process takes jobs from now on."""
    Path(f"ready-{os.getpid()}").touch()
