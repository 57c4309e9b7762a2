"""Whether providers take the keys of this environment: asked about a task that is not there, which costs nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from deploy import __version__
from deploy.cli.checkup.finding import Finding, fail, ok, warn
from deploy.settings import ProviderSettings
from receiver.asking import HttpAsker
from receiver.failures import Blame, Code
from receiver.provider import Provider, ProviderError
from store.clock import Clock
from store.events import Kind, Task

DEADLINE_SECONDS = 8.0

_MADE_UP = "100000000000000001"
"""An id that every provider can read, of a task that none has made."""

_NOT_THERE = (Code.NOT_FOUND, Code.REFUSED)
"""What is said of such a task when the key is fine. A key that is not gets its own answer."""


def key(provider: Provider, chosen: ProviderSettings, clock: Clock) -> list[Finding]:
    """One question, which makes no task and is not billed."""
    name = f"{provider.title} key"
    try:
        asyncio.run(_ask(provider, chosen, clock))
    except ProviderError as error:
        return [_judged(name, error, provider)]
    return [ok(name, "accepted")]  # one that knows no task says so in the task's status


async def _ask(provider: Provider, chosen: ProviderSettings, clock: Clock) -> None:
    asker = HttpAsker(
        chosen.base_url,
        chosen.api_key,
        clock,
        user_agent=f"taskbell/{__version__}",
        concurrency=1,
        owns=provider.owns,
        way=chosen.route.way,
        deadline_seconds=DEADLINE_SECONDS,
    )
    now = clock()
    task = Task(
        id="task_made_up",
        provider=provider.name,
        provider_task_id=_MADE_UP,
        created_at=now,
        updated_at=now,
        deadline_at=now + timedelta(minutes=1),
        kind=Kind.VIDEO,
        family="v1",  # MiniMax would look in all of its families
    )
    try:
        await provider.query(asker, task, now)
    except ProviderError as error:
        error.args = (asker.redact(str(error)),)
        raise
    finally:
        await asker.close()


def _judged(name: str, error: ProviderError, provider: Provider) -> Finding:
    upper = provider.name.upper()
    match error.code:
        case Code.KEY_REFUSED:
            todo = f"check {upper}_API_KEY; a key of another region needs TASKBELL_{upper}_BASE_URL"
            return fail(name, f"refused ({error})", todo)
        case Code.BALANCE:
            return warn(name, f"accepted, but the account is empty ({error})", "top it up")
        case Code.RATE_LIMITED:
            return warn(name, f"too many questions just now ({error})", "try again in a minute")
        case Code.FOREIGN | Code.NOT_JSON | Code.UNREADABLE if error.blame is Blame.WAY:
            return fail(name, f"not {provider.title}'s own answer ({error})", _right(upper))
        case Code.UNREADABLE | Code.NOT_JSON:
            return warn(name, f"an answer that cannot be read ({error})", _right(upper))
        case code if code in _NOT_THERE:
            return ok(name, "accepted")
        case _:
            todo = f"check the network here and TASKBELL_{upper}_BASE_URL"
            return fail(name, f"cannot be checked ({error})", todo)


def _right(upper: str) -> str:
    return f"is TASKBELL_{upper}_BASE_URL right? a proxy or another server may answer in its place"
