"""Where a subscription's events go, in which format: checked, and made into the columns for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from receiver.models import SubscriptionInput, SubscriptionPatch
from receiver.problems import Problem
from store.events import types_of
from store.matching import Subscription
from store.nearest import not_known
from store.vault import Vault, VaultError

_PACE = ("rate_per_second", "max_in_flight")


@dataclass(frozen=True, slots=True)
class Terms:
    """What the one service asks that a format is for. Its URLs are secrets.

    signs: it may be given a secret to sign with. The other two are its pace.
    """

    signs: bool
    rate_per_second: float
    max_in_flight: int


class DestinationRules(Protocol):
    """What dispatch decides about destinations; the app joins the two (deploy/rules.py)."""

    formats: Collection[str]

    def format_for(self, url: str) -> str:
        """Return the format that a URL's host chooses."""

    async def check_url(self, url: str, format_name: str) -> None:
        """Whether deliveries in a format may go there. Raises ValueError with the reason."""

    def check_format(self, url: str, format_name: str, shape: str | None) -> None:
        """Raise ValueError for a format that no chat at this URL could take."""

    def normalized(self, url: str) -> str:
        """Return a URL in one spelling."""

    def secret_url(self, url: str, format_name: str) -> bool:
        """Return whether whoever has the URL may post with it: a chat's, in any format."""

    def place(self, url: str, format_name: str) -> str:
        """Return what secrets given for a URL are bound to, in one spelling."""

    def advice(self, url: str, format_name: str) -> str | None:
        """Return what is wrong with a URL, which may be masked, in a format; None when nothing."""

    def terms(self, format_name: str) -> Terms | None:
        """What the service asks that a format is for; None for one that takes any URL."""


@dataclass(frozen=True, slots=True)
class Wants:
    """Which events a subscription wants, in one spelling."""

    types: frozenset[str]
    providers: frozenset[str]
    metadata: dict[str, Any]
    filter: dict[str, Any]

    @classmethod
    def of(cls, wish: SubscriptionInput) -> Wants:
        return cls._of(wish.types, wish.providers, wish.metadata, wish.filter)

    @classmethod
    def _of(
        cls,
        types: Collection[str] | None,
        providers: Collection[str] | None,
        metadata: Mapping[str, Any] | None,
        condition: Mapping[str, Any] | None,
    ) -> Wants:
        """A name is left out where one with a star covers it; all names of a family are its star."""
        named = frozenset(types or (_ALL,))
        if types_of((_ALL,)) <= named:
            named |= {_ALL}
        stars = {name for name in named if name.endswith(".*")}
        named = frozenset(n for n in named if n in stars or f"{n.partition('.')[0]}.*" not in stars)
        return cls(named, frozenset(providers or ()), dict(metadata or {}), dict(condition or {}))

    def changed(self, wish: SubscriptionPatch) -> Wants:
        """Return them after a patch."""
        given = {name: getattr(wish, name) for name in _WANTS if name in wish.model_fields_set}
        return self._of(*(given.get(name, getattr(self, name)) for name in _WANTS))


def wants_of(known: Subscription) -> Wants:
    interest = known.interest
    return Wants._of(interest.types, interest.providers, interest.metadata, known.filter)


_WANTS = ("types", "providers", "metadata", "filter")
_ALL = "task.*"


@dataclass(frozen=True, slots=True)
class Move:
    """A URL that leads to another place than the one before. secrets: what became of each."""

    before: str
    after: str
    secrets: dict[str, str]

    def remarks(self) -> dict[str, Any]:
        """Return what the audit says about it."""
        return {"moved": {"from": self.before, "to": self.after, "secrets": self.secrets}}


@dataclass(frozen=True, slots=True)
class Change:
    """The columns that a patch changes, and where it moves the subscription, if it does."""

    columns: dict[str, Any]
    move: Move | None = None


@dataclass(frozen=True, slots=True)
class Destinations:
    rules: DestinationRules
    vault: Vault

    async def made(self, wish: SubscriptionInput) -> dict[str, Any]:
        """The columns of a new subscription. Raises Problem."""
        if wish.format is None and "format" in wish.model_fields_set:
            raise Problem(422, "field 'format' cannot be null: leave it out, the host chooses it")
        format_name = wish.format or self.rules.format_for(wish.url)
        terms = await self._checked(wish.url, format_name, wish.shape)
        return {
            "format": format_name,
            **self._url_columns(wish.url, format_name),
            "service_secret_locked": self._secret(wish.service_secret, format_name, terms),
            "rate_per_second": wish.rate_per_second or (terms and terms.rate_per_second),
            "max_in_flight": wish.max_in_flight or (terms and terms.max_in_flight),
        }

    async def moved(self, known: Subscription, wish: SubscriptionPatch) -> Change:
        """What a patch of these fields changes. Raises Problem."""
        given = wish.model_fields_set
        if given.isdisjoint(("url", "format", "shape", "service_secret", *_PACE)):
            return Change({})
        format_name = wish.format or known.format
        terms = self._terms(format_name)
        columns: dict[str, Any] = {}
        move = None
        if not given.isdisjoint(("url", "format", "shape")):
            shape = wish.shape if "shape" in given else known.shape
            url = wish.url or self._kept_url(known, format_name, terms)
            await self._checked(url, format_name, shape)
            move = self._move(known, wish, url, format_name, terms)
            if not given.isdisjoint(("url", "format")):
                columns = {"format": format_name, **self._url_columns(url, format_name)}
                columns["next_send_at"] = None  # another door was asked to be left alone
        if "service_secret" in given:
            secret = self._secret(wish.service_secret, format_name, terms)
            columns["service_secret_locked"] = secret
        elif format_name != known.format:
            columns["service_secret_locked"] = None  # it was the other service's
        return Change(columns | self._pace(known, wish, terms), move)

    def _move(
        self,
        known: Subscription,
        wish: SubscriptionPatch,
        url: str,
        format_name: str,
        terms: Terms | None,
    ) -> Move | None:
        """Return where the URL moves to, None when it stays where it was.

        Raises Problem when a stored secret would move along that was not given again.
        """
        before = self._known_url(known)
        if before is not None and (
            self.rules.place(before, known.format) == self.rules.place(url, format_name)
        ):
            return None
        stored = {
            "headers": bool(known.header_names or known.headers_locked),
            "service_secret": known.service_secret_locked is not None
            and terms is not None
            and terms.signs,
        }
        left = [name for name in stored if stored[name] and name not in wish.model_fields_set]
        if left:
            raise Problem(422, _stays_behind(left))
        return Move(
            before=_start(before or known.url),
            after=_start(url),
            secrets={
                name: "given again" if getattr(wish, name) else "dropped"
                for name in stored
                if stored[name]
            },
        )

    async def _checked(self, url: str, format_name: str, shape: str | None) -> Terms | None:
        terms = self._terms(format_name)
        try:
            await self.rules.check_url(url, format_name)
        except ValueError as error:
            raise Problem(422, f"field 'url': {error}") from None
        try:
            self.rules.check_format(url, format_name, shape)
        except ValueError as error:
            raise Problem(422, f"field 'format': {error}") from None
        return terms

    def _terms(self, format_name: str) -> Terms | None:
        if format_name not in self.rules.formats:
            reason = not_known(format_name, "a format", sorted(self.rules.formats))
            raise Problem(422, f"field 'format': {reason}")
        return self.rules.terms(format_name)

    def _url_columns(self, url: str, format_name: str) -> dict[str, Any]:
        if not self.rules.secret_url(url, format_name):
            return {"url": url, "url_locked": None}
        return {"url": masked(url), "url_locked": self.vault.lock(url)}

    def shown(self, known: Subscription) -> str:
        """Return the URL as it may be shown, also when an older version stored a chat's in clear."""
        if known.url_locked is None and self.rules.advice(known.url, known.format):
            return masked(known.url)
        return known.url

    def _kept_url(self, known: Subscription, format_name: str, terms: Terms | None) -> str:
        if known.url_locked is None:
            return known.url
        try:
            url = str(self.vault.open(known.url_locked))
        except VaultError as error:
            raise Problem(422, f"field 'url': give it, too: {error}") from None
        if not self.rules.secret_url(url, format_name):
            raise Problem(
                422,
                f"field 'url': give it, too: format {format_name!r} would show the one that is"
                " kept secret now",
            )
        return url

    def twin_of(self, url: str, wants: Wants) -> Callable[[Subscription], bool]:
        """Return what tells whether a subscription sends the same events to the same URL."""
        spelling = self.rules.normalized(url)

        def twin(known: Subscription) -> bool:
            if wants_of(known) != wants:
                return False
            other = self._known_url(known)
            return other is not None and self.rules.normalized(other) == spelling

        return twin

    def twin_after(
        self, known: Subscription, wish: SubscriptionPatch
    ) -> Callable[[Subscription], bool] | None:
        """Return the same for a patch; None when it changes neither the URL nor the wants."""
        before = self._known_url(known)
        url, wants = wish.url or before, wants_of(known).changed(wish)
        if wish.allow_duplicate or url is None:
            return None
        if wants == wants_of(known) and self._spelling(url) == self._spelling(before):
            return None
        return self.twin_of(url, wants)

    def _spelling(self, url: str | None) -> str | None:
        return None if url is None else self.rules.normalized(url)

    def _known_url(self, known: Subscription) -> str | None:
        """Return the whole URL, None when no key opens it any more."""
        if known.url_locked is None:
            return known.url
        try:
            return str(self.vault.open(known.url_locked))
        except VaultError:
            return None

    def _secret(self, secret: str | None, format_name: str, terms: Terms | None) -> str | None:
        if secret is None:
            return None
        if terms is None or not terms.signs:
            raise Problem(422, f"field 'service_secret': format {format_name!r} has no use for one")
        return self.vault.lock(secret)

    def _pace(
        self, known: Subscription, wish: SubscriptionPatch, terms: Terms | None
    ) -> dict[str, Any]:
        """A service's own pace wherever nobody chose another one."""
        before = self.rules.terms(known.format) if known.format in self.rules.formats else None
        columns = {}
        for name in _PACE:
            chosen = getattr(wish if name in wish.model_fields_set else known, name)
            if chosen is None or (before and chosen == getattr(before, name)):
                chosen = getattr(terms, name, None)
            if chosen != getattr(known, name) or name in wish.model_fields_set:
                columns[name] = chosen
        return columns


def _stays_behind(names: list[str]) -> str:
    fields = " and ".join(repr(name) for name in names)
    again, them = ("it", "what is stored was") if len(names) == 1 else ("them", "they were")
    return (
        f"field{'s' if len(names) > 1 else ''} {fields}: give {again} again in this call, or null:"
        f" the URL leads to another place, and {them} given for the one before"
    )


def _start(url: str) -> str:
    """Return how a URL begins, which may be in the audit: of an apprise URL the scheme alone."""
    return masked(url).removesuffix("/…").removesuffix("…")


def masked(url: str) -> str:
    """A secret URL as it may be shown; apprise's have tokens in the place of a host, too.

    >>> masked("https://hooks.slack.com/services/T0/B0/hush"), masked("pover://hush@hush")
    ('https://hooks.slack.com/…', 'pover://…')
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return f"{parts.scheme}://…"
    return f"{parts.scheme}://{parts.netloc}/…"
