"""`radnode studies purge`: Studies that a person gives up."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import typer

from node.audit.account import find_account
from node.cli.context import JsonOption, SettingsOption, read_settings
from node.cli.output import EXIT_FAILURE, print_json, print_table, reports_errors
from node.cli.spans import parse_span
from node.clock import utc_now
from node.domain.retention import PurgeOrder
from node.domain.uids import StudyUID
from node.errors import NodeError, SettingsInvalid
from node.ledger.engine import Engine
from node.ledger.opening import find_ledger
from node.ledger.retention import RetentionLedger
from node.retention import Gatekeeper
from node.settings.whole import Settings
from node.site import build_gatekeeper, retention_terms

MAX_STUDIES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of one Study.

    Attributes
    ----------
    goes
        Whether it goes, or would.
    """

    study_instance_uid: str
    goes: bool
    said: str


@reports_errors
def purge_studies(  # noqa: PLR0913 each is an option of the command line
    study_instance_uids: Annotated[
        list[str] | None, typer.Argument(metavar="[UID]...", help="Study Instance UIDs (0020,000D).")
    ] = None,
    *,
    older_than: Annotated[
        str | None, typer.Option(help="All that may go and to which nothing happened for so long: 30d, 12h, 30m.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for time line and audit trail; no patient's name.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go, and what keeps a Study.")] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also what nobody else may have; never what comes, waits or runs.")
    ] = False,
    as_json: JsonOption = False,
    settings: SettingsOption = None,
) -> None:
    """Remove Studies and their Results from the node; exit code 1 when one of them stays.

    What PACS and other Destinations hold is not touched. The files go within a minute, as soon as a node runs. Who
    ordered it, and why, is in the time line of the Study and in the audit trail.
    """
    named = study_instance_uids or []
    _require_sense(named, older_than, anyway=anyway, has_reason=bool(reason) or dry_run)
    loaded = read_settings(settings)
    engine = find_ledger(loaded)
    uids = named if older_than is None else _find_older(loaded, engine, _parse_span(older_than))
    gate, account = build_gatekeeper(loaded, engine), find_account()
    orders = [
        PurgeOrder(study_instance_uid=StudyUID(uid), ordered_by=account, reason=reason, is_forced=anyway)
        for uid in uids
    ]
    verdicts = [_judge(gate, order, is_trial=dry_run) for order in orders]
    if as_json:
        print_json(verdicts)
    else:
        rows = [(v.study_instance_uid, _word(v, is_trial=dry_run), v.said) for v in verdicts]
        print_table(("Study", "", "Why"), rows, empty="No Study is so old and may go.")
    if not all(verdict.goes for verdict in verdicts):
        raise typer.Exit(EXIT_FAILURE)


def _require_sense(named: Sequence[str], older_than: str | None, *, anyway: bool, has_reason: bool) -> None:
    if bool(named) == (older_than is not None):
        raise SettingsInvalid("name Studies, or give --older-than; see `radnode studies purge --help`")
    if anyway and not named:
        raise SettingsInvalid("--anyway needs the Study Instance UIDs of the Studies; it is not for whole ages")
    if not has_reason:
        raise SettingsInvalid("say --reason, in words for whoever asks later; --dry-run needs none")


def _find_older(settings: Settings, engine: Engine, span: timedelta) -> Sequence[str]:
    proof, before = retention_terms(settings).proof, utc_now() - span
    found = RetentionLedger(engine).candidates(proof, before=before, results_before=before, limit=MAX_STUDIES)
    return [candidate.study_instance_uid for candidate in found]


def _judge(gate: Gatekeeper, order: PurgeOrder, *, is_trial: bool) -> Verdict:
    uid = order.study_instance_uid
    try:
        if is_trial:
            kept_by = gate.obstacles(order, utc_now())
            return Verdict(study_instance_uid=uid, goes=not kept_by, said="; ".join(kept_by))
        purge = gate.order(order, utc_now())
    except NodeError as exc:
        return Verdict(study_instance_uid=uid, goes=False, said=str(exc))
    said = f"{sum(purge.sop_classes.values())} files, {purge.size_bytes} bytes"
    return Verdict(study_instance_uid=uid, goes=True, said=said)


def _word(verdict: Verdict, *, is_trial: bool) -> str:
    if not verdict.goes:
        return "stays"
    return "would go" if is_trial else "goes"


def _parse_span(text: str) -> timedelta:
    span = parse_span(text)
    if span is None:
        raise SettingsInvalid(f"--older-than {text} is no span of time; say 30d, 12h or 30m")
    return span
