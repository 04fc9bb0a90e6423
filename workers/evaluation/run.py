"""A measurement from order to page: `python -m workers evaluate`."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from node.errors import TruthInvalid
from workers.encoding.quiet import quiet_libraries
from workers.evaluation.asking import ask_all, load_models
from workers.evaluation.case import Case
from workers.evaluation.dicom_cases import list_dicom_cases
from workers.evaluation.kermany_cases import list_kermany_cases
from workers.evaluation.lgg_cases import list_lgg_cases
from workers.evaluation.order import Order, read_order
from workers.evaluation.page import write_page
from workers.evaluation.report import make_report
from workers.evaluation.task import choose_task
from workers.evaluation.truth_book import open_truth
from workers.evaluation.writing import Measured, write_files

DICOM = "dicom"
COLLECTIONS = {"lgg": list_lgg_cases, "kermany": list_kermany_cases}
# So often a person who waits is told how far it is.
TELL_EVERY_S = 15.0


def run_evaluation(path: Path) -> None:
    """Carry out the order in a file; metrics.json, cases.csv and index.html are on disk when it returns.

    Raises
    ------
    TruthInvalid
        If the truth cannot be read, or says nothing of any case.
    ModelInvalid
        If a model is absent or damaged.
    """
    order = read_order(path)
    models = load_models(order)
    task = choose_task(order, models[0].card)
    book = open_truth(order.truth, label=order.truth_label, unlisted_are_healthy=order.unlisted_are_healthy)
    with quiet_libraries():
        harvest = ask_all(_list_cases(order), models, task, book, order, tell=_Clerk().tell)
    if not harvest.asked:
        raise TruthInvalid(
            f"the truth says nothing of any of {len(harvest.without_truth)} cases by which {task.name} is measured; "
            "compare their UIDs, and see docs/evaluation.md"
        )
    report = make_report(harvest, task, order)
    order.out.mkdir(parents=True, exist_ok=True)
    cards = tuple(model.card for model in models)
    measured = Measured(order=order, cards=cards, task=task, harvest=harvest, report=report)
    write_files(measured)
    write_page(measured)


def _list_cases(order: Order) -> Iterator[Case]:
    cases = list_dicom_cases(order.studies) if order.form == DICOM else COLLECTIONS[order.form](order.data)
    for case in cases:
        # DICOM files of others were left out by the node, which knows the Patient IDs.
        if order.form == DICOM or order.patients is None or case.patient in order.patients:
            yield case


class _Clerk:
    """Tells on standard error how many cases were asked."""

    def __init__(self) -> None:
        self._begun = self._told = time.monotonic()

    def tell(self, asked: int) -> None:
        """Tell so, if it was told long enough ago."""
        now = time.monotonic()
        if now - self._told >= TELL_EVERY_S:
            self._told = now
            sys.stderr.write(f"radnode evaluate: {asked} cases in {now - self._begun:.0f} s\n")
