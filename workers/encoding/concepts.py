"""The coded concepts that the encoders write, as highdicom takes them (PS3.16)."""

from pydicom.sr.coding import Code as CodedConcept

from node.domain import codes
from node.domain.codes import EDEMA, ENHANCING_LESION, NECROSIS, NODULE, Code
from workers.encoding.content import check_code


def to_concept(code: Code) -> CodedConcept:
    """Return a domain Code as highdicom takes it.

    Raises
    ------
    ResultCheckFailed
        If it is incomplete or too long for its elements: highdicom would raise ValueError, or write half of it.
    """
    check_code(code)
    return CodedConcept(code.value, code.scheme, code.meaning)


ARTIFICIAL_INTELLIGENCE = to_concept(codes.ARTIFICIAL_INTELLIGENCE)
DEVICE = to_concept(codes.DEVICE)
SOURCE_IMAGE = to_concept(codes.SOURCE_IMAGE)

# Recommended Display CIELab Value, given as sRGB.
SEGMENT_COLORS = {
    NODULE.value: (255, 128, 0),
    NECROSIS.value: (255, 0, 0),
    EDEMA.value: (0, 255, 0),
    ENHANCING_LESION.value: (255, 255, 0),
}
OTHER_COLOR = (255, 128, 0)
