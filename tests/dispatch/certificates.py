"""Certificates for servers in tests, good and bad."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from store.clock import system_clock

_DAY = timedelta(days=1)


class Authority:
    """A certificate authority that signed itself, for one name or address; its files in a folder."""

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        expired: bool = False,
        common_name: str | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        """Names: the alternative names; the name alone when there are none given."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, common_name or f"taskbell test {name}")]
        )
        alternatives = [_named(each) for each in ([name] if names is None else names)]
        ends = system_clock() + (-_DAY if expired else _DAY)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(ends - 7 * _DAY)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        )
        if alternatives:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternatives), critical=False
            )
        certificate = builder.sign(key, hashes.SHA256())
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate, self.key = folder / "certificate.pem", folder / "key.pem"
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def server(self, asked: Callable[[str | None], object] = lambda _: None) -> ssl.SSLContext:
        """For a server. asked is told each name that a client asks for."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)

        def note(_socket: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
            asked(name)

        context.sni_callback = note
        return context

    def client(self) -> ssl.SSLContext:
        """For a client that trusts this authority alone."""
        return ssl.create_default_context(cafile=str(self.certificate))


def _named(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        if "@" in name:
            return x509.RFC822Name(name)
        return x509.DNSName(name)
