"""Who made a Result, from what and when; every UID and every time stamp of a Result comes from here."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

from pydicom import Dataset

from node.domain.result import SegmentationForm
from node.domain.uids import derive_uid
from node.models import ModelCard
from workers.moment import read_zone

SEG_SERIES_NUMBER, SR_SERIES_NUMBER, SC_SERIES_NUMBER = 9100, 9200, 9300
KO_SERIES_NUMBER, PR_SERIES_NUMBER, DOC_SERIES_NUMBER = 9400, 9500, 9600
MAX_DESCRIPTION = 64  # Series Description is LO, PS3.5 6.2
UNVERIFIED = "(unverified)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a set of Results comes from.

    Attributes
    ----------
    node_aet
        AE title of the node; also the serial number of the device that observed.
    pipeline
        Name of the Pipeline.
    model
        The model that answered.
    accepted_at
        When the Job entered the ledger (UTC), or what stands for it where no ledger lasts; the only source of time
        stamps.
    content
        Digest of role and SOP Instance UIDs of every input (`node.domain.job.digest_inputs`).
    predecessor
        The SR that this one replaces; None for the first answer.
    software_version
        Version of radnode.
    correction
        Labels of the Findings that a person struck from the report of `predecessor`; empty for what a model answered.
    segmentation
        How the SEG is kept: in another form it is another object, and so is the SR that refers to it.
    layout
        How the networks are laid out, in words; empty where all are plain. In another Layout they round otherwise.
    """

    node_aet: str
    pipeline: str
    model: ModelCard
    accepted_at: datetime
    content: str
    software_version: str
    predecessor: Dataset | None = None
    correction: tuple[str, ...] = ()
    segmentation: SegmentationForm = SegmentationForm.BINARY
    layout: str = ""

    @property
    def title(self) -> str:
        """Words for the Pipeline, such as ``Lung Nodules``."""
        return self.model.title or self.pipeline.replace("_", " ").title()

    @property
    def amendments(self) -> tuple[str, ...]:
        """Sentences that say what a person changed; empty for what a model answered."""
        struck = sorted(self.correction)
        return tuple(f"Corrected: a person struck {label} from the earlier report." for label in struck)

    def uid(self, *tag: str) -> str:
        """Return the UID that always follows from the same question and `tag`.

        References
        ----------
        DICOM PS3.5 B.2
        """
        return derive_uid(self.pipeline, self.model.name, self.model.version, self._digest_config(), self.content, *tag)

    def device_uid(self) -> str:
        """Return the UID of the node as observing device."""
        return derive_uid("device", self.node_aet)

    def series_description(self, kind: str) -> str:
        """Return Series Description (0008,103E): it says AI and unverified, at most 64 characters."""
        room = MAX_DESCRIPTION - len(f"AI  {kind} {UNVERIFIED}")
        return f"AI {self.title[:room]} {kind} {UNVERIFIED}"

    def date_and_time(self, timezone_offset: str) -> tuple[str, str]:
        """Return DA and TM of the acceptance, in the time zone of the source where it names one.

        Parameters
        ----------
        timezone_offset
            Timezone Offset From UTC (0008,0201) of the source, such as ``+0100``; empty for UTC. It rules every
            time of an object that carries it (PS3.3 C.12.1.1.8).
        """
        moment = self.accepted_at.astimezone(read_zone(timezone_offset))
        return moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")

    def _digest_config(self) -> str:
        """Return a digest of all that changes the bytes of a Result beside input, Pipeline and model version."""
        facts = {
            "numbers": self.model.numbers,
            "weights": self.model.weights_sha256,
            "words": (self.title, self.model.notice),
            "looked for": [code.as_json() for code in self.model.looked_for],
            "series offset": self.model.series_offset,
            "software": self.software_version,
            "node": self.node_aet,
            "correction": sorted(self.correction),
            "segmentation": self.segmentation,
        }
        if self.layout:
            facts["layout"] = self.layout
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
