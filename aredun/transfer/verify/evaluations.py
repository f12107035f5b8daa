"""Verification of the cache of single steps, which may be rebuilt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aredun.models import Evaluation
from aredun.storage.record_rows import TABLES, select_rows
from aredun.transfer.records.derive import hash_evaluation

if TYPE_CHECKING:
    from aredun.transfer.verify.context import Context


async def check_evaluations(context: Context) -> set[str]:
    """Check the hashes of evaluations; return those that were deleted because they are wrong."""
    deleted: set[str] = set()
    async for keys in context.iter_keys("evaluation", Evaluation.eval_hash):
        (rows,) = await context.fetch(keys, select_rows("evaluation", "eval_hash"))
        wrong = [
            row.eval_hash for row in rows if hash_evaluation(row.task_hash, row.args_hash) != row.eval_hash
        ]
        if context.repair and wrong:
            await context.delete(TABLES["evaluation"].c.eval_hash, wrong)
            deleted.update(wrong)
        for eval_hash in wrong:
            detail = "it does not follow from its task and arguments"
            context.found("wrong hash", f"Evaluation {eval_hash}", detail, repaired=context.repair)
    return deleted
