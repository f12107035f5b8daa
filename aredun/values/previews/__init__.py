"""Previews: what a stored value looks like, read without trust (mirrors redun's `pickle_preview`)."""

from aredun.values.previews.preview import preview_value
from aredun.values.previews.stubs import Stub

__all__ = ["Stub", "preview_value"]
