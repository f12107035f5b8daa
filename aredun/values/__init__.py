"""Values: how anything that a task takes or returns is hashed, stored, checked and shown."""

from aredun.values.base import (
    MetaValue,
    ProxyValue,
    TypeRegistry,
    Value,
    get_raw_type_name,
    get_type_registry,
)
from aredun.values.builtin import Bool, DatetimeType, EnumType, FileCache, Function, Set, get_func_source
from aredun.values.error import ErrorValue, Frame, Traceback
from aredun.values.expressions import (
    Expression,
    QuotedExpression,
    SchedulerExpression,
    SimpleExpression,
    TaskExpression,
    ValueExpression,
    quote,
)
from aredun.values.file import Dir, File, FileSet, StagingDir, StagingFile
from aredun.values.file_kinds import (
    ContentDir,
    ContentFile,
    ContentFileSet,
    IDir,
    IFile,
    IFileSet,
    ShardedS3Dataset,
)
from aredun.values.handle import Handle
from aredun.values.kinds import is_expression, is_file, is_handle, is_task
from aredun.values.pickling import MIME_TYPE_PICKLE, pickle_dumps, pickle_loads, stands_for
from aredun.values.previews import preview_value
from aredun.values.task_options import CacheCheckValid, CacheResult, CacheScope, JobInfo
from aredun.values.task_registry import TaskRegistry, get_task_registry
from aredun.values.task_value import PartialTaskValue, SchedulerTaskValue, TaskValue, hash_args_eval

__all__ = [
    "MIME_TYPE_PICKLE",
    "Bool",
    "CacheCheckValid",
    "CacheResult",
    "CacheScope",
    "ContentDir",
    "ContentFile",
    "ContentFileSet",
    "DatetimeType",
    "Dir",
    "EnumType",
    "ErrorValue",
    "Expression",
    "File",
    "FileCache",
    "FileSet",
    "Frame",
    "Function",
    "Handle",
    "IDir",
    "IFile",
    "IFileSet",
    "JobInfo",
    "MetaValue",
    "PartialTaskValue",
    "ProxyValue",
    "QuotedExpression",
    "SchedulerExpression",
    "SchedulerTaskValue",
    "Set",
    "ShardedS3Dataset",
    "SimpleExpression",
    "StagingDir",
    "StagingFile",
    "TaskExpression",
    "TaskRegistry",
    "TaskValue",
    "Traceback",
    "TypeRegistry",
    "Value",
    "ValueExpression",
    "get_func_source",
    "get_raw_type_name",
    "get_task_registry",
    "get_type_registry",
    "hash_args_eval",
    "is_expression",
    "is_file",
    "is_handle",
    "is_task",
    "pickle_dumps",
    "pickle_loads",
    "preview_value",
    "quote",
    "stands_for",
]
