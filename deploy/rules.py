"""What dispatch has to say about a subscription; receiver/api/subscriptions.py asks."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Collection

from dispatch.guard import Guard, NoSuchHost, Place, public
from dispatch.headers import check_headers
from dispatch.shape import check as check_shape
from dispatch.signing import new_secret
from dispatch.sink import Event, Target, sinks
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
            raise ValueError("a chat's messages have the shape that it shows")
        check_shape(shape, json.loads(self._sample().body))

    def terms(self, format_name: str) -> Terms | None:
        service = sinks()[format_name].service
        if service is None:
            return None
        return Terms(service.signs, service.rate_per_second, service.max_in_flight)

    async def check_url(self, url: str, format_name: str) -> None:
        """A chat format's URL must be one of its service's own, or of a fake one on our networks.

        Of an apprise URL it is where the request would go that counts.
        """
        sink = sinks()[format_name]
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
        if not service.fits(url) or (strange and not _opened(addresses)):
            raise ValueError(service.rule)

    async def _addresses(self, place: Place) -> list[str]:
        if place.address is not None:
            return [str(place.address)]
        return await self._guard.addresses(place.host, place.port)


def _opened(addresses: list[str]) -> bool:
    """Whether the operator opened these: the guard let them pass, and they are not public."""
    return bool(addresses) and not any(public(ipaddress.ip_address(each)) for each in addresses)
