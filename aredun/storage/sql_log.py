"""The logger of what goes to the driver beside SQLAlchemy, whose events and echo do not tell of it."""

from __future__ import annotations

import logging

sql_logger = logging.getLogger("aredun.sql")
