"""Status words that services of this trade use: each adapter knows them under its provider's own.

Gateways pass on their suppliers' words, and a word that ends a task must not be polled on for two
hours because this provider's page does not list it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from store.events import Status

_SEPARATORS = re.compile(r"[\s_.-]+")
_PREFIXES = ("task_status_", "task_state_", "status_", "task_")

_WORDS = {
    Status.QUEUED: (
        *("queued", "queueing", "queuing", "in_queue", "pending", "created", "submitted"),
        *("waiting", "scheduled", "not_started", "starting", "preparing", "accepted"),
        *("排队", "排队中", "等待", "等待中", "待处理", "已提交", "已创建"),
    ),
    Status.PROCESSING: (
        *("processing", "in_process", "in_progress", "running", "generating", "rendering"),
        *("started", "working", "executing", "dreaming", "suspended"),
        *("处理中", "生成中", "进行中", "运行中", "执行中"),
    ),
    Status.SUCCEEDED: (
        *("success", "succeed", "succeeded", "successful", "complete", "completed", "done"),
        *("finish", "finished"),
        *("成功", "已成功", "生成成功", "完成", "已完成"),
    ),
    Status.FAILED: (
        *("fail", "failed", "failure", "error", "errored", "timeout", "timed_out", "time_out"),
        *("timedout", "expire", "expired", "reject", "rejected", "abort", "aborted", "moderated"),
        *("content_moderated", "request_moderated", "blocked", "banned", "nsfw", "killed"),
        *("失败", "已失败", "生成失败", "错误", "异常", "超时", "已超时", "过期", "已过期"),
        *("拒绝", "已拒绝", "审核不通过", "审核失败", "违规"),
    ),
    Status.CANCELED: (
        *("cancel", "canceled", "cancelled", "revoked", "stopped", "terminated", "deleted"),
        *("取消", "已取消", "已撤销", "已终止", "已删除"),
    ),
}
COMMON: Mapping[str, Status] = {word: status for status, words in _WORDS.items() for word in words}


def common_status(word: str) -> Status | None:
    """What a word usually means, however it is written; None for one that is not common.

    >>> common_status("TASK_STATUS_SUCCEED"), common_status("Timed Out"), common_status("brewing")
    (<Status.SUCCEEDED: 'succeeded'>, <Status.FAILED: 'failed'>, None)
    """
    plain = _SEPARATORS.sub("_", word.strip().casefold()).strip("_")
    for prefix in _PREFIXES:
        if plain not in COMMON:
            plain = plain.removeprefix(prefix)
    return COMMON.get(plain)
