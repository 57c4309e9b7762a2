"""A visit: one request for a page by somebody who may see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from receiver.auth import Holder
from receiver.endpoint import validated
from receiver.pages.session import Session
from receiver.pages.words import Words
from receiver.problems import Problem
from store.keys import Scope
from store.provider_states import ProviderState

M = TypeVar("M", bound=BaseModel)

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'{0};"
    " media-src 'self'{0}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""{0}: where else previews may come from."""

SAID_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Cookie:
    """A cookie to be set with the answer; seconds None: until the browser is closed; 0: never."""

    name: str
    value: str
    seconds: int | None


Act = Callable[["Visit", str, Mapping[str, Any], Mapping[str, str]], Awaitable[BaseModel | None]]
Again = Callable[["Visit"], Awaitable[Holder | None]]
Render = Callable[["Visit", str, Mapping[str, Any]], str]


@dataclass(slots=True)
class Visit:
    """holder: None only on pages that need no login. form: what was posted, last value of a name.

    said: what the action before this page came to, a key under `said.` in the catalogues. down: the
    providers that are.
    """

    request: Request
    session: Session
    holder: Holder | None
    words: Words
    theme: str
    now: datetime
    form: Mapping[str, str]
    ids: Mapping[str, str]
    said: str | None
    down: Sequence[ProviderState] = ()
    cookies: list[Cookie] = field(default_factory=list)
    _render: Render = field(kw_only=True)
    _act: Act = field(kw_only=True)
    _again: Again = field(kw_only=True)

    @property
    def id(self) -> str:
        """The id in the path."""
        return self.ids["id"]

    @property
    def address(self) -> str:
        """The path and query of this very page."""
        query = self.request.url.query
        return self.request.url.path + (f"?{query}" if query else "")

    def may(self, scope: str) -> bool:
        """Whether the key is strong enough; pages leave out what it may not press."""
        return self.holder is not None and self.holder.scope.allows(Scope(scope))

    def query(self, model: type[M]) -> M:
        """The query as its model: unknown names and empty values, as forms send them, are left out.

        Raises Problem 422 for a value that the model refuses.
        """
        given = self.request.query_params
        values = {name: given[name] for name in model.model_fields if given.get(name)}
        return validated(model, values, "filter")

    def page(
        self, template: str, *, status: int = 200, previews: bool = False, **values: Any
    ) -> Response:
        """A page. previews: it may load pictures and films from elsewhere."""
        headers = {
            "content-security-policy": CSP.format(" https: http:" if previews else ""),
            "referrer-policy": "same-origin",  # with none at all, our own forms come from "null"
        }
        return HTMLResponse(self._render(self, template, values), status, headers)

    def see_other(self, path: str, said: str | None = None) -> Response:
        """After a form: look at that page, which says what came of it."""
        if said:
            self.cookies.append(Cookie("said", said, SAID_SECONDS))
        return RedirectResponse(path, 303)

    async def act(
        self, action: str, value: Mapping[str, Any] | None = None, **ids: str
    ) -> BaseModel | None:
        """Do what the API's endpoint of that action does, as the holder of this session's key.

        value: the body, as JSON would have it. ids: of the endpoint's path; left out, it is this
        page's. Returns the body of its answer. Raises Problem.
        """
        return await self._act(self, action, value or {}, ids or self.ids)

    async def still_there(self) -> Holder | None:
        """Who it is by now; None when the session, or its key, ended meanwhile."""
        return await self._again(self)

    def required(self) -> Holder:
        """Who it is, on a page that needs a login."""
        if self.holder is None:
            raise Problem(401, "sign in first")
        return self.holder
