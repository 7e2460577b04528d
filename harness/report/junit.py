# SPDX-License-Identifier: GPL-2.0-only
"""junit.xml: a suite for the run, a case for each scenario."""

from __future__ import annotations

import io
import re

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from harness.model.run import RunVerdict
from harness.model.verdict import Outcome, ScenarioResult
from harness.report.text import plain

# XML 1.0 has no way to write these, escaped or not.
_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(verdict: RunVerdict) -> bytes:
    """The document. An inconclusive scenario is an error to CI: it must not look green."""
    suite = TestSuite("kernel-harness")
    suite.add_property("source", xml_text(verdict.source))
    suite.add_property("title", xml_text(verdict.title))
    suite.add_property("kernel", xml_text(verdict.kernel.release))
    suite.add_property("contract", xml_text(verdict.contract.used))
    suite.add_property("accel", xml_text(verdict.accel.used))
    suite.add_property("causes", str(len(verdict.causes)))
    if verdict.coverage is not None:
        suite.add_property("patch_coverage", f"{verdict.coverage.percent:.1f}")
        suite.add_property("patch_coverage.summary", xml_text(verdict.coverage.sentence))
    for result in verdict.scenarios:
        suite.add_testcase(_case(result, verdict))
    for name, reason in verdict.skipped.items():
        case = TestCase(xml_text(name), classname="harness.scenarios")
        case.result = [Skipped(xml_text(reason))]
        suite.add_testcase(case)
    for name, wrong in (("run", verdict.error), ("patch-coverage", verdict.coverage.short if verdict.coverage else "")):
        if wrong:
            case = TestCase(name, classname="harness")
            case.result = [Error(xml_text(wrong), type_="error")]
            suite.add_testcase(case)
    document = JUnitXml()
    document.add_testsuite(suite)
    stream = io.BytesIO()
    document.write(stream, pretty=True)
    return stream.getvalue()


def _case(result: ScenarioResult, verdict: RunVerdict) -> TestCase:
    case = TestCase(
        xml_text(result.name), classname=f"harness.scenarios.{xml_text(verdict.kernel.release or 'unknown')}"
    )
    case.time = round(result.seconds, 2)
    if result.outcome is not Outcome.PASS:
        kind = Failure if result.outcome is Outcome.FAIL else Error
        first = result.findings[0].summary if result.findings else result.reason
        entry = kind(xml_text(first), type_=result.outcome.value)
        entry.text = xml_text(
            "\n\n".join(f"[{finding.oracle}] {finding.summary}\n{finding.evidence}" for finding in result.findings)
            or result.reason
        )
        case.result = [entry]
    return case


def xml_text(text: str) -> str:
    """Text that XML can hold, and that no terminal obeys."""
    return _NO_XML.sub("?", plain(text))
