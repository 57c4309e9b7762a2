"""Subscriptions: who gets events, how the last day went for each, and what one does about it."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit

from pydantic import StringConstraints
from starlette.responses import Response

from receiver.models import Id, Query, SubscriptionWithSecret, TrialView
from receiver.pages.frame import Page
from receiver.pages.reasons import explanation
from receiver.pages.tasks import Words, shown
from receiver.pages.visit import Visit
from receiver.problems import Problem
from store.backlog import EXPIRING_WITHIN, Backlog, read_backlogs
from store.errors import NotFoundError
from store.events import EVENT_TYPES
from store.keys import Scope
from store.matching import Subscription
from store.newest import LOOK
from store.owed import MOST
from store.store import Store
from store.subscriberlist import State, Subscriber, Wanted, get_subscriber, list_subscribers

LIMIT = 50
_LONGEST_PATH = 16

FormatName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,40}$")]


class SubscriptionsFilter(Query):
    """What the form above the list sends. before: older than this subscription."""

    state: State | None = None
    format: FormatName | None = None
    q: Words | None = None
    before: Id | None = None

    @property
    def chosen(self) -> dict[str, str]:
        """The filters alone, by the names of their fields."""
        fields = {"state": self.state, "format": self.format, "q": self.q}
        return {name: str(value) for name, value in fields.items() if value}

    def link(self, *without: str, **more: str) -> str:
        """The list with these filters, but for some, and from somewhere else."""
        query = {name: value for name, value in self.chosen.items() if name not in without} | more
        return f"/subscriptions?{urlencode(query)}" if query else "/subscriptions"


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be sent, with nothing secret in it. event_id: None when a sample stands in.

    trouble: why nothing could be made of the event; there is no body then.
    """

    event_id: str | None
    event_type: str
    method: str
    headers: Mapping[str, str]
    body: bytes
    trouble: str | None = None

    @property
    def text(self) -> str:
        """The body, indented when it is JSON."""
        try:
            return json.dumps(json.loads(self.body), ensure_ascii=False, indent=2)
        except ValueError:
            return self.body.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class SubscriptionPages:
    """formats: how each is called, by its name; signing: those whose secret a receiver checks.

    chat_at: the chat format that the host of a URL belongs to. retention: how long what waits is
    kept.
    """

    store: Store
    formats: Mapping[str, str]
    signing: Sequence[str]
    preview: Callable[[Subscription], Awaitable[Preview]]
    chat_at: Callable[[str], str | None]
    retention: timedelta

    def pages(self) -> list[Page]:
        one = "/subscriptions/{id}"
        return [
            Page("/subscriptions", self.list),
            Page("/subscriptions/new", self.blank),
            Page("/subscriptions/new", self.create, "POST"),
            Page(one, self.show),
            Page(f"{one}/pause", self.pause, "POST"),
            Page(f"{one}/resume", self.resume, "POST"),
            Page(f"{one}/test", self.back),
            Page(f"{one}/test", self.test, "POST"),
            Page(f"{one}/rotate-secret", self.sure),
            Page(f"{one}/rotate-secret", self.rotate, "POST"),
            Page(f"{one}/delete", self.sure),
            Page(f"{one}/delete", self.delete, "POST"),
        ]

    async def list(self, visit: Visit) -> Response:
        wanted = visit.query(SubscriptionsFilter)
        found = await self.store.read(
            list_subscribers,
            Wanted(wanted.state, wanted.format, wanted.q),
            visit.now,
            limit=LIMIT,
            before=wanted.before,
        )
        return visit.page(
            "subscriptions.html",
            wanted=wanted,
            subscribers=found.subscribers,
            removals=[
                (visit.words(f"filter.{name}"), self._shown(visit, name, value), wanted.link(name))
                for name, value in wanted.chosen.items()
            ],
            older=found.older and wanted.link(before=found.older),
            newer=None,
            state_names=[(each, visit.words(f"state.{each}")) for each in State],
            **self._common(),
        )

    async def show(self, visit: Visit) -> Response:
        subscriber = await self._subscriber(visit)
        return visit.page(
            "subscription.html",
            subscriber=subscriber,
            preview=await self.preview(subscriber.subscription),
            misplaced=self._misplaced(subscriber.subscription),
            backlog=await self._backlog(visit.id),
            retention=self.retention,
            expires_soon=EXPIRING_WITHIN,
            look=LOOK,
            **self._common(),
        )

    async def _backlog(self, subscription_id: str) -> Backlog:
        found = await self.store.read(read_backlogs, [subscription_id])
        return found.get(subscription_id, Backlog())

    def _misplaced(self, known: Subscription) -> str | None:
        """Return the chat format that a URL's host wants, where the subscription has another."""
        return self.chat_at(known.url) if known.format in self.signing else None

    async def blank(self, visit: Visit) -> Response:
        return self._form(visit, {}, None)

    async def create(self, visit: Visit) -> Response:
        try:
            made = await visit.act("subscription.created", _wish(visit.form))
        except Problem as problem:
            if problem.status not in (409, 422):
                raise
            return self._form(visit, visit.form, problem)
        assert isinstance(made, SubscriptionWithSecret)  # noqa: S101 - what the endpoint answers
        if made.format not in self.signing:
            return visit.see_other(f"/subscriptions/{made.id}", "subscription.created")
        return self._secret(visit, made, "created")

    async def pause(self, visit: Visit) -> Response:
        await visit.act("subscription.paused")
        return visit.see_other(f"/subscriptions/{visit.id}", "subscription.paused")

    async def resume(self, visit: Visit) -> Response:
        skip = visit.form.get("backlog") == "skip"
        await visit.act("subscription.resumed", {"backlog": "skip" if skip else "send"})
        said = "subscription.resumed_skipping" if skip else "subscription.resumed"
        return visit.see_other(f"/subscriptions/{visit.id}", said)

    async def test(self, visit: Visit) -> Response:
        subscriber = await self._subscriber(visit)
        trial = await visit.act("subscription.tested")
        assert isinstance(trial, TrialView)  # noqa: S101 - what the endpoint answers
        return visit.page(
            "subscription_trial.html",
            subscriber=subscriber,
            trial=trial,
            meaning=explanation(
                visit.words, trial.reason, trial.status_code, subscriber.subscription.format
            ),
        )

    async def rotate(self, visit: Visit) -> Response:
        made = await visit.act("subscription.secret_rotated")
        assert isinstance(made, SubscriptionWithSecret)  # noqa: S101 - what the endpoint answers
        return self._secret(visit, made, "rotated")

    async def delete(self, visit: Visit) -> Response:
        await visit.act("subscription.deleted")
        return visit.see_other("/subscriptions", "subscription.deleted")

    async def sure(self, visit: Visit) -> Response:
        """What the last part of the path would do, and its button."""
        visit.required().must(Scope.WRITE)
        what = visit.request.url.path.rpartition("/")[2]
        subscriber = await self._subscriber(visit)
        return visit.page(
            "subscription_sure.html", subscriber=subscriber, what=what, **self._common()
        )

    async def back(self, visit: Visit) -> Response:
        """Whoever loads the page behind a form again, or changes its language, gets here."""
        return visit.see_other(f"/subscriptions/{visit.id}")

    async def _subscriber(self, visit: Visit) -> Subscriber:
        found = await self.store.read(get_subscriber, visit.id, visit.now)
        if found is None:
            raise NotFoundError("no such subscription")
        return found

    def _form(self, visit: Visit, given: Mapping[str, str], trouble: Problem | None) -> Response:
        visit.required().must(Scope.WRITE)
        twin = _ID.search(trouble.detail) if trouble and trouble.status == 409 else None
        return visit.page(
            "subscription_new.html",
            status=trouble.status if trouble else 200,
            given=given,
            trouble=trouble.detail if trouble else None,
            twin=twin[0] if twin else None,
            types=EVENT_TYPES,
            **self._common(),
        )

    def _secret(self, visit: Visit, made: SubscriptionWithSecret, what: str) -> Response:
        """The only time that it is shown: in the answer itself, which nobody keeps."""
        return visit.page("subscription_secret.html", made=made, what=what, target=target(made.url))

    def _common(self) -> dict[str, Any]:
        return {"formats": self.formats, "signing": self.signing, "target": target, "most": MOST}

    def _shown(self, visit: Visit, name: str, value: str) -> str:
        return self.formats.get(value, value) if name == "format" else shown(visit, name, value)


def target(url: str) -> str:
    """A subscriber's URL as pages show it: enough to know it by, for its path may be its password.

    >>> target("https://a.example/hook?key=1"), target("https://a.example/hooks/catch/9f8e7d6c5b4a")
    ('https://a.example/hook?…', 'https://a.example/…5b4a')
    """
    parts = urlsplit(url)
    path = parts.path if len(parts.path) <= _LONGEST_PATH else f"/…{parts.path[-4:]}"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{path}{'?…' if parts.query else ''}"


_ID = re.compile(r"\bsub_[0-9a-z]{26}\b")
_TYPE = "type:"


def _wish(form: Mapping[str, str]) -> dict[str, Any]:
    """The form as the API's body: what was left empty is left out."""
    names = ("url", "format", "language", "description", "service_secret")
    wish: dict[str, Any] = {name: text for name in names if (text := form.get(name, "").strip())}
    types = [name.removeprefix(_TYPE) for name in form if name.startswith(_TYPE)]
    if form.get("allow_duplicate"):
        wish["allow_duplicate"] = True
    return wish | ({"types": types} if types else {})
