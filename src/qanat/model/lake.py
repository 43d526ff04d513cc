"""The lake: the section `lake` of qanat.yaml, and what a stream's options say about its archive. Declarations only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from qanat.model.sections import Duration, Section, Size
from qanat.model.streams import DEAD_LETTERS, LATE, Stream

#: Options of a stream's WITH clause.
ARCHIVE, SORT = "archive", "archive.sort"
#: Streams without a WITH clause: qanat.yaml says whether they are archived.
BUILT_IN = (DEAD_LETTERS, LATE)


class S3(Section, frozen=True):
    """How an S3 bucket is reached. Keys never stand in the file: these are names of environment variables.

    Variables that are not set leave it to the machine's own role. `endpoint`: of a server that is not AWS; one that
    begins with `http://` is spoken to in the clear.
    """

    endpoint: str | None = None
    region: str = "us-east-1"
    access_key_env: str = "AWS_ACCESS_KEY_ID"
    secret_key_env: str = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 - the name of a variable
    session_token_env: str = "AWS_SESSION_TOKEN"  # noqa: S105 - the name of a variable


class Lake(Section, frozen=True):
    """Where streams are archived, and how.

    `url`: a folder relative to the project or `s3://bucket/prefix`; None: `lake` in the data folder. `interval`: from
    one commit of a stream to its next. `rows`: at most so many in a commit, about. `file_size`: what rewritten files
    are to have. `keep`: how long old versions of a table can be read.
    """

    url: str | None = None
    s3: S3 = S3()
    interval: Duration = Duration(10_000)
    rows: Annotated[int, msgspec.Meta(ge=1)] = 1_000_000
    file_size: Size = Size(128 << 20)
    keep: Duration = Duration(86_400_000)


def problem_of_archive(names: Sequence[str]) -> tuple[int, str, str] | None:
    """What is wrong with the key `archive` of qanat.yaml: which of the names, why, and what to do. None: nothing."""
    for number, name in enumerate(names):
        if name not in BUILT_IN:
            only = " and ".join(BUILT_IN)
            hint = f"a table of yours says so itself: CREATE TABLE {name} (...) WITH ('{ARCHIVE}' = 'true')"
            return number, f"archive is for {only}, which no CREATE TABLE declares; found {name!r}", hint
        if name in names[:number]:
            return number, f"archive names {name} twice", "once is enough"
    return None


def is_archived(stream: Stream) -> bool:
    """Whether the stream asks to be archived."""
    return stream.options.get(ARCHIVE, "").lower() == "true"


def sort_columns(stream: Stream) -> tuple[str, ...]:
    """By which columns the rows of a file are sorted, before event time: `archive.sort`, or the PRIMARY KEY."""
    return split_names(stream.options[SORT]) if SORT in stream.options else stream.key


def split_names(text: str) -> tuple[str, ...]:
    """The columns of `archive.sort`.

    >>> split_names("sensor, kind")
    ('sensor', 'kind')
    """
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def consumer_of(stream: str) -> str:
    """Under which name the archiver's positions on a stream are stored in the log."""
    return f"lake:{stream}"
