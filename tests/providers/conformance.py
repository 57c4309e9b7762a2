"""What every provider adapter must do, checked against its folder of recorded bodies.

A folder holds JSON files: one case, or {"source": …, "cases": [{"name": …, …}, …]}. Every case
says in `source` where its body is from, and is one of

    a push        {"push": body, "expect": update} or {"push": body, "expect_error": "unreadable"}
    a challenge   {"challenge_body": body, "expect_challenge": value}, without `expect_challenge`
                  for a body that holds none
    a query       {"task": {"provider_task_id": …, "family"?, "kind"?, "provider_status"?},
                   "exchanges": [{"path", "params"?, "status", "headers"?, "body" or "text"}],
                   "expect": update} or "expect_error": {"code", "permanent", "blame",
                   "retry_after_seconds"?}
    a pace        {"age_seconds", "kind"?, "expect_pace_seconds"}
    a signature   {"headers", "body_text", "jwks", "now", "expect_signature": "ok" or "refused"}

`expect` is the whole update, without its empty fields. Time stands at NOW, or at the case's
`now` (Unix seconds).
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import keyword
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.asking import refuse
from receiver.body import BadBody, parse_json
from receiver.failures import Blame
from receiver.keyring import read_jwks
from receiver.provider import (
    NO_CHALLENGE,
    Answer,
    BadSignature,
    Provider,
    ProviderError,
    UnreadableBody,
)
from store.events import Kind, Status, Task, TaskUpdate, rfc3339

NOW = datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)
UNKNOWN_WORD = "brewing"
RUNNING = (Status.QUEUED, Status.PROCESSING)


@dataclass(frozen=True, slots=True)
class Case:
    """One recorded body with what it must become."""

    name: str
    content: Mapping[str, Any]

    @property
    def now(self) -> datetime:
        seconds = self.content.get("now")
        return NOW if seconds is None else datetime.fromtimestamp(seconds, UTC)

    @property
    def expect(self) -> Mapping[str, Any]:
        expect: Mapping[str, Any] = self.content.get("expect", {})
        return expect


def load_cases(fixture_dir: Path) -> list[Case]:
    """Every case of a folder. Raises AssertionError when there is none, or one has no source."""
    files = sorted(fixture_dir.glob("*.json"))
    assert files, f"no recorded bodies in {fixture_dir.name}/: a provider needs a folder of them"
    cases = []
    for file in files:
        content = json.loads(file.read_text(encoding="utf-8"))
        for number, case in enumerate(content.get("cases", [content]), start=1):
            whole = {"source": content.get("source")} | case
            cases.append(Case(f"{file.stem}-{case.get('name', number)}", whole))
    nameless = [case.name for case in cases if not case.content["source"]]
    assert not nameless, f"these cases do not say where they are from: {nameless}"
    return cases


def discover(package_dir: Path) -> dict[str, Provider]:
    """The providers of a folder that is no package of ours, the way receiver.provider finds its."""
    found: dict[str, Provider] = {}
    for file in sorted(package_dir.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"toys.{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        provider: Provider = module.PROVIDER
        found[provider.name] = provider
    return found


# a provider that answers from a record


def answer_of(
    provider: Provider, exchange: Mapping[str, Any], raw_statuses: tuple[int, ...], now: datetime
) -> Answer:
    """What an Asker makes of a recorded answer; see Asker.get."""
    status, headers = exchange["status"], exchange.get("headers", {})
    text = exchange["text"] if "text" in exchange else json.dumps(exchange["body"])
    body = None
    try:
        body = parse_json(text.encode())
    except BadBody:
        if status == 200:
            raise ProviderError("not JSON", code="not_json", blame=Blame.WAY) from None
    if status != 200 and status not in raw_statuses:
        raise refuse(status, headers, body, now, own=provider.owns(status, body))
    return Answer(status, headers, body)


class RecordedAsker:
    """Answers each question with the next recorded exchange, and insists that it is the same."""

    def __init__(
        self, provider: Provider, exchanges: Sequence[Mapping[str, Any]], now: datetime
    ) -> None:
        self._provider = provider
        self.left = list(exchanges)
        self._now = now

    async def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        raw_statuses: tuple[int, ...] = (),
    ) -> Answer:
        assert self.left, f"one question too many: {path}"
        exchange = self.left.pop(0)
        recorded = (exchange["path"], exchange.get("params", {}))
        assert (path, dict(params or {})) == recorded, "another question than was recorded"
        return answer_of(self._provider, exchange, raw_statuses, self._now)


class StrangeAsker:
    """Answers whatever is asked with these statuses and bodies, over and over."""

    def __init__(
        self, provider: Provider, answers: Sequence[tuple[int, Any]], now: datetime
    ) -> None:
        self._provider = provider
        self._answers = cycle(answers)
        self._now = now

    async def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        raw_statuses: tuple[int, ...] = (),
    ) -> Answer:
        status, body = next(self._answers)
        return answer_of(self._provider, {"status": status, "body": body}, raw_statuses, self._now)


class FixedKeys:
    """The KeyRing of one JWKS."""

    def __init__(self, jwks: Any) -> None:
        self._keys = read_jwks(jwks)

    async def ed25519(self, url: str, key_id: str, now: datetime) -> bytes | None:
        return self._keys.get(key_id)


def task_of(provider: Provider, known: Mapping[str, Any], now: datetime) -> Task:
    """A task about which the store knows this much."""
    values: dict[str, Any] = {
        "id": "task_1",
        "provider": provider.name,
        "provider_task_id": "1",
        "created_at": now,
        "updated_at": now,
        "deadline_at": now + timedelta(hours=2),
        **known,
    }
    for name, words in (("kind", Kind), ("status", Status)):
        if values.get(name) is not None:
            values[name] = words(values[name])
    return Task(**values)


def picture(update: TaskUpdate) -> dict[str, Any]:
    """An update as the fixtures write it: plain JSON values, empty fields left out."""
    whole = asdict(update)
    whole["outputs"] = [
        _full(output | {"expires_at": output["expires_at"] and rfc3339(output["expires_at"])})
        for output in whole["outputs"]
    ]
    return _full(whole)


def _full(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != []}


# one case


def check_case(provider: Provider, case: Case) -> None:
    """Raises AssertionError when the adapter reads the case otherwise than it says."""
    content = case.content
    if "push" in content:
        _check_push(provider, case)
    elif "challenge_body" in content:
        wanted = content.get("expect_challenge", NO_CHALLENGE)
        assert provider.challenge(content["challenge_body"]) == wanted
    elif "exchanges" in content:
        _check_query(provider, case)
    elif "body_text" in content:
        _check_signature(provider, case)
    elif "age_seconds" in content:
        _check_pace(provider, case)
    else:
        raise AssertionError(f"{case.name} is no push, challenge, query, pace or signature")


def _check_push(provider: Provider, case: Case) -> None:
    if "expect_error" in case.content:
        with pytest.raises(UnreadableBody):
            provider.parse(case.content["push"])
    else:
        assert picture(provider.parse(case.content["push"])) == case.expect


def _check_query(provider: Provider, case: Case) -> None:
    if "expect_error" not in case.content:
        assert picture(_query(provider, case)) == case.expect
        return
    with pytest.raises(ProviderError) as caught:
        _query(provider, case)
    error, wait = caught.value, caught.value.retry_after
    said = {
        "code": error.code,
        "permanent": error.permanent,
        "blame": error.blame,
        "retry_after_seconds": wait and wait.total_seconds(),
    }
    assert said == {"retry_after_seconds": None} | case.content["expect_error"]


def _query(provider: Provider, case: Case) -> TaskUpdate:
    ask = RecordedAsker(provider, case.content["exchanges"], case.now)
    task = task_of(provider, case.content["task"], case.now)
    try:
        return asyncio.run(provider.query(ask, task, case.now))
    finally:
        assert not ask.left, "recorded, but never asked"


def _check_pace(provider: Provider, case: Case) -> None:
    task = task_of(provider, {"kind": case.content.get("kind")}, case.now)
    pace = provider.pace(task, case.now + timedelta(seconds=case.content["age_seconds"]))
    assert pace.total_seconds() == case.content["expect_pace_seconds"]


def _check_signature(provider: Provider, case: Case) -> None:
    content = case.content
    keys = FixedKeys(content["jwks"])
    checking = provider.verify(content["headers"], content["body_text"].encode(), keys, case.now)
    if content["expect_signature"] == "ok":
        asyncio.run(checking)
    else:
        with pytest.raises(BadSignature):
            asyncio.run(checking)


# what holds for all


def check_it_says_who_it_is(provider: Provider, cases: Sequence[Case]) -> None:
    assert provider.name.isidentifier()
    assert provider.name == provider.name.lower()
    assert not keyword.iskeyword(provider.name)
    assert provider.title
    assert provider.base_url.startswith("https://")
    assert not provider.base_url.endswith("/")
    assert provider.budget.requests_per_second > 0
    assert provider.budget.concurrency > 0


def check_the_record_is_complete(provider: Provider, cases: Sequence[Case]) -> None:
    """A running, a succeeded and a failed query; a succeeded and a failed push if there are any."""
    polled = {case.expect.get("status") for case in cases if "exchanges" in case.content}
    pushed = {case.expect.get("status") for case in cases if "push" in case.content}
    signed = {case.content.get("expect_signature") for case in cases}

    assert polled & set(RUNNING), "no query of a running task is recorded"
    assert polled >= {"succeeded", "failed"}, "no query of a succeeded or a failed task is recorded"
    if provider.pushes:
        assert pushed >= {"succeeded", "failed"}, "no push of both endings is recorded"
    if provider.signed:
        assert signed >= {"ok", "refused"}, "no good and no refused signature is recorded"


def check_unknown_words_are_kept(provider: Provider, cases: Sequence[Case]) -> None:
    endings = {_word(case) for case in cases if case.expect.get("status") not in RUNNING}
    running = [
        case
        for case in cases
        if case.expect.get("status") in RUNNING and _word(case) not in endings
    ]

    assert running, "no case of a running task is recorded"
    for case in running:
        update = _read_with_word(provider, case, UNKNOWN_WORD)
        said = (update.status, update.provider_status)
        assert said == (Status.PROCESSING, UNKNOWN_WORD), case.name


def check_known_words_are_listed(provider: Provider, cases: Sequence[Case]) -> None:
    """Words that mean something are in `words`; the others are logged as news."""
    assert provider.words == {word.casefold() for word in provider.words}
    assert UNKNOWN_WORD not in provider.words
    meant = {
        _word(case) for case in cases if case.expect.get("status", "processing") != "processing"
    }
    assert meant - {""} <= provider.words


def check_status_words_may_have_any_casing(provider: Provider, cases: Sequence[Case]) -> None:
    for case in cases:
        word = case.expect.get("provider_status")
        for spelling in (word.upper(), word.lower(), word.title()) if word else ():
            update = _read_with_word(provider, case, spelling)
            expected = {**case.expect, "provider_status": spelling}
            assert picture(update) == expected, f"{case.name}, with {spelling}"


def check_the_pace_is_bearable(provider: Provider, cases: Sequence[Case]) -> None:
    for kind in (None, *Kind):
        for age in (-5, 0, 60, 3600, 36_000):
            task = task_of(provider, {"kind": kind}, NOW)
            pace = provider.pace(task, NOW + timedelta(seconds=age))
            assert timedelta(seconds=1) <= pace <= timedelta(seconds=120)


def check_only_pushing_providers_read_pushes(provider: Provider, cases: Sequence[Case]) -> None:
    if provider.pushes:
        return
    for body in _bodies(cases):
        assert provider.challenge(body) is NO_CHALLENGE
        with pytest.raises(UnreadableBody):
            provider.parse(body)


def check_no_body_breaks_the_reading(provider: Provider, cases: Sequence[Case]) -> None:
    def reads(body: Any) -> None:
        provider.challenge(body)
        with suppress(UnreadableBody):
            _check_types(provider.parse(body))

    for body in _bodies(cases):
        for bent in _bent(body):
            reads(bent)
    _thoroughly(given(_strange(_bodies(cases)))(reads))()


def check_no_answer_breaks_a_query(provider: Provider, cases: Sequence[Case]) -> None:
    tasks = [case.content["task"] for case in cases if "task" in case.content]
    statuses = st.sampled_from((200, 200, 200, 400, 404, 422, 429, 500, 503))
    answers = st.lists(st.tuples(statuses, _strange(_bodies(cases))), min_size=1, max_size=3)

    @_thoroughly
    @given(st.sampled_from(tasks), answers)
    def asks(known: Mapping[str, Any], answers: Sequence[tuple[int, Any]]) -> None:
        task = task_of(provider, known, NOW)
        with suppress(ProviderError):
            _check_types(
                asyncio.run(provider.query(StrangeAsker(provider, answers, NOW), task, NOW))
            )

    asks()


def check_no_bent_answer_breaks_a_query(provider: Provider, cases: Sequence[Case]) -> None:
    """Every recorded conversation again, with every value in every answer replaced in turn."""

    async def asks() -> None:
        for case in cases:
            exchanges = case.content.get("exchanges", [])
            answers = [(each["status"], each.get("body")) for each in exchanges]
            for number, (status, body) in enumerate(answers):
                for bent in _bent(body):
                    said = [*answers[:number], (status, bent), *answers[number + 1 :]]
                    with suppress(ProviderError):
                        task = task_of(provider, case.content["task"], NOW)
                        _check_types(
                            await provider.query(StrangeAsker(provider, said, NOW), task, NOW)
                        )

    asyncio.run(asks())


def check_the_providers_trouble_is_no_tasks_trouble(
    provider: Provider, cases: Sequence[Case]
) -> None:
    """A refused key, a limit and a breakdown concern every task, and end none."""
    tasks = [case.content["task"] for case in cases if "task" in case.content]
    for status in (401, 403, 429, 500, 503):
        for known in tasks:
            ask = StrangeAsker(provider, [(status, {"error": "trouble"})], NOW)
            with pytest.raises(ProviderError) as caught:
                asyncio.run(provider.query(ask, task_of(provider, known, NOW), NOW))
            decision = (caught.value.blame is Blame.TASK, caught.value.permanent)
            assert decision == (False, False), f"{known} answered {status}"


def check_no_id_leaves_its_place(provider: Provider, cases: Sequence[Case]) -> None:
    """Task ids come from callers: they may not add to a path, or climb out of one."""
    asked = []

    class Watching(StrangeAsker):
        async def get(
            self,
            path: str,
            params: Mapping[str, str] | None = None,
            *,
            raw_statuses: tuple[int, ...] = (),
        ) -> Answer:
            asked.append(path)
            return await super().get(path, params, raw_statuses=raw_statuses)

    families = {case.content["task"].get("family") for case in cases if "task" in case.content}
    for family in families:
        for task_id in ("../../files/delete?a=1#", "..", ".", "a\\b", "a%2fb", "", "\ud800"):
            task = task_of(provider, {"provider_task_id": task_id, "family": family}, NOW)
            with suppress(ProviderError):
                asyncio.run(provider.query(Watching(provider, [(404, {})], NOW), task, NOW))
    climbed = [path for path in asked if ".." in path.split("/") or set(path) & set("?#\\ ")]
    assert not climbed


def check_signatures_are_refused_and_nothing_else(
    provider: Provider, cases: Sequence[Case]
) -> None:
    """A signed provider's verify raises BadSignature or nothing; any other's does nothing."""
    signed = [case.content for case in cases if case.content.get("expect_signature") == "ok"]
    jwks = signed[0]["jwks"] if signed else {"keys": []}
    names = st.sampled_from(sorted({name for each in signed for name in each["headers"]} or {"a"}))
    values = st.text() | st.sampled_from(
        sorted({value for each in signed for value in each["headers"].values()} or {"a"})
    )

    @_thoroughly
    @given(st.dictionaries(names, values), st.binary())
    def verifies(headers: Mapping[str, str], raw: bytes) -> None:
        checking = provider.verify(headers, raw, FixedKeys(jwks), NOW)
        if provider.signed:
            with pytest.raises(BadSignature):
                asyncio.run(checking)
        else:
            asyncio.run(checking)

    verifies()


Check = Callable[[Provider, Sequence[Case]], None]

CHECKS: tuple[Check, ...] = (
    check_it_says_who_it_is,
    check_the_record_is_complete,
    check_unknown_words_are_kept,
    check_known_words_are_listed,
    check_status_words_may_have_any_casing,
    check_the_pace_is_bearable,
    check_only_pushing_providers_read_pushes,
    check_no_body_breaks_the_reading,
    check_no_answer_breaks_a_query,
    check_no_bent_answer_breaks_a_query,
    check_the_providers_trouble_is_no_tasks_trouble,
    check_no_id_leaves_its_place,
    check_signatures_are_refused_and_nothing_else,
)


def check_provider(provider: Provider, fixture_dir: Path) -> None:
    """Every case and every check. Raises AssertionError with the first that fails."""
    cases = load_cases(fixture_dir)
    for case in cases:
        check_case(provider, case)
    for check in CHECKS:
        check(provider, cases)


def _check_types(update: TaskUpdate) -> None:
    """Types are promises to us, not to what a provider sends."""
    texts = [update.provider_task_id, update.model, update.family]
    for output in update.outputs:
        assert output.url or output.file_id or output.note
        texts += [output.url, output.file_id]
    if update.error is not None:
        texts += [update.error.code, update.error.message]
    assert all(text is None or isinstance(text, str) for text in texts)
    assert isinstance(update.provider_status, str)
    assert len(update.provider_status) <= 64
    assert len(update.outputs) <= 100
    assert isinstance(update.usage, dict | None)
    assert (update.error is not None) == (update.status is Status.FAILED)
    assert not update.outputs or update.status is Status.SUCCEEDED


_thoroughly = settings(max_examples=150, deadline=None, derandomize=True, database=None)


def _word(case: Case) -> str:
    word: str = case.expect.get("provider_status", "")
    return word.casefold()


def _read_with_word(provider: Provider, case: Case, word: str) -> TaskUpdate:
    """Read a push or query whose status word was replaced by another."""
    content = _replaced(case.content, case.expect.get("provider_status", ""), word)
    if "push" in content:
        return provider.parse(content["push"])
    return _query(provider, Case(case.name, content | {"task": case.content["task"]}))


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    return new if isinstance(value, str) and value == old and old else value


def _bodies(cases: Sequence[Case]) -> list[Any]:
    """Every JSON body on record: pushes, challenges, answers."""
    bodies = []
    for case in cases:
        content = case.content
        bodies += [content[name] for name in ("push", "challenge_body") if name in content]
        bodies += [each["body"] for each in content.get("exchanges", []) if "body" in each]
    return bodies


_TEXTS = st.text(st.characters(exclude_categories=()))  # lone surrogates, too: JSON can spell them
_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=8,
)


@st.composite
def _strange(draw: st.DrawFn, bodies: Sequence[Any]) -> Any:
    """Any JSON at all, or a recorded body with one value in it replaced by any JSON."""
    strange = draw(_JSON)
    if draw(st.booleans()):
        return strange
    body = draw(st.sampled_from(bodies))
    return _planted(body, draw(st.sampled_from(list(_places(body)))), strange)


_BENDS: tuple[Any, ...] = (None, True, -1, 0, 1.5, 10**30, "", "\ud800", [], [[]], {}, {"url": []})


def _bent(body: Any) -> Iterator[Any]:
    """A body with each of its values replaced in turn by each of the usual surprises."""
    for place in _places(body):
        for bend in _BENDS:
            yield _planted(body, place, bend)


def _places(value: Any) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a JSON value, itself included."""
    yield ()
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from ((key, *place) for place in _places(item))


def _planted(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    copy = value.copy()
    copy[place[0]] = _planted(value[place[0]], place[1:], new)
    return copy
