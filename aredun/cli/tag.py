"""`aredun tag list|add|update|rm`: the tags of records (mirrors `redun tag`)."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from aredun.cli.common import open_backend
from aredun.cli.records import LinePrinter
from aredun.cli.tables import Printer, clean_line, paged
from aredun.errors import UsageError
from aredun.formats import statuses
from aredun.formats.tag_syntax import ANY_VALUE, format_tag_key_value, parse_tag_key_value
from aredun.models import TagEntity
from aredun.query import CallGraphQuery
from aredun.search.identify import get_key, infer_id
from aredun.search.tags import count_tag_keys, count_tag_values

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from rich.console import Console

    from aredun.backend import RedunBackendDb

Entity = tuple[TagEntity, str]

UNLIMITED = 2**31


async def run_list(args: argparse.Namespace, console: Console) -> None:
    """List keys, or values, or the records that have tags."""
    filters = [parse_tag_key_value(tag, value_required=False) for tag in args.tags]
    async with open_backend(args) as backend:
        if args.tags and not args.values:
            await _show_records(backend, filters, args, console)
        elif args.values:
            _show_counts(await count_tag_values(backend, filters), args, console)
        else:
            _show_counts(await count_tag_keys(backend), args, console)


async def _show_records(
    backend: RedunBackendDb, filters: list[tuple[str, Any]], args: argparse.Namespace, console: Console
) -> None:
    query = CallGraphQuery(backend, order_by="time").filter_tags(filters)
    with paged(console, not args.no_pager and args.format == "text") as output:
        printer = LinePrinter(backend, output, statuses.get_abandoned_after(backend.config))
        if args.format == "json":
            await printer.write_json(query.select("id", flat=True))
        else:
            await printer.show_lines(query.all())


def _show_counts(rows: Sequence[Any], args: argparse.Namespace, console: Console) -> None:
    """Show keys, or keys and values, with the numbers of records that have them by type."""
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for key, *value, entity_type, number in rows:
        text = "".join(json.dumps(each, sort_keys=True) for each in value)
        counts[key, text][entity_type.name] = number
    printer = Printer(console)
    if args.format == "text":
        printer.line("Tags:")
    for (key, text), found in sorted(counts.items()):
        value = [json.loads(text)] if text else []
        by_type = dict(sorted(found.items()))
        if args.format == "json":
            row = {"key": key, **({"value": value[0]} if value else {}), "counts": by_type}
            printer.line(json.dumps(row, sort_keys=bool(value)))
        else:
            shown = clean_line(format_tag_key_value(key, value[0], UNLIMITED) if value else key)
            numbers = ", ".join(f"{number} {name}" for name, number in by_type.items())
            printer.line(f"  {shown:{30 if value else 10}} ({numbers})")
    printer.flush()


async def run_record(args: argparse.Namespace, console: Console) -> None:
    """Add tags to records, or set them in place of those with the same keys."""
    ids, pairs = _split_items(args.items)
    tags = [parse_tag_key_value(pair) for pair in pairs]
    how = {"update": args.verb == "update", "new": args.verb == "add"}
    async with open_backend(args) as backend:
        # All ids are looked up before the first tag is written: a mistake in one changes nothing.
        for entity in [await _find_entity(backend, text) for text in ids]:
            await backend.record_tags(*entity, tags, **how)
            _show_change(console, args.verb, entity, tags)


async def run_remove(args: argparse.Namespace, console: Console) -> None:
    """Delete tags from records."""
    ids, pairs = _split_items(args.items, more=args.keys)
    parsed = [parse_tag_key_value(pair, value_required=False) for pair in pairs]
    keys = [key for key, value in parsed if value is ANY_VALUE]
    tags = [(key, value) for key, value in parsed if value is not ANY_VALUE]
    async with open_backend(args) as backend:
        entities = [await _find_entity(backend, text) for text in ids]
        await _require_tags(backend, entities, tags, keys)
        for entity in entities:
            await backend.delete_tags(entity[1], tags, keys)
            _show_change(console, "delete", entity, tags, keys)


async def _require_tags(
    backend: RedunBackendDb, entities: list[Entity], tags: list[tuple[str, Any]], keys: list[str]
) -> None:
    """Raise `UsageError` where a record has not all of the tags: a typo is no deletion."""
    present = await backend.get_tags([entity_id for _, entity_id in entities])
    for entity_type, entity_id in entities:
        pairs = list(present.get(entity_id, ()))
        shown = {_show_pair(key, value) for key, value in pairs}
        missing = [_show_pair(*tag) for tag in tags if _show_pair(*tag) not in shown]
        missing += sorted(set(keys) - {key for key, _ in pairs})
        if missing:
            has = f"it has {', '.join(sorted(shown))}" if shown else "it has no tags"
            raise UsageError(clean_line(f"{entity_type.name}:{entity_id} has no tag {missing[0]}: {has}"))


def _show_pair(key: str, value: Any) -> str:
    return f"{key}={json.dumps(value, sort_keys=True)}"


def _split_items(items: list[str], more: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    border = next((index for index, item in enumerate(items) if "=" in item), len(items))
    ids, tags = items[:border], [*items[border:], *more]
    if not ids:
        raise UsageError(f"no record given before {items[0]!r}: write ID ... KEY=VALUE")
    if not tags:
        raise UsageError("no tag given: write ID ... KEY=VALUE (to delete all tags of a key: ID ... -- KEY)")
    return ids, tags


async def _find_entity(backend: RedunBackendDb, text: str) -> Entity:
    record = await infer_id(backend, text, required=True)
    if isinstance(record, tuple):
        # A path stands for the value that the file is.
        return TagEntity.Value, record[0].value_hash
    return TagEntity(type(record).__name__), get_key(record)


def _show_change(
    console: Console, verb: str, entity: Entity, tags: Sequence[tuple[str, Any]], keys: Sequence[str] = ()
) -> None:
    entity_type, entity_id = entity
    shown = " ".join([*(f"{key}={json.dumps(value)}" for key, value in tags), *keys])
    line = f"{verb} tag {entity_type.name}:{clean_line(entity_id)} {clean_line(shown)}"
    console.print(line, soft_wrap=True)
