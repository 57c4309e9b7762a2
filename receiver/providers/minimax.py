"""MiniMax (Hailuo) tasks of four families: v1 video, template video, v2 video, async speech.

Sources: platform.minimaxi.com and platform.minimax.io, /docs/api-reference: video-generation
(t2v … query, download), video-generation-v2, video-agent, speech-t2a-async-query,
file-management-retrieve, errorcode, read 2026-11-20. Ids of v1, template and speech tasks look
alike and their pushes do not say which they are, so a task of unknown family is looked for in each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from receiver.asking import refuse
from receiver.failures import Blame, Code
from receiver.provider import (
    NO_CHALLENGE,
    Answer,
    Asker,
    Budget,
    KeyRing,
    Provider,
    ProviderError,
    UnreadableBody,
    Words,
    unreadable,
)
from receiver.reading import (
    as_far_as_read,
    ask_once_more,
    contradicts_itself,
    read_code,
    read_failure,
    read_id,
    read_object,
    read_text,
    read_word,
    segment,
    status_of,
)
from store.events import Failure, Kind, Output, Status, Task, TaskUpdate

FLAT_PATHS = {
    "v1": "/v1/query/video_generation",
    "template": "/v1/query/video_template_generation",
    "speech": "/v1/query/t2a_async_query_v2",
}
V2_PATH = "/v2/query/video_generation/"
FILE_PATH = "/v1/files/retrieve"
FAMILIES = ("v1", "template", "v2", "speech")

# pages show 'Success' and 'success', 'Fail' and 'failed'
FLAT_WORDS = {
    "preparing": Status.QUEUED,
    "queueing": Status.QUEUED,
    "processing": Status.PROCESSING,
    "success": Status.SUCCEEDED,
    "fail": Status.FAILED,
    "failed": Status.FAILED,
    "expired": Status.FAILED,
}
V2_WORDS = {
    "queued": Status.QUEUED,
    "running": Status.PROCESSING,
    "succeeded": Status.SUCCEEDED,
    "failed": Status.FAILED,
    "expired": Status.FAILED,  # on the pages of July 2026, gone later
    "cancelled": Status.CANCELED,
    "canceled": Status.CANCELED,
}
MODALITIES = {"video": Kind.VIDEO, "audio": Kind.AUDIO, "text": None}

CODES: Mapping[str, Words] = {
    "1000": Words("MiniMax has an unknown error", "MiniMax 出现未知错误"),
    "1001": Words("MiniMax timed out", "MiniMax 处理超时"),
    "1002": Words("MiniMax limits the rate: too many requests", "MiniMax 限流：请求过于频繁"),
    "1004": Words("MiniMax refuses the API key", "MiniMax 拒绝该 API Key"),
    "1008": Words("the account at MiniMax has no balance left", "MiniMax 账户余额不足"),
    "1013": Words("MiniMax has an internal error", "MiniMax 内部错误"),
    "1024": Words("MiniMax has an internal error", "MiniMax 内部错误"),
    "1026": Words(
        "the input was refused as sensitive by MiniMax's content check",
        "输入内容未通过 MiniMax 内容审核（涉及敏感内容）",
    ),
    "1027": Words(
        "the output was withheld as sensitive by MiniMax's content check",
        "生成内容未通过 MiniMax 内容审核（涉及敏感内容）",
    ),
    "1033": Words("a system behind MiniMax failed", "MiniMax 下游系统出错"),
    "1039": Words("MiniMax's token limit is reached", "已达到 MiniMax 的 token 限额"),
    "1041": Words("MiniMax's limit of connections is reached", "已达到 MiniMax 的连接数上限"),
    "1042": Words(
        "more than a tenth of the text's characters are invisible or invalid",
        "文本中不可见或非法字符超过 10%",
    ),
    "1043": Words("the recording does not match its text", "音频与文本的相似度校验未通过"),
    "1044": Words(
        "the recording does not match the prompt to clone", "克隆音频与提示词的相似度校验未通过"
    ),
    "2013": Words(
        "MiniMax does not accept a parameter; of a query it means that MiniMax does not know the"
        " task id",
        "MiniMax 不接受请求参数；查询时表示 MiniMax 不认识该任务号",
    ),
    "20132": Words("the sample or the voice id is not valid", "样本或 voice_id 无效"),
    "2037": Words("the voice sample is too short or too long", "音频时长不符合要求"),
    "2038": Words("voice cloning is disabled for this account", "该账户未开通音色克隆"),
    "2039": Words("this voice id exists already", "voice_id 已存在"),
    "2042": Words("this account may not use the voice id", "该账户无权使用此 voice_id"),
    "2045": Words("MiniMax sees too fast a growth of requests", "MiniMax 限流：请求增长过快"),
    "2048": Words("the prompt's audio is too long", "提示音频过长"),
    "2049": Words("MiniMax refuses the API key", "MiniMax 拒绝该 API Key"),
    "2056": Words("the plan's quota is used up for now", "套餐额度在当前时段内已用完"),
}
"""What its error codes mean (the errorcode page)."""

# base_resp codes, by what they say about the next question
SENSITIVE = ("1026", "1027")  # the task failed: its input or output was judged
INVALID_PARAMS = "2013"  # a query has one parameter, so the task is unknown
LASTING = ("1042", "1043", "1044", "20132", "2037", "2038", "2039", "2042", "2048")
KEY_REFUSED = ("1004", "2049")
NO_BALANCE = "1008"
BUSY_SECONDS = {"1002": 30, "1039": 30, "1041": 30, "2045": 60, "2056": 60}
# every other code (1000, 1001, 1013, 1024, 1033, or a new one) may pass
BALANCE_WAIT = timedelta(
    seconds=15
)  # then longer; whoever pays sees within a minute that it helped

UNKNOWN_TASK_WORDS = ("invalid task_id", "record not found", "task not found")
# v2 has real HTTP statuses; a task that is unknown or over 7 days old may come as a 400 or a 500
V2_RAW_STATUSES = (400, 422, 500)

# file links: pages say 1 h and 9 h, so the shorter one; template links: 9 h
FILE_LIFE = timedelta(hours=1)
TEMPLATE_LIFE = timedelta(hours=9)

# no interval is documented for queries
PACE = timedelta(seconds=5)
IMAGE_PACE = timedelta(seconds=2)


class MiniMax:
    name = "minimax"
    title = "MiniMax"
    base_url = "https://api.minimaxi.com"
    budget = Budget(requests_per_second=10, concurrency=8)
    pushes = True
    signed = False
    words = frozenset(FLAT_WORDS) | frozenset(V2_WORDS)
    codes = CODES

    def owns(self, status: int, body: Any) -> bool:
        found = read_object(body)
        if read_code(read_object(found.get("base_resp")).get("status_code")) or _is_v2_error(found):
            return True
        named = isinstance(found.get("task"), dict) or read_id(found.get("task_id"))
        return status == 200 and bool(named or _speaks_of_a_task(found))

    def challenge(self, body: Any) -> Any:
        """Any value; null beside a task is a push, as in the vendor's own sample."""
        found = read_object(body)
        value = found.get("challenge", NO_CHALLENGE)
        is_push = value is None and ("task_id" in found or "task" in found)
        return NO_CHALLENGE if is_push else value

    async def verify(
        self, headers: Mapping[str, str], raw: bytes, keys: KeyRing, now: datetime
    ) -> None:
        """MiniMax signs nothing."""

    def parse(self, body: Any) -> TaskUpdate:
        push = read_object(body)
        if contradicts_itself(push, FLAT_WORDS | V2_WORDS):
            raise UnreadableBody("MiniMax: a push that contradicts itself")
        if isinstance(push.get("task"), dict):
            update = _read_v2(push["task"])
        elif push.get("task") is None:
            update = _read_flat_push(push)
        else:
            raise UnreadableBody("MiniMax: a push whose task is no object")
        if update.provider_task_id is None:
            raise UnreadableBody("MiniMax: a push that names no task")
        return update

    def named(self, body: Any) -> str | None:
        push = read_object(body)
        inner = read_id(read_object(push.get("task")).get("id"))
        outer = read_id(push.get("task_id"))
        return None if inner and outer and inner != outer else inner or outer

    async def query(self, ask: Asker, task: Task, now: datetime) -> TaskUpdate:
        refusals = []
        for family in _families_of(task):
            try:
                update = await _ask_family(ask, family, task, now)
            except ProviderError as error:
                if not error.permanent and error.code != Code.FOREIGN:
                    raise
                refusals.append(error)
            else:
                return replace(update, family=family)
        # where something else answered, the task may still be
        raise next((error for error in refusals if not error.permanent), refusals[0])

    def pace(self, task: Task, now: datetime) -> timedelta:
        return IMAGE_PACE if task.kind is Kind.IMAGE else PACE


def _families_of(task: Task) -> tuple[str, ...]:
    """Where to look, the likeliest first."""
    if task.family in FAMILIES:
        return (task.family,)
    if task.kind is Kind.AUDIO:
        return ("speech", "v1", "template", "v2")
    return FAMILIES if task.kind is None else ("v1", "template", "v2")


async def _ask_family(ask: Asker, family: str, task: Task, now: datetime) -> TaskUpdate:
    if family == "v2":
        path = V2_PATH + segment(task.provider_task_id)
        answer = await ask.get(path, raw_statuses=V2_RAW_STATUSES)
        return as_far_as_read(_about(task, _read_v2_answer(answer, now)), answer)
    answer = await ask.get(FLAT_PATHS[family], {"task_id": task.provider_task_id})
    kind = Kind.AUDIO if family == "speech" else Kind.VIDEO
    update = as_far_as_read(_about(task, _read_flat_answer(answer, kind)), answer)
    life = TEMPLATE_LIFE if family == "template" else FILE_LIFE
    outputs = [await _with_link(ask, output, life, now) for output in update.outputs]
    return ask_once_more(replace(update, outputs=tuple(outputs)), task)


def _about(task: Task, update: TaskUpdate) -> TaskUpdate:
    if update.provider_task_id not in (None, task.provider_task_id):
        raise ProviderError("MiniMax: an answer about another task", code=Code.OTHER_TASK)
    return update


def _read_flat_push(push: Mapping[str, Any]) -> TaskUpdate:
    word = read_word(push.get("status")) or ""
    code = _base_code(push)
    if not word and code not in SENSITIVE:
        raise UnreadableBody("MiniMax: a push without a status")
    status = status_of(word, FLAT_WORDS)
    if status is Status.SUCCEEDED and code is not None:
        # one half says it worked, the other that it did not: held until a query settles it
        status = Status.PROCESSING
    elif code in SENSITIVE:
        status = Status.FAILED
    return _flat_update(push, status, word, Kind.VIDEO)  # speech takes no callback_url


def _read_flat_answer(answer: Answer, kind: Kind) -> TaskUpdate:
    """Read a query's answer, where base_resp may speak of the task or of the question."""
    body = read_object(answer.body)
    word = read_word(body.get("status")) or ""
    code = _base_code(body)
    if contradicts_itself(body, FLAT_WORDS):
        raise UnreadableBody("MiniMax: an answer that contradicts itself")
    if code in SENSITIVE:
        return _flat_update(body, Status.FAILED, word, kind)
    status = status_of(word, FLAT_WORDS)
    if code is not None:
        trouble = _trouble(code, _base_message(body))
        named = read_id(body.get("task_id")) is not None
        if status is not Status.FAILED or trouble.blame is not Blame.TASK or not named:
            raise trouble
    elif not word or not PROVIDER.owns(answer.status, body):
        raise unreadable(PROVIDER, answer, "an answer that tells nothing of a task")
    return _flat_update(body, status, word, kind)


def _speaks_of_a_task(body: Mapping[str, Any]) -> bool:
    """True when a flat body says more than a status, which many services answer with."""
    if read_word(body.get("status")) is None:
        return False
    inner = read_object(body.get("data"))
    ids = (body.get("task_id"), body.get("file_id"))
    return any(map(read_id, ids)) or bool(body.get("video_url") or inner.get("video_url"))


def _is_v2_error(body: Mapping[str, Any]) -> bool:
    error = read_object(body.get("error"))
    return body.get("type") == "error" and read_text(error.get("message")) is not None


def _flat_update(body: Mapping[str, Any], status: Status, word: str, kind: Kind) -> TaskUpdate:
    url = read_text(body.get("video_url")) or read_text(
        read_object(body.get("data")).get("video_url")
    )
    file_id = read_id(body.get("file_id"))
    made = status is Status.SUCCEEDED and (url or file_id)  # speech names its file from the start
    code = _base_code(body)
    failure = Failure(
        code=code or word.strip().casefold(), message=_base_message(body) if code else ""
    )
    return TaskUpdate(
        status=status,
        provider_status=word,
        provider_task_id=read_id(body.get("task_id")),
        kind=kind,
        outputs=(Output(url=url, kind=kind, file_id=file_id),) if made else (),
        error=failure if status is Status.FAILED else None,
    )


async def _with_link(ask: Asker, output: Output, life: timedelta, now: datetime) -> Output:
    if output.url is None and output.file_id is not None:
        url = await _file_url(ask, output.file_id)
        note = None if url else "MiniMax gives no link to this file"
        output, life = replace(output, url=url, note=note), FILE_LIFE
    return replace(output, expires_at=now + life) if output.url else output


async def _file_url(ask: Asker, file_id: str) -> str | None:
    """A fresh link to a file, or None when MiniMax will not give one.

    Raises ProviderError for trouble that may pass, so that the whole question is asked again.
    """
    try:
        answer = await ask.get(FILE_PATH, {"file_id": file_id})
        body = read_object(answer.body)
        code = _base_code(body)
        if code is not None:
            raise _trouble(code, _base_message(body))
        if not isinstance(body.get("file"), dict):
            raise unreadable(PROVIDER, answer, "an answer that holds no file")
    except ProviderError as error:
        if error.permanent:
            return None
        raise
    return read_text(body["file"].get("download_url"))  # not in every version of the page


def _read_v2_answer(answer: Answer, now: datetime) -> TaskUpdate:
    body = read_object(answer.body)
    if answer.status == 200 and isinstance(body.get("task"), dict):
        if contradicts_itself(body, V2_WORDS):
            raise UnreadableBody("MiniMax: an answer that contradicts itself")
        return _read_v2(body["task"])
    own = PROVIDER.owns(answer.status, body)
    if answer.status != 200 and not own:
        raise refuse(answer.status, answer.headers, answer.body, now, own=False)
    message = read_text(read_object(body.get("error")).get("message")) or ""
    trailing = re.search(r"\((\d{4,5})\)\s*$", message)
    code = trailing[1] if trailing else _base_code(body)
    if code in SENSITIVE:
        failure = Failure(code=code, message=message)
        return TaskUpdate(status=Status.FAILED, provider_status="", error=failure)
    if _unknown_task(code, message):
        raise _trouble(code or INVALID_PARAMS, message)
    if answer.status != 200:
        raise refuse(answer.status, answer.headers, answer.body, now, own=True)
    if code is not None:
        raise _trouble(code, message)
    raise unreadable(PROVIDER, answer, "an answer that holds no task")


def _read_v2(task: Mapping[str, Any]) -> TaskUpdate:
    word = read_word(task.get("status"))
    if word is None:
        raise UnreadableBody("MiniMax: a task without a status")
    status = status_of(word, V2_WORDS)
    kind = MODALITIES.get(read_text(task.get("modality")) or "video")
    url = read_text(read_object(task.get("content")).get("url"))
    return TaskUpdate(
        status=status,
        provider_status=word,
        provider_task_id=read_id(task.get("id")),
        kind=kind,
        model=read_text(task.get("model")),
        family="v2",
        outputs=(Output(url=url, kind=kind),) if url and status is Status.SUCCEEDED else (),
        error=read_failure(task.get("error"), None, word) if status is Status.FAILED else None,
        usage=read_object(task.get("usage")) or None,
    )


def _base_code(body: Mapping[str, Any]) -> str | None:
    """The code of base_resp, as text; None when it says that all is well, or is not there."""
    code = read_code(read_object(body.get("base_resp")).get("status_code"))
    return None if code == "0" else code


def _base_message(body: Mapping[str, Any]) -> str:
    return read_text(read_object(body.get("base_resp")).get("status_msg")) or ""


def _unknown_task(code: str | None, message: str) -> bool:
    said = message.casefold()
    return code == INVALID_PARAMS or any(words in said for words in UNKNOWN_TASK_WORDS)


def _trouble(code: str, message: str) -> ProviderError:
    """What a base_resp code means for the next question."""
    said = f"MiniMax: base_resp {code}"
    if code in KEY_REFUSED:
        return ProviderError(said, code=Code.KEY_REFUSED, blame=Blame.KEY)
    if code == NO_BALANCE:
        return ProviderError(said, code=Code.BALANCE, blame=Blame.KEY, retry_after=BALANCE_WAIT)
    if code in BUSY_SECONDS:
        wait = timedelta(seconds=BUSY_SECONDS[code])
        return ProviderError(said, code=Code.RATE_LIMITED, blame=Blame.PROVIDER, retry_after=wait)
    if _unknown_task(code, message):
        return ProviderError(said, code=Code.NOT_FOUND, permanent=True)
    return ProviderError(said, code=code, permanent=code in LASTING + SENSITIVE)


PROVIDER: Provider = MiniMax()
