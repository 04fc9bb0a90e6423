"""What a careful user puts beside Orthanc: a resident script that answers each stable Study by highdicom.

``python -m workers.benchmark.rival ORTHANC PACS WEIGHTS`` (two ports of REST APIs, and a file of safetensors) says
``ready``, then handles whatever becomes stable in the first, and posts SEG and SR to the second. All libraries are
loaded before, and nothing is checked: it does as little as it can.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import torch
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.sr.codedict import codes
from safetensors.torch import load_file

from workers.encoding.quiet import quiet_libraries

READY = "ready"
# A plugin of Orthanc's would be called by it; to ask so often comes near.
POLL_S = 0.02
# As the bundle that the other side runs is told: see `node.benchmark.tiny_model`.
LOWEST_HU, HIGHEST_HU = -1000.0, 3000.0


def main() -> None:
    """Serve until the process is ended."""
    orthanc, pacs = (HTTPConnection("127.0.0.1", int(port)) for port in sys.argv[1:3])
    network = _load(Path(sys.argv[3]))
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    with quiet_libraries():
        for study in _stable_studies(orthanc):
            datasets = _fetch(orthanc, study)
            mask = _segment(datasets, network)
            seg = _write_segmentation(datasets, mask)
            for result in (seg, _write_report(datasets, seg, mask)):
                out = BytesIO()
                dcmwrite(out, result, enforce_file_format=True)
                _request(pacs, "POST", "/instances", out.getvalue())


def _load(weights: Path) -> torch.nn.Module:
    network = torch.nn.BatchNorm3d(1)
    network.load_state_dict(load_file(weights))
    return network.eval()


def _stable_studies(orthanc: HTTPConnection) -> Iterator[str]:
    """Yield Orthanc's identifier of each Study that becomes stable from now on."""
    last = json.loads(_request(orthanc, "GET", "/changes?last"))["Last"]
    while True:
        told = json.loads(_request(orthanc, "GET", f"/changes?since={last}&limit=500"))
        last = told["Last"]
        yield from (one["ID"] for one in told["Changes"] if one["ChangeType"] == "StableStudy")
        if told["Done"]:
            time.sleep(POLL_S)


def _fetch(orthanc: HTTPConnection, study: str) -> Sequence[Dataset]:
    """Return the Instances of a Study from feet to head."""
    found = [one["ID"] for one in json.loads(_request(orthanc, "GET", f"/studies/{study}/instances"))]
    files = (_request(orthanc, "GET", f"/instances/{identifier}/file") for identifier in found)
    return sorted((dcmread(BytesIO(file)) for file in files), key=lambda ds: float(ds.ImagePositionPatient[2]))


def _segment(datasets: Sequence[Dataset], network: torch.nn.Module) -> NDArray[np.uint8]:
    """Return what the network marks: (slices, rows, columns) uint8, 0 or 1."""
    slope, intercept = np.float32(datasets[0].RescaleSlope), np.float32(datasets[0].RescaleIntercept)
    hu = np.stack([ds.pixel_array for ds in datasets]).astype(np.float32) * slope + intercept
    scaled = torch.from_numpy((hu - LOWEST_HU) / (HIGHEST_HU - LOWEST_HU))
    with torch.inference_mode():
        answer = torch.sigmoid(network(scaled[None, None]))[0, 0] > 0.5
    mask: NDArray[np.uint8] = answer.numpy().astype(np.uint8)
    return mask


def _write_segmentation(datasets: Sequence[Dataset], mask: NDArray[np.uint8]) -> hd.seg.Segmentation:
    described = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="Nodule",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Nodule,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name="tiny", version="1", family=codes.DCM.ArtificialIntelligence
        ),
    )
    return hd.seg.Segmentation(
        source_images=datasets,
        pixel_array=mask,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[described],
        series_instance_uid=hd.UID(),
        series_number=100,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="Rival",
        manufacturer_model_name="Script",
        software_versions="1",
        device_serial_number="1",
    )


def _write_report(datasets: Sequence[Dataset], seg: hd.seg.Segmentation, mask: NDArray[np.uint8]) -> Dataset:
    rows_mm, columns_mm = map(float, datasets[0].PixelSpacing)
    volume = hd.sr.Measurement(
        name=codes.SCT.Volume,
        value=float(mask.sum()) * rows_mm * columns_mm * float(datasets[0].SliceThickness),
        unit=codes.UCUM.CubicMillimeter,
    )
    group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(hd.UID(), "Nodule"),
        referenced_segment=hd.sr.ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=1,
            source_series=hd.sr.SourceSeriesForSegmentation(datasets[0].SeriesInstanceUID),
        ),
        finding_type=codes.SCT.Nodule,
        measurements=[volume],
    )
    device = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(uid=hd.UID()),
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=device),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=[group],
    )
    return hd.sr.Comprehensive3DSR(
        evidence=[*datasets, seg],
        content=content[0],
        series_instance_uid=hd.UID(),
        series_number=101,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="Rival",
    )


def _request(connection: HTTPConnection, method: str, path: str, body: bytes = b"") -> bytes:
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
    except ConnectionError:
        # Orthanc closes what was silent for a second.
        connection.close()
        connection.request(method, path, body)
        response = connection.getresponse()
    content = response.read()
    if not 200 <= response.status < 300:
        raise ConnectionError(f"{method} {path.partition('?')[0]}: {response.status}")
    return content


if __name__ == "__main__":
    main()
