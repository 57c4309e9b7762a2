"""How a database URL is read: by everybody alike, and nothing in it is lost or shown."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from store.address import PARAMETERS, read_address


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///taskbell.db", "taskbell.db"),
        ("sqlite:////data/taskbell.db", "/data/taskbell.db"),
        ("sqlite:////data/my%20tasks.db", "/data/my tasks.db"),
        ("sqlite:////data/my tasks.db", "/data/my tasks.db"),
        ("sqlite:////data/100%.db", "/data/100%.db"),
        ("sqlite:////data/50%25.db", "/data/50%.db"),
        ("sqlite:////data/%E4%BB%BB%E5%8A%A1.db", "/data/任务.db"),
        ("sqlite:////data/任务.db", "/data/任务.db"),
        ("sqlite:////data/what%3F.db", "/data/what?.db"),
        ("sqlite:////data/a#b.db", "/data/a#b.db"),
        ("sqlite:////data/a+b.db", "/data/a+b.db"),
        ("sqlite:///../up/./taskbell.db", "../up/taskbell.db"),
    ],
)
def test_a_sqlite_url_names_a_file(url: str, path: str) -> None:
    assert read_address(url).file == Path(path)


@pytest.mark.parametrize(
    ("url", "parameters"),
    [
        ("postgresql://host/db", {"host": "host", "dbname": "db"}),
        ("postgres://u:p%40ss@host:5433/my%20db",
         {"user": "u", "password": "p@ss", "host": "host", "port": "5433", "dbname": "my db"}),
        ("postgresql://u:p/w?x@host/db",
         {"user": "u", "password": "p/w?x", "host": "host", "dbname": "db"}),
        ("postgresql://u@[::1]:5433/db",
         {"user": "u", "host": "::1", "port": "5433", "dbname": "db"}),
        ("postgresql://a:5432,b:5433/db?target_session_attrs=any",
         {"host": "a,b", "port": "5432,5433", "dbname": "db", "target_session_attrs": "any"}),
        ("postgresql://a,b/db", {"host": "a,b", "dbname": "db"}),
        ("postgresql:///db?host=/run/postgresql", {"dbname": "db", "host": "/run/postgresql"}),
        ("postgresql:///db?host=a:1&host=b:2", {"dbname": "db", "host": "a,b", "port": "1,2"}),
        ("postgresql://%2Frun%2Fpostgresql/db", {"host": "/run/postgresql", "dbname": "db"}),
        ("postgresql://h/db?user=u&password=p&sslmode=verify-full&connect_timeout=7",
         {"host": "h", "dbname": "db", "user": "u", "password": "p", "sslmode": "verify-full",
          "connect_timeout": "7"}),
        ("postgresql://h/db?options=endpoint%3Dep-1",
         {"host": "h", "dbname": "db", "options": "endpoint=ep-1"}),
        ("postgresql://h/db?client_encoding=UTF-8", {"host": "h", "dbname": "db"}),
    ],
)  # fmt: skip
def test_a_postgresql_url_is_read_as_libpq_reads_it(url: str, parameters: dict[str, str]) -> None:
    assert dict(read_address(url).parameters) == parameters


@pytest.mark.parametrize(
    ("options", "session"),
    [
        ("-csearch_path%3Dtenant_a", {"search_path": "tenant_a"}),
        ("-c%20search_path%3Da%2Cb%20-c%20work_mem%3D9MB", {"search_path": "a,b", "work_mem": "9MB"}),
        ("--search-path%3Da", {"search_path": "a"}),
        ("-c%20search_path%3Da%5C%20b", {"search_path": "a b"}),
        ("-cRole%3Dbell", {"role": "bell"}),
    ],
)  # fmt: skip
def test_options_become_settings_of_each_session(options: str, session: dict[str, str]) -> None:
    assert dict(read_address(f"postgresql://h/db?options={options}").session) == session


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:///", "needs a file"),
        ("sqlite://taskbell.db", "three slashes"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:///a.db?mode=ro", "'mode'"),
        ("sqlite:///file:a.db", "the path itself"),
        ("sqlite:///file:a.db?mode=ro&uri=true", "'mode'"),
        ("sqlite:///a%00.db", "%00"),
        ("mysql://u:hush@h/db", "'mysql' is not a database"),
        ("postgresql+asyncpg://u:hush@h/db", "'postgresql+asyncpg' is not a database"),
        ("/data/taskbell.db", "sqlite:///"),
        ("postgresql://u:hush@hush@host/db", "%40"),
        ("postgresql://u:hu@sh/sh@host/db", "%40"),
        ("postgresql://u:hush@host:port/db", "5432"),
        ("postgresql://u:hush@host:70000/db", "5432"),
        ("postgresql://u:hush@h/db?aplication_name=x", "did you mean application_name?"),
        ("postgresql://u:hush@h/db?autocommit=true", "'autocommit' is not a connection parameter"),
        ("postgresql://u:hush@h/db?prepare_threshold=0", "'prepare_threshold' is not"),
        ("postgresql://u:hush@h/db?replication=database", "'replication'"),
        ("postgresql://u:hush@h/db?sslmode=a&sslmode=b", "'sslmode' is there twice"),
        ("postgresql://u:hush@h/db?user=v", "two values of 'user'"),
        ("postgresql://u:hush@h/db?password=hash", "two values of 'password'"),
        ("postgresql://u:hush@h/db?dbname=other", "two values of 'dbname'"),
        ("postgresql://u:hush@h/db?host=/run", "two values of 'host'"),
        ("postgresql://u:hush@h:1/db?port=2", "two values of 'port'"),
        (
            "postgresql://u:hush@h/db?options=-c%20transaction_isolation%3Dserializable",
            "options set transaction_isolation",
        ),
        ("postgresql://u:hush@h/db?client_encoding=LATIN1", "'client_encoding'"),
        ("postgresql://u:hush@h/db?options=-cTimeZone%3DAsia/Shanghai", "TimeZone"),
        ("postgresql://u:hush@h/db?options=-c%20DateStyle%3DGerman", "DateStyle"),
        ("postgresql://u:hush@h/db?options=-e", "only -c name=value"),
        ("postgresql://u:hush@h/db?options=-c%20work_mem", "only -c name=value"),
        ("postgresql://u:hush@h/d\nb", "line break"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name_and_without_the_password(
    url: str, words: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        read_address(url)

    said = str(caught.value)
    assert "hush" not in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:////data/my%20tasks.db", "sqlite:////data/my tasks.db"),
        ("postgresql://u:hush@a:1,b:2/db?sslpassword=hush", "postgresql://u:***@a:1,b:2/db"),
        ("postgresql://h/db?user=u&password=hush", "postgresql://u:***@h/db"),
        ("postgresql://[::1]/db", "postgresql://[::1]/db"),
    ],
)
def test_its_name_for_logs_holds_no_secret(url: str, name: str) -> None:
    address = read_address(url)

    assert address.name == name
    assert "hush" not in repr(address)


def test_the_parameters_of_the_driver_here_are_known() -> None:
    here = {each.keyword.decode() for each in psycopg.pq.Conninfo.get_defaults()}

    assert here - set(PARAMETERS) == set()
