"""What a simulated PACS says of what it holds."""

from pydicom import Dataset

from node.rehearsal.confirmation import NO_SUCH_INSTANCE, Holding, commitment_report, find_matches


def holding(series: int, number: int) -> Holding:
    return Holding(
        study_instance_uid="1.2",
        series_instance_uid=f"1.2.{series}",
        sop_instance_uid=f"1.2.{series}.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.7",
    )


HELD = (holding(1, 1), holding(1, 2), holding(2, 1))


def action(*uids: str) -> Dataset:
    asked = Dataset()
    asked.TransactionUID = "1.9"
    asked.ReferencedSOPSequence = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
        item.ReferencedSOPInstanceUID = uid
        asked.ReferencedSOPSequence.append(item)
    return asked


def query(level: str, **keys: object) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


def test_a_report_tells_what_is_held_from_what_is_not() -> None:
    report = commitment_report(action("1.2.1.1", "1.2.9"), {"1.2.1.1"})
    assert report.TransactionUID == "1.9"
    assert [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence] == ["1.2.1.1"]
    (missing,) = report.FailedSOPSequence
    assert (missing.ReferencedSOPInstanceUID, missing.FailureReason) == ("1.2.9", NO_SUCH_INSTANCE)


def test_a_report_of_all_that_is_held_names_no_failure() -> None:
    assert "FailedSOPSequence" not in commitment_report(action("1.2.1.1"), {"1.2.1.1"})
    assert "ReferencedSOPSequence" not in commitment_report(action("1.2.1.1"), set())


def test_a_query_on_each_level_counts_what_is_below() -> None:
    (study,) = find_matches(query("STUDY", StudyInstanceUID="1.2"), HELD)
    assert study.NumberOfStudyRelatedInstances == 3
    first, second = find_matches(query("SERIES", StudyInstanceUID="1.2", SeriesInstanceUID=""), HELD)
    assert (first.NumberOfSeriesRelatedInstances, second.NumberOfSeriesRelatedInstances) == (2, 1)
    assert len(list(find_matches(query("IMAGE", SeriesInstanceUID="1.2.1"), HELD))) == 2


def test_a_list_of_uids_finds_each_of_them_and_a_foreign_one_none() -> None:
    asked = query("IMAGE", StudyInstanceUID="1.2", SOPInstanceUID=["1.2.1.1", "1.2.2.1", "1.2.9"])
    assert [match.SOPInstanceUID for match in find_matches(asked, HELD)] == ["1.2.1.1", "1.2.2.1"]
    assert not list(find_matches(query("STUDY", StudyInstanceUID="1.3"), HELD))
