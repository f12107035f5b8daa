"""Arguments that are paths, which a shell completes (see `aredun completion`)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class FileArgument(argparse.Action):
    """Stores an argument that may be the path of a file."""

    # Only shtab asks for this, so a command that does not need shtab does not import it.
    @property
    def complete(self) -> Mapping[str, Any]:
        """How each shell completes it."""
        import shtab

        return shtab.FILE

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store what was given."""
        setattr(namespace, self.dest, values)


class FolderArgument(FileArgument):
    """Stores an argument that is the path of a folder."""

    @property
    def complete(self) -> Mapping[str, Any]:
        """How each shell completes it."""
        import shtab

        return shtab.DIRECTORY
