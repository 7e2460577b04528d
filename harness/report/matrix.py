# SPDX-License-Identifier: GPL-2.0-only
"""A matrix as a page, as JUnit, and as the few lines of Markdown that a CI system shows. From matrix.json alone."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from harness.report import templating
from harness.report.junit import xml_text
from harness.report.text import one_line

# What a page, or a summary, has room for; what is left out is counted.
_ROWS, _TEXT, _SHOWN = 2000, 300, 50
# What GitHub and GitLab would act on.
_MARKUP = str.maketrans({"`": "'", "|": "¦", "<": "‹", ">": "›", "\\": "⧵"})

Told = Mapping[str, Any]


def html(told: Told) -> str:
    """The page: the verdict, each cause once, kernels × configurations, and every job."""
    jobs = told["jobs"]
    return templating.page(
        "matrix.html.j2",
        matrix={**told, "jobs": jobs[:_ROWS], "not_run": list(told["not_run"])[:_ROWS]},
        said=said(told),
        table=_table(jobs),
        more=max(0, len(jobs) - _ROWS),
    )


def said(told: Told) -> str:
    """All jobs in one line."""
    counts = Counter(job["counted"] for job in told["jobs"])
    parts = [f"{number} {word}" for word, number in counts.items()]
    expected = sum(job["counted"] == "pass" and job["verdict"] != "pass" for job in told["jobs"])
    taken = sum(bool(job["taken"]) for job in told["jobs"])
    if expected:
        parts.append(f"{expected} of them by failing as expected")
    if taken:
        parts.append(f"{taken} taken over from earlier nights, as nothing they rest on has changed")
    if told["not_run"]:
        parts.append(f"{len(told['not_run'])} not run")
    return "; ".join(parts) or "no job"


def junit(told: Told) -> bytes:
    """A case for each job; the run directory of a job has a junit.xml with a case for each of its scenarios."""
    suite = TestSuite("kernel-harness matrix")
    suite.add_property("plan", xml_text(told["plan"]["name"]))
    suite.add_property("shard", xml_text(told["shard"]))
    suite.add_property("taken_over", str(sum(bool(job["taken"]) for job in told["jobs"])))
    for job in told["jobs"]:
        case = TestCase(xml_text(job["name"]), classname=f"harness.matrix.{xml_text(job['job']['kernel'])}")
        case.time = 0.0 if job["taken"] else job["seconds"]
        if job["counted"] != "pass":
            kind = Failure if job["counted"] == "fail" else Error
            entry = kind(xml_text(job["reason"]), type_=job["counted"])
            entry.text = xml_text("\n".join([job["command"], *map(_cause, job["causes"])]))
            case.result = [entry]
        suite.add_testcase(case)
    for name in told["not_run"]:
        case = TestCase(xml_text(name), classname="harness.matrix")
        case.result = [Error("not run", type_="error")]
        suite.add_testcase(case)
    document = JUnitXml()
    document.add_testsuite(suite)
    stream = io.BytesIO()
    document.write(stream, pretty=True)
    return stream.getvalue()


def markdown(told: Told) -> str:
    """A summary for the page of a CI system."""
    return "\n".join(_markdown(told)) + "\n"


def _markdown(told: Told) -> Iterator[str]:
    shard = f", shard {told['shard']}" if told["shard"] else ""
    yield f"## {told['verdict']}: {_code(told['plan']['name'])}{shard}"
    yield ""
    yield f"{said(told)}."
    columns, rows = _table(told["jobs"])
    if rows:
        yield ""
        yield f"| kernel | {' | '.join(map(_code, columns))} |"
        yield f"|---{'|---' * len(columns)}|"
        for name, cells in rows[:_SHOWN]:
            yield f"| {_code(name)} | {' | '.join(map(_cell, cells))} |"
    if told["causes"]:
        yield ""
        yield "### Causes"
        for cause in told["causes"][:_SHOWN]:
            yield f"- {_code(_cause(cause))} in {', '.join(_code(name) for name in cause['where'][:5])}{_more(cause)}"
    wrong = [job for job in told["jobs"] if job["counted"] != "pass"]
    if wrong:
        yield ""
        yield "### Jobs"
        for job in wrong[:_SHOWN]:
            new = " (new)" if job["name"] in told["new"] else ""
            yield f"- **{job['counted']}**{new} {_code(job['reason'])}: {_code(job['command'])}"
        if len(wrong) > _SHOWN:
            yield f"- {len(wrong) - _SHOWN} more in `report.html`"
    if told["searches"]:
        yield ""
        yield "### Searches for what is new"
        yield from (f"- {_code(command, 2000)}" for command in told["searches"])


def _table(jobs: list[Told]) -> tuple[list[str], list[tuple[str, list[list[Told]]]]]:
    """Kernels (with patches and contract) × configurations: the jobs in each cell."""
    columns = list(dict.fromkeys(_configs(job) for job in jobs))
    rows: dict[str, dict[str, list[Told]]] = {}
    for job in jobs:
        rows.setdefault(job["subject"], {}).setdefault(_configs(job), []).append(job)
    return columns, [(name, [cells.get(column, []) for column in columns]) for name, cells in rows.items()]


def _configs(job: Told) -> str:
    return ", ".join(job["job"]["config"]) or "base"


def _cause(cause: Told) -> str:
    return f"[{cause['oracle']}] {cause['summary']}"


def _more(cause: Told) -> str:
    return f" and {len(cause['where']) - 5} more jobs" if len(cause["where"]) > 5 else ""


def _cell(jobs: list[Told]) -> str:
    return " ".join(f"{number} {word}" for word, number in Counter(job["counted"] for job in jobs).items())


def _code(text: str, limit: int = _TEXT) -> str:
    """Text that nobody's markup gets out of."""
    return f"`{one_line(text, limit).translate(_MARKUP) or '-'}`"
