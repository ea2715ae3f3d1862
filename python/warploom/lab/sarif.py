"""SARIF 2.1.0: what code-scanning services and editors read."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from warploom.lab.report import HELP, Place, Report


def _location(place: Place, path: str) -> dict[str, Any]:
    region: dict[str, Any] = {"startLine": max(place.line, 1)}
    if place.column:
        region["startColumn"] = place.column
    return {"physicalLocation": {"artifactLocation": {"uri": quote(place.file or path)}, "region": region}}


def as_sarif(reports: list[Report], version: str) -> dict[str, Any]:
    """One run of the tool over one or several files."""
    codes = sorted({f.code for r in reports for f in r.findings})
    results = []
    for report in reports:
        for f in report.findings:
            where = f"{f.message}" + (f" in {f.kernel}" if f.kernel else "")
            result: dict[str, Any] = {
                "ruleId": f.code,
                "level": f.level,
                "message": {"text": where + (f". {f.help}" if f.help else "")},
                "locations": [_location(f.place, report.path)],
            }
            if f.other is not None:
                related = _location(f.other, report.path)
                result["relatedLocations"] = [{**related, "message": {"text": f.note()}}]
            results.append(result)
    rules = [{"id": c, "shortDescription": {"text": c.replace("-", " ")}, "help": {"text": HELP.get(c) or c}} for c in codes]
    driver = {"name": "warploom check", "version": version, "rules": rules}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results, "columnKind": "unicodeCodePoints"}],
    }
