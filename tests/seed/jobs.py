"""Generation jobs as providers tell of them, from registration to the end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

from receiver.provider import providers
from store.events import Failure, Kind, Output, Status, TaskUpdate
from store.records import Challenge, Report
from tests import making

_TOKEN = "cb_scene"  # of the callback URL
_FILE_LIFE = timedelta(hours=9)
_ENDINGS = {Kind.VIDEO: "mp4", Kind.IMAGE: "png", Kind.AUDIO: "mp3"}
KINDS = tuple(_ENDINGS)


@dataclass(frozen=True, slots=True)
class Model:
    """A model at a provider and how many seconds it usually takes. pushes: whether it may push."""

    provider: str
    name: str
    kind: Kind
    seconds: float
    family: str | None = None
    pushes: bool = True


HAILUO = Model("minimax", "MiniMax-Hailuo-2.3", Kind.VIDEO, 180, "v1")
H3 = Model("minimax", "MiniMax-H3", Kind.VIDEO, 420, "v2")
SPEECH = Model("minimax", "speech-2.6-hd", Kind.AUDIO, 25, "speech", pushes=False)
ATLAS_VIDEO = Model("atlascloud", "minimax/hailuo-2.3/i2v-standard", Kind.VIDEO, 200)
ATLAS_IMAGE = Model("atlascloud", "google/nano-banana-2/text-to-image", Kind.IMAGE, 12)
VIDU = Model("opencomputing", "viduq3-pro", Kind.VIDEO, 300, pushes=False)
WAN = Model("opencomputing", "wan2.2-t2i-plus", Kind.IMAGE, 40, pushes=False)
MODELS = (HAILUO, H3, SPEECH, ATLAS_VIDEO, ATLAS_IMAGE, VIDU, WAN)


@dataclass(frozen=True, slots=True)
class Job:
    """One job. ago: how long before the scene's end it was registered."""

    model: Model
    number: int
    ago: timedelta
    metadata: Mapping[str, Any] = field(default_factory=dict)
    timeout: timedelta = timedelta(hours=2)

    @property
    def task(self) -> str:
        """Its id at the provider, in the provider's manner."""
        if self.model.provider == "minimax":
            return str(424_010_985_738_000 + self.number)
        return f"{'pred' if self.model.provider == 'atlascloud' else 'luid'}_{self.number:08x}"

    def registered(self) -> Report:
        return making.registered(
            self.task,
            provider=self.model.provider,
            timeout=self.timeout,
            kind=self.model.kind,
            model=self.model.name,
            family=self.model.family,
            metadata=self.metadata,
            expect_push=self.model.pushes,
        )

    def polled(self, status: Status, word: str, **details: Any) -> Report:
        return making.poll(
            self.task,
            status,
            provider=self.model.provider,
            unseen=timedelta(seconds=self.model.seconds / 20),
            provider_status=word,
            model=self.model.name,
            kind=self.model.kind,
            **details,
        )

    def pushed(self, body: Mapping[str, Any], *, hold: bool = False) -> Report:
        """A push with this body, read by the provider's own adapter."""
        provider = providers()[self.model.provider]
        report = making.push(
            self.task,
            provider=provider.name,
            raw=json.dumps(body).encode(),
            trusted=provider.signed,
            hold=hold,
            token_id=_TOKEN,
        )
        return replace(report, update=provider.parse(body))

    def outputs(self, finished: datetime) -> tuple[Output, ...]:
        """What it made: links that work for some hours."""
        name = f"{self.task}.{_ENDINGS[self.model.kind]}"
        url = f"https://cdn.example.com/{self.model.provider}/{name}?signature=0123456789abcdef"
        made = Output(url=url, kind=self.model.kind, expires_at=finished + _FILE_LIFE)
        if self.model is VIDU:
            cover = f"https://cdn.example.com/opencomputing/{self.task}-cover.jpeg"
            return (made, Output(url=cover, kind=Kind.IMAGE, expires_at=finished + _FILE_LIFE))
        return (made,)


Timed = Iterator[tuple[timedelta, Report | Challenge]]
"""What Taskbell is told, each with how long before the scene's end."""


def succeeds(job: Job, end: datetime, random: Random) -> Timed:
    """As most do: registered, under way, done after about its model's usual time."""
    if job.model.pushes and job.model.provider == "minimax":
        yield job.ago + timedelta(seconds=2), Challenge("minimax", _TOKEN)
    yield job.ago, job.registered()
    took = timedelta(seconds=job.model.seconds * random.lognormvariate(0, 0.2))
    yield job.ago - took / 10, _begins(job)
    done = job.ago - took
    if job.model.pushes:
        yield done, _ends(job)
        done -= timedelta(seconds=2)
    finished = end - done
    usage = {"total_seconds": 6} if job.model.kind is Kind.VIDEO else {"credits": 2}
    if job.model.provider != "atlascloud":
        word = "SUCCEEDED" if job.model.provider == "opencomputing" else "Success"
        told = {"outputs": job.outputs(finished), "usage": usage}
        yield done, job.polled(Status.SUCCEEDED, word, **told)


def runs(job: Job, progress: float | None) -> Timed:
    """Under way at the scene's end."""
    yield job.ago, job.registered()
    yield job.ago * 0.9, _begins(job)
    yield job.ago * 0.2, job.polled(Status.PROCESSING, "Processing", progress=progress)


def is_rescued(job: Job, end: datetime) -> Timed:
    """Its push never came; a poll found the end."""
    yield job.ago, job.registered()
    yield job.ago * 0.9, _begins(job)
    done = job.ago - timedelta(seconds=job.model.seconds * 1.5)
    yield done, job.polled(Status.SUCCEEDED, "Success", outputs=job.outputs(end - done))


def fails(job: Job, code: str, message: str) -> Timed:
    yield job.ago, job.registered()
    yield job.ago - timedelta(seconds=5), _begins(job)
    failed = job.polled(Status.FAILED, "Fail", error=Failure(code, message))
    yield job.ago - timedelta(seconds=30), failed


def times_out(job: Job) -> Timed:
    """Its deadline passed, and nobody knows how it stands."""
    yield job.ago, job.registered()
    yield job.ago * 0.9, _begins(job)
    over = making.poll(job.task, Status.TIMED_OUT, provider=job.model.provider)
    yield job.ago - job.timeout, replace(over, update=TaskUpdate(Status.TIMED_OUT, ""))


def ends_late(job: Job, end: datetime) -> Timed:
    yield from times_out(job)
    late = job.ago - job.timeout - timedelta(minutes=10)
    yield late, job.polled(Status.SUCCEEDED, "Success", outputs=job.outputs(end - late))


def waits_for_word(job: Job) -> Timed:
    """An unsigned push says it is done; the provider has not been asked yet."""
    yield job.ago, job.registered()
    yield job.ago * 0.9, _begins(job)
    yield job.ago * 0.05, _ends(job)


def is_contradicted(job: Job, end: datetime) -> Timed:
    """Done, says the provider; pushes lag behind, repeat it, and claim the contrary."""
    yield from succeeds(job, end, Random(job.number))
    yield job.ago * 0.6, _begins(job)
    yield job.ago / 2, _ends(job)
    yield job.ago / 3, job.pushed({"task_id": job.task, "status": "Fail"})


def _begins(job: Job) -> Report:
    if job.model.family in ("v1", "v2"):
        return job.pushed(_body(job, "Processing"))
    return job.polled(Status.PROCESSING, "processing", progress=0.1)


def _ends(job: Job) -> Report:
    """The final push: of Atlas Cloud signed, of MiniMax to be confirmed."""
    return job.pushed(_body(job, "Success"), hold=job.model.provider == "minimax")


def _body(job: Job, word: str) -> dict[str, Any]:
    """A push in the provider's own shape; see tests/providers/fixtures."""
    if job.model.provider == "atlascloud":
        payload = {"model": job.model.name, "status": "completed"}
        made = [f"https://cdn.example.com/atlascloud/{job.task}.{_ENDINGS[job.model.kind]}"]
        return {
            "session_id": job.task,
            "event_type": f"{job.model.kind}.task.terminal",
            "status": "OK",
            "payload": {**payload, "outputs": made},
        }
    if job.model.family == "v2":
        words = {"Processing": "running", "Success": "succeeded"}
        return {"task": {"id": job.task, "model": job.model.name, "status": words[word]}}
    ok = {"status_code": 0, "status_msg": "success"}
    return {"task_id": job.task, "status": word, "file_id": "205258526306433", "base_resp": ok}
