"""How the certificates of those we connect to are checked."""

from __future__ import annotations

import ssl


def by_alternative_names(context: ssl.SSLContext) -> ssl.SSLContext:
    """Return the context, made to look for a host in a certificate's subjectAltName only.

    A common name is free text (RFC 9525, 2). OpenSSL takes it for a host where there are no
    alternative names, unless it is told otherwise.
    """
    context.hostname_checks_common_name = False
    return context
