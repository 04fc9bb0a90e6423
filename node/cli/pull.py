"""`radnode pull`: Studies are fetched from a PACS; and how that stands, paused and resumed."""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, sleep
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from node.audit.account import find_account
from node.audit.orders import pull_ordered, pull_switched
from node.cli.context import JsonOption, SettingsOption, read_settings, record_audit
from node.cli.output import EXIT_FAILURE, EXIT_USAGE, print_json, print_table, reports_errors, stdout
from node.clock import utc_now
from node.destinations import PullPeer, find_pull_peer, pull_peers
from node.domain.fetch import Fetch, FetchReason, FetchState, FoundStudy, PullSource, read_query
from node.errors import NotFound, QueryRefused, SettingsInvalid
from node.ledger.fetches import FetchFilter, FetchLedger
from node.ledger.opening import open_fetches
from node.ledger.pages import PageAsked
from node.pulls import Answered, PullWish, ask_peer, order_pull
from node.wording import age, calendar_date, short_uid

app = typer.Typer(help="Studies are fetched from a PACS (C-FIND, then C-MOVE or C-GET; QIDO-RS and WADO-RS).")

LOOK_S = 0.5
# A node that runs has begun by then; it looks for orders every few seconds.
BEGUN_S = 15.0
SHOWN_REASONS = 10

NameArgument = Annotated[str, typer.Argument(help="Destination or source of the settings.")]


@app.callback(invoke_without_command=True)
@reports_errors
def pull(  # noqa: PLR0913 each is an option of the command line
    context: typer.Context,
    *,
    source: Annotated[str, typer.Option("--from", help="Destination or source of the settings.")] = "",
    query: Annotated[
        str,
        typer.Option(help="Such as PatientID=4711,StudyDate=20260101-,ModalitiesInStudy=CT; * and ? stand for any."),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what there is.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many Studies at most, the latest.")] = 100,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Return when all is here, or once it is ordered.")
    ] = True,
    as_json: JsonOption = False,
    settings: SettingsOption = None,
) -> None:
    """Ask a PACS for Studies, and let the node that runs fetch them; exit code 1 if one did not come whole.

    What is here already is not fetched again. Ctrl-C ends the order; what came stays.
    """
    if context.invoked_subcommand is not None:
        return
    if not source or not query:
        sys.stderr.write("radnode: say --from NAME and --query KEYWORD=VALUE,..., or list, pause, resume, cancel\n")
        raise typer.Exit(EXIT_USAGE)
    loaded = read_settings(settings)
    answered = ask_peer(loaded, PullWish(source=source, query=_read_query(query), limit=limit))
    if dry_run or not answered.studies:
        _print_found(answered, as_json=as_json)
        return
    queue, account = open_fetches(loaded), find_account()
    order_id = order_pull(queue, answered, asked_by=account, now=utc_now())
    record_audit(loaded, pull_ordered(answered.source, account=account, studies=len(answered.studies)))
    peer = find_pull_peer(loaded, source)
    waits = _say_pause(queue, peer)
    if wait and not waits:
        _follow(queue, order_id, account)
    fetches = queue.fetches_for(FetchReason.PULL, order_id)
    if as_json:
        print_json({"order": order_id, "left_out": answered.left_out, "fetches": fetches})
    else:
        for line in _describe(order_id, answered, fetches, waits):
            stdout().print(line, markup=False)
    if wait and not waits and any(fetch.state is not FetchState.COMPLETED for fetch in fetches):
        raise typer.Exit(EXIT_FAILURE)


@app.command("list")
@reports_errors
def list_pulls(
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many Studies, those ordered last first.")] = 30,
    as_json: JsonOption = False,
    settings: SettingsOption = None,
) -> None:
    """List from whom Studies can be fetched and how that stands, then the Studies that were ordered last."""
    loaded = read_settings(settings)
    queue, peers = open_fetches(loaded), pull_peers(loaded)
    known, counts = queue.read_sources(), queue.count_states()
    fetches = queue.list_fetches(FetchFilter(), PageAsked(limit=limit)).rows
    if as_json:
        sources = [
            {"name": name, "standing": known.get(name, PullSource(name=name)), "fetches": counts.get(name, {})}
            for name in peers
        ]
        print_json({"sources": sources, "fetches": fetches})
        return
    rows = [_row(name, peer, known.get(name), counts.get(name, {})) for name, peer in peers.items()]
    columns = ("Source", "Way", "Stands", "Waiting", "Under way", "Fetched", "Not fetched", "Polled")
    print_table(columns, rows, empty="Nobody to fetch from; give one in [destinations.*] or [sources.*].")
    stdout().print()
    print_table(("Study", "From", "Reason", "Order", "State", "Came", "Was here", "Age", "Why"),
                map(_fetch_row, fetches), empty="Nothing was ever fetched.")  # fmt: skip


@app.command("pause")
@reports_errors
def pause_pull(
    name: NameArgument,
    *,
    reason: Annotated[str, typer.Option(help="Why, for whoever asks later; no patient's name.")] = "",
    settings: SettingsOption = None,
) -> None:
    """Begin no other Study of a source, whoever asks for it; that which is under way comes to its end."""
    loaded = read_settings(settings)
    source, account = find_pull_peer(loaded, name).spec.name, find_account()
    open_fetches(loaded).pause(source, by=account, reason=reason, now=utc_now())
    record_audit(loaded, pull_switched(source, account=account, is_paused=True))
    stdout().print(f"{source} is paused; `radnode pull resume {source}` goes on.")


@app.command("resume")
@reports_errors
def resume_pull(name: NameArgument, *, settings: SettingsOption = None) -> None:
    """Fetch from a source again."""
    loaded = read_settings(settings)
    source, account = find_pull_peer(loaded, name).spec.name, find_account()
    open_fetches(loaded).resume(source)
    record_audit(loaded, pull_switched(source, account=account, is_paused=False))
    stdout().print(f"{source} goes on.")


@app.command("cancel")
@reports_errors
def cancel_pull(
    order_id: Annotated[str, typer.Argument(help="Order, as `radnode pull list` shows it.")],
    *,
    settings: SettingsOption = None,
) -> None:
    """End an order; what came of it stays."""
    asked, queue = FetchFilter(reason=FetchReason.PULL, on_behalf=order_id), open_fetches(read_settings(settings))
    if not queue.fetches_for(FetchReason.PULL, order_id):
        raise NotFound(f"order {order_id} is not in the ledger; see `radnode pull list`")
    count = queue.cancel(asked, by=find_account(), now=utc_now())
    stdout().print(f"{count} Studies that waited or were under way are canceled.")


def _read_query(text: str) -> Mapping[str, str]:
    try:
        return read_query(text)
    except QueryRefused as exc:
        raise SettingsInvalid(f"--query: {exc}") from exc


def _follow(queue: FetchLedger, order_id: str, account: str) -> None:
    """Return when nothing of an order waits or is under way; Ctrl-C ends the order."""
    console = Console(stderr=True)
    tell_idle = _idle_teller(console)
    try:
        with Progress(transient=True, console=console, disable=not sys.stderr.isatty()) as progress:
            task = progress.add_task("Fetching", total=None)
            while True:
                fetches = queue.fetches_for(FetchReason.PULL, order_id)
                came = sum(fetch.fetched.done + fetch.fetched.held for fetch in fetches)
                counts = [fetch.fetched.expected for fetch in fetches]
                total = None if None in counts else sum(count or 0 for count in counts)
                progress.update(task, completed=came, total=total)
                if all(fetch.state.is_final for fetch in fetches):
                    return
                tell_idle(fetches)
                sleep(LOOK_S)
    except KeyboardInterrupt:
        queue.cancel(FetchFilter(reason=FetchReason.PULL, on_behalf=order_id), by=account, now=utc_now())


def _idle_teller(console: Console) -> Callable[[Sequence[Fetch]], None]:
    """Return what says, once, that nothing has begun, or why what has begun waits."""
    began_s, told = monotonic(), set[str]()

    def tell(fetches: Sequence[Fetch]) -> None:
        said = {f"{fetch.reason_code}: {fetch.reason_text}" for fetch in fetches if fetch.reason_code}
        if not any(fetch.attempts for fetch in fetches) and monotonic() - began_s > BEGUN_S:
            said.add("nothing has begun yet; does the node run? The order stays until it does")
        for line in sorted(said - told):
            console.print(line, markup=False)
        told.update(said)

    return tell


def _say_pause(queue: FetchLedger, peer: PullPeer) -> str:
    """Return why nothing is fetched from a peer now; empty where it is."""
    now, known = utc_now(), queue.read_sources().get(peer.spec.name)
    if known is not None and known.paused_at is not None:
        return f"{peer.spec.name} is paused by {known.paused_by}; `radnode pull resume {peer.spec.name}` goes on"
    if peer.terms.hours is not None and not peer.terms.hours.is_open(now):
        return f"{peer.spec.name} is fetched from at {peer.terms.hours.opens_at(now).astimezone():%H:%M} (hours)"
    return ""


def _describe(order_id: str, answered: Answered, fetches: Sequence[Fetch], waits: str) -> list[str]:
    states = Counter(fetch.state for fetch in fetches)
    came, here = (sum(getattr(fetch.fetched, name) for fetch in fetches) for name in ("done", "held"))
    lines = [
        f"Order {order_id}: {states[FetchState.COMPLETED]} of {len(fetches)} Studies are here, "
        f"{came} Instances came, {here} were here before."
    ]
    if answered.left_out:
        lines.append(f"{answered.left_out} more match; see --limit.")
    if waits:
        lines.append(f"The rest waits: {waits}.")
    reasons = Counter(f"{fetch.reason_code}: {fetch.reason_text}" for fetch in fetches if fetch.reason_code)
    return [*lines, *(f"  {count} x {reason}" for reason, count in reasons.most_common(SHOWN_REASONS))]


def _print_found(answered: Answered, *, as_json: bool) -> None:
    if as_json:
        print_json(answered)
        return
    columns = ("Study", "Date", "Modalities", "Series", "Instances")
    print_table(columns, map(_found_row, answered.studies), empty=f"{answered.source} has no such Study.")
    if answered.left_out:
        stdout().print(f"{answered.left_out} more match; see --limit.")


def _found_row(study: FoundStudy) -> tuple[object, ...]:
    counts = ("" if count is None else count for count in (study.series, study.instances))
    return study.study_instance_uid, calendar_date(study.study_date), ", ".join(study.modalities), *counts


def _row(name: str, peer: PullPeer, known: PullSource | None, counts: Mapping[FetchState, int]) -> tuple[object, ...]:
    way = "WADO-RS" if peer.spec.transport == "stow" else f"DIMSE ({peer.terms.retrieve.value})"
    stands = "open" if peer.terms.hours is None or peer.terms.hours.is_open(utc_now()) else "outside of hours"
    if known is not None and known.paused_at is not None:
        stands = f"paused by {known.paused_by} {age(known.paused_at)} ago {known.pause_reason}".rstrip()
    polled = "" if peer.terms.poll is None else "not yet"
    if known is not None and known.polled_at is not None:
        polled = f"{age(known.polled_at)} ago"
    return name, way, stands, *(counts.get(state, 0) for state in FetchState), polled


def _fetch_row(fetch: Fetch) -> tuple[object, ...]:
    order, fetched = fetch.order, fetch.fetched
    expected = "" if fetched.expected is None else f" of {fetched.expected}"
    return (
        short_uid(order.study_instance_uid),
        order.source,
        order.reason.value,
        order.on_behalf,
        fetch.state.value,
        f"{fetched.done}{expected}",
        fetched.held,
        age(fetch.asked_at),
        "" if fetch.reason_code is None else f"{fetch.reason_code}: {fetch.reason_text}",
    )
