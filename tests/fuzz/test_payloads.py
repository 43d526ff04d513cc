"""A few seconds of the payload fuzzer in every run."""

from __future__ import annotations

from tests.fuzz.payloads import run


def test_bent_payloads_are_taken_or_refused_alone_as_among_others() -> None:
    assert run(2.0, 7, print) > 100
