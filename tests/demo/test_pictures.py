"""The pictures of simulated tasks: where they lead, and that they are pictures."""

from __future__ import annotations

import struct
import zlib

import httpx

from deploy.demo.book import Order
from deploy.demo.pictures import HEIGHT, WIDTH, pictures
from deploy.demo.simulator import Simulator
from store.events import Kind


def ordered(kind: Kind) -> Order:
    return Order("atlascloud", "prediction", kind, "m", ("completed",), "failed", (), lambda _: "1")


def test_images_lead_to_the_pictures_and_nothing_else_does() -> None:
    simulator = Simulator("key", pictures="http://127.0.0.1:9000")

    outputs = [simulator._book.submit(ordered(kind)).output for kind in (Kind.IMAGE, Kind.VIDEO)]

    assert outputs == ["http://127.0.0.1:9000/1.png", "https://cdn.atlascloud.example/1.mp4"]


async def test_each_name_has_a_picture_of_its_own() -> None:
    transport = httpx.ASGITransport(pictures)
    async with httpx.AsyncClient(transport=transport, base_url="http://gallery.test") as client:
        one, other = [await client.get(f"/{name}.png") for name in ("pred_1", "pred_2")]

    assert one.headers["content-type"] == "image/png"
    assert one.content != other.content
    assert decoded(one.content) == (WIDTH, HEIGHT, HEIGHT * (1 + 3 * WIDTH))


def decoded(png: bytes) -> tuple[int, int, int]:
    """Width, height, and the length of the pixels; every checksum must fit."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, rest = dict[bytes, bytes](), png[8:]
    while rest:
        (length,) = struct.unpack(">I", rest[:4])
        body, checksum = rest[4 : 8 + length], rest[8 + length : 12 + length]
        assert struct.pack(">I", zlib.crc32(body)) == checksum
        chunks[body[:4]], rest = body[4:], rest[12 + length :]
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    return width, height, len(zlib.decompress(chunks[b"IDAT"]))
