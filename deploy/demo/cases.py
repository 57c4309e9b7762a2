"""Every push that the providers document, one by one: what the simulators write, by name.

MiniMax's failures and words are those of the pages the simulators name; which of v2's statuses are
pushed is not said there, only that a push is what a query answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from random import SystemRandom
from typing import Any

from deploy.demo import atlascloud_simulator as atlascloud
from deploy.demo import minimax_simulator as minimax
from deploy.demo.book import SUFFIX, Phase, SimulatedTask
from store.events import Failure, Kind

_TOOK = timedelta(seconds=67)
_random = SystemRandom()

NOT_PUSHED = {
    "minimax.speech": "MiniMax pushes no speech tasks, they take no callback_url: they are polled",
    "opencomputing": "元境 does not push, it is polled",
}
"""What somebody may look for here in vain, and why."""


@dataclass(frozen=True, slots=True)
class Case:
    """One push, and the fate of its task.

    ending: the provider's word. makes: there is an output. lower_case: in the other of v1's two
    ways to write a push. earlier: the name of what its provider pushes before it.
    """

    provider: str
    name: str
    sentence: str
    write: Callable[[SimulatedTask], dict[str, Any]]
    kind: Kind = Kind.VIDEO
    family: str = minimax.VIDEO
    ending: str = ""
    failure: Failure | None = None
    makes: bool = False
    lower_case: bool = False
    earlier: str | None = None

    @property
    def full_name(self) -> str:
        return f"{self.provider}.{self.name}"

    @property
    def about_a_task(self) -> bool:
        return self.write is not _challenge

    def body(self, task_id: str, now: datetime) -> dict[str, Any]:
        """The push, about a task that ends now."""
        url = f"https://cdn.{self.provider}.example/{task_id}.{SUFFIX[self.kind]}"
        return self.write(
            SimulatedTask(
                id=task_id,
                number=2 if self.lower_case else 1,
                provider=self.provider,
                family=self.family,
                kind=self.kind,
                model="MiniMax-H3" if self.family == minimax.V2 else "simulated/model",
                file_id=_random.randrange(10**14, 10**15),
                ending=self.ending,
                output=url if self.makes else None,
                failure=self.failure,
                submitted_at=now - _TOOK,
                ended_at=now,
                runs_from=0,
                ends_from=0,
                callback_url=None,
            )
        )


def new_task_id(provider: str) -> str:
    """An id as this provider gives them, of no task."""
    makers = {"minimax": minimax.make_id, "atlascloud": atlascloud.make_id}
    return makers[provider](_random)


def _challenge(_task: SimulatedTask) -> dict[str, Any]:
    return {"challenge": f"{_random.getrandbits(128):032x}"}


_queued, _processing, _ended = (partial(minimax.v1_push, phase=phase) for phase in Phase)
_v2_queued, _v2_running, _v2_ended = (partial(minimax.v2_task, phase=phase) for phase in Phase)


def _minimax() -> list[Case]:
    case = partial(Case, "minimax")
    v1_output, v1_input = minimax.FAILURES
    [v2_input] = minimax.V2_FAILURES
    template, v2 = minimax.TEMPLATE, minimax.V2
    return [
        case("challenge", "asks for its value back, within 3 s", _challenge),
        case("queueing", "a v1 video waits for its turn", _queued),
        case("processing", "a v1 video is being made", _processing),
        case(
            "success",
            "a v1 video is done, with the id of its file",
            _ended,
            ending="Success",
            makes=True,
            earlier="processing",
        ),
        case(
            "success-lowercase",
            "the same in the other spelling of the pages",
            _ended,
            ending="Success",
            makes=True,
            lower_case=True,
            earlier="processing",
        ),
        case(
            "failed",
            "a v1 video was judged: its output (1027)",
            _ended,
            ending="Fail",
            failure=v1_output,
            earlier="processing",
        ),
        case(
            "failed-input",
            "a v1 video was judged: its input (1026)",
            _ended,
            ending="Fail",
            failure=v1_input,
            lower_case=True,
            earlier="processing",
        ),
        case("template-preparing", "a template waits for its turn", _queued, family=template),
        case(
            "template-processing",
            "a template is being made",
            _processing,
            family=template,
        ),
        case(
            "template-success",
            "a template is done, with the id of its file",
            _ended,
            family=template,
            ending="Success",
            makes=True,
            earlier="template-processing",
        ),
        case(
            "template-success-url",
            "a template is done, with a link",
            _ended,
            family=template,
            ending="Success",
            makes=True,
            lower_case=True,
            earlier="template-processing",
        ),
        case(
            "template-failed",
            "a template was judged: its output (1027)",
            _ended,
            family=template,
            ending="Fail",
            failure=v1_output,
            earlier="template-processing",
        ),
        case("v2-queued", "a v2 video waits for its turn", _v2_queued, family=v2),
        case("v2-running", "a v2 video is being made", _v2_running, family=v2),
        case(
            "v2-succeeded",
            "a v2 video is done, with a link and its use",
            _v2_ended,
            family=v2,
            ending="succeeded",
            makes=True,
            earlier="v2-running",
        ),
        case(
            "v2-failed",
            "a v2 video was judged: its input (1026)",
            _v2_ended,
            family=v2,
            ending="failed",
            failure=v2_input,
            earlier="v2-running",
        ),
        case(
            "v2-cancelled",
            "a v2 video was canceled",
            _v2_ended,
            family=v2,
            ending="cancelled",
            earlier="v2-running",
        ),
        case(
            "v2-expired",
            "a v2 video took too long (pages of July 2026)",
            _v2_ended,
            family=v2,
            ending="expired",
            earlier="v2-running",
        ),
    ]


def _atlascloud() -> list[Case]:
    def case(name: str, sentence: str, **fate: Any) -> Case:
        return Case("atlascloud", name, sentence, atlascloud.webhook, family="prediction", **fate)

    judged = atlascloud.FAILURES[0]
    late = Failure("", "The task timed out")
    return [
        case("success", "a video is done", ending="completed", makes=True),
        case("success-image", "an image is done", ending="completed", makes=True, kind=Kind.IMAGE),
        case("success-audio", "a sound is done", ending="completed", makes=True, kind=Kind.AUDIO),
        case("failed", "a video was judged (1039)", ending="failed", failure=judged),
        case("timeout", "a video took too long", ending="timeout", failure=late),
    ]


CASES = {case.full_name: case for case in (*_minimax(), *_atlascloud())}


def sequence(case: Case) -> list[Case]:
    """The case and what its provider sends before it, in that order; it may be alone."""
    earlier = [CASES[f"{case.provider}.{case.earlier}"]] if case.earlier else []
    return [*earlier, case]
