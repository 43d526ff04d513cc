"""Streams kept for years: rows of the log go to Delta tables, exactly once, and are read from there.

    archiver = Archiver(log, Tables("/var/farm/lake"), settings)
    archiver.prepare()              # before anything is deleted from the log
    archiver.run()                  # in a thread of its own; stop() ends it
    archive = DeltaArchive(Tables("/var/farm/lake"), log)
    cut = archive.cut("readings")

The port for readers is `qanat.log.archive.Archive`. docs/design/lake.md says how and why.
"""

from __future__ import annotations

from qanat.lake.archive import DeltaArchive
from qanat.lake.archiver import Archiver
from qanat.lake.table import Tables

__all__ = ["Archiver", "DeltaArchive", "Tables"]
