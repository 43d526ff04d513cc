"""`python -m qanat.sim.load < load.json > result.json`."""

from __future__ import annotations

import sys

import msgspec

from qanat.errors import QanatError
from qanat.sim.load.run import run
from qanat.sim.load.terms import Load


def main() -> int:
    """Read a load, run it, print what came of it; where it failed, an error as the command line has it."""
    load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    try:
        result = run(load)
    except QanatError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
