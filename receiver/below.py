"""Addresses in a page when everything lives below a path of the public URL.

Templates and pages write addresses as if there were no such path. It is added here to all of them,
so that none can be forgotten.
"""

from __future__ import annotations

import re

# autoescape turns every quote in foreign text into an entity: only templates write these
_ADDRESS = re.compile(r'(\s(?:href|src|action|formaction|hx-[a-z]+)=")(/(?!/))')


def below(path: str, html: str) -> str:
    """Put the path before each address of this host.

    >>> below("/taskbell", '<a href="/tasks"> <a href="https://x/"> <a href="?page=2">')
    '<a href="/taskbell/tasks"> <a href="https://x/"> <a href="?page=2">'
    """
    return _ADDRESS.sub(rf"\1{path}\2", html) if path else html
