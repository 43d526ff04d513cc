"""Streams that are archived: what a changed option means, and what must not be done to them. Knows no lake."""

from __future__ import annotations

from qanat.errors import ConfigError
from qanat.log.base import Log, Transaction
from qanat.model.lake import consumer_of, is_archived, sort_columns
from qanat.model.streams import Stream


def archive_changes(known: Stream, wanted: Stream) -> list[str]:
    """What is different, in words."""
    if is_archived(wanted) and not is_archived(known):
        return ["archive was off, is on: what the log still has is archived, and nothing is deleted before"]
    if is_archived(known) and not is_archived(wanted):
        return [
            "archive was on, is off: retention waits for it no longer; what is archived stays, queries do not see it"
        ]
    if is_archived(wanted) and sort_columns(known) != sort_columns(wanted):
        before, after = (", ".join(sort_columns(one)) or "event time" for one in (known, wanted))
        return [f"archive.sort was {before}, is {after}: of files that are written from now on"]
    return []


def release(log: Log) -> None:
    """Let streams that are archived no longer delete what is old without an archiver."""
    over = [
        consumer_of(name)
        for name, one in log.status().items()
        if not is_archived(one.stream) and log.positions(consumer_of(name))
    ]
    if over:
        log.submit(Transaction(forget=over)).result()


def refuse_archived(stream: Stream, log: Log) -> None:
    """Raise where rows of the stream are, or will be, in an archive, which a new version would not replace."""
    if is_archived(stream) or log.positions(consumer_of(stream.name)):
        raise ConfigError(
            f"{stream.name} is archived: a new version would stand in the archive beside the old one",
            hint=f"write into a stream of another name; or do without the archive of {stream.name}: "
            "'archive' = 'false', qanat apply, then replay, and another lake.url before it is archived again",
        )
