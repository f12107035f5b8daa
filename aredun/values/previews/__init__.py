"""Previews: what a stored value looks like, read without trust (mirrors redun's `pickle_preview`)."""

from aredun.values.previews.failures import ShownFailure, ShownFrame, read_failure
from aredun.values.previews.preview import preview_value
from aredun.values.previews.stubs import Stub

__all__ = ["ShownFailure", "ShownFrame", "Stub", "preview_value", "read_failure"]
