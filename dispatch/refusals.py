"""What a chat service's refusal is about, by its code and its words together.

A code alone has several meanings at every service:
Feishu answers 9499 to a message it cannot read and to too many of them; DingTalk answers 300001 for
a token that is gone and for a message without text (ccfos/nightingale#1437, go-gitea/gitea#4382).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from dispatch.plain import cut, one_line
from dispatch.sink import Outcome, Result

LONGEST_REASON = 200

_LIMITED = re.compile(
    r"too (?:many|fast|frequent|quick|often)|frequen|rate.?limit|\bfreq\b|throttl|slow down"
    r"|(?:requests?|calls?|concurrent|sending) (?:is |are )?(?:limit|exceed|out of limit)"
    r"|(?<!size )(?<!length )limit (?:is )?(?:reached|exceeded)|exceeds? (?:the )?(?:rate|quota)"
    r"|quota|限流|流控|频率|频繁|过快|太快|次数.{0,6}(?:上限|限制)",
    re.IGNORECASE,
)
_MESSAGE = re.compile(
    r"param|message|content|\btext\b|\bbody\b|payload|json|format|field|title|picurl|card"
    r"|missing|required|empty|\bnull\b|too long|exceed"
    r"|参数|消息|内容|格式|字段|标题|缺少|为空|过长",
    re.IGNORECASE,
)
_DOOR = r"(?:access[_ ]?token|token|session|webhook|hook|robot|\bbot\b|机器人|令牌|会话|群聊?)"
_IS_GONE = (
    r"(?:(?:is |does |was |has )?(?:not (?:exist|found|valid)|no longer|invalid|illegal|expired"
    r"|revoked|deleted|removed|disabled|stopped|dismissed|dissolved)"
    r"|不存在|无效|非法|不合法|失效|过期|停用|禁用|删除|解散|移除|移出)"
)
_GONE = re.compile(
    rf"{_DOOR}\w*[^,.;，。；]{{0,24}}?{_IS_GONE}"
    rf"|(?:invalid|illegal|unknown|expired|revoked|不合法的|无效的|非法的)\s*(?:incoming )?{_DOOR}"
    r"|incoming webhook",
    re.IGNORECASE,
)
_NAMES_TOKEN = re.compile(r"token|session|hook|令牌|会话", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Codes:
    """What a service's codes mean when its words do not say otherwise.

    gone: of a webhook that is no more. limited: of too many messages, with the wait when no time is
    told. others: what to do about codes that are about neither, whatever their words.
    """

    gone: frozenset[int]
    limited: frozenset[int]
    wait: timedelta
    others: Mapping[int, str] = field(default_factory=dict)


def judge_refusal(code: int, words: str, codes: Codes, asked: timedelta | None = None) -> Outcome:
    """Return what a code other than success and the words beside it mean.

    asked: the wait that the answer asks for in another way. A code of `gone` whose words are about
    something else is an ordinary failure. With words that name neither token, session nor webhook
    it is in doubt (a robot that was stopped may be started again), and only the same answer to
    several attempts makes it a refusal.
    """
    if code in codes.others:
        return Outcome(Result.RETRY, reason_of(code, words, codes.others[code]), asked)
    if _LIMITED.search(words) or code in codes.limited:
        return Outcome(Result.RETRY, reason_of(code, words, "rate limit"), asked or codes.wait)
    says_gone = _says_gone(words) and (code in codes.gone or not _MESSAGE.search(words))
    if not says_gone and (code not in codes.gone or _MESSAGE.search(words)):
        return Outcome(Result.RETRY, reason_of(code, words), asked)
    if _NAMES_TOKEN.search(words):
        return Outcome(Result.REFUSED, reason_of(code, words, "gone"))
    return Outcome(Result.RETRY, reason_of(code, words, "gone?"), asked, doubt=f"answered {code}")


def _says_gone(words: str) -> bool:
    """Return whether they say so of the webhook, and not of what is in a message to it."""
    return any(not _MESSAGE.search(found[0]) for found in _GONE.finditer(words))


def says_limited(words: str) -> bool:
    """Return whether a service's words tell of too many messages."""
    return _LIMITED.search(words) is not None


def reason_of(code: object, words: object, note: str = "") -> str:
    """Return the reason for an attempt's record: the code, the service's own words, and our note.

    >>> reason_of(9499, "too many request", "rate limit")
    'answered 9499: too many request (rate limit)'
    """
    end = f" ({note})" if note else ""
    text = f"answered {code}: {words}" if words else f"answered {code}"
    return cut(one_line(text[: 4 * LONGEST_REASON]), LONGEST_REASON - len(end)) + end
