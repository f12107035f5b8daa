"""What people install: `python -m tests.package` builds it and tries it in clean environments."""
