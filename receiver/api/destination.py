"""Where a subscription's events go, in which format: checked, and made into the columns for it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from receiver.models import SubscriptionInput, SubscriptionPatch
from receiver.problems import Problem
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

    async def check_url(self, url: str, format_name: str) -> None:
        """Whether deliveries in a format may go there. Raises ValueError with the reason."""

    def terms(self, format_name: str) -> Terms | None:
        """What the service asks that a format is for; None for one that takes any URL."""


@dataclass(frozen=True, slots=True)
class Destinations:
    rules: DestinationRules
    vault: Vault

    async def made(self, wish: SubscriptionInput) -> dict[str, Any]:
        """The columns of a new subscription. Raises Problem."""
        terms = await self._checked(wish.url, wish.format)
        return {
            "format": wish.format,
            **self._url_columns(wish.url, terms),
            "service_secret_locked": self._secret(wish.service_secret, wish.format, terms),
            "rate_per_second": wish.rate_per_second or (terms and terms.rate_per_second),
            "max_in_flight": wish.max_in_flight or (terms and terms.max_in_flight),
        }

    async def moved(self, known: Subscription, wish: SubscriptionPatch) -> dict[str, Any]:
        """The columns that a change of these fields changes. Raises Problem."""
        given = wish.model_fields_set
        if given.isdisjoint(("url", "format", "service_secret", *_PACE)):
            return {}
        format_name = wish.format or known.format
        terms = self._terms(format_name)
        columns: dict[str, Any] = {}
        if "url" in given or "format" in given:
            url = wish.url or self._kept_url(known, format_name, terms)
            await self._checked(url, format_name)
            columns = {"format": format_name, **self._url_columns(url, terms)}
            columns["next_send_at"] = None  # another door was asked to be left alone
        if "service_secret" in given:
            secret = self._secret(wish.service_secret, format_name, terms)
            columns["service_secret_locked"] = secret
        elif format_name != known.format:
            columns["service_secret_locked"] = None  # it was the other service's
        return columns | self._pace(known, wish, terms)

    async def _checked(self, url: str, format_name: str) -> Terms | None:
        terms = self._terms(format_name)
        try:
            await self.rules.check_url(url, format_name)
        except ValueError as error:
            raise Problem(422, f"field 'url': {error}") from None
        return terms

    def _terms(self, format_name: str) -> Terms | None:
        if format_name not in self.rules.formats:
            reason = not_known(format_name, "a format", sorted(self.rules.formats))
            raise Problem(422, f"field 'format': {reason}")
        return self.rules.terms(format_name)

    def _url_columns(self, url: str, terms: Terms | None) -> dict[str, Any]:
        if terms is None:
            return {"url": url, "url_locked": None}
        return {"url": masked(url), "url_locked": self.vault.lock(url)}

    def _kept_url(self, known: Subscription, format_name: str, terms: Terms | None) -> str:
        if known.url_locked is None:
            return known.url
        if terms is None:
            raise Problem(
                422,
                f"field 'url': give it, too: format {format_name!r} would show the one that is"
                " kept secret now",
            )
        try:
            return str(self.vault.open(known.url_locked))
        except VaultError as error:
            raise Problem(422, f"field 'url': give it, too: {error}") from None

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


def masked(url: str) -> str:
    """A secret URL as it may be shown; apprise's have tokens in the place of a host, too.

    >>> masked("https://hooks.slack.com/services/T0/B0/hush"), masked("pover://hush@hush")
    ('https://hooks.slack.com/…', 'pover://…')
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return f"{parts.scheme}://…"
    return f"{parts.scheme}://{parts.netloc}/…"
