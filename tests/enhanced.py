"""Slices of a Series as one multi-frame Instance: what places and rescales each is in functional groups."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    MRImageStorage,
)

from node.domain.job import digest_inputs
from node.domain.study import InstanceFacts
from node.domain.uids import InstanceUID, derive_uid
from node.header.scan import scan_file
from tests.analyses import ACCEPTED, Case, Inputs
from workers.decoding.pool import DecoderPool
from workers.instances import StoredInstance
from workers.volume import read_volume

ENHANCED = {CTImageStorage: EnhancedCTImageStorage, MRImageStorage: EnhancedMRImageStorage}
# What a multi-frame Instance says in its groups, and not beside them.
IN_GROUPS = (
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "RescaleSlope",
    "RescaleIntercept", "InstanceNumber",
)  # fmt: skip


def enhance(slices: Sequence[Dataset], name: str = "enhanced", *, is_shared: bool = True) -> Dataset:
    """Return slices as the Frames of one Enhanced CT or Enhanced MR Image, in their order.

    Parameters
    ----------
    name
        Another one gives the Instance another UID.
    is_shared
        Whether orientation and measures stand once for all Frames, or with each.
    """
    first = slices[0]
    ds = Dataset({tag: copy.copy(first[tag]) for tag in list(first.keys())})
    ds.file_meta = copy.deepcopy(first.file_meta)
    for keyword in IN_GROUPS:
        if keyword in ds:
            delattr(ds, keyword)
    ds.SOPClassUID = ENHANCED[first.SOPClassUID]
    ds.SOPInstanceUID = derive_uid("test", "enhanced", name, str(first.SOPInstanceUID))
    ds.InstanceNumber, ds.NumberOfFrames = 1, len(slices)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.PixelData = b"".join(one.PixelData for one in slices)
    shared = Dataset()
    for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        setattr(shared, keyword, [_group(first, keyword)])
    ds.SharedFunctionalGroupsSequence = [shared if is_shared else Dataset()]
    ds.PerFrameFunctionalGroupsSequence = [_describe(one, is_shared=is_shared) for one in slices]
    return ds


def enhance_case(case: Case) -> Case:
    """Return a Case on the same slices as Frames, each Series in two Instances: from head to foot, then a shuffle."""
    return _exchange(case, {role: _enhance_series(slices) for role, slices in case.inputs.items()})


def mix_case(case: Case, frames: Sequence[int]) -> Case:
    """Return a Case of one Series on the same slices, where some, from the feet on, are Frames of one Instance."""
    ((role, shuffled),) = case.inputs.items()
    slices = sorted(shuffled, key=lambda ds: float(ds.ImagePositionPatient[2]))
    others = [ds for number, ds in enumerate(slices) if number not in frames]
    return _exchange(case, {role: [*others, enhance([slices[number] for number in frames])]})


def _exchange(case: Case, inputs: Inputs) -> Case:
    reference = case.analysis.reference
    role = next(role for role, slices in case.inputs.items() if reference and slices[0] in list(reference.datasets))
    uids = {role: [InstanceUID(str(ds.SOPInstanceUID)) for ds in datasets] for role, datasets in inputs.items()}
    return replace(
        case,
        inputs=inputs,
        analysis=replace(case.analysis, reference=read_volume(inputs[role])),
        provenance=replace(case.provenance, content=digest_inputs(uids)),
    )


def keep_files(
    datasets: Sequence[Dataset],
    folder: Path,
    pool: DecoderPool,
    syntax: UID = ExplicitVRLittleEndian,
    *,
    fragments: int = 1,
    has_table: bool = True,
) -> list[StoredInstance]:
    """Return Instances as intake leaves them in a folder, from ``0.dcm`` on.

    Parameters
    ----------
    fragments
        Of each Frame that is compressed.
    has_table
        Whether the Basic Offset Table says where each Frame begins.
    """
    folder.mkdir(exist_ok=True)
    kept = []
    for number, ds in enumerate(datasets):
        path = folder / f"{number}.dcm"
        _write(copy.deepcopy(ds), path, syntax, fragments=fragments, has_table=has_table)
        kept.append(StoredInstance(learn(path), path, pool))
    return kept


def _write(ds: Dataset, path: Path, syntax: UID, *, fragments: int, has_table: bool) -> None:
    ds["PixelData"].VR = "OW"
    if syntax.is_encapsulated:
        ds.compress(syntax, generate_instance_uid=False)
        frames = list(generate_frames(ds.PixelData, number_of_frames=ds.get("NumberOfFrames", 1)))
        ds.PixelData = encapsulate(frames, fragments_per_frame=fragments, has_bot=has_table)
    elif syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").byteswap().tobytes()
    ds.file_meta.TransferSyntaxUID = syntax
    dcmwrite(path, ds, enforce_file_format=True)


def learn(path: Path) -> InstanceFacts:
    """Return what intake would keep of a file."""
    content = path.read_bytes()
    header = scan_file(content)
    return InstanceFacts(
        study_instance_uid=header.study_instance_uid,
        series_instance_uid=header.series_instance_uid,
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        attributes=header.attributes,
        path=path.name,
        size_bytes=len(content),
        digest="",
        pixel_data_offset=header.pixel_data_offset,
        association_id="a",
        calling_aet="MODALITY",
        received_at=ACCEPTED,
    )


def _enhance_series(slices: Sequence[Dataset]) -> list[Dataset]:
    half = len(slices) // 2
    first, second = enhance(slices[:half], "first"), enhance(slices[half:], "second", is_shared=False)
    second.InstanceNumber = 2
    return [first, second]


def _group(ds: Dataset, keyword: str) -> Dataset:
    item = Dataset()
    if keyword == "PlaneOrientationSequence":
        item.ImageOrientationPatient = ds.ImageOrientationPatient
    else:
        item.PixelSpacing, item.SliceThickness = ds.PixelSpacing, ds.SliceThickness
    return item


def _describe(ds: Dataset, *, is_shared: bool) -> Dataset:
    plane, rescale, kind, content, frame = Dataset(), Dataset(), Dataset(), Dataset(), Dataset()
    plane.ImagePositionPatient = ds.ImagePositionPatient
    rescale.RescaleIntercept, rescale.RescaleSlope = ds.get("RescaleIntercept", "0"), ds.get("RescaleSlope", "1")
    rescale.RescaleType = "HU" if ds.Modality == "CT" else "US"
    kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    content.FrameAcquisitionNumber = 1
    frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [plane], [rescale]
    frame.FrameContentSequence = [content]
    setattr(frame, "CTImageFrameTypeSequence" if ds.Modality == "CT" else "MRImageFrameTypeSequence", [kind])
    if not is_shared:
        for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
            setattr(frame, keyword, [_group(ds, keyword)])
    return frame
