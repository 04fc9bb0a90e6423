"""Where Instances and Results lie, relative to the store's root."""

from node.domain.uids import check_uid

INSTANCES = "instances"
RESULTS = "results"
CARD_SUFFIX = ".json"
# Enough of a digest to tell the versions of one Instance apart; the ledger holds the whole digest.
VERSION_DIGITS = 16


def instance_path(
    study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str, *, version_digest: str | None = None
) -> str:
    """Return ``instances/<study>/<series>/<sop>.dcm``.

    Parameters
    ----------
    version_digest
        Digest of the data set; given when another content already lies under the plain name.

    Raises
    ------
    BadIdentifier
        If one of the three is no UID.
    """
    name = _file_path(INSTANCES, study_instance_uid, series_instance_uid, sop_instance_uid)
    return f"{name}.{version_digest[:VERSION_DIGITS]}.dcm" if version_digest else f"{name}.dcm"


def result_path(study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str, *, fence: int) -> str:
    """Return ``results/<study>/<series>/<sop>-<fence>.dcm``.

    Parameters
    ----------
    fence
        Of the claim under which it was made: a worker that lost its lease must not replace what another has finished.

    Raises
    ------
    BadIdentifier
        If one of the three is no UID.
    """
    return _file_path(RESULTS, study_instance_uid, series_instance_uid, sop_instance_uid) + f"-{fence}.dcm"


def card_path(study_instance_uid: str, job_id: str, *, name: str) -> str:
    """Return ``results/<study>/<job>-<name>.json``, where what a ledger knows of Results lies beside them.

    Raises
    ------
    BadIdentifier
        If the Study Instance UID is none.
    """
    study = check_uid(study_instance_uid, keyword="StudyInstanceUID")
    return f"{RESULTS}/{study}/{job_id}-{name}{CARD_SUFFIX}"


def _file_path(folder: str, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> str:
    study = check_uid(study_instance_uid, keyword="StudyInstanceUID")
    series = check_uid(series_instance_uid, keyword="SeriesInstanceUID")
    instance = check_uid(sop_instance_uid, keyword="SOPInstanceUID")
    return f"{folder}/{study}/{series}/{instance}"
