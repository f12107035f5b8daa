"""How people write ids, names and paths: other spellings of the same one, and the nearest of many."""

from __future__ import annotations

import difflib
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_ID_LETTERS = "0123456789abcdef-"
_HASH = re.compile(r"[0-9A-Fa-f-]+")
_SCHEME = re.compile(r"[A-Za-z][\w+.-]*:")
_LOCAL_SCHEME = "file://"
MAX_NEAR = 3
_MUCH_LESS = 0.1


def spell_id(text: str) -> list[str]:
    """Return the beginnings of ids that a text may stand for, as it is first; none for a blank text.

    Ids are hashes and UUIDs in lower case. An id of somebody's own may be anything, so the text as it stands
    counts too.
    """
    text = text.strip()
    spellings = [text, text.lower()] if _HASH.fullmatch(text) else [text]
    return [spelling for spelling in dict.fromkeys(spellings) if spelling]


def spell_path(path: str) -> list[str]:
    """Return the ways in which the path of a file may have been recorded, as it is first.

    A local path may be relative to the current folder, with `./` or without, absolute, or a `file://` URL;
    in a pattern `*` stands for itself. One of another file system, or a pattern that begins with `*`, is
    spelt in one way.
    """
    local = path.strip().removeprefix(_LOCAL_SCHEME)
    if not local or local.startswith("*") or _SCHEME.match(local) or "\0" in local:
        return list(dict.fromkeys([path, path.strip()]))
    try:
        absolute = os.path.abspath(local)
        relative = os.path.relpath(absolute)
    except OSError:
        # The current folder is gone.
        return list(dict.fromkeys([path, local, os.path.normpath(local)]))
    spellings = [path, local, relative, absolute, f"./{relative}", f"{_LOCAL_SCHEME}{absolute}"]
    return list(dict.fromkeys(spellings))


def find_near(text: str, names: Iterable[str]) -> list[str]:
    """Return the names that are most like a text but not the same, the nearest first, at most three."""
    others = sorted(set(names) - {text})
    near = difflib.get_close_matches(text, others, n=MAX_NEAR)
    likeness = [difflib.SequenceMatcher(None, name, text).ratio() for name in near]
    # What is much less like the text than the nearest would distract from it.
    return [name for name, ratio in zip(near, likeness, strict=True) if ratio > likeness[0] - _MUCH_LESS]


def misspell_hash(text: str) -> set[str]:
    """Return what a hash, or a part of one, may have been had one letter of it been typed wrong."""
    found: set[str] = set()
    for index in range(len(text) + 1):
        head, tail = text[:index], text[index:]
        found.update(head + letter + tail for letter in _ID_LETTERS)
        if tail:
            found.update(head + letter + tail[1:] for letter in _ID_LETTERS)
            found.add(head + tail[1:])
            found.add(head + tail[1:2] + tail[0] + tail[2:])
    return found - {text}


def ask_whether(names: Iterable[str]) -> str:
    """Return the question whether one of the names was meant, such as `did you mean a or b?`."""
    return f"did you mean {' or '.join(names)}?"


def suggest(text: str, names: Iterable[str]) -> str:
    """Return the question whether the nearest of the names was meant, or all of them if none is near."""
    known = sorted(names)
    near = find_near(text, known)[:1]
    return ask_whether(near) if near else f"give one of {', '.join(known)}"
