"""Tasks: functions whose calls are recorded and cached, and the registry that knows them by name."""

from aredun.workflow.tasks import TaskRegistry, get_task_registry, scheduler_task, task

__all__ = ["TaskRegistry", "get_task_registry", "scheduler_task", "task"]
