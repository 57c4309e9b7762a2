"""Hosts on a network of their own: Linux network namespaces on one bridge."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NETWORK = "10.77.0.0/24"
_CLONE_NEWNET = 0x40000000


class NotPermitted(Exception):
    """This machine lets us make no namespaces; the message says what it lacks."""


@dataclass(frozen=True, slots=True)
class Host:
    """A namespace with one cable to the bridge; address is its own on NETWORK."""

    namespace: str
    address: str
    port: str  # the cable's other end, at the switch
    switch: str

    def command(self, *words: str | Path) -> list[str]:
        """A command as it is run on this host."""
        return ["ip", "netns", "exec", self.namespace, *map(str, words)]

    def unplug(self) -> None:
        _ip("-n", self.switch, "link", "set", self.port, "down")

    def plug_in(self) -> None:
        _ip("-n", self.switch, "link", "set", self.port, "up")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread, and the processes it starts, be on this host for a while."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _enter(there)
            finally:
                os.close(there)
            yield
        finally:
            _enter(home)
            os.close(home)


@contextlib.contextmanager
def lan(count: int) -> Iterator[list[Host]]:
    """So many hosts that reach each other and nothing else. Raises NotPermitted."""
    if os.geteuid() != 0:
        raise NotPermitted("only root may make network namespaces")
    if shutil.which("ip") is None:
        raise NotPermitted("the program ip is missing (package iproute2)")
    name = f"taskbell-{os.getpid()}-{secrets.token_hex(2)}"
    hosts = [
        Host(f"{name}-{number}", f"10.77.0.{number}", f"port{number}", name)
        for number in range(1, count + 1)
    ]
    with contextlib.ExitStack() as cleaning:
        for namespace in (name, *(host.namespace for host in hosts)):
            _ip("netns", "add", namespace)
            cleaning.callback(_ip, "netns", "delete", namespace)  # its cables go with it
        _ip("-n", name, "link", "add", "switch", "type", "bridge")
        _ip("-n", name, "link", "set", "switch", "up")
        for host in hosts:
            _connect(host)
        yield hosts


def _connect(host: Host) -> None:
    cable = ("link", "add", "eth0", "netns", host.namespace, "type", "veth")
    _ip(*cable, "peer", "name", host.port, "netns", host.switch)
    _ip("-n", host.switch, "link", "set", host.port, "master", "switch")
    _ip("-n", host.switch, "link", "set", host.port, "up")
    _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
    _ip("-n", host.namespace, "link", "set", "eth0", "up")
    _ip("-n", host.namespace, "link", "set", "lo", "up")


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)
    if done.returncode:
        raise NotPermitted(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _enter(namespace: int) -> None:
    # os.setns comes with Python 3.12
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
        raise NotPermitted(os.strerror(ctypes.get_errno()))
