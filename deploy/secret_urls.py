"""Chats' URLs that an older version stored as they are: encrypted at the start, masked from then on."""

from __future__ import annotations

import logging

from dispatch.hooks import service_at
from receiver.api.destination import masked
from store.errors import StoreError
from store.schema import usable
from store.store import Store
from store.subscriptions import HideUrl, hide_url, open_urls
from store.vault import Vault

logger = logging.getLogger("taskbell.api")


async def hide_secret_urls(store: Store, vault: Vault) -> None:
    """Encrypt the URLs by which anybody could post into a chat; what is not done now is later."""
    try:
        if not await store.read(usable):
            return  # readiness says so
        for subscription_id, url in (await store.read(open_urls)).items():
            if service_at(url) is not None:
                hidden = HideUrl(subscription_id, url, masked(url), vault.lock(url))
                await store.write(hide_url, hidden)
                logger.warning(
                    "the URL of %s is a chat's and was stored as it is: it is encrypted now",
                    subscription_id,
                )
    except StoreError as error:
        logger.info("no URLs are encrypted now: %s", error)
