"""Every provider keeps the promises in conformance.py, and so does one that is added today."""

from pathlib import Path

import pytest

from receiver.provider import Provider, providers
from tests.providers.conformance import (
    CHECKS,
    Case,
    Check,
    check_case,
    check_provider,
    discover,
    load_cases,
)

FIXTURES = Path(__file__).parent / "fixtures"
PROVIDERS = [pytest.param(provider, id=name) for name, provider in sorted(providers().items())]
RECORDED = [
    pytest.param(provider, case, id=f"{name}-{case.name}")
    for name, provider in sorted(providers().items())
    if (FIXTURES / name).is_dir()
    for case in load_cases(FIXTURES / name)
]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_has_recorded_bodies(provider: Provider) -> None:
    assert load_cases(FIXTURES / provider.name)


def test_every_folder_of_recorded_bodies_has_its_provider() -> None:
    assert {folder.name for folder in FIXTURES.iterdir()} <= set(providers())


@pytest.mark.parametrize(("provider", "case"), RECORDED)
def test_a_recorded_body_reads_as_expected(provider: Provider, case: Case) -> None:
    check_case(provider, case)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_provider_keeps_the_promise(provider: Provider, check: Check) -> None:
    check(provider, load_cases(FIXTURES / provider.name))


TOY = """
from datetime import timedelta

from receiver.provider import NO_CHALLENGE, Budget, UnreadableBody
from receiver.reading import read_failure, read_object, read_word, segment, status_of
from store.events import Status, TaskUpdate

WORDS = {"waiting": Status.QUEUED, "done": Status.SUCCEEDED, "broken": Status.FAILED}


class Toy:
    name, title, base_url = "toy", "Toy", "https://toy.example"
    budget = Budget(requests_per_second=1, concurrency=1)
    pushes = signed = False
    words = frozenset(WORDS)

    def owns(self, status, body):
        return "state" in read_object(body)

    def challenge(self, body):
        return NO_CHALLENGE

    async def verify(self, headers, raw, keys, now):
        pass

    def parse(self, body):
        raise UnreadableBody("a toy does not push")

    def named(self, body):
        return None

    async def query(self, ask, task, now):
        answer = await ask.get("/jobs/" + segment(task.provider_task_id))
        word = read_word(read_object(answer.body).get("state"))
        if word is None:
            raise UnreadableBody("an answer without a state")
        status = status_of(word, WORDS)
        error = read_failure(None, None, word) if status is Status.FAILED else None
        return TaskUpdate(status=status, provider_status=word, error=error)

    def pace(self, task, now):
        return timedelta(seconds=5)


PROVIDER = Toy()
"""

TOY_CASES = """
{
  "source": "made up",
  "cases": [
    {
      "task": {"provider_task_id": "a/b"},
      "exchanges": [{"path": "/jobs/a%2Fb", "status": 200, "body": {"state": "waiting"}}],
      "expect": {"status": "queued", "provider_status": "waiting"}
    },
    {
      "task": {"provider_task_id": "1"},
      "exchanges": [{"path": "/jobs/1", "status": 200, "body": {"state": "done"}}],
      "expect": {"status": "succeeded", "provider_status": "done"}
    },
    {
      "task": {"provider_task_id": "1"},
      "exchanges": [{"path": "/jobs/1", "status": 200, "body": {"state": "broken"}}],
      "expect": {
        "status": "failed",
        "provider_status": "broken",
        "error": {"code": "broken", "message": ""}
      }
    }
  ]
}
"""


def toy_in(folder: Path, source: str = TOY) -> Provider:
    (folder / "toy.py").write_text(source, encoding="utf-8")
    (folder / "bodies").mkdir()
    (folder / "bodies" / "all.json").write_text(TOY_CASES, encoding="utf-8")
    return discover(folder)["toy"]


def test_a_new_provider_is_one_file_and_one_folder(tmp_path: Path) -> None:
    toy = toy_in(tmp_path)

    check_provider(toy, tmp_path / "bodies")


def test_a_provider_without_recorded_bodies_is_told_so(tmp_path: Path) -> None:
    toy = toy_in(tmp_path)
    (tmp_path / "nothing").mkdir()

    with pytest.raises(AssertionError, match="no recorded bodies in nothing/"):
        check_provider(toy, tmp_path / "nothing")


def test_a_case_must_say_where_it_is_from(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text('{"challenge_body": {}}', encoding="utf-8")

    with pytest.raises(AssertionError, match="one-1"):
        load_cases(tmp_path)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        pytest.param('"done": Status.SUCCEEDED', '"DONE": Status.SUCCEEDED', id="casing"),
        pytest.param("status_of(word, WORDS)", "WORDS[word.casefold()]", id="unknown words raise"),
        pytest.param("word is None", "False", id="odd answers raise"),
        pytest.param("segment(task.provider_task_id)", "task.provider_task_id", id="ids climb"),
        pytest.param("frozenset(WORDS)", "frozenset()", id="knows no words"),
        pytest.param("seconds=5", "seconds=0.1", id="asks too often"),
        pytest.param('raise UnreadableBody("a toy', 'raise KeyError("a toy', id="reads raise"),
        pytest.param('"toy", "Toy"', '"toy-2", "Toy"', id="no name for a setting"),
        pytest.param(
            "answer = await", 'raise ValueError("no")\n        answer = await', id="queries raise"
        ),
    ],
)
def test_a_careless_provider_is_caught(tmp_path: Path, good: str, bad: str) -> None:
    assert good in TOY
    (tmp_path / "bodies").mkdir()
    (tmp_path / "bodies" / "all.json").write_text(TOY_CASES, encoding="utf-8")
    (tmp_path / "toy.py").write_text(TOY.replace(good, bad), encoding="utf-8")
    (toy,) = discover(tmp_path).values()

    with pytest.raises((AssertionError, LookupError, ValueError, AttributeError)):
        check_provider(toy, tmp_path / "bodies")
