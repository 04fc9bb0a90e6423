"""Whether a header says that nobody was imaged: a phantom, or a test of the machine."""

from collections.abc import Iterator

from pydicom import Dataset

from node.errors import PhantomOrTest

NAME, PATIENT_ID, IMAGE_TYPE = "PatientName", "PatientID", "ImageType"
DESCRIPTIONS = ("StudyDescription", "SeriesDescription", "ProtocolName")
TITLES = {
    NAME: "Patient's Name",
    PATIENT_ID: "Patient ID",
    IMAGE_TYPE: "Image Type",
    "StudyDescription": "Study Description",
    "SeriesDescription": "Series Description",
    "ProtocolName": "Protocol Name",
}
# One of them is enough, wherever it stands.
PLAIN = frozenset({
    "PHANTOM", "PHANTOMS", "PHANTOME", "FANTOM", "FANTOME", "FANTÔME", "FANTOMA", "FANTOMAS", "CATPHAN", "TESTOBJECT",
    "PRÜFKÖRPER", "KONSTANZPRÜFUNG",
})  # fmt: skip
PHRASES = frozenset({
    ("TEST", "OBJECT"), ("TEST", "PATTERN"), ("QUALITY", "ASSURANCE"), ("QUALITY", "CONTROL"),
    ("CONSTANCY", "TEST"), ("CALIBRATION", "SCAN"), ("AIR", "CALIBRATION"), ("WATER", "BATH"),
})  # fmt: skip
# Pain in a limb that is no more is a patient's.
PATIENTS_PHANTOMS = ("LIMB", "PAIN")
# Two different ones, one of them of the first kind. One alone may be a province, or the daily film of a ward.
TESTS = frozenset({"QA", "QC", "ACR", "NEMA", "AAPM", "CALIBRATION"})
HABITS = frozenset({"DAILY", "WEEKLY", "MONTHLY", "ANNUAL", "CHECK", "TEST", "SERVICE", "CONSTANCY", "WATER", "AIR"})
# What stands for a first name where the family name is Phantom, and nobody is called so.
NO_FIRST_NAMES = TESTS | HABITS | {
    "CT", "MR", "MRI", "XR", "DX", "DR", "CHEST", "THORAX", "TORSO", "BODY", "HEAD", "BRAIN", "SKULL", "LUNG", "KNEE",
    "HAND", "ABDOMEN", "PELVIS", "SPHERE", "CYLINDER", "BOTTLE", "IMAGE", "SIEMENS", "GE", "PHILIPS", "CANON",
}  # fmt: skip


def refuse_phantoms(ds: Dataset) -> None:
    """Refuse an Instance whose header says that it shows no patient.

    Raises
    ------
    PhantomOrTest
        With the attribute and our word for it; never with the value, which may be a patient's.

    References
    ----------
    DICOM PS3.3 C.7.6.1 (Quality Control Image)
    """
    if ds.get("QualityControlImage") == "YES":
        raise PhantomOrTest("Quality Control Image (0028,0300) is YES: a phantom is no patient. Sharpen the rule")
    weak: dict[str, str] = {}
    for keyword in TITLES:
        words = tuple(_words(ds, keyword))
        told = _plain_word(keyword, words)
        if told:
            raise PhantomOrTest(f"{TITLES[keyword]} holds {told}: a phantom or test is no patient. Sharpen the rule")
        weak |= {word: keyword for word in words if word in TESTS | HABITS}
        # A whole description of nothing else, or the only name that somebody has.
        alone = bool(words) and keyword != PATIENT_ID and set(words) <= TESTS
        if alone or (len(weak) > 1 and TESTS & weak.keys()):
            said = " and ".join(f"{word} ({TITLES[weak[word]]})" for word in sorted(weak))
            raise PhantomOrTest(f"the header holds {said}: a test of the machine is no patient. Sharpen the rule")


def _words(ds: Dataset, keyword: str) -> Iterator[str]:
    value = ds.get(keyword)
    text = "\\".join(map(str, value)) if keyword == IMAGE_TYPE and value is not None else str(value or "")
    yield from "".join(c if c.isalpha() else " " for c in text.upper()).split()


def _plain_word(keyword: str, words: tuple[str, ...]) -> str:
    for number, word in enumerate(words):
        after = words[number + 1] if number + 1 < len(words) else ""
        if (word, after) in PHRASES:
            return f"{word} {after}"
        if word in PLAIN and after not in PATIENTS_PHANTOMS and not _is_family(keyword, words, number):
            return word
    return ""


def _is_family(keyword: str, words: tuple[str, ...], number: int) -> bool:
    """Tell whether a word is the family name of somebody who has a first name: the patients of the rehearsal have."""
    others = words[number + 1 :]
    return keyword == NAME and number == 0 and bool(others) and not NO_FIRST_NAMES & set(others)
