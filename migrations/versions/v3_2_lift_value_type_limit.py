"""3.2: names of value types may be of any length (sqlite never minded)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "eb7b95e4e8bf"
down_revision = "cc4f663817b6"


def upgrade() -> None:
    """Lift the limit."""
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("value", "type", existing_type=sa.String(100), type_=sa.String())


def downgrade() -> None:
    """Set the limit; fails, and changes nothing, when a longer name is stored."""
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("value", "type", existing_type=sa.String(), type_=sa.String(100))
