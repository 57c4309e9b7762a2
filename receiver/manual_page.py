"""/docs: the API's manual as one page that needs no script and asks nobody else for anything."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache

import jinja2
from markupsafe import Markup, escape
from starlette.responses import Response

from receiver.below import below
from receiver.manual import Manual

PROBLEMS = {
    400: "the body is not JSON",
    401: "no key, or one that is not known",
    403: "the key's scope is too weak",
    404: "nothing has that id",
    408: "the body took too long to arrive",
    409: "it cannot be done as things stand",
    410: "no reader can go on from this cursor: `code` and `detail` say why, and from where one can",
    413: "the body is too large",
    415: "the body is not sent as JSON",
    422: "a field or a parameter breaks its rule; the detail names both",
    429: "too many wrong keys from this address: wait as long as Retry-After says",
    503: "the store is away: try again",
}
"""What each problem's status means; the page has them once."""


def manual_page(manual: Manual, path: str = "") -> Response:
    """The page, with a policy that lets its one style and its icon through and nothing else.

    path: where Taskbell lives below its host.
    """
    page = _templates().get_template("manual.html").render(manual=manual, problems=PROBLEMS)
    html = below(path, page)
    [style] = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    )
    return Response(html, media_type="text/html", headers={"content-security-policy": policy})


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("receiver"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    return environment


def _code(text: str) -> Markup:
    """Text with its `quoted` words set as code.

    >>> str(_code("`<a>` or b"))
    '<code>&lt;a&gt;</code> or b'
    """
    parts = text.split("`")
    words = [
        f"<code>{escape(part)}</code>" if n % 2 else escape(part) for n, part in enumerate(parts)
    ]
    return Markup("").join(Markup(word) for word in words)  # noqa: S704 - each part is escaped
