"""The report of a rehearsal as JSON."""

from typing import Any

from node.rehearsal.scenario import Outcome, RehearsalReport


def report_as_json(report: RehearsalReport) -> dict[str, Any]:
    """Return the whole report as plain values; times in ISO 8601, UTC."""
    return {
        "run": report.run,
        "verdict": report.verdict.value,
        "by": report.by,
        "began_at": report.began_at.isoformat(timespec="milliseconds"),
        "ended_at": report.ended_at.isoformat(timespec="milliseconds"),
        "node": {
            "address": report.node.address,
            "implementation_version_name": report.node.implementation_version_name,
            "implementation_class_uid": report.node.implementation_class_uid,
            "product": report.node.product,
        },
        "facts": dict(report.facts),
        "scenarios": [_outcome_as_json(outcome) for outcome in report.outcomes],
    }


def _outcome_as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.name,
        "title": outcome.title,
        "story": outcome.story,
        "verdict": outcome.verdict.value,
        "began_at": None if outcome.began_at is None else outcome.began_at.isoformat(timespec="milliseconds"),
        "seconds": round(outcome.seconds, 3),
        "remark": outcome.remark,
        "checks": [
            {
                "expected": check.expected,
                "seen": check.seen,
                "holds": check.holds,
                "is_required": check.is_required,
            }
            for check in outcome.checks
        ],
        "evidence": [{"after_s": round(moment.after_s, 3), "text": moment.text} for moment in outcome.moments],
    }
