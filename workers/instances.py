"""The Instances of a Series of a Job: headers are parsed, and pixels read, when somebody asks for them."""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from threading import local
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import UID

from node.codecs import DECODER_ERRORS
from node.domain.study import InstanceFacts
from node.domain.uids import UID_PATTERN
from node.errors import InputMissing, NotEligible, PixelsUndecodable, TooLarge
from workers.decoding.form import Form, read_form
from workers.decoding.frame_file import FrameFile, open_frame_file
from workers.decoding.native import NativeReader
from workers.decoding.pool import DecoderPool
from workers.frames import RESCALE, SINGLE_FRAME, Frames, holds_frames, require_few, split_instance, tell_groups
from workers.pixels import FrameHeader, StoredHeader, decode_pixels, read_rescale, rescale

# Of one word each, which nothing can make invalid: what the ledger lacks, the file lacks.
WORDS = frozenset({"Modality", "BodyPartExamined", "ViewPosition"})
UIDS = frozenset({"FrameOfReferenceUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "SOPClassUID"})
PLACING = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
# What is asked of every slice before one is read.
TOLD = (*PLACING, *UIDS, *WORDS)
PIXEL_KEYWORDS = (
    "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored",
    "PixelRepresentation",
)  # fmt: skip
READ_ERRORS = (InvalidDicomError, BytesLengthException, ValueError, EOFError, NotImplementedError)


class StoredInstance:
    """One Instance of the store: what the ledger knows of it is at hand, the rest is read once.

    Parameters
    ----------
    path
        Where its file lies.
    is_as_told
        Whether it may be read by what the ledger knows; else its own header tells how.
    """

    def __init__(self, facts: InstanceFacts, path: Path, pool: DecoderPool, *, is_as_told: bool = True) -> None:
        self.facts = facts
        self.path = path
        self._pool = pool
        self._is_as_told = is_as_told
        self._form = read_form(facts) if is_as_told else None
        self._header: Dataset | None = None

    @property
    def header(self) -> Dataset:
        """The header, whose pixels `decode_pixels` gets out of the store.

        Raises
        ------
        InputMissing
            If the file is gone.
        PixelsUndecodable
            If it is no longer the Part 10 file that was stored.
        """
        if self._header is None:
            parsed = read_dataset(self.path, self.facts, stop_before_pixels=True)
            path, facts, pool, is_as_told = self.path, self.facts, self._pool, self._is_as_told
            # One that knew us would let whole Series wait for the cyclic garbage collector.
            self._header = StoredHeader(
                parsed, lambda: StoredInstance(facts, path, pool, is_as_told=is_as_told).decode()
            )
        return self._header

    def value(self, keyword: str) -> Any:
        """Return the value of an attribute; None where it is absent."""
        told = self.facts.attributes.get(keyword)
        if told is None and keyword not in WORDS:
            return self.header.get(keyword)
        # In the ledger, several UIDs are one text.
        return self.header.get(keyword) if keyword in UIDS and not UID_PATTERN.match(str(told)) else told

    @property
    def frame_number(self) -> None:
        """No Frame of it is meant: a slice of its own."""
        return None

    def spread(self) -> "Sequence[StoredInstance | StoredFrame]":
        """Return its slices: itself, or each Frame where it has several or keeps what places one in groups.

        Raises
        ------
        InputMissing
            If the file is gone.
        NotEligible, TooLarge
            As `workers.frames.split_instance`.
        PixelsUndecodable
            If the file of a multi-frame Instance is no longer what was stored, or its pixels are of another kind than
            is read here.

        References
        ----------
        DICOM PS3.3 C.7.6.16
        """
        frames = self.facts.attributes.get("NumberOfFrames", 1)
        # Before the header is parsed, which is as long.
        require_few(frames, f"series {self.facts.series_instance_uid}: {self.facts.sop_instance_uid}")
        if (frames == 1 and self.facts.sop_class_uid in SINGLE_FRAME) or not holds_frames(self.header):
            return [self]
        if not self._is_as_told or self.header.get("SOPInstanceUID") != self.facts.sop_instance_uid:
            raise _damaged(self.facts)
        try:
            reader = _FrameReader(self.facts, self.path, self.header, self._pool)
            frames = split_instance(self.header, reader.decode)
            return [StoredFrame(frames, number, reader) for number in range(1, len(frames) + 1)]
        except (*DECODER_ERRORS, BytesLengthException) as exc:
            # What pydicom raises where an element is damaged.
            raise _damaged(self.facts) from exc

    def decode(self) -> NDArray[np.generic]:
        """Return the stored values, (rows, columns); Raises as `decode_pixels`."""
        stored = self._read_native(NativeReader())
        if stored is not None:
            return stored
        with self._decoded() as (decoded, _):
            return decoded.copy()

    def read_into(self, target: NDArray[np.float32], reader: NativeReader) -> None:
        """Write what the Modality LUT makes of the pixels.

        Parameters
        ----------
        target
            (rows, columns), contiguous; HU for CT.

        Raises
        ------
        PixelsUndecodable
            As `workers.pixels.rescale_pixels`.
        """
        stored = self._read_native(reader)
        if stored is not None:
            self._rescale(stored, target, self._form)
            return
        with self._decoded() as (decoded, form):
            if form is None:
                self._require_known()
            self._rescale(decoded, target, form)

    def _rescale(self, stored: NDArray[np.generic], target: NDArray[np.float32], form: Form | None) -> None:
        # A slope of 0 is refused where headers are read.
        if form is None or form.slope == 0.0:
            slope, intercept = read_rescale(self.header)
        else:
            slope, intercept = form.slope, form.intercept
        rescale(stored, target, slope=slope, intercept=intercept)

    def _require_known(self) -> None:
        """Refuse a file that lies elsewhere than the ledger says: there it was placed."""
        if holds_frames(self.header):
            raise tell_groups(self.header)
        told = {keyword: self.facts.attributes.get(keyword) for keyword in PLACING}
        if any(value is not None and self.header.get(keyword) != value for keyword, value in told.items()):
            raise _damaged(self.facts)

    @contextmanager
    def _decoded(self) -> Iterator[tuple[NDArray[np.generic], Form | None]]:
        """Give the stored values, and the Form by which they were read; None where the file's own header told how."""
        if self._form is not None and not self._form.is_native:
            with name_undecodable(self.facts), self._pool.decode(self.path, self._form) as decoded:
                if decoded is not None:
                    yield decoded, self._form
                    return
        with self._odd() as found:
            yield found, None

    def _read_native(self, reader: NativeReader) -> NDArray[np.generic] | None:
        """Return the stored values of what lies in its file as it is; None of anything else."""
        if self._form is None or not self._form.is_native:
            return None
        try:
            return reader.read(self.path, self._form)
        except FileNotFoundError as exc:
            raise _gone(self.facts) from exc

    @contextmanager
    def _odd(self) -> Iterator[NDArray[np.generic]]:
        """Give the stored values by the file's own header, which must be that of this Instance."""
        if self.header.get("SOPInstanceUID") != self.facts.sop_instance_uid:
            raise _damaged(self.facts)
        uid = UID(str(self.header.file_meta.get("TransferSyntaxUID", "")))
        if uid.is_transfer_syntax and uid.is_encapsulated:
            shape = int(self.header.get("Rows") or 0), int(self.header.get("Columns") or 0)
            with name_undecodable(self.facts), self._pool.read(self.path, shape) as decoded:
                yield decoded
        else:
            yield decode_pixels(read_dataset(self.path, self.facts))


class _FrameReader:
    """The pixels of a multi-frame Instance of the store; where they lie is found out when the first are wanted."""

    def __init__(self, facts: InstanceFacts, path: Path, header: Dataset, pool: DecoderPool) -> None:
        self._facts = facts
        self._path = path
        self._told = {keyword: header.get(keyword) for keyword in PIXEL_KEYWORDS}
        self._frames = int(header.NumberOfFrames)
        self._pool = pool
        self._file: FrameFile | None = None

    def find(self) -> FrameFile:
        """Return where the Frames lie; Raises as `open_frame_file`."""
        if self._file is None:
            try:
                self._file = open_frame_file(self._path, self._facts, self._told, frames=self._frames)
            except FileNotFoundError as exc:
                raise _gone(self._facts) from exc
        return self._file

    @contextmanager
    def look(self, number: int, reader: NativeReader) -> Iterator[NDArray[np.generic]]:
        """Give the stored values of a Frame, from 1; they are valid inside of the block only."""
        file = self.find()
        if file.form.is_native:
            try:
                stored = reader.read_frame(self._path, file.find_frame(number))
            except FileNotFoundError as exc:
                raise _gone(self._facts) from exc
            if stored is None:
                raise _damaged(self._facts)
            yield stored
        else:
            with name_undecodable(self._facts), self._pool.decode_frame(file, number) as decoded:
                yield decoded

    def decode(self, number: int) -> NDArray[np.generic]:
        """Return the stored values of a Frame, from 1, (rows, columns)."""
        with self.look(number, NativeReader()) as stored:
            return stored.copy()


class StoredFrame:
    """One Frame of a multi-frame Instance of the store, as a slice.

    Parameters
    ----------
    number
        Which of the Frames, from 1.
    """

    def __init__(self, frames: Frames, number: int, reader: _FrameReader) -> None:
        self._frames = frames
        self._number = number
        self._reader = reader
        # Elements are decoded here, where damage is expected.
        told = frames.glance(number, (*TOLD, *RESCALE))
        self._rescale = read_rescale(told)
        self._told = {keyword: told.get(keyword) for keyword in TOLD}

    @property
    def header(self) -> FrameHeader:
        """The header, made anew."""
        return self._frames[self._number - 1]

    @property
    def frame_number(self) -> int | None:
        """Its number, from 1; None of the only one."""
        return self._number if len(self._frames) > 1 else None

    def spread(self) -> "Sequence[StoredFrame]":
        """Return itself."""
        return [self]

    def value(self, keyword: str) -> Any:
        """Return the value of an attribute; None where it is absent."""
        return self._told[keyword] if keyword in self._told else self.header.get(keyword)

    def decode(self) -> NDArray[np.generic]:
        """Return the stored values, (rows, columns); Raises as `decode_pixels`."""
        return self._reader.decode(self._number)

    def read_into(self, target: NDArray[np.float32], reader: NativeReader) -> None:
        """Write what the Modality LUT of this Frame makes of its pixels; as `StoredInstance.read_into`."""
        slope, intercept = self._rescale
        with self._reader.look(self._number, reader) as stored:
            rescale(stored, target, slope=slope, intercept=intercept)


class StoredSeries(Sequence[Dataset]):
    """Headers of the slices of one Series, in any order, which stack (`workers.geometry.Slices`).

    Each Frame of a multi-frame Instance is a slice. They are read by as many threads as `pool` may have processes.
    """

    def __init__(self, instances: Sequence[StoredInstance | StoredFrame], pool: DecoderPool) -> None:
        self._instances = tuple(chain.from_iterable(map(_spread, instances)))
        self._pool = pool

    def __len__(self) -> int:
        """Return how many slices there are."""
        return len(self._instances)

    @overload
    def __getitem__(self, index: int) -> Dataset: ...

    @overload
    def __getitem__(self, index: slice) -> "StoredSeries": ...

    def __getitem__(self, index: int | slice) -> "Dataset | StoredSeries":
        """Return the header of one slice, or some slices."""
        if isinstance(index, slice):
            return StoredSeries(self._instances[index], self._pool)
        return self._instances[index].header

    def values(self, keyword: str) -> list[Any]:
        """Return the value of an attribute in each slice; None where it is absent."""
        return [one.value(keyword) for one in self._instances]

    def frame_number(self, number: int) -> int | None:
        """Return which Frame of its Instance a slice is, from 1; None where it is the whole Instance."""
        return self._instances[number].frame_number

    def prove_split(self) -> None:
        """Go on when each slice is one; Raises as `StoredInstance.spread`."""
        for one in self._instances:
            one.spread()

    def prove_decodable(self, number: int) -> None:
        """Raise PixelsUndecodable if the pixels of a slice cannot be read."""
        self._instances[number].decode()

    def read(self, order: Sequence[int], voxels: NDArray[np.float32]) -> None:
        """Read slices; Raises as `StoredInstance.read_into`."""
        chosen = [self._instances[number] for number in order]
        hands = min(self._pool.limits.processes, len(chosen))
        readers = local()

        def read(place: int) -> None:
            if not hasattr(readers, "own"):
                readers.own = NativeReader()
            chosen[place].read_into(voxels[place], readers.own)

        if hands == 1:
            for place in range(len(chosen)):
                read(place)
            return
        with ThreadPoolExecutor(hands, thread_name_prefix="slices") as threads:
            try:
                for _ in threads.map(read, range(len(chosen))):
                    pass
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise

    def arrange(self, order: Sequence[int]) -> "StoredSeries":
        """Return the slices in this order."""
        return StoredSeries([self._instances[number] for number in order], self._pool)


def _spread(one: StoredInstance | StoredFrame) -> Sequence[StoredInstance | StoredFrame]:
    """Return the slices of an Instance; where there are none, itself: who wants its pixels is told why."""
    try:
        return one.spread()
    except (NotEligible, PixelsUndecodable, TooLarge):
        return [one]


def choose_slices(datasets: Sequence[Dataset], sop_instance_uids: Collection[str]) -> Sequence[Dataset]:
    """Return the slices of some Instances; of a Job, without parsing a header."""
    uids = read_values(datasets, "SOPInstanceUID")
    chosen = [number for number, uid in enumerate(uids) if uid in sop_instance_uids]
    return datasets.arrange(chosen) if isinstance(datasets, StoredSeries) else [datasets[number] for number in chosen]


def read_values(datasets: Sequence[Dataset], keyword: str) -> Sequence[Any]:
    """Return the value of an attribute in each Instance, None where it is absent; of a Job, as the ledger knows it."""
    return datasets.values(keyword) if isinstance(datasets, StoredSeries) else [ds.get(keyword) for ds in datasets]


@contextmanager
def name_undecodable(facts: InstanceFacts) -> Iterator[None]:
    """Say which Instance a decoder could not read."""
    uid = str(facts.sop_instance_uid)
    try:
        yield
    except PixelsUndecodable as exc:
        if uid in str(exc):
            raise
        raise PixelsUndecodable(f"instance {uid}: {exc}") from exc
    except InputMissing as exc:
        raise _gone(facts) from exc


def read_dataset(path: Path, facts: InstanceFacts, *, stop_before_pixels: bool = False) -> FileDataset:
    """Return a file of the store.

    Raises
    ------
    InputMissing
        If it is gone.
    PixelsUndecodable
        If it is no longer the Part 10 file that was stored.
    """
    try:
        ds = dcmread(path, stop_before_pixels=stop_before_pixels)
    except FileNotFoundError as exc:
        raise _gone(facts) from exc
    except READ_ERRORS as exc:
        raise _damaged(facts) from exc
    if "TransferSyntaxUID" not in ds.file_meta:
        raise _damaged(facts)
    return ds


def _damaged(facts: InstanceFacts) -> PixelsUndecodable:
    return PixelsUndecodable(f"instance {facts.sop_instance_uid} cannot be read back from the store; send it again")


def _gone(facts: InstanceFacts) -> InputMissing:
    return InputMissing(f"instance {facts.sop_instance_uid} is gone from the store; send it again")
