"""What a Job reads of the store is what pydicom reads of the file, bit by bit, or the refusal that it would be."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)

from node.domain.study import InstanceFacts
from node.errors import InputMissing, NodeError, PixelsUndecodable, TooLarge
from node.header.scan import scan_file
from tests.enhanced import learn
from workers.decoding.form import read_form
from workers.decoding.pool import DecoderLimits, DecoderPool
from workers.instances import StoredInstance, StoredSeries
from workers.pixels import decode_pixels, rescale_pixels
from workers.volume import read_volume

ROWS, COLUMNS = 5, 7
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
NOON = datetime(2026, 1, 14, 12, tzinfo=UTC)
UNSIGNED, SIGNED = 0, 1


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    opened = DecoderPool(DecoderLimits(processes=2))
    yield opened
    opened.close()


def make_slice(
    number: int = 0, *, stored: bytes | None = None, bits: tuple[int, int] = (16, 16), **more: Any
) -> Dataset:
    """Return a CT slice; `bits` are those allocated and stored."""
    allocated, kept = bits
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"1.2.3.4.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.3", "1.2.3.4", "1.2.3.9"
    ds.Modality, ds.InstanceNumber = "CT", number + 1
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = allocated, kept, kept - 1, SIGNED
    ds.PixelSpacing, ds.ImageOrientationPatient = ["0.7", "0.8"], [1, 0, 0, 0, 1, 0]
    ds.ImagePositionPatient = ["-10.5", "20", str(number * 2.5)]
    ds.RescaleSlope, ds.RescaleIntercept = "1", "-1024"
    values = np.random.default_rng(number).integers(0, 256, ROWS * COLUMNS * allocated // 8, np.uint8)
    ds.PixelData = values.tobytes() if stored is None else stored
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    return ds


def encode(ds: Dataset, transfer_syntax_uid: UID) -> bytes:
    """Return a Part 10 file."""
    ds.file_meta.TransferSyntaxUID = transfer_syntax_uid
    if transfer_syntax_uid == ExplicitVRBigEndian:
        width = ds.BitsAllocated // 8
        ds.PixelData = np.frombuffer(ds.PixelData, f"<u{width}").byteswap().tobytes()
    ds["PixelData"].VR = "OW" if ds.BitsAllocated > 8 else "OB"
    ds.PixelData += b"\0" * (len(ds.PixelData) % 2)
    buffer = BytesIO()
    if transfer_syntax_uid in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.PixelData = ds.PixelData[: ds.Rows * ds.Columns * ds.BitsAllocated // 8]
        ds.compress(transfer_syntax_uid, generate_instance_uid=False)
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def keep(content: bytes, path: Path) -> InstanceFacts:
    """Return what intake would keep of a file, after it was written."""
    path.write_bytes(content)
    return learn(path)


def store(
    datasets: list[Dataset], folder: Path, pool: DecoderPool, syntax: UID = ExplicitVRLittleEndian
) -> StoredSeries:
    """Return a Series as a Job finds it."""
    paths = [folder / f"{number}.dcm" for number in range(len(datasets))]
    return StoredSeries(
        [StoredInstance(keep(encode(ds, syntax), path), path, pool) for ds, path in zip(datasets, paths, strict=True)],
        pool,
    )


def read_both(series: StoredSeries, folder: Path) -> tuple[Any, Any]:
    """Return the Volume as the Job reads it, and as pydicom reads its files; refusals by code and words."""
    files = [dcmread(path) for path in sorted(folder.glob("*.dcm"), key=lambda path: int(path.stem))]
    return _try(series), _try(files)


def _try(datasets: Any) -> Any:
    try:
        return read_volume(datasets)
    except NodeError as exc:
        return exc.code, str(exc)


def require_same(series: StoredSeries, folder: Path) -> None:
    stored, plain = read_both(series, folder)
    assert np.array_equal(stored.voxels, plain.voxels)
    assert stored.voxels.tobytes() == plain.voxels.tobytes()
    assert np.array_equal(stored.affine, plain.affine)
    assert stored.spacing_mm == plain.spacing_mm
    assert stored.frame_of_reference_uid == plain.frame_of_reference_uid
    assert [ds.SOPInstanceUID for ds in stored.datasets] == [ds.SOPInstanceUID for ds in plain.datasets]


widths = st.sampled_from([8, 16, 32]).flatmap(
    lambda allocated: st.tuples(st.just(allocated), st.integers(1, allocated))
)
decimals = st.sampled_from(["1", "0.5", "2.34567", "-1", "1e-3"])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    syntax=st.sampled_from(NATIVE),
    bits=widths,
    representation=st.sampled_from([UNSIGNED, SIGNED]),
    rescales=st.lists(st.tuples(decimals, st.sampled_from(["0", "-1024", "0.1", "1e6"])), min_size=3, max_size=3),
    shape=st.sampled_from([(5, 7), (3, 3), (1, 1), (16, 8)]),
    seed=st.integers(0, 2**32 - 1),
)
def test_whatever_lies_in_a_file_is_read_as_pydicom_reads_it(
    tmp_path_factory: pytest.TempPathFactory,
    pool: DecoderPool,
    syntax: UID,
    bits: tuple[int, int],
    representation: int,
    rescales: list[tuple[str, str]],
    shape: tuple[int, int],
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("series")
    rows, columns = shape
    dice = np.random.default_rng(seed)
    datasets = [
        make_slice(
            number,
            bits=bits,
            # Any bit may be set, also those above Bits Stored.
            stored=dice.integers(0, 256, rows * columns * bits[0] // 8, np.uint8).tobytes(),
            Rows=rows,
            Columns=columns,
            PixelRepresentation=representation,
            RescaleSlope=slope,
            RescaleIntercept=intercept,
        )
        for number, (slope, intercept) in enumerate(rescales)
    ]
    require_same(store(datasets[::-1], folder, pool, syntax), folder)


@pytest.mark.parametrize("syntax", NATIVE)
def test_the_ledger_suffices_for_what_lies_in_its_file_as_it_is(tmp_path: Path, pool: DecoderPool, syntax: UID) -> None:
    """No header is parsed: it would cost more than the pixels."""
    series = store([make_slice(number) for number in range(4)], tmp_path, pool, syntax)
    read_volume(series)
    assert all(isinstance(one, StoredInstance) and one._header is None for one in series._instances)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("representation", [UNSIGNED, SIGNED])
def test_compressed_slices_are_decoded_as_pydicom_decodes_them(
    tmp_path: Path, pool: DecoderPool, syntax: UID, representation: int
) -> None:
    values = np.random.default_rng(3).integers(0, 4000, (4, 64, 48), np.uint16)
    datasets = [
        make_slice(n, stored=plane.tobytes(), bits=(16, 12), Rows=64, Columns=48, PixelRepresentation=representation)
        for n, plane in enumerate(values if representation == UNSIGNED else values // 2)
    ]
    series = store(datasets, tmp_path, pool, syntax)
    read_volume(series)
    assert all(isinstance(one, StoredInstance) and one._header is None for one in series._instances)
    require_same(series, tmp_path)


def deflate(content: bytes) -> bytes:
    header = scan_file(content)
    syntax = b"1.2.840.10008.1.2.1\0"
    head = content[: header.data_set_offset].replace(syntax, b"1.2.840.10008.1.2.1.99")
    at = head.index(b"\x02\x00\x10\x00UI") + 6
    head = head[:at] + (22).to_bytes(2, "little") + head[at + 2 :]
    squeezer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return head + squeezer.compress(content[header.data_set_offset :]) + squeezer.flush()


def test_a_deflated_series_is_read_too(tmp_path: Path, pool: DecoderPool) -> None:
    made = []
    for number in range(3):
        path = tmp_path / f"{number}.dcm"
        facts = keep(deflate(encode(make_slice(number), ExplicitVRLittleEndian)), path)
        assert facts.transfer_syntax_uid == DeflatedExplicitVRLittleEndian
        made.append(StoredInstance(facts, path, pool))
    require_same(StoredSeries(made, pool), tmp_path)


def icon() -> list[Dataset]:
    small = make_slice()
    del small.file_meta
    return [small]


ODD: dict[str, dict[str, Any]] = {
    "a rescale slope of 0": {"RescaleSlope": "0"},
    "two rescale slopes": {"RescaleSlope": ["1", "2"]},
    "two Frames": {"NumberOfFrames": 2, "Rows": ROWS, "PixelData": bytes(4 * ROWS * COLUMNS)},
    "functional groups": {"PerFrameFunctionalGroupsSequence": [Dataset()]},
    "three samples": {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PixelData": bytes(6 * ROWS * COLUMNS)},
    "no Pixel Representation": {"PixelRepresentation": None},
    "two positions": {"ImagePositionPatient": ["1", "2"]},
    "no position": {"ImagePositionPatient": None},
    "another matrix": {"Rows": ROWS - 1},
    "two Frames of Reference": {"FrameOfReferenceUID": ["1.2", "1.3"]},
    "another Frame of Reference": {"FrameOfReferenceUID": "1.2.4"},
    "other Pixel Spacing": {"PixelSpacing": ["0.7", "0.9"]},
}


@pytest.mark.parametrize("more", ODD.values(), ids=ODD)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_refused_by_its_header_is_refused_by_the_ledger(
    tmp_path: Path, pool: DecoderPool, more: dict[str, Any]
) -> None:
    datasets = [make_slice(n) for n in range(4)]
    for keyword, value in more.items():
        setattr(datasets[2], keyword, value)
    stored, plain = read_both(store(datasets, tmp_path, pool), tmp_path)
    assert isinstance(plain, tuple)
    assert stored == plain


FINE: dict[str, dict[str, Any]] = {
    "without rescale": {"RescaleSlope": None, "RescaleIntercept": None},
    "an icon with Pixel Data of its own": {"IconImageSequence": icon()},
    "sixteen bits with odd padding": {"PixelPaddingValue": -2000, "BitsStored": 12, "HighBit": 11},
    "bytes behind the pixels": {"PixelData": bytes(range(2 * ROWS * COLUMNS)) + b"\1\2\3\4"},
    "a word for a sample": {"PhotometricInterpretation": "MONOCHROME1"},
}


@pytest.mark.parametrize("more", FINE.values(), ids=FINE)
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_unusual_and_right_is_read_as_it_is(
    tmp_path: Path, pool: DecoderPool, more: dict[str, Any], syntax: UID
) -> None:
    datasets = [make_slice(n) for n in range(3)]
    for ds in datasets:
        for keyword, value in more.items():
            setattr(ds, keyword, value)
        if syntax == RLELossless:
            ds.PixelData = ds.PixelData[: 2 * ROWS * COLUMNS]
    require_same(store(datasets, tmp_path, pool, syntax), tmp_path)


def test_a_series_of_another_kind_is_read_by_its_headers(tmp_path: Path, pool: DecoderPool) -> None:
    datasets = [make_slice(n, SOPClassUID=MRImageStorage, Modality="MR", RescaleSlope=None) for n in range(3)]
    require_same(store(datasets, tmp_path, pool), tmp_path)


def cut(content: bytes) -> bytes:
    return content[:-20]


def shift(content: bytes) -> bytes:
    """Return as many bytes, of which the header's are one further."""
    return content[:200] + b"\0" + content[200:-1]


@pytest.mark.parametrize("damage", [cut, shift])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_file_that_changed_behind_the_ledger_is_never_read_by_it(
    tmp_path: Path, pool: DecoderPool, damage: Callable[[bytes], bytes]
) -> None:
    series = store([make_slice(n) for n in range(4)], tmp_path, pool)
    path = tmp_path / "2.dcm"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(PixelsUndecodable, match=r"1\.2\.3\.4\.2"):
        read_volume(series)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_slice_that_lies_elsewhere_than_the_ledger_says_is_refused(tmp_path: Path, pool: DecoderPool) -> None:
    """Bytes behind the pixels let the file be read by its own header, which then must not contradict its place."""
    datasets = [make_slice(n, stored=bytes(2 * ROWS * COLUMNS) + b"\1\2\3\4") for n in range(3)]
    series = store(datasets, tmp_path, pool)
    path = tmp_path / "1.dcm"
    moved = path.read_bytes().replace(b"-10.5\\20\\2.5", b"-11.5\\20\\2.5")
    assert moved != path.read_bytes()
    path.write_bytes(moved)
    with pytest.raises(PixelsUndecodable, match=r"1\.2\.3\.4\.1 cannot be read back"):
        read_volume(series)


@pytest.mark.parametrize("is_as_told", [True, False], ids=["of its size", "of another size"])
@pytest.mark.parametrize("syntax", [*NATIVE, RLELossless])
def test_files_that_changed_places_are_refused(
    tmp_path: Path, pool: DecoderPool, syntax: UID, is_as_told: bool
) -> None:
    made = []
    for number in range(3):
        path = tmp_path / f"{number}.dcm"
        facts = keep(encode(make_slice(number), syntax), path)
        made.append(StoredInstance(facts, path, pool, is_as_told=is_as_told))
    first, second = tmp_path / "1.dcm", tmp_path / "2.dcm"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    with pytest.raises(PixelsUndecodable, match=r"1\.2\.3\.4\.[12] cannot be read back"):
        read_volume(StoredSeries(made, pool))
    with pytest.raises(PixelsUndecodable, match=r"1\.2\.3\.4\.1 cannot be read back"):
        made[1].decode()


def test_a_compressed_file_that_goes_away_or_cannot_be_read_is_no_damaged_one(
    tmp_path: Path, pool: DecoderPool
) -> None:
    series = store([make_slice(n) for n in range(2)], tmp_path, pool, RLELossless)
    (tmp_path / "1.dcm").unlink()
    with pytest.raises(InputMissing, match=r"1\.2\.3\.4\.1 is gone"):
        read_volume(series)
    (tmp_path / "1.dcm").mkdir()
    with pytest.raises(IsADirectoryError):
        read_volume(series)


def test_a_file_that_goes_away_is_named(tmp_path: Path, pool: DecoderPool) -> None:
    series = store([make_slice(n) for n in range(4)], tmp_path, pool)
    (tmp_path / "1.dcm").unlink()
    with pytest.raises(InputMissing, match=r"1\.2\.3\.4\.1 is gone"):
        read_volume(series)
    with pytest.raises(InputMissing):
        series[1]


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_a_codestream_that_is_damaged_in_the_middle_is_named(tmp_path: Path, pool: DecoderPool, syntax: UID) -> None:
    pixels: dict[str, Any] = {"Rows": 64, "Columns": 64, "stored": bytes(range(256)) * 32}
    series = store([make_slice(n, **pixels) for n in range(5)], tmp_path, pool, syntax)
    path = tmp_path / "3.dcm"
    begin = scan_file(path.read_bytes()).pixel_data_offset
    assert begin is not None
    content = bytearray(path.read_bytes())
    content[begin + 16 : -8] = b"\xab" * len(content[begin + 16 : -8])
    path.write_bytes(content)
    with pytest.raises(PixelsUndecodable, match=r"1\.2\.3\.4\.3"):
        read_volume(series)


def test_a_series_of_more_voxels_than_a_worker_reads_is_refused_before_memory_is_taken(
    tmp_path: Path, pool: DecoderPool
) -> None:
    """5,000 slices of 512 x 512, all of one file: the header of none of them is read."""
    path = tmp_path / "0.dcm"
    facts = keep(encode(make_slice(stored=bytes(2 * 512 * 512), Rows=512, Columns=512), ExplicitVRLittleEndian), path)
    many = []
    for number in range(5000):
        told = {**facts.attributes, "ImagePositionPatient": [0.0, 0.0, number * 0.1]}
        many.append(StoredInstance(replace(facts, attributes=told), path, pool))
    with pytest.raises(TooLarge, match=r"series 1\.2\.3\.4: 5000 slices of 512 x 512"):
        read_volume(StoredSeries(many, pool))


def test_headers_are_parsed_when_they_are_asked_for_and_hold_no_pixels(tmp_path: Path, pool: DecoderPool) -> None:
    series = store([make_slice(n) for n in range(4)], tmp_path, pool)
    volume = read_volume(series[::-1])
    assert volume.datasets[3].SOPInstanceUID == "1.2.3.4.3"
    assert volume.datasets[3] is series[3]
    assert "PixelData" not in series[3]
    assert len(series[1:3]) == 2
    assert [ds.InstanceNumber for ds in series] == [1, 2, 3, 4]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLSLossless])
def test_one_instance_is_decoded_where_it_is_asked_for(tmp_path: Path, pool: DecoderPool, syntax: UID) -> None:
    pixels: dict[str, Any] = {"Rows": 64, "Columns": 64, "stored": bytes(range(256)) * 32}
    ds = store([make_slice(n, **pixels) for n in range(4)], tmp_path, pool, syntax)[2]
    plain = dcmread(tmp_path / "2.dcm")
    assert np.array_equal(decode_pixels(ds), decode_pixels(plain))
    assert np.array_equal(rescale_pixels(ds), rescale_pixels(plain))


@pytest.mark.needs("data")
def test_a_real_ct_is_read_as_pydicom_reads_it(data_dir: Path, pool: DecoderPool, tmp_path: Path) -> None:
    paths = sorted((data_dir / "ct-lungfcp-0001").glob("*.dcm"))
    made = [StoredInstance(keep(path.read_bytes(), tmp_path / path.name), path, pool) for path in paths]
    stored = read_volume(StoredSeries(made, pool))
    plain = read_volume([dcmread(path) for path in paths])
    assert stored.voxels.tobytes() == plain.voxels.tobytes()
    assert np.array_equal(stored.affine, plain.affine)


@pytest.mark.needs("data")
def test_real_codestreams_are_decoded_as_pydicom_decodes_them(
    data_dir: Path, pool: DecoderPool, tmp_path: Path
) -> None:
    read = 0
    for path in sorted((data_dir / "transfer-syntaxes").glob("[CM][TR]1_*.dcm")):
        one = StoredInstance(keep(path.read_bytes(), tmp_path / path.name), path, pool)
        try:
            plain = decode_pixels(dcmread(path))
        except PixelsUndecodable:
            with pytest.raises(PixelsUndecodable):
                one.decode()
            continue
        assert np.array_equal(one.decode(), plain)
        read += read_form(one.facts) is not None
    assert read > 5
