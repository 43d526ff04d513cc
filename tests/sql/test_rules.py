"""Examples in docstrings of the SQL front are true, and explain says what bounds the state."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
from types import ModuleType

import pytest

import qanat.sql
import qanat.sql.embedded.kernels
import qanat.sql.rules
from qanat.sql import compile_script
from qanat.sql.explain import explain, explain_json
from tests.sql.plans import NILM


def modules() -> list[ModuleType]:
    packages = (qanat.sql, qanat.sql.rules, qanat.sql.embedded.kernels)
    return [
        importlib.import_module(one.name)
        for package in packages
        for one in pkgutil.iter_modules(package.__path__, package.__name__ + ".")
        if not one.ispkg
    ]


@pytest.mark.parametrize("module", modules(), ids=lambda one: one.__name__)
def test_examples_in_docstrings(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


def test_explain() -> None:
    program = compile_script(NILM)
    text = explain(program)
    for line in (
        "TABLE power (stream in the log)",
        "  watermark: ts - 5 s",
        "PIPELINE dataset2train -> dataset2train",
        "        window: SESSION(gap 5 s, partition by client_id)",
        "      window: HOP(slide 1 s, size 15 s)",
        "            bounds: ts - ts from 0 ms to 0 ms",
    ):
        assert line in text.splitlines()
    found = json.loads(json.dumps(explain_json(program)))
    assert [one["name"] for one in found["pipelines"]] == ["predictions", "dataset2train"]
    assert "open windows" in found["pipelines"][0]["plan"]["inputs"][0]["state"]
