"""Queries of a call graph and what ids stand for (mirrors `redun.backends.db.query`)."""

from aredun.search.arguments import parse_callgraph_query, setup_query_parser
from aredun.search.identify import find_file, infer_id, infer_specialty_id
from aredun.search.pages import Page
from aredun.search.query import CallGraphQuery
from aredun.search.records import Record

__all__ = [
    "CallGraphQuery",
    "Page",
    "Record",
    "find_file",
    "infer_id",
    "infer_specialty_id",
    "parse_callgraph_query",
    "setup_query_parser",
]
