"""Which certificates the commands trust."""

from __future__ import annotations

import ssl

import httpx

from store.tls import by_alternative_names


def trusted(*, trust_env: bool = False) -> ssl.SSLContext:
    """Return a context with httpx's authorities, or with those that SSL_CERT_FILE or _DIR name."""
    return by_alternative_names(httpx.create_ssl_context(trust_env=trust_env))
