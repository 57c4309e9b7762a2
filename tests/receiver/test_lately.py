from __future__ import annotations

from receiver.lately import Lately
from receiver.watch import Watch
from store.clock import ManualClock


class Others(Watch):
    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    def challenged(self, provider: str, seconds: float) -> None:
        self.heard.append((provider, seconds))

    def refused(self, provider: str, status: int) -> None:
        self.heard.append((provider, status))

    def waited(self, provider: str, seconds: float) -> None:
        self.heard.append((provider, seconds))

    def asked(self, provider: str, result: str) -> None:
        self.heard.append((provider, result))


def made(clock: ManualClock) -> tuple[Lately, Others]:
    others = Others()
    return Lately(others, ["minimax"], clock), others


def test_everything_is_told_on_and_strangers_are_not_remembered(clock: ManualClock) -> None:
    lately, others = made(clock)

    lately.challenged("minimax", 0.1)
    lately.refused("nobody", 404)
    lately.waited("minimax", 0.2)
    lately.asked("nobody", "queued")

    assert others.heard == [
        ("minimax", 0.1),
        ("nobody", 404),
        ("minimax", 0.2),
        ("nobody", "queued"),
    ]
    assert lately.of.keys() == {"minimax"}


def test_challenges_are_held_against_their_limit(clock: ManualClock) -> None:
    lately, _ = made(clock)
    for seconds in (0.1, 0.2, 3.5):
        lately.challenged("minimax", seconds)

    seen = lately.of["minimax"]

    assert (seen.challenges, seen.usual_challenge, seen.slowest, seen.too_late) == (3, 0.2, 3.5, 1)


def test_an_answer_tells_whether_the_key_is_good(clock: ManualClock) -> None:
    lately, _ = made(clock)
    seen = lately.of["minimax"]

    told = []
    for result in ("unreachable", "processing", "rate_limited", "key_refused", "timeout"):
        lately.asked("minimax", result)
        told.append(seen.key_good)

    assert told == [None, True, True, False, False]
    assert (seen.last_result, seen.last_at) == ("timeout", clock())


def test_a_providers_own_codes_fill_no_memory(clock: ManualClock) -> None:
    lately, _ = made(clock)
    for number in range(1_000):
        lately.asked("minimax", f"code {number}")

    seen = lately.of["minimax"]

    assert len(seen.answers) <= 51
    assert seen.answers.total() == 1_000
