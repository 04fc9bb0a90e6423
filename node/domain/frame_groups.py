"""Functional groups of multi-frame images that are read, and what of each: one table for rules and Pipelines."""

from collections.abc import Mapping
from types import MappingProxyType

from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
)

# What single slices said before their conversion is partly in groups that have no names for it.
CONVERTED_CLASSES = frozenset({
    LegacyConvertedEnhancedCTImageStorage, LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
})  # fmt: skip
# Others, such as Segmentations, may have ten times as many Frames, and no rule asks where these lie.
PLACED_CLASSES = CONVERTED_CLASSES | {EnhancedCTImageStorage, EnhancedMRImageStorage, EnhancedPETImageStorage}
# 2^30 pixels, as many as are read together, of 256 x 256: each Frame takes a header of some kilobytes.
MAX_FRAMES = 2**14
# Functional group to its attributes that are read; whatever else a sender puts there says nothing (PS3.3 C.7.6.16.2,
# C.8.13.5, C.8.15.3, C.8.22.5). What a Frame says goes before what all share, and both before the top level.
FRAME_GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope", "RescaleType"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction"),
    "FrameAnatomySequence": ("AnatomicRegionSequence",),
    "ContrastBolusUsageSequence": ("ContrastBolusAgentAdministered",),
    "CTImageFrameTypeSequence": ("FrameType",),
    "CTAcquisitionDetailsSequence": ("GantryDetectorTilt",),
    "CTReconstructionSequence": ("ConvolutionKernel",),
    "CTXRayDetailsSequence": ("KVP",),
    "MRImageFrameTypeSequence": ("FrameType",),
    "MRTimingAndRelatedParametersSequence": ("RepetitionTime",),
    "MREchoSequence": ("EffectiveEchoTime",),
    "PETFrameTypeSequence": ("FrameType",),
})  # fmt: skip
# What single slices said, and a conversion kept in the unassigned groups; all that is said elsewhere goes before it.
# Nothing of it names or numbers an Instance, a Series or a patient, or describes pixels.
UNASSIGNED_SHARED = "UnassignedSharedConvertedAttributesSequence"
UNASSIGNED_OF_FRAME = "UnassignedPerFrameConvertedAttributesSequence"
UNASSIGNED_KEYWORDS = (
    "AnatomicRegionSequence", "BodyPartExamined", "ContrastBolusAgent", "ConvolutionKernel", "EchoTime",
    "GantryDetectorTilt", "InversionTime", "KVP", "PatientPosition", "ProtocolName",
    "RepetitionTime", "ScanningSequence", "ScanOptions", "SequenceName", "SequenceVariant", "SpacingBetweenSlices",
)  # fmt: skip
# A conversion leaves these at the top level now and then, of one slice: where groups place Frames they are not read.
PLACING_KEYWORDS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
