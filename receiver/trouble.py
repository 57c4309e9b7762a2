"""Why an open task has brought nothing, in words: a code, and a sentence for people.

The dashboard says the same in its reader's language, by the code (receiver/pages/words). A
provider's own codes are in one table of its adapter: `Provider.codes`.
"""

from __future__ import annotations

from collections.abc import Mapping

from receiver.failures import Code
from receiver.provider import Provider, ProviderError
from store.events import Failure
from store.provider_states import NO_KEY

_WORDS: Mapping[str, str] = {
    Code.UNREACHABLE: "{title} cannot be reached",
    Code.TIMEOUT: "{title} did not answer in time",
    Code.REDIRECT: "the answer leads to another address: is {base_url} right?",
    Code.FOREIGN: "something other than {title} answered (a proxy, a gateway, a login page):"
    " is {base_url} right?",
    Code.RATE_LIMITED: "{title} limits the rate of requests",
    Code.UNAVAILABLE: "{title} cannot answer now",
    Code.KEY_REFUSED: "{title} refuses the API key: check {key}",
    Code.BALANCE: "the account at {title} has no balance left",
    Code.NOT_FOUND: "{title} does not know this task id: is it complete, and of the account whose"
    " key Taskbell has?",
    Code.REFUSED: "{title} does not accept the question about this task",
    Code.NOT_NOW: "{title} cannot tell about this task yet",
    Code.NOT_JSON: "the answer about this task is not JSON",
    Code.TOO_LARGE: "the answer about this task is too large to be read",
    Code.UNREADABLE: "the answer about this task is not as {title} documents it",
    Code.OTHER_TASK: "{title} answered about another task",
    Code.BAD_ID: "{title} cannot be asked about this task id",
}
_NO_KEY = "the server has no API key for {title}: set {key} where Taskbell runs, and restart it"
_ONLY_PUSHES = "; until then only a push can bring news"


def trouble_of(provider: Provider, error: ProviderError) -> Failure:
    """The trouble of a task after a poll that failed: what it means, then what was said."""
    own = provider.codes.get(error.code)
    words = own.english if own else _WORDS.get(error.code)
    if words is None:
        return Failure(error.code, str(error))
    return Failure(error.code, f"{_filled(words, provider)} ({error})")


def no_key(provider: Provider) -> Failure:
    """The trouble of every task at a provider that no process has a key for."""
    words = _NO_KEY + (_ONLY_PUSHES if provider.pushes else "")
    return Failure(NO_KEY, _filled(words, provider))


def key_setting(provider: Provider) -> str:
    """The name of the setting that holds its key."""
    return f"{provider.name.upper()}_API_KEY"


def _filled(words: str, provider: Provider) -> str:
    return words.format(
        title=provider.title,
        key=key_setting(provider),
        base_url=f"TASKBELL_{provider.name.upper()}_BASE_URL",
    )
