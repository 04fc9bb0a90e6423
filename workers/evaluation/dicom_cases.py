"""Cases of DICOM files, whose roles the rules have given out."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from node.errors import PixelsUndecodable
from workers.evaluation.case import Case
from workers.evaluation.order import PlannedStudy


def list_dicom_cases(studies: Sequence[PlannedStudy]) -> Iterator[Case]:
    """Yield a case a Study; files are read when the case is."""
    for study in studies:
        yield Case(
            study_instance_uid=study.study_instance_uid,
            series_instance_uid=study.series_instance_uid,
            patient=study.patient,
            names=frozenset(study.names),
            read=partial(_read_inputs, study),
            columns=study.columns,
            refusal=study.refusal,
        )


def _read_inputs(study: PlannedStudy) -> dict[str, Sequence[Dataset]]:
    return {role: tuple(_read(path, study) for path in paths) for role, paths in study.inputs.items()}


def _read(path: Path, study: PlannedStudy) -> Dataset:
    try:
        return dcmread(path)
    except (InvalidDicomError, ValueError, EOFError, NotImplementedError, OSError) as exc:
        # A folder may be named after a patient, and this text stands on the page.
        raise PixelsUndecodable(
            f"study {study.study_instance_uid}: a file of it cannot be read as DICOM; export it again"
        ) from exc
