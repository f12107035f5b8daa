"""Sync: copying what roots own from one repository to another."""

from aredun.transfer.sync.records import sync_records
from aredun.transfer.sync.report import SyncReport

__all__ = ["SyncReport", "sync_records"]
