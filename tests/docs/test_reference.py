"""The pages of reference say what the code does: they are written from it."""

from __future__ import annotations

import pytest

from deploy.setting_names import GENERAL, OF_A_PROVIDER, Setting
from deploy.settings import PREFIX, Settings, client_settings, load
from tests.docs.pages import DOCS
from tests.docs.reference import PAGES, written

AS_WRITTEN = [each for each in GENERAL if each.default is not None]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_as_the_code_would_write_it(name: str) -> None:
    kept = (DOCS / "reference" / name).read_text(encoding="utf-8")

    assert kept == written(name), "write it again: python -m tests.docs.generate"


def test_there_is_no_other_page_of_reference() -> None:
    assert {path.name for path in (DOCS / "reference").iterdir()} == set(PAGES)


@pytest.mark.parametrize("setting", AS_WRITTEN, ids=lambda each: each.name)
def test_a_default_stands_for_leaving_the_setting_out(setting: Setting) -> None:
    given = {PREFIX + setting.name: setting.default or ""}

    assert load(given) == load({})
    assert client_settings(given) == client_settings({})


def test_a_provider_s_default_stands_for_leaving_it_out() -> None:
    given = {f"{PREFIX}MINIMAX_{each.name}": each.default for each in OF_A_PROVIDER if each.default}

    assert load(given) == load({})


def test_every_setting_that_a_process_has_is_in_the_table() -> None:
    named = {each.name.lower() for each in GENERAL}

    fields = set(Settings.__dataclass_fields__) - {"providers"}
    assert {field for field in fields if not any(n.startswith(field) for n in named)} == set()
