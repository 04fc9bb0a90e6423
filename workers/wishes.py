"""Which Results a Job is to write: what settings ask for, as far as its Destinations take it."""

from node.domain.capability import LABEL_MAP
from node.domain.job import JobOrder
from node.domain.result import ResultWishes, SegmentationForm
from node.ledger.capabilities import CapabilityLedger
from node.settings.whole import Settings


class SiteWishes:
    """The wishes of a site for each Job; asks the ledger, never a Destination."""

    def __init__(self, settings: Settings, capabilities: CapabilityLedger) -> None:
        self._settings = settings
        self._capabilities = capabilities

    def __call__(self, order: JobOrder) -> ResultWishes:
        """Return what the Job is to write.

        There is one SEG and one SR of an answer for all Destinations: LABELMAP only where each of them is known to
        take it. A Job that is delivered nowhere may write it. Who is told by messages gets neither.
        """
        settings = self._settings.pipelines[order.pipeline]
        form = settings.segmentation
        if form is SegmentationForm.LABELMAP and not self._capabilities.all_take(
            self._find_addresses(order), LABEL_MAP
        ):
            form = SegmentationForm.BINARY
        return ResultWishes(segmentation=form, optional=frozenset(settings.optional_results))

    def _find_addresses(self, order: JobOrder) -> dict[str, str]:
        known = self._settings.destinations
        return {
            name: known[name].address if name in known else ""
            for name in order.deliver_to
            if name not in known or not known[name].is_told
        }
