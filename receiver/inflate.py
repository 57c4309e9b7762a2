"""Decodes content encodings piece by piece, so that a small body cannot fill the memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from receiver.body import BadBody

_PIECE_BYTES = 64 * 1024
_MOST_LAYERS = 2
_GZIP = zlib.MAX_WBITS | 16


class Inflater:
    """Decodes one encoding: gzip (several members too), or deflate in either of its two forms."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._zlib = _decoder(encoding)
        self._begun = False

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """What a chunk decodes to, at most 64 KiB at a time. Raises BadBody."""
        left = chunk
        while left:
            if self._zlib.eof:  # another gzip member; deflate has one
                if self._encoding != "gzip":
                    return
                self._zlib = _decoder("gzip")
            decoded = self._decode(left)
            left = self._zlib.unconsumed_tail or self._zlib.unused_data
            if decoded:
                yield decoded

    def end(self) -> None:
        """Raises BadBody when the body broke off."""
        if not self._zlib.eof:
            raise BadBody(f"the {self._encoding} body breaks off")

    def _decode(self, chunk: bytes) -> bytes:
        try:
            decoded = self._zlib.decompress(chunk, _PIECE_BYTES)
        except zlib.error:
            if self._encoding != "deflate" or self._begun:
                raise BadBody(f"the body is not {self._encoding}, as its header says") from None
            self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)  # deflate without a zlib header
            self._begun = True
            return self._decode(chunk)
        self._begun = True
        return decoded


def _decoder(encoding: str) -> zlib._Decompress:
    return zlib.decompressobj(_GZIP if encoding == "gzip" else zlib.MAX_WBITS)


def inflaters(content_encoding: str) -> list[Inflater]:
    """The decoders for a Content-Encoding header, outermost first. Raises BadBody for others.

    >>> inflaters("identity"), len(inflaters("deflate, X-GZIP"))
    ([], 2)
    >>> inflaters("br")
    Traceback (most recent call last):
    receiver.body.BadBody: the body is encoded as 'br', which was not asked for
    """
    names = [name.strip().lower().removeprefix("x-") for name in content_encoding.split(",")]
    layers = [name for name in names if name not in ("", "identity")]
    for name in layers:
        if name not in ("gzip", "deflate"):
            raise BadBody(f"the body is encoded as {name[:20]!r}, which was not asked for")
    if len(layers) > _MOST_LAYERS:
        raise BadBody(f"the body is encoded {len(layers)} times over")
    return [Inflater(name) for name in reversed(layers)]


def inflated(chunk: bytes, layers: list[Inflater]) -> Iterator[bytes]:
    """What a chunk of the body decodes to, through all layers."""
    if not layers:
        yield chunk
        return
    outer, *inner = layers
    for piece in outer.pieces(chunk):
        yield from inflated(piece, inner)
