"""Bring what several people have computed into one repository, every night.

    python examples/nightly_sync.py postgresql://db.example/team sqlite:////home/ada/.redun/redun.db ...

For cron or a systemd timer: it writes a line for each repository, and ends with 1 if one could not be read
or if records were refused. What was copied before that stays; the next night goes on from there.
"""

from __future__ import annotations

import asyncio
import sys
import time

from aredun import AredunError, RedunBackendDb, sync_records


async def sync_one(source_uri: str, team: RedunBackendDb) -> bool:
    """Sync one repository into the team's; returns whether all went well."""
    try:
        # Whatever goes wrong here, nothing is written to somebody else's repository.
        async with RedunBackendDb(source_uri, {"read_only": "true"}) as source:
            report = await sync_records(source, team)
    except AredunError as error:
        print(f"{source_uri}: {error}")
        return False
    print(f"{source_uri}: {report.written} new records of {report.seen}, {len(report.refused)} refused")
    for refused in report.refused[:10]:
        print(f"  {refused}")
    return not report.refused


async def main(team_uri: str, source_uris: list[str]) -> int:
    """Sync one after the other: the night is long, and the database is shared."""
    began = time.monotonic()
    async with RedunBackendDb(team_uri) as team:
        are_well = [await sync_one(uri, team) for uri in source_uris]
    print(f"{sum(are_well)} of {len(are_well)} repositories in {time.monotonic() - began:.0f} s")
    return 0 if all(are_well) else 1


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(f"usage: python {sys.argv[0]} TEAM_URI SOURCE_URI ...")
    sys.exit(asyncio.run(main(sys.argv[1], sys.argv[2:])))
