"""Where plain functions run: threads, processes, a dask cluster, or whatever else calls functions."""

from aredun.workflow.executors.base import Executor, FunctionCall
from aredun.workflow.executors.futures import FuturesExecutor
from aredun.workflow.executors.processes import ProcessExecutor
from aredun.workflow.executors.threads import ThreadExecutor

__all__ = ["Executor", "FunctionCall", "FuturesExecutor", "ProcessExecutor", "ThreadExecutor"]
