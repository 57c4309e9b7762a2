"""Why a question to a provider brought nothing: a code for the reason, and who is to blame for it."""

from __future__ import annotations

from enum import StrEnum


class Blame(StrEnum):
    """Who is to blame for a failed question, which decides what is slowed down.

    Failures of TASK say that the provider is there: they concern one task and no other. All others
    count towards the provider's state.
    """

    TASK = "task"  # the provider itself answered, and what is wrong concerns this task alone
    PROVIDER = "provider"  # the provider itself says that it cannot answer now
    WAY = "way"  # no answer, or one that is not the provider's own: a gateway's, a login page's
    KEY = "key"  # the provider itself refused the API key, or the account has no balance left


class Code(StrEnum):
    """The codes of our own. A provider's own code (MiniMax: "1026") may stand in their place."""

    # Blame.WAY
    UNREACHABLE = "unreachable"  # no connection, or it broke
    TIMEOUT = "timeout"  # no whole answer in time
    REDIRECT = "redirect"
    FOREIGN = "foreign_answer"  # an answer, but not in the provider's own shape
    # Blame.PROVIDER; Blame.WAY when the body is not the provider's own
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    # Blame.KEY
    KEY_REFUSED = "key_refused"
    BALANCE = "balance"
    # Blame.TASK
    NOT_FOUND = "not_found"  # the provider does not know this task
    REFUSED = "refused"  # the provider calls the question itself wrong
    NOT_NOW = "not_now"
    NOT_JSON = "not_json"  # also Blame.WAY, when nothing shows that the provider said it
    TOO_LARGE = "too_large"
    UNREADABLE = "unreadable"  # JSON, but not as documented
    OTHER_TASK = "other_task"  # an answer about another task
    BAD_ID = "bad_id"  # no question can be asked about this id
    # not a failure: the task goes on as processing
    UNKNOWN_WORD = "unknown_word"
