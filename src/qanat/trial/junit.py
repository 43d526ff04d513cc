"""Results as the XML that CI servers read: one suite per file, one testcase per case."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from qanat.trial.verdict import Result


def junit(results: Sequence[Result]) -> bytes:
    """The document, in UTF-8."""
    root = ElementTree.Element("testsuites", _counts(results))
    for file in dict.fromkeys(result.file for result in results):
        mine = [result for result in results if result.file == file]
        suite = ElementTree.SubElement(root, "testsuite", {"name": file, **_counts(mine)})
        for result in mine:
            _case(suite, result)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _counts(results: Sequence[Result]) -> dict[str, str]:
    return {
        "tests": str(len(results)),
        "failures": str(sum(not result.passed for result in results)),
        "errors": "0",
        "time": f"{sum(result.seconds for result in results):.3f}",
    }


def _case(suite: ElementTree.Element, result: Result) -> None:
    named = {"name": result.name, "classname": result.file, "file": result.file, "line": str(result.line)}
    case = ElementTree.SubElement(suite, "testcase", {**named, "time": f"{result.seconds:.3f}"})
    if not result.passed:
        message = "; ".join(failure.title for failure in result.failures)
        failure = ElementTree.SubElement(case, "failure", {"message": _clean(message), "type": "expectation"})
        failure.text = _clean(result.text())
    if result.notes:
        ElementTree.SubElement(case, "system-out").text = _clean("\n".join(result.notes))


def _clean(text: str) -> str:
    """Text without the control characters that XML has no way to write."""
    return "".join(one if one in "\t\n\r" or ord(one) >= 32 else "�" for one in text)
