"""Settings: the `[backend]` section, URIs and credentials, beside redun's own reading of them."""

from __future__ import annotations

import configparser
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import sqlalchemy as sa
from redun.backends.db import RedunBackendDb as RedunBackend
from redun.config import Config as RedunConfig

from aredun.config import (
    BackendConfig,
    mask_db_uri,
    resolve_secret,
)
from aredun.errors import RedunDatabaseError, UsageError
from tests.support.object_store import run_object_store

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_CREDENTIALS: dict[str, str] = {}
CREDENTIALS = {"REDUN_DB_USERNAME": "ann", "REDUN_DB_PASSWORD": "p@ss/w:rd %41+"}


def parse(uri: str, environ: dict[str, str] | None = None, **section: Any) -> BackendConfig:
    """Read a section and a URI without this machine's environment."""
    return BackendConfig.parse(section, uri, environ=environ or NO_CREDENTIALS)


def url_of(config: BackendConfig) -> Any:
    """Return the URL of a configuration that has one."""
    assert config.url is not None
    return config.url


@pytest.mark.parametrize(
    ("uri", "database", "is_memory"),
    [
        ("sqlite:///rel/redun.db", "rel/redun.db", False),
        ("sqlite:////abs/re%20dun.db", "/abs/re dun.db", False),
        ("sqlite+aiosqlite:////abs/redun.db", "/abs/redun.db", False),
        ("sqlite+pysqlite:///redun.db", "redun.db", False),
        ("sqlite:///:memory:", ":memory:", True),
        ("sqlite://", None, True),
    ],
)
def test_file_uris(uri: str, database: str | None, is_memory: bool) -> None:
    config = parse(uri, CREDENTIALS)
    url = url_of(config)
    assert url.drivername == "sqlite+aiosqlite"
    assert url.database == database == sa.make_url(uri).database
    assert url.is_file
    assert url.is_memory is is_memory
    assert url.file_path == (None if is_memory else Path(database or ""))
    assert config.automigrate
    assert url.username is None
    assert sa.URL.create(**url.parts()).database == database


def test_default_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    config = BackendConfig.parse()
    assert config.db_uri == "sqlite:///.redun/redun.db" == RedunBackend().db_uri
    assert url_of(config).file_path == Path(".redun/redun.db")


@pytest.mark.parametrize("driver", ["", "+asyncpg", "+psycopg2", "+psycopg"])
def test_server_uris(driver: str) -> None:
    config = parse(f"postgresql{driver}://bob@db.example.org:5433/prov", {"REDUN_DB_PASSWORD": "x"})
    url = url_of(config)
    assert url.drivername == "postgresql+asyncpg"
    assert (url.username, url.password, url.host, url.port) == ("bob", "x", "db.example.org", 5433)
    assert url.database == "prov"
    assert not config.automigrate
    assert not url.is_file
    assert not url.is_memory
    assert url.file_path is None
    assert config.display_uri == "postgresql://bob@db.example.org:5433/prov"


@pytest.mark.parametrize(
    ("uri", "environ"),
    [
        ("postgresql+psycopg2://db/prov", CREDENTIALS),
        ("postgresql+psycopg2://bob@db/prov", {"REDUN_DB_PASSWORD": "secret"}),
        ("postgresql+psycopg2://bob@db/prov", {"REDUN_DB_USERNAME": "ann"}),
        ("postgresql+psycopg2://db/prov", {"REDUN_DB_PASSWORD": "without a user"}),
        ("postgresql+psycopg2://b%40b@[::1]:99/prov", {}),
    ],
)
def test_credentials_as_redun(uri: str, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        # redun turns a blank into a plus that is never turned back.
        monkeypatch.setenv(name, value.replace(" ", "_"))
    theirs = sa.make_url(RedunBackend(db_uri=uri).db_uri)
    ours = sa.URL.create(**url_of(BackendConfig.parse(None, uri)).parts())
    assert ours.set(drivername=theirs.drivername) == theirs


def test_credentials_are_quoted_rightly() -> None:
    url = url_of(parse("postgresql://db/prov", CREDENTIALS))
    rendered = sa.URL.create(**url.parts()).render_as_string(hide_password=False)
    assert sa.make_url(rendered).password == CREDENTIALS["REDUN_DB_PASSWORD"]


def test_names_of_the_variables_are_configurable() -> None:
    environ = {**CREDENTIALS, "MY_USER": "eve", "MY_PASSWORD": "hush"}
    config = parse("postgresql://db/x", environ, db_username_env="MY_USER", db_password_env="MY_PASSWORD")
    assert (url_of(config).username, url_of(config).password) == ("eve", "hush")


def test_passwords_never_show() -> None:
    config = parse("postgresql://db/prov", CREDENTIALS)
    for text in (repr(config), str(config.url), config.display_uri):
        assert "p@ss" not in text
    assert mask_db_uri("postgresql://bob:p@ss/w:rd@host/db?password=x&a=b") == (
        "postgresql://bob:***@host/db?password=***&a=b"
    )


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://bob:hush@db/prov",
        "postgresql://:hush@db/prov",
        "postgresql://bob:hu%2Fsh@db:5432/prov",
        "postgresql://bob@db/prov?password=hush",
        "postgresql://bob@db/prov?sslkey=my.key&sslpassword=hush",
        "sqlite://bob:hush@/redun.db",
    ],
)
def test_password_in_uri_is_refused(uri: str) -> None:
    with pytest.raises(RedunDatabaseError, match="must not hold a password") as caught:
        parse(uri)
    assert "hu" not in str(caught.value).replace("must", "")
    assert "\n" not in str(caught.value)


def test_connection_options_survive() -> None:
    url = url_of(
        parse(
            "postgresql://bob@/prov?host=/var/run/pg&port=5433&sslmode=verify-full&sslrootcert=/etc/ca.pem"
            "&connect_timeout=7&application_name=lab&options=-csearch_path%3Dprov&channel_binding=prefer"
            "&target_session_attrs=read-write&prepared_statement_cache_size=0"
        )
    )
    sqlalchemy_url = sa.URL.create(**url.parts())
    _, arguments = sqlalchemy_url.get_dialect()().create_connect_args(sqlalchemy_url)
    assert arguments == {"user": "bob", "database": "prov", "host": "/var/run/pg", "port": 5433}
    assert url.connect_args == {
        "ssl": "verify-full",
        "timeout": 7.0,
        "target_session_attrs": "read-write",
        "prepared_statement_cache_size": 0,
        "server_settings": {"application_name": "lab", "options": "-csearch_path=prov"},
        "dsn": "postgresql://?sslrootcert=%2Fetc%2Fca.pem",
    }


def test_several_hosts_survive() -> None:
    url = url_of(parse("postgresql://bob@/prov?host=one:5432&host=two:5433&dbname=other&user=ann"))
    sqlalchemy_url = sa.URL.create(**url.parts())
    _, arguments = sqlalchemy_url.get_dialect()().create_connect_args(sqlalchemy_url)
    assert arguments["host"] == ["one", "two"]
    assert arguments["port"] == [5432, 5433]
    assert (url.database, url.username) == ("prov", "bob")
    assert url_of(parse("postgresql:///?dbname=other&user=ann")).database == "other"


async def test_unix_socket_and_options_connect(postgres: Any) -> None:
    from tests.support.sessions import open_plain

    uri = f"{postgres.url('postgres')}&sslmode=disable&application_name=aredun-test&connect_timeout=5"
    async with open_plain(uri) as database, database.engine.connect() as connection:
        assert await connection.scalar(sa.text("SHOW application_name")) == "aredun-test"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("mysql://db/prov", "unsupported scheme"),
        ("postgres://db/prov", "unsupported scheme"),
        ("redun.db", "is not a database URI"),
        ("sqlite://host/redun.db", "names a host"),
        ("postgresql://bob:hush@db:port/prov", r"'postgresql://bob:\*\*\*@db:port/prov' has no valid host"),
        ("postgresql://db/prov?sslmode=maybe", "sslmode='maybe'"),
        ("postgresql://db/prov?connect_timeout=soon", "connect_timeout='soon'"),
        ("postgresql://db/prov?channel_binding=require", "channel_binding='require'"),
        ("postgresql://db/prov?typo=1", "typo='1'"),
    ],
)
def test_bad_uris(uri: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse(uri)
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)


REDUN_OPTIONS = {
    "value_store_min_size": "77",
    "max_value_size": "123456",
    "db_retries": "5",
    "db_retries_backoff": "0.25",
    "db_retries_backoff_max": "9",
    "automigrate": "FALSE",
    "value_store_path": "my/values",
    "config_dir": "/repo/.redun",
}


@pytest.mark.parametrize("options", [{}, REDUN_OPTIONS])
@pytest.mark.parametrize("kind", ["dict", "section", "Config"])
def test_options_as_redun(options: dict[str, str], kind: str) -> None:
    section: Any = dict(options)
    if kind == "section":
        parser = configparser.ConfigParser()
        parser.read_dict({"backend": options})
        section = parser["backend"]
    elif kind == "Config":
        section = RedunConfig({"backend": options})["backend"]
    ours = BackendConfig.parse(section)
    theirs = RedunBackend(config=section)
    assert ours.value_store_min_size == theirs.value_store_min_size
    assert ours.max_value_size == theirs._max_value_size
    assert ours.db_retries == theirs._db_retries
    assert ours.db_retries_backoff == theirs._db_retries_backoff
    assert ours.db_retries_backoff_max == theirs._db_retries_backoff_max
    assert ours.automigrate == theirs.automigrate
    assert ours.value_store_path == (theirs.value_store.root_path if theirs.value_store else None)


@pytest.mark.parametrize("size", [0, 43, 44, 45, 5000])
def test_same_values_go_to_the_store_as_in_redun(size: int) -> None:
    config = parse("sqlite://", value_store_path="/values", value_store_min_size="77")
    assert config.stores_value(size) == (sys.getsizeof(b"x" * size) >= 77)
    assert not parse("sqlite://").stores_value(10**9)


def test_value_store_path_may_be_remote() -> None:
    assert parse("sqlite://", value_store_path="s3://bucket/x", config_dir="/r").value_store_path == (
        "s3://bucket/x"
    )
    remote = parse("sqlite://", value_store_path="values", config_dir="s3://bucket/.redun")
    assert remote.value_store_path == "s3://bucket/.redun/values"


def test_own_options() -> None:
    config = parse(
        "sqlite://",
        pool_size="3",
        pool_timeout="1.5",
        pool_recycle="60",
        busy_timeout="2",
        statement_timeout="4",
        connect_timeout="5",
        prepared_statements="false",
        queue_rows="10",
        queue_bytes="1000",
        retry_deadline="20",
        journal_mode="WAL",
        synchronous="full",
        not_known="ignored",
    )
    assert (config.pool_size, config.pool_timeout, config.pool_recycle) == (3, 1.5, 60)
    assert (config.busy_timeout, config.statement_timeout, config.connect_timeout) == (2, 4, 5)
    assert (config.prepared_statements, config.queue_rows, config.queue_bytes) == (False, 10, 1000)
    assert (config.retry_deadline, config.journal_mode, config.synchronous) == (20, "wal", "full")


def test_python_values_are_fine_in_a_dict() -> None:
    config = parse("sqlite://", db_retries=7, automigrate=True, busy_timeout=0.5, value_store_path=Path("/v"))
    assert (config.db_retries, config.automigrate, config.busy_timeout) == (7, True, 0.5)
    assert config.value_store_path == "/v"


@pytest.mark.parametrize(
    ("option", "value", "right"),
    [
        ("db_retries", "many", "a whole number, 0 or more"),
        ("db_retries", "-1", "a whole number, 0 or more"),
        ("pool_size", "0", "a whole number, 1 or more"),
        ("max_value_size", "1e9", "a whole number"),
        ("db_retries_backoff", "inf", "a number of seconds"),
        ("pool_timeout", "nan", "a number of seconds"),
        ("automigrate", "maybe", "true or false"),
        ("journal_mode", "fast", "one of auto, keep, wal"),
        ("synchronous", "off", "one of auto, normal, full, extra"),
    ],
)
def test_bad_options(option: str, value: str, right: str) -> None:
    with pytest.raises(UsageError, match=right) as caught:
        BackendConfig.parse({option: value}, "sqlite://")
    assert f"{option} = {value!r}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_retry_delays_as_redun() -> None:
    config = parse("sqlite://", db_retries_backoff="0.5", db_retries_backoff_max="5")
    assert [config.retry_delay(attempt) for attempt in (1, 2, 3, 4, 9999)] == [1, 2, 4, 5, 5]


def test_a_parsed_configuration_is_handed_back() -> None:
    config = parse("postgresql://db/prov", db_retries="9", db_username_env="WHO")
    assert BackendConfig.parse(config) is config
    other = BackendConfig.parse(config, "postgresql://other/prov", environ={"WHO": "eve"})
    assert (other.db_retries, url_of(other).host, url_of(other).username) == (9, "other", "eve")


@pytest.fixture(scope="module")
def aws() -> Iterator[None]:
    """A real Secrets Manager protocol server."""
    with pytest.MonkeyPatch.context() as monkeypatch, run_object_store(monkeypatch):
        yield


SECRET = (
    '{"engine": "postgres", "username": "r w", "password": "p@/: %", '
    '"host": "db", "port": 5432, "dbname": "prov"}'
)


@pytest.mark.usefixtures("aws")
def test_aws_secret() -> None:
    boto3.client("secretsmanager").create_secret(Name="lab/db", SecretString=SECRET)
    section = {"db_aws_secret_name": "lab/db", "db_uri": "sqlite:///not/used.db"}
    config = BackendConfig.parse(section)
    assert config.url is None
    assert not config.automigrate
    resolved = resolve_secret(config)
    url = url_of(resolved)
    assert (url.username, url.password, url.host, url.port) == ("r w", "p@/: %", "db", 5432)
    assert url.drivername == "postgresql+asyncpg"
    assert "p@" not in repr(resolved)
    assert resolved.display_uri == "AWS secret lab/db"
    assert resolve_secret(resolved) is resolved
    assert resolve_secret(parse("sqlite://")) == parse("sqlite://")


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ('{"engine": "postgres"}', "lacks username, password, host, port, dbname"),
        (SECRET.replace('"postgres"', '"mysql"'), "is for engine 'mysql'"),
        ("not json", "is not JSON"),
        ("[1]", "is not an object"),
        (None, "cannot fetch AWS secret"),
    ],
)
def test_bad_aws_secrets(secret: str | None, message: str) -> None:
    name = f"bad{abs(hash(message))}"
    if secret is not None:
        boto3.client("secretsmanager").create_secret(Name=name, SecretString=secret)
    with pytest.raises(RedunDatabaseError, match=message) as caught:
        resolve_secret(BackendConfig.parse({"db_aws_secret_name": name}))
    assert "\n" not in str(caught.value)
    assert "p@" not in str(caught.value)


def test_every_option_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "configuration.md").read_text()
    undocumented = [
        name
        for name in BackendConfig.__dataclass_fields__
        if name not in {"url", "echo"} and f"`{name}`" not in page
    ]
    assert undocumented == []
