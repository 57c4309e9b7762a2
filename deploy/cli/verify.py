"""The command that says why a signature does not match."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli import output
from deploy.cli.errors import UsageError
from deploy.cli.frame import Surroundings, surroundings
from deploy.cli.options import Json, headers, with_zone
from deploy.settings import process_environment, webhook_secret
from dispatch.mismatch import Finding, examine

MOST_BYTES = 16 * 1024 * 1024


def register(app: typer.Typer) -> None:
    app.command(
        epilog="Example: taskbell verify body.json --headers headers.txt --secret-file secret.txt"
    )(verify)


def verify(
    context: typer.Context,
    body_file: Annotated[
        Path | None,
        typer.Argument(metavar="[BODY]", help="The raw body. Without it, or with -: stdin."),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="'NAME: VALUE'", help="A header of the request. May be repeated."),
    ] = None,
    headers_file: Annotated[
        Path | None,
        typer.Option("--headers", metavar="FILE", help="The headers, a line each or as JSON."),
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The whsec_… secret; several, a line each."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When it came, for one that was kept. Default: now."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which part of a signed request does not match: secret, id, time, body or form.

    The secret is read from --secret-file, else from TASKBELL_WEBHOOK_SECRET, else asked for. It is
    never shown. Exit code 0: the signature matches, 1: it does not.
    """
    around = surroundings(context)
    given = _read_headers(headers_file) | headers("--header", header)
    secrets = _secrets(secret_file, around, asked_on_stdin=body_file is not None)
    now = around.clock() if at is None else with_zone("--at", at)
    findings = examine(secrets, given, _read_body(body_file), now.astimezone(UTC))
    _show(findings, as_json=as_json)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    return _bounded(str(path), content)


def _read_body(path: Path | None) -> bytes:
    if path is None or str(path) == "-":
        return _bounded("stdin", sys.stdin.buffer.read(MOST_BYTES + 1))
    return _read(path)


def _bounded(what: str, content: bytes) -> bytes:
    if len(content) > MOST_BYTES:
        raise UsageError(f"{what} has more than {MOST_BYTES} bytes")
    return content


def _read_headers(path: Path | None) -> dict[str, str]:
    """Headers as curl -v or a log shows them, or a JSON object."""
    if path is None:
        return {}
    text = _read(path).decode("utf-8", "replace").removeprefix("\ufeff")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        lines = (re.sub("^[<>] ", "", line) for line in text.splitlines())
        return headers("--headers", [line for line in lines if re.match("[!-9;-~]+:", line)])
    if not isinstance(found, dict):
        raise UsageError(f"{path} is JSON, but not an object of headers")
    return {str(name): str(value) for name, value in found.items()}


def _secrets(path: Path | None, around: Surroundings, *, asked_on_stdin: bool) -> Sequence[str]:
    if path is not None:
        lines = _read(path).decode("utf-8", "replace").splitlines()
        found = [line for line in lines if line.strip()]
        if not found:
            raise UsageError(f"{path} holds no secret")
        return found
    secret = webhook_secret(process_environment(), Path(".env"))
    if secret is None and asked_on_stdin and around.interactive():
        secret = typer.prompt("Secret (whsec_…)", hide_input=True, err=True)
    if secret is None:
        raise UsageError("no secret to check with: set TASKBELL_WEBHOOK_SECRET or --secret-file")
    return [secret]


def _show(findings: Sequence[Finding], *, as_json: bool) -> None:
    for finding in findings:
        if as_json:
            output.json_line({"part": finding.part, "ok": finding.ok, "text": finding.text})
        else:
            output.result(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.part:9}  {finding.text}")
    if not as_json:
        right = all(finding.ok for finding in findings)
        output.message("the signature matches" if right else "the signature does not match")
