"""Gives moto 5 the names that redun's tests import, in the processes that those tests start, too."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

# moto 5 has one decorator for all services; redun's tests name those of moto 4.
MOTO_4 = (
    "mock_s3",
    "mock_secretsmanager",
    "mock_ec2",
    "mock_ecs",
    "mock_logs",
    "mock_glue",
    "mock_batch",
    "mock_iam",
)


class _MotoFinder(importlib.abc.MetaPathFinder):
    """Finds moto where it is, and adds to it once it has been imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "moto":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("moto")
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_add(module: ModuleType) -> None:
            execute(module)
            for name in MOTO_4:
                if not hasattr(module, name):
                    setattr(module, name, module.mock_aws)

        spec.loader.exec_module = execute_and_add  # type: ignore[method-assign]  # of this one loader
        return spec


sys.meta_path.insert(0, _MotoFinder())
