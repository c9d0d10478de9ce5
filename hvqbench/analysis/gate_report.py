"""What the gate found, for a terminal, for a pull request (Markdown), and for a CI server (JUnit XML)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from hvqbench.analysis.gate import Finding, GateReport
from hvqbench.shown import no_foreign_html, visible

MARKS = {"fine": "✓", "better": "▲", "worse": "✗", "not measured": "?"}


def to_text(report: GateReport) -> str:
    """The headline, a line for each finding that is not fine, the worst first, and each codec's fine numbers."""
    lines = [f"  {f.verdict:<13}{f.dataset}  {f.codec}  {f.text}" for f in _sorted(report) if f.verdict != "fine"]
    fine: dict[tuple[str, str], list[str]] = {}
    for finding in report.of("fine"):
        fine.setdefault((finding.dataset, finding.codec), []).append(f"{finding.what} {finding.shown_change}".rstrip())
    lines += [f"  {'fine':<13}{dataset}  {codec}  {', '.join(what)}" for (dataset, codec), what in fine.items()]
    return "\n".join([report.headline, *lines])


def to_markdown(report: GateReport) -> str:
    """A section with a table: what is worse, better or could not be measured in sight, what is fine folded away."""
    parts = [f"### {MARKS['fine'] if not report.exit_code else MARKS['worse']} BD-rate gate", report.headline + "."]
    notable = [finding for finding in _sorted(report) if finding.verdict != "fine"]
    if notable:
        parts.append(_table(notable))
    if fine := report.of("fine"):
        parts.append(f"<details><summary>{len(fine)} fine</summary>\n\n{_table(fine)}\n\n</details>")
    parts.append(
        "Change in per cent, positive is worse. Bytes are the total of the images that are restored from the same "
        "indices or pixels; BD-rates are of the whole curve, with their 95 % interval over the images."
    )
    return no_foreign_html("\n\n".join(parts) + "\n")


def to_junit(report: GateReport) -> str:
    """JUnit XML: a test suite for each data set, a test case for each finding."""
    root = ET.Element("testsuites", name="hvqbench check")
    for dataset in dict.fromkeys(finding.dataset for finding in report.findings):
        own = [finding for finding in report.findings if finding.dataset == dataset]
        failures, errors = (str(sum(f.verdict == verdict for f in own)) for verdict in ("worse", "not measured"))
        suite = ET.SubElement(root, "testsuite", name=dataset, tests=str(len(own)), failures=failures, errors=errors)
        for finding in own:
            case = ET.SubElement(suite, "testcase", classname=f"{dataset}.{finding.codec}", name=finding.what)
            if kind := {"worse": "failure", "not measured": "error"}.get(finding.verdict):
                ET.SubElement(case, kind, message=finding.text)
    ET.indent(root)
    return visible(ET.tostring(root, encoding="unicode", xml_declaration=True)) + "\n"


def _sorted(report: GateReport) -> list[Finding]:
    order = ("worse", "not measured", "better", "fine")
    return sorted(report.findings, key=lambda finding: order.index(finding.verdict))


def _table(findings: Sequence[Finding]) -> str:
    from tabulate import tabulate

    rows = [
        [MARKS[f.verdict], f.dataset, f.codec, f.what, f.shown_change, "<br>".join(filter(None, [*f.images, f.note]))]
        for f in findings
    ]
    head = ["", "data set", "codec", "what", "change", "images"]
    return str(tabulate(rows, headers=head, tablefmt="github", disable_numparse=True))
