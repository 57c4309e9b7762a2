"""A person at the dashboard of a test's Taskbell: signs in, reads pages, presses buttons."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import httpx

from tests.app import ADMIN_KEY, Taskbell

_TOKEN = re.compile(r'name="form_token" value="([^"]+)"')
ORIGIN = "http://taskbell.test"


@dataclass(frozen=True, slots=True)
class Browser:
    """Keeps cookies, and says where its forms come from, as browsers do."""

    client: httpx.AsyncClient
    origin: str = ORIGIN

    async def see(self, path: str, status: int = 200, **headers: str) -> str:
        """A page's HTML; it must be of that status."""
        answer = await self.client.get(path, headers=headers)
        assert answer.status_code == status, f"{answer.status_code}: {answer.text[:500]}"
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        return answer.text

    async def press(self, page: str, path: str, **fields: Any) -> httpx.Response:
        """Send a form as it is on a page of ours; what is answered."""
        token = _TOKEN.search(await self.see(page))
        assert token is not None
        return await self.post(path, form_token=token[1], **fields)

    async def post(self, path: str, **fields: Any) -> httpx.Response:
        """Send fields from our own site."""
        return await self.client.post(path, data=fields, headers={"origin": self.origin})

    async def sign_in(self, key: str = ADMIN_KEY, **fields: str) -> httpx.Response:
        return await self.press("/login", "/login", key=key, **fields)


def browser(taskbell: Taskbell) -> Browser:
    """One that nobody has signed in with."""
    transport = httpx.ASGITransport(taskbell.app, raise_app_exceptions=False)
    return Browser(httpx.AsyncClient(transport=transport, base_url=ORIGIN))


async def signed_in(taskbell: Taskbell, key: str = ADMIN_KEY) -> Browser:
    person = browser(taskbell)
    answer = await person.sign_in(key)
    assert answer.status_code == 303, answer.text[:500]
    return person


@dataclass(slots=True)
class Element:
    tag: str
    attributes: dict[str, str | None]


class Document(HTMLParser):
    """What a browser would make of a page: its elements, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._texts: list[str] = []
        self.feed(html)
        self.close()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._texts).split())

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Those of a tag that have these attributes; `_` stands for `-`, a last one for nothing."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [e for e in self.elements if e.tag == tag and wanted.items() <= e.attributes.items()]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self._texts.append(data)
