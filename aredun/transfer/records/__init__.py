"""Records: read, walked and written in bulk, streaming and in bounded memory."""

from aredun.transfer.records.read import get_records, has_records
from aredun.transfer.records.walk import (
    get_call_node_child_edges,
    get_child_record_ids,
    get_execution_child_edges,
    get_job_child_edges,
    get_tag_child_edges,
    get_tag_entity_child_edges,
    get_value_child_edges,
    iter_record_ids,
)
from aredun.transfer.records.write import put_records

__all__ = [
    "get_call_node_child_edges",
    "get_child_record_ids",
    "get_execution_child_edges",
    "get_job_child_edges",
    "get_records",
    "get_tag_child_edges",
    "get_tag_entity_child_edges",
    "get_value_child_edges",
    "has_records",
    "iter_record_ids",
    "put_records",
]
