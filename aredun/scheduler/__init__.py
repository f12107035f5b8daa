"""The scheduler: runs tasks on an event loop, and records and caches them as redun does."""

from aredun.scheduler.core import Scheduler
from aredun.scheduler.jobs import Job, JobStatus, get_current_job

__all__ = ["Job", "JobStatus", "Scheduler", "get_current_job"]
