"""Why an open task has brought nothing, in words: a code, and a sentence for people.

Both languages are here, side by side. A provider's own codes are in one table of its adapter, in
the same form: `Provider.codes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from receiver.failures import Code
from receiver.provider import Provider, ProviderError, Words
from store.events import Failure, TaskUpdate
from store.provider_states import NO_KEY, NOT_POLLED

_WORDS: Mapping[str, Words] = {
    Code.UNREACHABLE: Words("{title} cannot be reached", "无法连接 {title}"),
    Code.TIMEOUT: Words("{title} did not answer in time", "{title} 未在限定时间内响应"),
    Code.REDIRECT: Words(
        "the answer leads to another address: is {base_url} right?",
        "收到重定向响应，请检查 {base_url} 是否正确",
    ),
    Code.FOREIGN: Words(
        "something other than {title} answered (a proxy, a gateway, a login page): is {base_url}"
        " right?",
        "响应并非来自 {title}（可能是代理、网关或登录页），请检查 {base_url} 是否正确",
    ),
    Code.RATE_LIMITED: Words(
        "{title} limits the rate: too many requests", "{title} 限流：请求过于频繁"
    ),
    Code.UNAVAILABLE: Words("{title} cannot answer now", "{title} 暂时不可用"),
    Code.KEY_REFUSED: Words(
        "{title} refuses the API key: check {key}", "{title} 拒绝该 API Key，请检查 {key}"
    ),
    Code.BALANCE: Words("the account at {title} has no balance left", "{title} 账户余额不足"),
    Code.NOT_FOUND: Words(
        "{title} does not know this task id: is it complete, and of the account whose key Taskbell"
        " has?",
        "{title} 不认识该任务号：请检查任务号是否完整，是否属于 Taskbell 所用密钥的账户",
    ),
    Code.REFUSED: Words(
        "{title} does not accept the question about this task", "{title} 不接受对该任务的查询"
    ),
    Code.NOT_NOW: Words(
        "{title} cannot tell about this task yet", "{title} 暂时无法给出该任务的状态"
    ),
    Code.NOT_JSON: Words("the answer about this task is not JSON", "该任务的响应不是 JSON"),
    Code.TOO_LARGE: Words(
        "the answer about this task is too large to be read", "该任务的响应过大，无法读取"
    ),
    Code.UNREADABLE: Words(
        "the answer about this task is not as {title} documents it",
        "该任务的响应与 {title} 文档所述不符",
    ),
    Code.OTHER_TASK: Words(
        "{title} answered about another task", "{title} 返回的是另一个任务的状态"
    ),
    Code.BAD_ID: Words(
        "{title} cannot be asked about this task id", "无法用该任务号向 {title} 查询"
    ),
}
_NO_KEY = Words(
    "the server has no API key for {title}: set {key} where Taskbell runs, and restart it",
    "服务器没有 {title} 的 API Key：请在运行 Taskbell 的环境中设置 {key} 并重启",
)
_ONLY_PUSHES = Words("; until then only a push can bring news", "；在此之前，只有推送能带来新状态")
_SEEN_ELSEWHERE: Mapping[str, Words] = {
    Code.UNKNOWN_WORD: Words(
        "Taskbell does not know the status that {title} gives: it counts as processing",
        "{title} 返回了 Taskbell 不认识的状态，按“处理中”对待",
    ),
    NOT_POLLED: Words(
        "no running process polls {title}: one needs the role poll (TASKBELL_ROLES) and the key",
        "没有正在运行的进程查询 {title}：需要一个具有 poll 角色（TASKBELL_ROLES）和密钥的进程",
    ),
    "parked": Words(
        "Taskbell asks about this task no more: polls of it were started and never finished",
        "Taskbell 不再查询该任务：多次查询开始后都未完成",
    ),
}
"""Their English sentence is made where they are met, with what was met there."""


def trouble_of(provider: Provider, error: ProviderError) -> Failure:
    """The trouble of a task after a poll that failed: what it means, then what was said."""
    words = provider.codes.get(error.code) or _WORDS.get(error.code)
    if words is None:
        return Failure(error.code, str(error))
    return Failure(error.code, f"{_filled(words.english, provider)} ({error})")


def in_words(provider: Provider, update: TaskUpdate) -> TaskUpdate:
    """The update, with words for an error that the provider gave a known code and no message."""
    error = update.error
    if error is None or error.message or error.code not in provider.codes:
        return update
    words = _filled(provider.codes[error.code].english, provider)
    return replace(update, error=Failure(error.code, words))


def no_key(provider: Provider) -> Failure:
    """The trouble of every task at a provider that no process has a key for."""
    return Failure(NO_KEY, _filled(_no_key(provider).english, provider))


def explained(failure: Failure, provider: Provider | None, language: str) -> str:
    """What a code means in a language; "" when nothing is to be added to the failure's message."""
    if provider is None:
        return ""
    if failure.code == NO_KEY:
        words: Words | None = _no_key(provider)
    else:
        words = provider.codes.get(failure.code) or _WORDS.get(failure.code)
    if language == "zh":
        words = words or _SEEN_ELSEWHERE.get(failure.code)
        return _filled(words.chinese, provider) if words else ""
    said = _filled(words.english, provider) if words else ""
    return "" if failure.message.startswith(said) else said


def key_setting(provider: Provider) -> str:
    """The name of the setting that holds its key."""
    return f"{provider.name.upper()}_API_KEY"


def _no_key(provider: Provider) -> Words:
    more = _ONLY_PUSHES if provider.pushes else Words("", "")
    return Words(_NO_KEY.english + more.english, _NO_KEY.chinese + more.chinese)


def _filled(words: str, provider: Provider) -> str:
    return words.format(
        title=provider.title,
        key=key_setting(provider),
        base_url=f"TASKBELL_{provider.name.upper()}_BASE_URL",
    )
