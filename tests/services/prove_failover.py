"""A real standby takes over: the process that wrote to the old primary goes on, without a restart."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from store.clock import monotonic
from store.database import open_database
from store.errors import StoreUnavailableError, UnfitError
from store.fitness import check
from store.store import Store
from store.writer import check_writable
from tests.databases import migrate_and_close, server_user, start_postgresql
from tests.making import ping, push, tell
from tests.patience import PATIENCE_SECONDS


@dataclass(frozen=True, slots=True)
class Cluster:
    """A primary, and a standby that follows it; each is reached by its folder."""

    primary: Path
    standby: Path
    programs: Path

    def url(self, *folders: Path) -> str:
        hosts = ",".join(map(str, folders))
        return f"postgresql://postgres@/bell?host={hosts}"

    def run(self, folder: Path, statement: str) -> None:
        with psycopg.connect(
            f"postgresql://postgres@/postgres?host={folder}", autocommit=True
        ) as connection:
            connection.execute(statement.encode())

    def promote(self) -> None:
        self.run(self.standby, "SELECT pg_promote(true, 60)")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        primary = start_postgresql(more={"wal_level": "replica", "max_wal_senders": "4"})
        stack.callback(primary.stop)
        primary.run("CREATE DATABASE bell")
        migrate_and_close(primary.url("bell"))
        with psycopg.connect(primary.url("postgres")) as connection:
            [(data,)] = connection.execute("SHOW data_directory")
        programs = Path(f"/proc/{_pid(Path(data))}/exe").resolve().parent
        folder = Path(data).parent
        standby = folder / "standby"
        server_user().run(
            programs / "pg_basebackup", "-h", folder, "-U", "postgres", "-D", standby / "data",
            "-R", "-X", "stream", "-c", "fast",
        )  # fmt: skip
        process = _start(programs, standby)
        stack.callback(process.wait, 30)
        stack.callback(process.terminate)
        made = Cluster(folder, standby, programs)
        _wait_until_it_answers(made)
        yield made


def _pid(data: Path) -> int:
    return int((data / "postmaster.pid").read_text().split()[0])


def _start(programs: Path, standby: Path) -> subprocess.Popen[bytes]:
    user = server_user()
    # a standby has room for what its primary may have
    told = ["-clisten_addresses=", "-cmax_connections=200", "-cmax_wal_senders=4"]
    return subprocess.Popen(
        [programs / "postgres", "-D", standby / "data", "-k", standby, *told],
        user=user.uid,
        group=user.gid,
        extra_groups=user.groups,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait_until_it_answers(cluster: Cluster) -> None:
    give_up = monotonic() + PATIENCE_SECONDS
    pause = threading.Event()
    while True:
        try:
            return cluster.run(cluster.standby, "SELECT 1")
        except psycopg.OperationalError:
            if monotonic() > give_up:
                raise
            pause.wait(0.05)


def test_a_standby_is_refused_and_of_several_hosts_the_one_that_takes_writes_is_used(
    cluster: Cluster,
) -> None:
    database = open_database(cluster.url(cluster.standby))

    with pytest.raises(UnfitError, match="standby"):
        check(database)
    database.dispose()

    store = Store(open_database(cluster.url(cluster.standby, cluster.primary)))

    check(store.database)
    assert tell(store, push("t1")).created
    store.close()


def test_a_failover_needs_no_restart(cluster: Cluster, tmp_path: Path) -> None:
    """The address follows the primary, as a name in DNS or a proxy does."""
    address = tmp_path / "address"
    address.symlink_to(cluster.primary)
    store = Store(open_database(cluster.url(address)))
    assert tell(store, push("before")).created

    # the address leads to the standby, before that is promoted
    address.unlink()
    address.symlink_to(cluster.standby)
    with psycopg.connect(cluster.url(cluster.primary), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = 'bell' AND pid <> pg_backend_pid()"
        )
    with pytest.raises(StoreUnavailableError):
        tell(store, push("during"))
    with pytest.raises(StoreUnavailableError):
        store.write_now(check_writable, None)
    assert store.read_now(ping)

    cluster.promote()

    assert tell(store, push("after")).created
    store.close()
