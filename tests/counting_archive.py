"""An archive of pynetdicom's that says how much it holds, right or wrong, as a test tells it while it runs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType

from pydicom import Dataset
from pynetdicom import AE, evt

from node.peers.peer import DestinationSpec

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PENDING, SUCCESS, REFUSED = 0xFF00, 0x0000, 0xA700


@dataclass
class CountingArchive:
    """Answers C-FIND on STUDY and SERIES level; a context manager.

    Attributes
    ----------
    series
        Instances by Series Instance UID, each with its Modality.
    total
        What it says on STUDY level; None: the sum of its Series.
    names_series, counts
        Whether it has an answer on SERIES level, and whether it counts at all.
    aborts_after
        How many matches it tells before it aborts the Association; None: it does not.
    status
        With which it ends an answer.
    offered
        SOP Class UID that it accepts.
    levels
        Query/Retrieve Level (0008,0052) of each question that came.
    """

    series: dict[str, tuple[str, int]] = field(default_factory=dict)
    total: int | None = None
    names_series: bool = True
    counts: bool = True
    aborts_after: int | None = None
    status: int = SUCCESS
    aet: str = "PACS"
    offered: str = STUDY_ROOT_FIND
    levels: list[str] = field(default_factory=list)

    def __enter__(self) -> "CountingArchive":
        ae = AE(ae_title=self.aet)
        ae.add_supported_context(self.offered)
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, self._find)])
        assert server is not None
        self._server = server
        self.port: int = server.server_address[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()

    @property
    def spec(self) -> DestinationSpec:
        """How it is called."""
        return DestinationSpec(
            name="pacs", transport="cstore", aet=self.aet, host="127.0.0.1", port=self.port, timeout_s=20.0
        )

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        level = event.identifier.QueryRetrieveLevel
        self.levels.append(level)
        for number, match in enumerate(self._matches(event.identifier, level)):
            if number == self.aborts_after:
                event.assoc.abort()
                return
            yield PENDING, match
        if self.status != SUCCESS:
            yield self.status, None

    def _matches(self, asked: Dataset, level: str) -> Iterator[Dataset]:
        if level == "STUDY":
            total = sum(count for _, count in self.series.values()) if self.total is None else self.total
            yield self._match(asked, level, "NumberOfStudyRelatedInstances", total)
        elif self.names_series:
            for uid, (modality, count) in self.series.items():
                match = self._match(asked, level, "NumberOfSeriesRelatedInstances", count)
                match.SeriesInstanceUID, match.Modality = uid, modality
                yield match

    def _match(self, asked: Dataset, level: str, keyword: str, count: int) -> Dataset:
        match = Dataset()
        match.QueryRetrieveLevel, match.StudyInstanceUID = level, asked.StudyInstanceUID
        if self.counts:
            setattr(match, keyword, count)
        return match
