"""Gates and comparisons as JUnit XML, which CI systems show as tests. A test fails exactly if the command would."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from batchgen.evaluation.comparing.compare import Comparison
from batchgen.evaluation.comparing.compare_several import run_names
from batchgen.evaluation.gates import GateResult
from batchgen.report.number_text import format_p, format_signed
from batchgen.report.visible_text import visible


@dataclass(frozen=True, slots=True)
class JUnitCase:
    """A test: `failure` is the reason, empty if it passed; `output` is text next to it."""

    group: str
    name: str
    failure: str = ""
    output: str = ""


def gates_junit(name: str, gates: Sequence[GateResult]) -> str:
    """Each gate is a test; an undecided gate fails."""
    return junit_xml("gates", list(_gate_cases(name, gates)))


def several_junit(gates: Mapping[str, Sequence[GateResult]], failures: Mapping[str, str]) -> str:
    """The gates of several runs by name, and each run as a test, which fails for a reason in `failures`."""
    names = dict.fromkeys([*gates, *failures])
    runs = [JUnitCase(name, "run", failures.get(name, "")) for name in names]
    return junit_xml("matrix", [*runs, *(c for n, g in gates.items() for c in _gate_cases(n, g))])


def _gate_cases(name: str, gates: Sequence[GateResult]) -> Iterator[JUnitCase]:
    for gate in gates:
        failure = "" if gate.passed else f"{gate.verdict}: {gate.found}"
        yield JUnitCase(name, gate.gate, failure, gate.found)


def comparison_junit(
    comparisons: Sequence[Comparison], failures: Mapping[tuple[str, str], str]
) -> str:
    """Each metric of each run is a test. `failures` gives the reasons of failed ones, by folder and metric."""
    cases = [
        JUnitCase(
            name,
            one.metric,
            failures.get((str(comparison.new), one.metric), ""),
            f"{one.verdict}: {format_signed(one.difference.value, one.unit)}, p {format_p(one.p)}, n {one.n:,}",
        )
        for name, comparison in zip(run_names(comparisons), comparisons, strict=True)
        for one in comparison.metrics
    ]
    return junit_xml("compare", cases)


def junit_xml(suite: str, cases: Sequence[JUnitCase]) -> str:
    """The file of one suite."""
    counts = {"tests": str(len(cases)), "failures": str(sum(bool(one.failure) for one in cases))}
    root = ET.Element("testsuites", counts)
    element = ET.SubElement(
        root, "testsuite", {"name": f"batchgen {suite}", "errors": "0", **counts}
    )
    for case in cases:
        names = {"classname": visible(case.group), "name": visible(case.name)}
        test = ET.SubElement(element, "testcase", names)
        if case.failure:
            ET.SubElement(test, "failure", {"message": visible(case.failure)})
        if case.output:
            ET.SubElement(test, "system-out").text = visible(case.output)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'
