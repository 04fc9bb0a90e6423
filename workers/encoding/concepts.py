"""Coded concepts that Results are made of, beyond those a Finding carries itself (PS3.16)."""

from pydicom.sr.coding import Code as CodedConcept

from node.domain.codes import EDEMA, ENHANCING_LESION, NECROSIS, NEOPLASM, NODULE, Code
from node.domain.finding import Presence

ARTIFICIAL_INTELLIGENCE = CodedConcept("123110", "DCM", "Artificial Intelligence")
DEVICE = CodedConcept("121007", "DCM", "Device")
COMMENT = CodedConcept("121106", "DCM", "Comment")
CERTAINTY = CodedConcept("111012", "DCM", "Certainty of Finding")
SUMMARY = CodedConcept("111017", "DCM", "CAD Processing and Findings Summary")
WITH_FINDINGS = CodedConcept("111242", "DCM", "All algorithms succeeded; with findings")
WITHOUT_FINDINGS = CodedConcept("111241", "DCM", "All algorithms succeeded; without findings")
PRESENCE = CodedConcept("121052", "DCM", "Presence of property")
PRESENCE_VALUES = {
    Presence.PRESENT: CodedConcept("121053", "DCM", "Present"),
    Presence.ABSENT: CodedConcept("121054", "DCM", "Absent"),
    Presence.UNDETERMINED: CodedConcept("121059", "DCM", "Presence Undetermined"),
}
QUALITATIVE_EVALUATIONS = CodedConcept("C0034375", "UMLS", "Qualitative Evaluations")
SOURCE_IMAGE = CodedConcept("121322", "DCM", "Source image for image processing operation")

LONG_AXIS = CodedConcept("103339001", "SCT", "Long axis")
SHORT_AXIS = CodedConcept("103340004", "SCT", "Short axis")
VOLUME = CodedConcept("118565006", "SCT", "Volume")
ATTENUATION = CodedConcept("112031", "DCM", "Attenuation Coefficient")
MEAN = CodedConcept("373098007", "SCT", "Mean")
MILLIMETER = CodedConcept("mm", "UCUM", "millimeter")
CUBIC_MILLIMETER = CodedConcept("mm3", "UCUM", "cubic millimeter")
HOUNSFIELD = CodedConcept("[hnsf'U]", "UCUM", "Hounsfield unit")
PERCENT = CodedConcept("%", "UCUM", "Percent")

# Procedure reported where the source has no Procedure Code Sequence, by Modality (PS3.16 CID 100).
PROCEDURES = {
    "CT": CodedConcept("25045-6", "LN", "CT unspecified body region"),
    "MR": CodedConcept("25056-3", "LN", "MRI unspecified body region"),
}
IMAGING_PROCEDURE = CodedConcept("363679005", "SCT", "Imaging procedure")

# What a Pipeline looks for; an SR without findings must still say what was not found.
LOOKED_FOR = {"lung_nodules": NODULE, "brain_tumour": NEOPLASM}

# Recommended Display CIELab Value, given as sRGB.
SEGMENT_COLORS = {
    NODULE.value: (255, 128, 0),
    NECROSIS.value: (255, 0, 0),
    EDEMA.value: (0, 255, 0),
    ENHANCING_LESION.value: (255, 255, 0),
}
OTHER_COLOR = (255, 128, 0)


def to_concept(code: Code) -> CodedConcept:
    """Return a domain Code as highdicom takes it."""
    return CodedConcept(code.value, code.scheme, code.meaning)
