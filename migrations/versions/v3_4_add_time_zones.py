"""3.4: timestamps are in UTC, and on PostgreSQL they say so."""

from __future__ import annotations

import os

import sqlalchemy as sa
from alembic import op

revision = "3b0a6e67cc58"
down_revision = "f68b3aaee9cc"

TIMESTAMPS = [
    ("job", "start_time"),
    ("job", "end_time"),
    ("call_node", "timestamp"),
    ("redun_version", "timestamp"),
]

# A redun older than this schema writes local time, and does not set `redun.version` on its connections.
TRIGGER_FUNCTION = """
CREATE OR REPLACE FUNCTION check_job_utc() RETURNS TRIGGER LANGUAGE plpgsql AS $body$
BEGIN
    IF current_setting('redun.version', true) IS NULL THEN
        SET LOCAL timezone = {timezone};
        NEW.start_time := NEW.start_time AT TIME ZONE 'UTC';
        NEW.end_time := NEW.end_time AT TIME ZONE 'UTC';
    END IF;
    RETURN NEW;
END
$body$
"""
TRIGGER = "CREATE TRIGGER check_job_utc BEFORE INSERT ON job FOR EACH ROW EXECUTE FUNCTION check_job_utc()"
TO_OTHER_ZONE = (
    "UPDATE job SET start_time = datetime(start_time, '{0}'), end_time = datetime(end_time, '{0}')"
)


def upgrade() -> None:
    """Take what is stored for local time: the session's on PostgreSQL, this process's on sqlite."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(TO_OTHER_ZONE.format("utc"))
        return
    for table, column in TIMESTAMPS:
        op.alter_column(table, column, type_=sa.DateTime(timezone=True))
    timezone = os.environ.get("REDUN_LOCALTIMEZONE", "UTC").replace("'", "''")
    op.execute(TRIGGER_FUNCTION.format(timezone=f"'{timezone}'"))
    op.execute("DROP TRIGGER IF EXISTS check_job_utc ON job")
    op.execute(TRIGGER)


def downgrade() -> None:
    """Go back to local time without a time zone."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(TO_OTHER_ZONE.format("localtime"))
        return
    for table, column in TIMESTAMPS:
        op.alter_column(table, column, type_=sa.DateTime(timezone=False))
    op.execute("DROP TRIGGER IF EXISTS check_job_utc ON job")
    op.execute("DROP FUNCTION IF EXISTS check_job_utc")
