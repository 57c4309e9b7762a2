"""What dispatch has to say about a subscription; receiver/api/subscriptions.py asks."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Collection

from dispatch.guard import Guard, NoSuchHost, Place, public
from dispatch.headers import check_headers
from dispatch.hooks import advice, default_format, misuse, placeholder, service_at
from dispatch.places import normalized, origin
from dispatch.shape import check as check_shape
from dispatch.signing import new_secret
from dispatch.sink import Event, Sink, Target, sinks
from dispatch.sinks.apprise import Apprise
from receiver.api.destination import Terms


class SubscriptionRules:
    def __init__(self, guard: Guard, sample: Callable[[], Event]) -> None:
        """Sample makes an event for shapes to be tried on."""
        self._guard = guard
        self._sample = sample
        self.formats: Collection[str] = sinks().keys()

    def new_secret(self) -> str:
        return new_secret()

    def check_headers(self, headers: dict[str, str]) -> dict[str, str]:
        return check_headers(headers)

    def check_shape(self, format_name: str, shape: str) -> None:
        if sinks()[format_name].service is not None:
            raise ValueError(
                "a chat's messages have the shape that it shows; format 'webhook' takes any"
            )
        check_shape(shape, json.loads(self._sample().body))

    def terms(self, format_name: str) -> Terms | None:
        service = sinks()[format_name].service
        if service is None:
            return None
        return Terms(service.signs, service.rate_per_second, service.max_in_flight)

    def format_for(self, url: str) -> str:
        return default_format(url)

    def secret_url(self, url: str, format_name: str) -> bool:
        return sinks()[format_name].service is not None or service_at(url) is not None

    def place(self, url: str, format_name: str) -> str:
        """The origin; of a chat the whole URL, for everybody's webhooks have one host there."""
        return normalized(url) if sinks()[format_name].service is not None else origin(url)

    def normalized(self, url: str) -> str:
        return normalized(url)

    def check_format(self, url: str, format_name: str, shape: str | None) -> None:
        trouble = misuse(url, format_name, shape)
        if trouble:
            raise ValueError(trouble)

    def advice(self, url: str, format_name: str) -> str | None:
        return advice(url, format_name)

    async def check_url(self, url: str, format_name: str) -> None:
        """A chat format's URL must be one of its service's own, or of a fake one on our networks.

        Of an apprise URL it is where the request would go that counts.
        """
        sink = sinks()[format_name]
        if service_at(url) is not None:
            _check_placeholder(url, sink)  # first: an example is no URL in other ways, too
        if isinstance(sink, Apprise):
            sample = self._sample()
            url = (await sink.rendered(sample, Target("", url, (), {}), sample.time)).url
        place, service = self._guard.check_url(url), sink.service
        strange = service is not None and not service.owns(place.scheme, place.host, place.port)
        try:
            addresses = await self._addresses(place)
        except NoSuchHost:
            # a name without an address today may have one tomorrow; each attempt checks again
            addresses = []
        if service is None or isinstance(sink, Apprise):
            return
        _check_placeholder(url, sink)
        if not service.fits(url) or (strange and not _opened(addresses)):
            raise ValueError(service.rule)

    async def _addresses(self, place: Place) -> list[str]:
        if place.address is not None:
            return [str(place.address)]
        return await self._guard.addresses(place.host, place.port)


def _check_placeholder(url: str, sink: Sink) -> None:
    chat = service_at(url) or sink.service
    if chat is not None and placeholder(url):
        raise ValueError(
            f"this is an example of {chat.title}'s webhooks, with a placeholder where the secret"
            f" goes: copy your own from {chat.title}, it looks like {chat.form}"
        )


def _opened(addresses: list[str]) -> bool:
    """Whether the operator opened these: the guard let them pass, and they are not public."""
    return bool(addresses) and not any(public(ipaddress.ip_address(each)) for each in addresses)
