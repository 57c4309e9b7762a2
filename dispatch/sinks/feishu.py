"""Feishu (飞书) custom bots; dispatch/feishu.py says how they are written to."""

from __future__ import annotations

from dispatch.feishu import PATH, RATE_PER_SECOND, FeishuBot
from dispatch.service import Service
from dispatch.sink import Sink

SINK: Sink = FeishuBot(
    "feishu",
    Service(
        title="Feishu",
        form="https://open.feishu.cn/open-apis/bot/v2/hook/…",
        hosts=("open.feishu.cn",),
        path=PATH,
        rate_per_second=RATE_PER_SECOND,
        signs=True,
    ),
)
