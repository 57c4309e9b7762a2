"""How a server is reached from here: through which proxy, and whose certificates are trusted."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

import httpx

from store.tls import by_alternative_names


@dataclass(frozen=True, slots=True)
class Way:
    """proxy: an http or https URL, perhaps with a password; None: straight there.

    ca_file and ca_dir stand in place of the usual authorities; more_ca_file adds to either.
    """

    proxy: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    ca_dir: str | None = None
    more_ca_file: str | None = None

    def tls(self) -> ssl.SSLContext:
        """Return a new context. Raises OSError or ssl.SSLError for a file that cannot be used."""
        if self.ca_file or self.ca_dir:
            context = by_alternative_names(
                ssl.create_default_context(cafile=self.ca_file, capath=self.ca_dir)
            )
        else:
            context = by_alternative_names(httpx.create_ssl_context(trust_env=False))
        if self.more_ca_file:
            context.load_verify_locations(cafile=self.more_ca_file)
        return context


STRAIGHT = Way()
