"""What a mapping of qanat.yaml is made of: the base of all sections, and the units that people write.

No keys here: `project` and the modules that it is put together from declare those.
"""

from __future__ import annotations

import msgspec


class Duration(int):
    """A span of time in milliseconds."""


class Size(int):
    """A number of bytes."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One mapping of the file."""
