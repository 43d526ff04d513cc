"""Client certificates: fingerprints and common names of real ones, and of anything else nothing."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from qanat.errors import ConfigError
from qanat.model.devices import Record
from qanat.secure.certificates import common_name, fingerprint, read_fingerprint
from qanat.secure.enrolment import enrol
from qanat.secure.gatekeeper import Gatekeeper
from qanat.secure.registry import Registry

AUTHORITY = trustme.CA(organization_name="Wells and Water")
NAMED = AUTHORITY.issue_cert("h1.example.org", common_name="zähler-17")
NAMELESS = AUTHORITY.issue_cert("h2.example.org")
NOW = 1_700_000_000_000


def der(leaf: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())


def test_the_common_name_is_that_of_the_subject_not_of_the_issuer() -> None:
    assert common_name(der(NAMED)) == "zähler-17"
    assert common_name(der(NAMELESS)) is None


@given(st.integers(0, 2000))
def test_a_certificate_that_is_cut_off_has_no_name(size: int) -> None:
    whole = der(NAMED)
    if size < len(whole):
        assert common_name(whole[:size]) is None


@given(st.binary(max_size=300))
def test_other_bytes_have_no_name_and_no_exception(data: bytes) -> None:
    assert common_name(data) in (None, common_name(data))


@given(st.integers(0, 600), st.integers(0, 255))
def test_a_byte_that_flipped_raises_nothing(place: int, value: int) -> None:
    broken = bytearray(der(NAMED))
    broken[place % len(broken)] = value
    common_name(bytes(broken))


def test_fingerprints_are_read_from_pem_and_from_text() -> None:
    pem = NAMED.cert_chain_pems[0].bytes().decode()
    print_ = hashlib.sha256(der(NAMED)).hexdigest()
    colons = ":".join(print_[at : at + 2].upper() for at in range(0, 64, 2))
    for text in (pem, f"some words before\n{pem}", print_, colons):
        assert read_fingerprint(text) == print_ == fingerprint(der(NAMED))
    for text in ("", "abc", pem[:200], pem.replace("M", "!", 3), pem.replace("MII", "III", 1)):
        with pytest.raises(ConfigError, match="certificate"):
            read_fingerprint(text)


def test_a_device_comes_in_by_its_certificate_or_by_its_common_name(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "devices.db")
    pem = NAMELESS.cert_chain_pems[0].bytes().decode()
    made = enrol([Record(id="h2", certificate=pem), Record(id="zähler-17", common_name="{id}")], NOW)
    registry.add([one.device for one in made], [one.credential for one in made])
    gate = Gatekeeper(Registry(registry.path), lambda: NOW)
    gate.news()
    found = [gate.certificate(der(leaf)) for leaf in (NAMELESS, NAMED, AUTHORITY.issue_cert("h3.example.org"))]
    assert [one and one.name for one in found] == ["h2", "zähler-17", None]
    assert found[1] is not None
    assert gate.still(found[1])
    registry.remove(["zähler-17"], 0)
    assert gate.news() == ("zähler-17",)
    assert gate.certificate(der(NAMED)) is None
    assert gate.certificate(b"no certificate") is None
    gate.registry.close()
    registry.close()
