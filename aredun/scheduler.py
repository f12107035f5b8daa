"""The scheduler: runs tasks on an event loop, and records and caches them as redun does."""

from aredun.workflow.core import Scheduler, get_current_scheduler
from aredun.workflow.jobs import Job, JobStatus, get_current_job

__all__ = ["Job", "JobStatus", "Scheduler", "get_current_job", "get_current_scheduler"]
