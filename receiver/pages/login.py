"""Signing in and out, and what a browser chooses for itself: language and theme."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.responses import Response

from receiver.pages.frame import THEMES, Frame, Page
from receiver.pages.once import OnceLinks
from receiver.pages.visit import Visit
from receiver.pages.words import LANGUAGES

# no second slash, no backslash: browsers would read another host's name there
_LOCAL = re.compile(r"/(?![/\\])[A-Za-z0-9_./?&=%:+~-]{0,500}")


@dataclass(frozen=True, slots=True)
class LoginPages:
    frame: Frame
    links: OnceLinks

    def pages(self) -> list[Page]:
        return [
            Page("/login", self.form, scope=None),
            Page("/login", self.sign_in, "POST", scope=None),
            Page("/logout", self.sign_out, "POST", scope=None),
            Page("/settings", self.choose, "POST", scope=None),
        ]

    async def form(self, visit: Visit) -> Response:
        query = visit.request.query_params
        wanted, once = local(query.get("next", "")), query.get("once", "")
        if visit.holder is not None and not once:
            return visit.see_other(wanted)
        if once and not self.links.good(once):
            return visit.page("login.html", once="", wanted=wanted, wrong="link")
        return visit.page("login.html", once=once, wanted=wanted, wrong=None)

    async def sign_in(self, visit: Visit) -> Response:
        wanted, once = local(visit.form.get("next", "")), visit.form.get("once", "")
        if once:
            good = self.links.use(once) and await self.frame.sign_in_first(visit)
        else:
            good = await self.frame.sign_in(visit, visit.form.get("key", "").strip())
        if good:
            return visit.see_other(wanted)
        wrong = "link" if once else "key"
        return visit.page("login.html", status=401, once="", wanted=wanted, wrong=wrong)

    async def sign_out(self, visit: Visit) -> Response:
        await self.frame.sign_out(visit)
        return visit.see_other("/login", "signed_out")

    async def choose(self, visit: Visit) -> Response:
        for name, choices in (("language", LANGUAGES), ("theme", THEMES)):
            if visit.form.get(name) in choices:
                self.frame.choose(visit, name, visit.form[name])
        return visit.see_other(local(visit.form.get("next", "")))


def local(path: str) -> str:
    r"""A path of ours to go on to; the first page for anything else.

    >>> local("/tasks/task_1?tab=2"), local("//evil.example"), local("/\\evil"), local("https://x")
    ('/tasks/task_1?tab=2', '/', '/', '/')
    """
    return path if _LOCAL.fullmatch(path) else "/"
