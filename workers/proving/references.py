"""Proof of what any object says of others: whose it is, and that everything it refers to is there."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydicom import Dataset

from workers.encoding.header_values import read_plain, read_text
from workers.proving.inventory import EVIDENCE, Inventory, Reference
from workers.proving.originals import IDENTITY_KEYWORDS, Original, Originals
from workers.proving.proof import Complaint, Contradiction, Unproven, list_some

# Who cannot be told without these: they must be there and equal. The others must not contradict.
STRICT_KEYWORDS = ("PatientID", "PatientName")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What identifies one object among those that are looked at together."""

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an object may refer to.

    Attributes
    ----------
    objects
        The objects that are looked at together with it, by SOP Instance UID.
    doubled
        SOP Instance UIDs that more than one of them has.
    """

    originals: Originals
    objects: Mapping[str, Header]
    doubled: frozenset[str] = frozenset()

    def find(self, sop_instance_uid: str) -> Original | Header | None:
        """Return an Instance at hand."""
        return self.originals.by_uid.get(sop_instance_uid) or self.objects.get(sop_instance_uid)

    def has_series(self, series_instance_uid: str) -> bool:
        """Return whether at least one Instance of a Series is at hand."""
        in_objects = any(one.series_instance_uid == series_instance_uid for one in self.objects.values())
        return series_instance_uid in self.originals.by_series or in_objects


def read_header(ds: Dataset) -> Header:
    """Return what identifies `ds`."""
    return Header(
        sop_instance_uid=read_plain(ds, "SOPInstanceUID"),
        sop_class_uid=read_plain(ds, "SOPClassUID"),
        series_instance_uid=read_plain(ds, "SeriesInstanceUID"),
        study_instance_uid=read_plain(ds, "StudyInstanceUID"),
    )


def prove_uids(ds: Dataset, inventory: Inventory, surroundings: Surroundings) -> Iterator[Contradiction]:
    """Yield elements that are cut, and UIDs that are none, are missing, are used twice, or differ from the file meta.

    References
    ----------
    DICOM PS3.5 9.1, PS3.10 7.1
    """
    for keyword in inventory.cut:
        yield Contradiction(
            thing=keyword,
            expected="as many bytes as its length says",
            found="fewer",
            remedy="The file is cut; copy it again.",
        )
    for complaint in inventory.bad_uids:
        yield Contradiction(
            thing="UID", expected="digits and dots, at most 64", found=complaint, remedy="Derive it from a root."
        )
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        if not read_text(ds, keyword):
            yield Contradiction(thing=keyword, expected="a UID", found="none", remedy="Write the object again.")
    for meta_keyword, keyword in (
        ("MediaStorageSOPInstanceUID", "SOPInstanceUID"),
        ("MediaStorageSOPClassUID", "SOPClassUID"),
    ):
        if read_text(ds.file_meta, meta_keyword) != read_text(ds, keyword):
            yield Contradiction(
                thing=meta_keyword, expected=f"{keyword} of the object", found="another", remedy="Write the file again."
            )
    uid = read_text(ds, "SOPInstanceUID")
    if uid and (uid in surroundings.doubled or uid in surroundings.originals.by_uid):
        yield Contradiction(
            thing="SOPInstanceUID",
            expected="a UID that no other Instance has",
            found="another file with the same",
            remedy="Give each object a UID of its own, and check each file once.",
        )


def prove_identity(ds: Dataset, inventory: Inventory, surroundings: Surroundings) -> Iterator[Complaint]:
    """Yield where patient and Study are not those of the originals that the object refers to."""
    sources = _find_sources(ds, inventory, surroundings)
    if not sources:
        yield Unproven(thing="patient and Study", reason="no original of it is at hand")
        return
    studies = sorted({one.study_instance_uid for one in sources})
    if read_text(ds, "StudyInstanceUID") not in studies:
        yield Contradiction(
            thing="StudyInstanceUID",
            expected=" or ".join(studies),
            found=read_text(ds, "StudyInstanceUID") or "none",
            remedy="Copy it from the source: the object would be filed elsewhere.",
        )
    identities = {one.identity for one in sources}
    for place, keyword in enumerate(IDENTITY_KEYWORDS):
        expected = {_plain(identity[place]) for identity in identities}
        found = _plain(read_text(ds, keyword))
        is_told = bool(found) and expected != {""}
        if found not in expected and (is_told or keyword in STRICT_KEYWORDS):
            yield Contradiction(
                thing=keyword,
                expected="what the originals say",
                found="another value" if found else "none",
                remedy="Copy it from the source, character set included.",
            )
        elif keyword == "PatientID" and len(expected) > 1:
            yield Contradiction(
                thing=keyword, expected="originals of one patient", found="several", remedy="Separate them."
            )


def prove_references(ds: Dataset, inventory: Inventory, surroundings: Surroundings) -> Iterator[Complaint]:
    """Yield references that lead nowhere, to the object itself, or to something else than they say."""
    own = read_text(ds, "SOPInstanceUID")
    if own in inventory.predecessors:
        yield Contradiction(
            thing="Predecessor Documents",
            expected="an earlier document",
            found="the document itself",
            remedy="Give the new document a UID of its own.",
        )
    if any(one.sop_instance_uid == own for one in inventory.references):
        yield Contradiction(
            thing="reference", expected="another Instance", found="the object itself", remedy="Correct the reference."
        )
    yield from _prove_targets([one for one in inventory.references if one.sop_instance_uid != own], surroundings)
    yield from _prove_presence(ds, inventory, surroundings)


def prove_listing(inventory: Inventory, *, is_document: bool) -> Iterator[Contradiction]:
    """Yield what an object refers to without listing it.

    Parameters
    ----------
    is_document
        True for SR and Key Object Selection, which list in their evidence; else in Referenced Series Sequence.

    References
    ----------
    DICOM PS3.3 C.12.2, C.17.2.3
    """
    places = EVIDENCE if is_document else None
    listed = {
        one.sop_instance_uid
        for one in inventory.references
        if (one.place in places if places is not None else one.is_listing)
    }
    missing = sorted({one.sop_instance_uid for one in inventory.references if not one.is_listing} - listed)
    if missing:
        yield Contradiction(
            thing="evidence" if is_document else "Referenced Series Sequence",
            expected="every Instance that the object refers to",
            found=f"{len(missing)} missing, {missing[0]} among them",
            remedy="List each of them: archives and viewers fetch by this list.",
        )


def _find_sources(ds: Dataset, inventory: Inventory, surroundings: Surroundings) -> list[Original]:
    by_uid = surroundings.originals.by_uid
    referred = {one.sop_instance_uid for one in inventory.references}
    sources = [by_uid[uid] for uid in referred if uid in by_uid]
    study = read_text(ds, "StudyInstanceUID")
    return sources or [one for one in by_uid.values() if one.study_instance_uid == study]


def _plain(text: str) -> str:
    """Return text without what may differ: trailing separators of a name (PS3.5 6.2.1)."""
    return "=".join(group.rstrip("^ ") for group in text.split("=")).rstrip("=")


def _prove_targets(references: Iterable[Reference], surroundings: Surroundings) -> Iterator[Contradiction]:
    wrong: dict[str, dict[str, str]] = defaultdict(dict)
    for one in references:
        target = surroundings.find(one.sop_instance_uid)
        if target is None:
            continue
        pairs = (
            ("SOP Class", one.sop_class_uid, target.sop_class_uid),
            ("Series", one.series_instance_uid, target.series_instance_uid),
            ("Study", one.study_instance_uid, target.study_instance_uid),
        )
        for thing, said, true in pairs:
            if said and said != true:
                wrong[thing][one.sop_instance_uid] = f"{said} in {one.place}"
    for thing, uids in wrong.items():
        uid, said = next(iter(uids.items()))
        target = surroundings.find(uid)
        yield Contradiction(
            thing=f"{thing} of the referenced {list_some('Instance', list(uids))}",
            expected=_tell(target, thing),
            found=said,
            remedy="Refer to an Instance as its own header names it.",
        )


def _tell(target: Original | Header | None, thing: str) -> str:
    if target is None:
        return "that of its header"
    return {
        "SOP Class": target.sop_class_uid,
        "Series": target.series_instance_uid,
        "Study": target.study_instance_uid,
    }[thing]


def _prove_presence(ds: Dataset, inventory: Inventory, surroundings: Surroundings) -> Iterator[Complaint]:
    own = read_text(ds, "SOPInstanceUID")
    absent = {
        one.sop_instance_uid: one
        for one in inventory.references
        if surroundings.find(one.sop_instance_uid) is None and one.sop_instance_uid != own
    }
    # Where the object itself says that it speaks of a Series that nobody handed over, nothing is wrong yet.
    elsewhere = {
        one.sop_instance_uid: one.series_instance_uid
        for one in inventory.references
        if one.series_instance_uid and not surroundings.has_series(one.series_instance_uid)
    }
    is_foreign = not _find_sources(ds, inventory, surroundings)
    dangling = [uid for uid in absent if uid not in elsewhere and not is_foreign]
    if dangling:
        places = sorted({absent[uid].place for uid in dangling})
        yield Contradiction(
            thing=f"reference in {' and '.join(places)}",
            expected="an original, or another of the objects",
            found=f"{list_some('Instance', dangling)}, which nobody has",
            remedy="Add it to the originals, or correct the reference.",
        )
    unknown = [uid for uid in absent if uid not in dangling]
    if unknown:
        series = sorted({elsewhere[uid] for uid in unknown if uid in elsewhere})
        yield Unproven(
            thing=f"{len(unknown)} references",
            reason=f"of {'Series ' + ', '.join(series[:2]) if series else 'their Series'} no Instance is at hand",
        )
