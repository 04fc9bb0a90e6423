"""Everything that can be proven of one object of anybody, from its originals and the objects beside it."""

import struct
from collections.abc import Iterator, Mapping

from pydicom import Dataset

from workers.encoding.header_values import read_text
from workers.proving.frames import prove_frames
from workers.proving.graphics import prove_graphics
from workers.proving.groups import prove_groups
from workers.proving.inventory import Inventory, take_inventory
from workers.proving.pixels import prove_document, prove_pixel_length
from workers.proving.placed_segments import PlacedSegmentation
from workers.proving.proof import Complaint, Contradiction
from workers.proving.references import (
    Surroundings,
    prove_identity,
    prove_listing,
    prove_references,
    prove_uids,
)
from workers.proving.report_reading import read_groups
from workers.proving.template import prove_numbers, prove_template

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
REPORTS = "1.2.840.10008.5.1.4.1.1.88."
PRESENTATION_STATES = "1.2.840.10008.5.1.4.1.1.11."
PDF = "1.2.840.10008.5.1.4.1.1.104.1"
SECONDARY_CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
# What lists its references in its evidence, and what lists them in any way.
DOCUMENT_KINDS = frozenset({"SR", "KO"})
LISTING_KINDS = DOCUMENT_KINDS | {"SEG", "PR"}
# What pydicom and the proofs raise when an object is cut, or an element is absent or malformed.
UNREADABLE = (
    AttributeError, LookupError, TypeError, ValueError, ArithmeticError, EOFError, OSError, NotImplementedError,
    struct.error,
)  # fmt: skip


def name_kind(sop_class_uid: str) -> str:
    """Return the word for a SOP Class that is written about images; empty for images themselves."""
    kinds = (
        (KEY_OBJECTS, "KO"),
        (REPORTS, "SR"),
        (PRESENTATION_STATES, "PR"),
        (PDF, "DOC"),
        (SECONDARY_CAPTURES, "SC"),
        *((uid, "SEG") for uid in SEGMENTATIONS),
    )
    return next((kind for begin, kind in kinds if sop_class_uid.startswith(begin)), "")


class Inspection:
    """Proves objects one after another; every SEG must come before the SR that speaks of it."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._segmentations: dict[str, PlacedSegmentation] = {}
        self._inventories: dict[str, Inventory] = {}

    @property
    def segmentations(self) -> Mapping[str, PlacedSegmentation]:
        """Every SEG that was inspected so far, by SOP Instance UID."""
        return self._segmentations

    @property
    def inventories(self) -> Mapping[str, Inventory]:
        """What every object that was inspected so far refers to, by SOP Instance UID."""
        return self._inventories

    def inspect(self, ds: Dataset) -> list[Complaint]:
        """Return everything that is wrong with an object, and what could not be proven of it."""
        complaints: list[Complaint] = []
        try:
            inventory = take_inventory(ds)
        except UNREADABLE as exc:
            return [_tell_unreadable(exc)]
        self._inventories[read_text(ds, "SOPInstanceUID")] = inventory
        proofs = (
            prove_uids(ds, inventory, self._surroundings),
            prove_identity(ds, inventory, self._surroundings),
            prove_references(ds, inventory, self._surroundings),
            self._prove_content(ds, inventory),
        )
        for proof in proofs:
            try:
                complaints.extend(proof)
            except UNREADABLE as exc:
                complaints.append(_tell_unreadable(exc))
        return complaints

    def _prove_content(self, ds: Dataset, inventory: Inventory) -> Iterator[Complaint]:
        kind = name_kind(read_text(ds, "SOPClassUID"))
        match kind:
            case "SEG":
                yield from self._prove_segmentation(ds)
            case "SR":
                yield from self._prove_report(ds, inventory)
            case "PR":
                yield from prove_graphics(ds, inventory, self._surroundings.originals)
            case "DOC":
                yield from prove_document(ds)
            case "KO":
                pass
            case _ if kind or "Rows" in ds:
                yield from prove_pixel_length(ds)
            case _:
                pass
        if kind in LISTING_KINDS:
            yield from prove_listing(inventory, is_document=kind in DOCUMENT_KINDS)

    def _prove_segmentation(self, ds: Dataset) -> list[Complaint]:
        placed, complaints = prove_frames(ds, self._surroundings.originals)
        self._segmentations[placed.reading.sop_instance_uid] = placed
        return complaints

    def _prove_report(self, ds: Dataset, inventory: Inventory) -> Iterator[Complaint]:
        yield from prove_template(ds)
        groups = read_groups(ds)
        yield from prove_numbers(groups)
        referred = {one.sop_instance_uid for one in inventory.references}
        own = {uid: placed for uid, placed in self._segmentations.items() if uid in referred}
        yield from prove_groups(groups, self._surroundings.originals, own)


def _tell_unreadable(exc: Exception) -> Contradiction:
    # What other errors say may quote a value of the object.
    what = f"no {exc.name}" if isinstance(exc, AttributeError) else f"{type(exc).__name__} while it was read"
    return Contradiction(
        thing="object",
        expected="every element that its kind must have",
        found=what,
        remedy="An element is absent or malformed; write the object again.",
    )
