"""Which Series may feed a Pipeline at all, whatever the rules say, and whether a Study is of one patient."""

from dataclasses import replace

from pydicom.uid import UID

from node.domain.decision import Clause, Outcome
from node.domain.study import PATIENT_KEYWORDS, SeriesFacts, StudyFacts
from node.rules.readings import read_texts
from node.rules.text import normalize, shorten

# Patient and Study attributes that some modalities write into some Series only.
STUDY_LEVEL = ("PatientSex", "PatientAge", "StudyDescription")
IMAGE_STORAGE = "Image Storage"
SECONDARY_CAPTURE = "Secondary Capture"
# PS3.3 C.7.6.1.1.2, value 3; GE and Siemens store screens under the SOP Class of the modality.
NOT_DIAGNOSTIC = {"localizer": "a localizer", "screen save": "a saved screen"}
# Only whether they differ is told.
PATIENT_WORDS = {"PatientID": "Patient IDs", "PatientBirthDate": "birth dates"}
MAY_FEED = "may feed a pipeline"


def name_series(series: SeriesFacts) -> str:
    """Return ``Series 4 (AX FLAIR)``, or the end of the UID where there is no Series Number."""
    number = read_texts(series, keywords=("SeriesNumber",))
    description = read_texts(series, keywords=("SeriesDescription",))
    name = f"Series {number.words}" if number else f"Series …{series.series_instance_uid[-8:]}"
    return f"{name} ({description.words})" if description else name


def complete_series(study: StudyFacts) -> tuple[SeriesFacts, ...]:
    """Return the Series of `study`; what belongs to the whole Study is taken from it where a Series lacks it."""
    shared = {keyword: study.attributes[keyword] for keyword in STUDY_LEVEL if keyword in study.attributes}
    return tuple(replace(series, attributes={**shared, **series.attributes}) for series in study.series)


def find_mixture(study: StudyFacts) -> Clause | None:
    """Return the Clause that refuses a Study whose Instances are of different patients; None if they are of one.

    Own Results bear the patient of what they were made from, which may have been corrected since.
    """
    received = [series for series in study.series if not series.is_own_result]
    for keyword in PATIENT_KEYWORDS:
        found = {str(s.attributes[keyword]).strip() for s in received if s.attributes.get(keyword)}
        found.update(*(series.disputed.get(keyword, ()) for series in received))
        if len(found) > 1:
            return Clause(
                text="one patient in the Study",
                outcome=Outcome.UNDETERMINED,
                found=f"{len(found)} different {PATIENT_WORDS[keyword]}",
            )
    return None


def judge_eligibility(series: SeriesFacts, *, for_pipeline: bool) -> Clause:
    """Return why a Series may not feed a Pipeline (or be forwarded), or that it may.

    The Clause is NO_MATCH for what is excluded. Forwarding excludes own Results only, lest they travel in circles.
    """
    reason = _why_excluded(series) if for_pipeline else _own_result(series)
    count = len(series.sop_instance_uids)
    name = f"{name_series(series)}, {count} Instance{'' if count == 1 else 's'}"
    return Clause(
        text=reason or (MAY_FEED if for_pipeline else "may be forwarded"),
        outcome=Outcome.NO_MATCH if reason else Outcome.MATCH,
        found=name,
        series_instance_uid=series.series_instance_uid,
    )


def _why_excluded(series: SeriesFacts) -> str | None:
    return _own_result(series) or _wrong_sop_class(series) or _not_diagnostic(series)


def _own_result(series: SeriesFacts) -> str | None:
    return "an own Result is never processed again" if series.is_own_result else None


def _wrong_sop_class(series: SeriesFacts) -> str | None:
    for uid in series.sop_class_uids:
        name = shorten(UID(uid).name)
        if SECONDARY_CAPTURE in name:
            return f"a Secondary Capture never feeds a pipeline ({name})"
        if IMAGE_STORAGE not in name:
            return f"only images feed a pipeline ({name})"
    return None if series.sop_class_uids else "only images feed a pipeline (SOP Class absent)"


def _not_diagnostic(series: SeriesFacts) -> str | None:
    image_type = read_texts(series, keywords=("ImageType",))
    for value in image_type.texts if image_type else ():
        if normalize(value) in NOT_DIAGNOSTIC:
            return f"{NOT_DIAGNOSTIC[normalize(value)]} never feeds a pipeline"
    return None
