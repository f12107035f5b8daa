"""The kinds of columns, indexes and relationships that models are made of; none loads on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import mapped_column, relationship

from aredun.formats.hashing import HASH_LEN

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapped

Hash = String(HASH_LEN)


def key_of(column: str, **kwargs: Any) -> Any:
    """Return the indexed column of hashes that refers to `column`."""
    return mapped_column(Hash, ForeignKey(column), index=True, **kwargs)


def prefix_index(table: str, column: Mapped[str], name: str, *, unique: bool = True) -> Index:
    """Return the index that finds rows by the first characters of an id or a name."""
    ops = {name: "varchar_pattern_ops"}
    return Index(f"ix_{table}_{name}_vpo", column, unique=unique, postgresql_ops=ops)


def tagged(key: str) -> Any:
    """Return the relationship from the entity whose id is `key` to its current tags."""
    condition = f"and_({key} == foreign(Tag.entity_id), Tag.is_current)"
    return relationship("Tag", primaryjoin=condition, viewonly=True, lazy="raise")


def tags_entity(key: str) -> Any:
    """Return the relationship from a current tag to the entity whose id is `key`."""
    condition = f"and_({key} == foreign(Tag.entity_id), Tag.is_current)"
    return relationship(primaryjoin=condition, viewonly=True, lazy="raise")


def through(table: str, here: str, there: str, back: str) -> Any:
    """Return the relationship that leads through the association `table`, read only."""
    return relationship(
        secondary=table,
        primaryjoin=here,
        secondaryjoin=there,
        back_populates=back,
        viewonly=True,
        sync_backref=False,
        lazy="raise",
    )


def parts(model: str, back: str) -> Any:
    """Return the relationship from a value to its subvalues, as rows of `model`."""
    inside = f"Subvalue.value_hash == {model}.value_hash"
    return through("subvalue", "Value.value_hash == Subvalue.parent_value_hash", inside, back)


def wholes(model: str, back: str) -> Any:
    """Return the relationship from a row of `model` to the values that it is a subvalue of."""
    inside = f"{model}.value_hash == Subvalue.value_hash"
    return through("subvalue", inside, "Subvalue.parent_value_hash == Value.value_hash", back)


def one(back: str, **kwargs: Any) -> Any:
    """Return the relationship to the row of a foreign key."""
    return relationship(back_populates=back, lazy="raise", **kwargs)


many = one
