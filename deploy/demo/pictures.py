"""The pictures that simulated tasks make: a small one for each, drawn from its name.

Providers keep outputs on hosts of their own. Those of the simulator would lead nowhere, and the
dashboard's previews with them.
"""

from __future__ import annotations

import struct
import zlib

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

WIDTH, HEIGHT = 320, 180


def png(name: str) -> bytes:
    """A shade from one colour into another, as PNG: RGB of 8 bits, rows without a filter."""
    seed = zlib.crc32(name.encode())
    above, below = seed.to_bytes(4)[:3], (~seed & 0xFFFFFFFF).to_bytes(4)[:3]
    rows = (b"\0" + _between(above, below, row / HEIGHT) * WIDTH for row in range(HEIGHT))
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _between(above: bytes, below: bytes, share: float) -> bytes:
    return bytes(round(a + (b - a) * share) for a, b in zip(above, below, strict=True))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


async def _picture(request: Request) -> Response:
    return Response(png(request.path_params["name"]), media_type="image/png")


pictures = Starlette(routes=[Route("/{name}.png", _picture)])
