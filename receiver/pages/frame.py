"""The frame around every page: who is there, in which language, what may be posted, what goes wrong."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.auth import Authority, Holder
from receiver.below import below
from receiver.body import BodyTooLarge, BodyTooSlow, read_body
from receiver.endpoint import Endpoint, Reply, action_of, call_for, ids_in_path, perform
from receiver.known_states import KnownStates
from receiver.logins import Logins
from receiver.pages import assets, phrases
from receiver.pages.session import LASTS, Session, Sessions
from receiver.pages.visit import Cookie, Visit
from receiver.pages.words import LANGUAGES, TAGS, wished, words
from receiver.problems import Busy, Problem, store_away
from receiver.provider import Provider
from receiver.trouble import explained
from store.clock import Clock
from store.errors import NotFoundError, StoreUnavailableError
from store.events import Failure
from store.keys import Scope
from store.store import Store

logger = logging.getLogger("taskbell.pages")

SCREENS = {
    "tasks": "/",
    "events": "/events",
    "subscriptions": "/subscriptions",
    "deliveries": "/deliveries",
    "providers": "/providers",
}
THEMES = ("auto", "light", "dark")

FORM_LIMIT = 64 * 1024
FORM_SECONDS = 10.0
_FIELDS = 100
_YEAR = 365 * 24 * 3600
_SAID = re.compile(r"[a-z_.]{1,60}")
_TEMPLATES = Path(__file__).parent / "templates"

Handler = Callable[[Visit], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Page:
    """A path, and what is shown there. scope None: it needs no login."""

    path: str
    handler: Handler
    method: str = "GET"
    scope: Scope | None = Scope.READ


class Frame:
    """Serves pages. endpoints: the API's, whose calls are the pages' actions.

    states: every page tells which providers are down.
    """

    def __init__(
        self,
        *,
        store: Store,
        authority: Authority,
        logins: Logins,
        sessions: Sessions,
        endpoints: Sequence[Endpoint],
        public_url: str,
        clock: Clock,
        states: KnownStates,
        providers: Mapping[str, Provider],
    ) -> None:
        self._store = store
        self._authority = authority
        self._logins = logins
        self._sessions = sessions
        self._actions = {action: each for each in endpoints if (action := action_of(each))}
        public = urlsplit(public_url)
        self._public = public.netloc.lower()
        self._path = public.path
        self._clock = clock
        self._states = states
        self._providers = providers
        self._templates = _templates()

    def route(self, page: Page) -> Route:
        """The Starlette route of a page."""
        return Route(page.path, partial(self._answer, page), methods=[page.method])

    async def error(self, request: Request, problem: Problem) -> Response:
        """What went wrong, as a page, for a request that no page is there for."""
        visit = self._visit(request, None)
        with contextlib.suppress(Problem):  # with the store away nobody is known
            visit.holder = await self._who(visit)
        return self._finished(visit, self._error_page(visit, problem))

    async def bug(self, request: Request, error: Exception) -> Response:
        """The same for what nobody foresaw: with an id to look for in the log."""
        return await self.error(request, _bug("none", error))

    async def _answer(self, page: Page, request: Request) -> Response:
        visit = self._visit(request, page)
        try:
            response = await self._served(page, visit)
        except Problem as problem:
            response = self._error_page(visit, problem)
        except NotFoundError:
            response = self._error_page(visit, Problem(404, "nothing has that id"))
        except StoreUnavailableError:
            response = self._error_page(visit, store_away())
        except Exception as error:  # noqa: BLE001 - a person gets a page, too, and _bug logs it
            response = self._error_page(visit, _bug(page.path, error))
        return self._finished(visit, response)

    async def _served(self, page: Page, visit: Visit) -> Response:
        visit.ids = ids_in_path(visit.request)
        visit.holder = await self._who(visit)
        if page.method == "POST":
            visit.form = await self._form(visit)
        if page.scope is not None:
            if visit.holder is None:
                return _to_login(visit)
            visit.holder.must(page.scope)
            if page.method == "GET":
                visit.down = await self._states.down()
        return await page.handler(visit)

    def _visit(self, request: Request, page: Page | None) -> Visit:
        cookies = request.cookies
        session = self._sessions.read(cookies.get(self._sessions.cookie, ""))
        said = cookies.get(self._name("said"), "")
        visit = Visit(
            request=request,
            session=session or self._sessions.begin(),
            holder=None,
            words=words(self._language(request)),
            theme=_one_of(THEMES, cookies.get(self._name("theme"))),
            now=self._clock(),
            form={},
            ids={},
            said=said if _SAID.fullmatch(said) else None,
            _render=self._render,
            _act=self._act,
            _again=self._who,
        )
        if session is None and page is not None:
            self.remember(visit, visit.session)
        return visit

    def remember(self, visit: Visit, session: Session) -> None:
        """Give the browser this session."""
        visit.session = session
        seconds = int(LASTS.total_seconds())
        visit.cookies.append(Cookie("", self._sessions.write(session), seconds))

    def _language(self, request: Request) -> str:
        asked = request.query_params.get("lang") or request.cookies.get(self._name("language"))
        return asked if asked in LANGUAGES else wished(request.headers.get("accept-language", ""))

    def _name(self, cookie: str) -> str:
        return f"{self._sessions.cookie}-{cookie}" if cookie else self._sessions.cookie

    async def _form(self, visit: Visit) -> Mapping[str, str]:
        """What was posted. Raises Problem 403 unless one of our own pages in this session asked."""
        request = visit.request
        if not self._ours(request):
            raise Problem(403, "forms of other sites are not taken")
        if request.headers.get("content-type", "").partition(";")[0] != _FORM:
            raise Problem(415, f"send the form as {_FORM}")
        form = await _fields(request)
        if not self._sessions.fits(visit.session, form.get("form_token", "")):
            raise Problem(403, "this form is too old: load its page again")
        return form

    def _ours(self, request: Request) -> bool:
        """Whether it comes from a page of ours, as far as the browser says."""
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return False
        origin = request.headers.get("origin")
        if origin is None:
            return True
        # a proxy may end TLS, and may call us by another name than the browser does
        host = request.headers.get("host", "").lower()
        return urlsplit(origin).netloc.lower() in (host, self._public) and origin != "null"

    async def _who(self, visit: Visit) -> Holder | None:
        if not visit.session.signed_in or not self._sessions.lasts(visit.session):
            return None
        return await self._logins.admit(visit.session.id)

    async def _act(
        self, visit: Visit, action: str, value: Mapping[str, Any], ids: Mapping[str, str]
    ) -> BaseModel | None:
        holder, endpoint = visit.required(), self._actions[action]
        holder.must(endpoint.scope or Scope.READ)
        call = call_for(endpoint, visit.request, holder, ids, value)
        reply = await perform(endpoint, call, self._store)
        assert isinstance(reply, Reply)  # noqa: S101 - only a stream is none, and it changes nothing
        return reply.body

    def _render(self, visit: Visit, template: str, values: Mapping[str, Any]) -> str:
        if visit.said is not None:
            visit.cookies.append(Cookie("said", "", 0))
        page = self._templates.get_template(template).render(
            **values,
            visit=visit,
            t=visit.words,
            phrase=phrases.Phrases(visit.words, visit.now),
            title_of=self._title,
            explained=partial(self._explained, visit.words.language),
            form_token=self._sessions.form_token(visit.session),
            language_tag=TAGS[visit.words.language],
        )
        return below(self._path, page)

    def _title(self, name: str) -> str:
        provider = self._providers.get(name)
        return provider.title if provider else name

    def _explained(self, language: str, failure: Failure, name: str) -> str:
        """What a provider's failure means, when its message does not say it in this language."""
        return explained(failure, self._providers.get(name), language)

    def _error_page(self, visit: Visit, problem: Problem) -> Response:
        title = HTTPStatus(problem.status).phrase
        kind = "busy" if isinstance(problem, Busy) else str(problem.status)
        response = visit.page(
            "error.html", status=problem.status, problem=problem, kind=kind, title=title
        )
        response.headers.update(problem.headers)
        return response

    def _finished(self, visit: Visit, response: Response) -> Response:
        for name in ("location", "hx-redirect"):
            if response.headers.get(name, "").startswith("/"):
                response.headers[name] = self._path + response.headers[name]
        for cookie in visit.cookies:
            response.set_cookie(
                self._name(cookie.name),
                cookie.value,
                max_age=cookie.seconds,
                path=self._path or "/",
                secure=self._sessions.secure,
                httponly=True,
                # a link in a chat must find the session; what changes something needs a form's token
                samesite="lax",
            )
        return response

    # signing in and out, which only receiver.pages.login does

    async def sign_in(self, visit: Visit, key: str) -> bool:
        """Whether it is a key. Raises Problem 429 for one guess too many."""
        return await self._signed_in(visit, await self._authority.identify(visit.request, key))

    async def sign_in_first(self, visit: Visit) -> bool:
        """The same for who comes by a one-time link."""
        return await self._signed_in(visit, self._authority.first)

    async def sign_out(self, visit: Visit) -> None:
        """End the session, for whoever else has its cookie too. Raises StoreUnavailableError."""
        if visit.session.signed_in:
            await self._logins.end(visit.session.id)
        self.remember(visit, self._sessions.begin())

    def choose(self, visit: Visit, name: str, value: str) -> None:
        """Keep a choice of this browser's: theme or language."""
        visit.cookies.append(Cookie(name, value, _YEAR))

    async def _signed_in(self, visit: Visit, holder: Holder | None) -> bool:
        if holder is None:
            return False
        await self.sign_out(visit)  # of the session it had before, if any
        session = self._sessions.begin(signed_in=True)
        await self._logins.begin(session.id, holder, LASTS)
        self.remember(visit, session)
        return True


_FORM = "application/x-www-form-urlencoded"


async def _fields(request: Request) -> dict[str, str]:
    try:
        raw = await read_body(request, FORM_LIMIT, FORM_SECONDS)
        pairs = parse_qsl(
            raw.decode(), keep_blank_values=True, max_num_fields=_FIELDS, errors="strict"
        )
    except BodyTooLarge:
        raise Problem(413, f"the form is over {FORM_LIMIT} bytes") from None
    except BodyTooSlow:
        raise Problem(408, f"the form took longer than {FORM_SECONDS:g} s") from None
    except ClientDisconnect:
        raise Problem(400, "the connection ended before the form did") from None
    except ValueError:
        raise Problem(400, "this is not a form") from None
    return dict(pairs)


def _to_login(visit: Visit) -> Response:
    """To the login, and back to where somebody wanted to go when that was only to look."""
    if "text/event-stream" in visit.request.headers.get("accept", ""):
        return Response(status_code=401)  # a stream follows to no page
    wanted = visit.address if visit.request.method in ("GET", "HEAD") else "/"
    login = "/login" if wanted == "/" else f"/login?next={quote(wanted, safe='/')}"
    if "hx-request" in visit.request.headers:
        return Response(status_code=401, headers={"HX-Redirect": login})
    return visit.see_other(login)


def _bug(page: str, error: Exception) -> Problem:
    """Log it; the problem's detail is what to look for in the log."""
    mark = secrets.token_hex(4)
    logger.error("a page failed", exc_info=error, extra={"error_id": mark, "page": page})
    return Problem(500, mark)


def _one_of(choices: Sequence[str], value: str | None) -> str:
    return value if value is not None and value in choices else choices[0]


def _pretty(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters["pretty"] = _pretty
    environment.globals.update(
        asset=assets.address, screens=SCREENS, languages=LANGUAGES, themes=THEMES
    )
    return environment
