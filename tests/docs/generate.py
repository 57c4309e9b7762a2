"""Write the pages under deploy/docs/reference again: python -m tests.docs.generate."""

from __future__ import annotations

from tests.docs.pages import DOCS
from tests.docs.reference import PAGES, written

if __name__ == "__main__":
    for name in PAGES:
        (DOCS / "reference" / name).write_text(written(name), encoding="utf-8")
