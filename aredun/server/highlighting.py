"""Python source for people's eyes: which parts of it are keywords, texts, comments and the like.

Only places in the text leave this module, never markup: the viewer colours them.
"""

from __future__ import annotations

import asyncio
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from pygments import token
from pygments.lexers.python import PythonLexer

from aredun.formats.describe import cut_text
from aredun.server.schemas import MAX_SOURCE, SpanKind

if TYPE_CHECKING:
    from collections.abc import Iterable

Span = tuple[int, int, SpanKind]

# What lies behind is shown without colours: a browser has to make an element of each part.
MAX_HIGHLIGHTED = 50_000
# The narrower kinds of tokens first.
_KINDS: tuple[tuple[Any, SpanKind], ...] = (
    (token.Operator.Word, "keyword"),
    (token.Keyword, "keyword"),
    (token.Name.Decorator, "decorator"),
    (token.Name.Function, "definition"),
    (token.Name.Class, "definition"),
    (token.Name.Builtin, "builtin"),
    (token.Name.Exception, "builtin"),
    (token.String.Interpol, "keyword"),
    (token.String, "string"),
    (token.Number, "number"),
    (token.Comment, "comment"),
)
_LEXER = PythonLexer()


async def highlight_source(source: str) -> list[Span]:
    """Return what `highlight` does of a task's source, off the loop: a long one holds it up."""
    return await asyncio.to_thread(highlight, cut_text(source, MAX_SOURCE))


def highlight(source: str) -> list[Span]:
    """
    Find the parts of Python source that have a colour.

    Parameters
    ----------
    source : str
        The text as it is shown, which may be anything: what is no Python has few colours. What lies
        behind its first 50,000 characters has none.

    Returns
    -------
    list[Span]
        The start, the end and the kind of each part, in the order of the text, counted in UTF-16 code
        units as browsers do.
    """
    source = source[:MAX_HIGHLIGHTED]
    spans: list[Span] = []
    for start, token_type, text in _LEXER.get_tokens_unprocessed(source):
        kind = next((kind for wide, kind in _KINDS if token_type in wide), None)
        if kind is None:
            continue
        end = start + len(text)
        if spans and spans[-1][1:] == (start, kind):
            spans[-1] = (spans[-1][0], end, kind)
        else:
            spans.append((start, end, kind))
    return spans if source.isascii() else _count_in_utf16(source, spans)


def _count_in_utf16(source: str, spans: Iterable[Span]) -> list[Span]:
    """Return spans with places in UTF-16, where some characters count twice."""
    places = [0, *accumulate(2 if letter > "\uffff" else 1 for letter in source)]
    return [(places[start], places[end], kind) for start, end, kind in spans]
