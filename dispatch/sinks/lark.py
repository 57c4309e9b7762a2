"""Lark custom bots, Feishu's outside China; dispatch/feishu.py says how they are written to."""

from __future__ import annotations

from dispatch.feishu import PATH, RATE_PER_SECOND, FeishuBot
from dispatch.service import Service
from dispatch.sink import Sink

SINK: Sink = FeishuBot(
    "lark",
    Service(
        title="Lark",
        form="https://open.larksuite.com/open-apis/bot/v2/hook/…",
        hosts=("open.larksuite.com",),
        path=PATH,
        rate_per_second=RATE_PER_SECOND,
        signs=True,
    ),
)
