"""One question to a model: the Series of a Study by role, and under which names its truth is known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from pydicom import Dataset

from workers.evaluation.truth import Truth


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why there is no answer: a code of `docs/errors.md`, and a sentence."""

    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One Study that is asked about.

    Attributes
    ----------
    series_instance_uid
        Of the Series that the answer is about; of a refused Study it may be empty.
    patient
        Whoever has the same is one patient. Never written anywhere.
    names
        Study, Series and SOP Instance UIDs, and names of files: under one of them the truth is filed.
    columns
        What subgroups may ask: ``sex``, ``age``, ``manufacturer``, ``slice-thickness``, and what a data set tells.
    read
        Reads the Instances of each role from disk.
    source
        Name in a public data set, by which a person finds the picture again; empty for DICOM.
    truth
        What came with the data; None: to be looked up.
    refusal
        Why no rule gives it to the Pipeline; None when one does.
    """

    study_instance_uid: str
    series_instance_uid: str
    patient: str
    names: frozenset[str]
    read: Callable[[], Mapping[str, Sequence[Dataset]]]
    columns: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    source: str = ""
    truth: Truth | None = None
    refusal: Refusal | None = None
