"""Workflows: tasks, and the scheduler that runs, records and caches them."""
