"""`radnode results check`: objects of anybody in a folder are proven against the originals they speak of."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from node.errors import NotEligible, NotFound, PixelsUndecodable, TooLarge
from workers.encoding.quiet import quiet_libraries
from workers.frames import spread_instance
from workers.pixels import rescale_pixels
from workers.proving.objects import UNREADABLE, Inspection, name_kind
from workers.proving.originals import (
    HEADER_KEYWORDS,
    Original,
    OriginalReader,
    Originals,
    SlicePlace,
    Values,
    gather_originals,
)
from workers.proving.proof import Complaint, Contradiction, Unproven
from workers.proving.references import Header, Surroundings, read_header

RIGHT, WRONG, NOT_PROVEN = "right", "WRONG", "not proven"
EXIT_RIGHT, EXIT_WRONG, EXIT_NOT_PROVEN = 0, 1, 3
# Neighboring Segments lie on the same slices; more than these are not kept decoded.
KEPT_SLICES = 16
# A file of this name claims to be DICOM, whatever it holds (PS3.12 leaves names open; everybody uses this one).
DICOM_SUFFIX = ".dcm"
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedObject:
    """What became of one object.

    Attributes
    ----------
    kind
        ``SEG``, ``SR``, ``SC``, ``KO``, ``PR``, ``DOC``, else its Modality; empty where it cannot be read.
    """

    path: Path
    kind: str
    sop_instance_uid: str
    contradictions: tuple[Contradiction, ...] = ()
    unproven: tuple[Unproven, ...] = ()

    @property
    def verdict(self) -> str:
        """``right`` where everything was proven that its kind has, ``WRONG`` where one thing is contradicted."""
        return WRONG if self.contradictions else NOT_PROVEN if self.unproven else RIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of a folder.

    Attributes
    ----------
    passed_over
        Files that are no DICOM and do not claim to be.
    """

    objects: tuple[InspectedObject, ...]
    originals: int
    passed_over: int = 0

    @property
    def exit_code(self) -> int:
        """0 all right; 1 something is wrong; 3 nothing is wrong, but not everything could be proven."""
        verdicts = {one.verdict for one in self.objects}
        return EXIT_WRONG if WRONG in verdicts else EXIT_RIGHT if verdicts == {RIGHT} else EXIT_NOT_PROVEN


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A DICOM file that is to be proven; None as header where it cannot be read."""

    path: Path
    kind: str
    header: Header | None


def run_inspection(folder: Path, originals: Path, *, as_json: bool) -> int:
    """Inspect a folder, write the report to standard output, and return the exit code of the command.

    Raises
    ------
    NotFound
        If one of the folders does not exist.
    """
    report = inspect_folder(folder, originals)
    lines = [_to_json(report)] if as_json else list(_tell(report))
    sys.stdout.write("\n".join(lines) + "\n")
    return report.exit_code


def inspect_folder(folder: Path, originals: Path) -> Report:
    """Return what can be proven of every DICOM object below `folder`.

    Headers of the originals are held, pixels only of those that a measurement needs; objects are read one at a time.

    Parameters
    ----------
    folder
        Where the objects lie, at any depth; or one file.
    originals
        Where the images lie that they speak of. May be the same folder: SEG, SR, SC, KO, PR and PDF are then the
        objects.

    Raises
    ------
    NotFound
        If one of them does not exist.
    """
    with quiet_libraries():
        strangers: list[Path] = []
        found = sorted(_find_objects(folder, originals, strangers), key=lambda one: (one.kind != "SEG", one.path))
        known = _read_originals(originals, {one.path.resolve() for one in found})
        counts = Counter(one.header.sop_instance_uid for one in found if one.header is not None)
        inspection = Inspection(
            Surroundings(
                originals=known,
                objects={one.header.sop_instance_uid: one.header for one in found if one.header is not None},
                doubled=frozenset(uid for uid, count in counts.items() if count > 1),
            )
        )
        objects = sorted((_inspect(one, inspection) for one in found), key=lambda one: one.path)
    return Report(objects=tuple(objects), originals=len(known.by_uid), passed_over=len(strangers))


def _find_files(folder: Path) -> list[Path]:
    if not folder.exists():
        raise NotFound(f"{folder} does not exist; name a folder of DICOM files")
    return [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())


def _find_objects(folder: Path, originals: Path, strangers: list[Path]) -> Iterator[_Found]:
    """Yield what is to be proven; files that are no DICOM go to `strangers`."""
    shared = {path.resolve() for path in _find_files(originals)}
    for path in _find_files(folder):
        try:
            ds = dcmread(path, stop_before_pixels=True)
            header, kind = read_header(ds), name_kind(str(ds.get("SOPClassUID")))
            modality = str(ds.get("Modality") or "")
        except (InvalidDicomError, *UNREADABLE) as exc:
            if isinstance(exc, InvalidDicomError) and path.suffix.lower() != DICOM_SUFFIX:
                strangers.append(path)
            else:
                yield _Found(path=path, kind="", header=None)
            continue
        if ds.file_meta.get("MediaStorageSOPClassUID") == MEDIA_DIRECTORY:
            continue
        if kind or path.resolve() not in shared:
            yield _Found(path=path, kind=kind or modality, header=header)


def _read_originals(folder: Path, objects: set[Path]) -> Originals:
    paths: dict[str, Path] = {}
    originals: list[Original] = []
    reader = OriginalReader()
    for path in _find_files(folder):
        if path.resolve() in objects:
            continue
        try:
            original = reader.read(dcmread(path, stop_before_pixels=True, specific_tags=list(HEADER_KEYWORDS)))
        except (InvalidDicomError, *UNREADABLE):
            continue
        originals.append(original)
        paths[original.sop_instance_uid] = path
    shelf = _Shelf(paths)
    return gather_originals(originals, lru_cache(maxsize=KEPT_SLICES)(shelf.read_values))


class _Shelf:
    """Files of originals; the one that was read last is kept: a multi-frame Instance is asked for Frame by Frame."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths
        self._open = lru_cache(maxsize=1)(_open_slices)

    def read_values(self, place: SlicePlace) -> Values:
        """Return the values of one Frame; Raises PixelsUndecodable."""
        uid, number = place
        path = self._paths[uid]
        try:
            return rescale_pixels(self._open(path)[number - 1])
        except (NotEligible, TooLarge) as exc:
            raise PixelsUndecodable(str(exc)) from exc
        except (InvalidDicomError, *UNREADABLE) as exc:
            raise PixelsUndecodable(f"{path} cannot be read; export it again") from exc


def _open_slices(path: Path) -> Sequence[Dataset]:
    return spread_instance(dcmread(path))


def _inspect(found: _Found, inspection: Inspection) -> InspectedObject:
    if found.header is None:
        return InspectedObject(path=found.path, kind="", sop_instance_uid="", contradictions=(_tell_cut(),))
    complaints: Sequence[Complaint]
    try:
        complaints = inspection.inspect(dcmread(found.path))
    except UNREADABLE:
        complaints = [_tell_cut()]
    return InspectedObject(
        path=found.path,
        kind=found.kind,
        sop_instance_uid=found.header.sop_instance_uid,
        contradictions=tuple(one for one in complaints if isinstance(one, Contradiction)),
        unproven=tuple(one for one in complaints if isinstance(one, Unproven)),
    )


def _tell_cut() -> Contradiction:
    return Contradiction(
        thing="file", expected="a whole Part 10 file", found="one that is cut or damaged", remedy="Copy it again."
    )


def _tell(report: Report) -> Iterator[str]:
    for one in report.objects:
        yield f"{one.verdict:<11} {one.kind:<4} {one.path}"
        for number, contradiction in enumerate(one.contradictions, start=1):
            yield f"  {number}. {contradiction}"
        for unproven in one.unproven:
            yield f"  not proven: {unproven}"
    counts = Counter(one.verdict for one in report.objects)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in (RIGHT, WRONG, NOT_PROVEN) if counts[verdict])
    others = f"; {report.passed_over} other files passed over" if report.passed_over else ""
    yield f"{told or 'no DICOM object found'}; {report.originals} originals{others}"


def _to_json(report: Report) -> str:
    objects: list[Mapping[str, object]] = [
        {
            "path": str(one.path),
            "kind": one.kind,
            "sop_instance_uid": one.sop_instance_uid,
            "verdict": one.verdict,
            "contradictions": [asdict(contradiction) for contradiction in one.contradictions],
            "unproven": [asdict(unproven) for unproven in one.unproven],
        }
        for one in report.objects
    ]
    told = {"originals": report.originals, "passed_over": report.passed_over, "objects": objects}
    return json.dumps(told, indent=2, ensure_ascii=False)
