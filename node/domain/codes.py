"""Coded concepts, as plain data (PS3.3 8)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """One coded concept.

    Attributes
    ----------
    value
        Code Value (0008,0100).
    scheme
        Coding Scheme Designator (0008,0102), e.g. ``SCT``.
    meaning
        Code Meaning (0008,0104), at most 64 characters.
    """

    value: str
    scheme: str
    meaning: str

    def as_json(self) -> list[str]:
        """Return ``[value, scheme, meaning]``, the form of report.json."""
        return [self.value, self.scheme, self.meaning]


MORPHOLOGICALLY_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
NODULE = Code("27925004", "SCT", "Nodule")
NEOPLASM = Code("108369006", "SCT", "Neoplasm")
NECROSIS = Code("6574001", "SCT", "Necrosis")
EDEMA = Code("79654002", "SCT", "Edema")
ENHANCING_LESION = Code("C113842", "NCIt", "Enhancing Lesion")
PNEUMONIA = Code("233604007", "SCT", "Pneumonia")
LUNG = Code("39607008", "SCT", "Lung")
BRAIN = Code("12738006", "SCT", "Brain")
LEFT = Code("7771000", "SCT", "Left")
RIGHT = Code("24028007", "SCT", "Right")
