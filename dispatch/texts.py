"""What chat messages say, in each language. A test holds the catalogues side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Texts:
    """One language. Keys of kinds: what is made ("" when unknown); of titles: how it stands."""

    nouns: Mapping[str, str]
    opens: Mapping[str, str]
    titles: Mapping[str, str]
    lines: Mapping[str, str]
    causes: Mapping[str, str]
    labels: Mapping[str, str]
    notes: Mapping[str, str]
    durations: tuple[str, str, str]  # under a minute, under an hour, more
    colon: str


_EN = Texts(
    nouns={"video": "Video", "image": "Image", "audio": "Audio", "": "Generation"},
    opens={
        "video": "Open video",
        "image": "Open image",
        "audio": "Open audio",
        "": "Open result",
    },
    titles={
        "queued": "🕓 {noun} queued",
        "processing": "⚙️ {noun} in the making",
        "succeeded": "✅ {noun} ready",
        "failed": "❌ {noun} failed",
        "canceled": "🚫 {noun} canceled",
        "timed_out": "⏰ {noun} overdue",
        "subscription.disabled": "🔕 Subscription switched off",
        "delivery.dead": "📪 Delivery given up",
        "provider.down": "🔴 {provider} is down",
        "provider.recovered": "🟢 {provider} is back",
        "other": "🔔 {type}",
        "test": "🧪 Test: {title}",
    },
    lines={
        "queued": "It waits for its turn at {provider}.",
        "processing": "{provider} is working on it.",
        "succeeded": "{provider} finished it.",
        "succeeded after": "{provider} finished it in {took}.",
        "failed": "{provider} could not make it.",
        "failed after": "{provider} gave up after {took}.",
        "canceled": "It was canceled and will not be made.",
        "timed_out": "{provider} did not finish it in time. It is still asked, less often.",
        "subscription.disabled": "Subscription {id} gets no more events: {reason}",
        "delivery.dead": "{type} ({event}) did not reach subscription {subscription}"
        " in {attempts} attempts: {error}",
        "provider.down": "Polls of {provider} fail. Its tasks are polled on; endings come late.",
        "provider.recovered": "{provider} answers again. It was down for {took}.",
        "other": "Event {event}",
        "late": "It came after its deadline.",
        "test": "This is a test message from Taskbell: no task has ended.",
    },
    causes={
        "content": "The provider's content check refused it.",
        "balance": "The account at the provider has too little balance or quota.",
        "busy": "The provider was too busy.",
        "input": "The provider did not accept the input.",
        "expired": "The time for it ran out.",
        "untracked": "Taskbell was told to stop watching it.",
    },
    labels={
        "provider": "Provider",
        "model": "Model",
        "took": "Took",
        "progress": "Progress",
        "said": "The provider says",
        "preview": "Preview",
        "task": "Task",
        "provider task": "at the provider",
        "why": "Why",
    },
    notes={
        "expires": "{open}: link valid until {time} UTC",
        "no link": "The provider gave no link.",
        "bad link": "A link cannot be shown here: look at task {task}.",
        "more links": "{count} more results: look at task {task}.",
        "more facts": "{count} more",
        "numbered": "{open} {number}",
    },
    durations=("{seconds} s", "{minutes} min {seconds} s", "{hours} h {minutes} min"),
    colon=": ",
)

_ZH = Texts(
    nouns={"video": "视频", "image": "图片", "audio": "音频", "": "内容"},
    opens={"video": "打开视频", "image": "打开图片", "audio": "打开音频", "": "打开结果"},
    titles={
        "queued": "🕓 {noun}已排队",
        "processing": "⚙️ {noun}生成中",
        "succeeded": "✅ {noun}已生成",
        "failed": "❌ {noun}生成失败",
        "canceled": "🚫 {noun}已取消",
        "timed_out": "⏰ {noun}超时未完成",
        "subscription.disabled": "🔕 订阅已停用",
        "delivery.dead": "📪 投递已放弃",
        "provider.down": "🔴 {provider} 不可用",
        "provider.recovered": "🟢 {provider} 已恢复",
        "other": "🔔 {type}",
        "test": "🧪 测试：{title}",
    },
    lines={
        "queued": "正在 {provider} 排队。",
        "processing": "{provider} 正在生成。",
        "succeeded": "{provider} 已完成。",
        "succeeded after": "{provider} 已完成，用时 {took}。",
        "failed": "{provider} 未能生成。",
        "failed after": "{provider} 在 {took}后放弃。",
        "canceled": "任务已取消，不会再生成。",
        "timed_out": "{provider} 未能按时完成，之后会以更低的频率继续查询。",
        "subscription.disabled": "订阅 {id} 不再接收事件：{reason}",
        "delivery.dead": "{type}（{event}）尝试 {attempts} 次后仍未送达订阅 {subscription}：{error}",
        "provider.down": "对 {provider} 的查询持续失败。Taskbell 会继续查询，任务结果可能延迟。",
        "provider.recovered": "{provider} 已恢复响应，中断时长 {took}。",
        "other": "事件 {event}",
        "late": "任务在截止时间之后才结束。",
        "test": "这是 Taskbell 的测试消息：没有任务结束。",
    },
    causes={
        "content": "未通过服务商的内容审核。",
        "balance": "服务商账户余额或额度不足。",
        "busy": "服务商繁忙。",
        "input": "服务商不接受输入参数。",
        "expired": "任务已过期。",
        "untracked": "Taskbell 已按要求停止跟踪。",
    },
    labels={
        "provider": "服务商",
        "model": "模型",
        "took": "用时",
        "progress": "进度",
        "said": "服务商说明",
        "preview": "预览",
        "task": "任务",
        "provider task": "服务商任务号",
        "why": "原因",
    },
    notes={
        "expires": "{open}：链接有效期至 {time}（UTC）",
        "no link": "服务商没有提供链接。",
        "bad link": "有链接无法在此显示，请查看任务 {task}。",
        "more links": "还有 {count} 个结果，请查看任务 {task}。",
        "more facts": "另有 {count} 项",
        "numbered": "{open} {number}",
    },
    durations=("{seconds} 秒", "{minutes} 分 {seconds} 秒", "{hours} 小时 {minutes} 分"),
    colon="：",
)

CATALOGUES: Mapping[str, Texts] = {"en": _EN, "zh": _ZH}


def texts(language: str) -> Texts:
    """A language's catalogue; English for one that is not known here."""
    return CATALOGUES.get(language, _EN)
