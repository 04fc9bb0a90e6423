"""The conditions that a rule may ask, one entry each: what is read of a Series, and how it may be compared.

A new condition is one reading function in `node.rules.readings` and one entry in `CONDITIONS`, and its line in
docs/rules.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from pydicom.uid import UID_dictionary  # type: ignore[attr-defined]  # public in practice, absent from __all__

from node.domain.decision import Outcome
from node.domain.imaging_order import ORDER_PRIORITY
from node.domain.job import Priority
from node.domain.study import SeriesFacts
from node.errors import RuleInvalid
from node.rules.kleene import all_of, any_of
from node.rules.moment import DAYS, parse_hours, read_time_of_day, read_weekday
from node.rules.operands import (
    ABSENT,
    PRESENT,
    Operand,
    Pattern,
    Presence,
    RawOperand,
    Reading,
    parse_body_part,
    parse_choice,
    parse_comparison,
    parse_pattern,
    parse_word,
)
from node.rules.quantity import (
    COUNT,
    DEGREES,
    DIFFUSION,
    KILOVOLTS,
    MILLIMETRES,
    MILLISECONDS,
    PERCENT,
    PIXELS,
    SLICES,
    YEARS,
    Quantity,
)
from node.rules.readings import (
    ORIENTATIONS,
    read_age,
    read_body_part,
    read_calling_aet,
    read_contrast,
    read_coverage,
    read_laterality,
    read_number,
    read_orientation,
    read_pixel_spacing,
    read_procedure_code,
    read_slice_count,
    read_slice_spacing,
    read_sop_class,
    read_texts,
)

Reader = Callable[[SeriesFacts], Reading | None]
DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "StudyDescription", "RequestedProcedureDescription")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing that a rule may ask of a Series.

    Attributes
    ----------
    key
        Its name in a rule.
    attribute
        What is read, in the standard's words.
    form
        What may be written behind the key: ``word``, ``pattern``, ``number``, ``presence`` or the choices.
    read
        Returns None for an absent attribute.
    parse
        Turns one written operand into an Operand.
    needs_all
        True when every operand of a list must hold, not just one.
    is_identifying
        True when the value must not be shown, only whether there is one.
    is_single
        True when a Series has one value at most, so that two words never hold together.
    """

    key: str
    attribute: str
    form: str
    read: Reader
    parse: Callable[[RawOperand], Operand]
    needs_all: bool = False
    is_identifying: bool = False
    is_single: bool = False

    def parse_operand(self, raw: RawOperand) -> Operand:
        """Return `raw` as an Operand; ``present`` and ``absent`` mean the same for every condition.

        Raises
        ------
        RuleInvalid
            If `raw` cannot be compared with this attribute.
        """
        if raw in (PRESENT, ABSENT):
            return Presence(wanted=raw == PRESENT)
        return self.parse(raw)

    def ask(self, operands: Sequence[Operand], series: SeriesFacts) -> tuple[Outcome, str]:
        """Return the answer of `series` and the value found, as it may be shown."""
        reading = self.read(series)
        outcomes = [operand.compare(reading) for operand in operands]
        outcome = all_of(outcomes) if self.needs_all else any_of(outcomes)
        if reading is None:
            return outcome, ABSENT
        found = PRESENT if self.is_identifying else reading.words
        # With a text, a pattern leaves nothing open but by its time.
        if outcome is Outcome.UNDETERMINED and reading.texts and any(isinstance(one, Pattern) for one in operands):
            found = f"{found} (the pattern takes too long)"
        return outcome, found


def parse_sop_class(raw: RawOperand) -> Operand:
    """Return the SOP Class named by its name or UID.

    Raises
    ------
    RuleInvalid
        If the standard knows no such Storage SOP Class.
    """
    names = {uid: entry[0] for uid, entry in UID_dictionary.items() if entry[1] == "SOP Class"}
    return parse_choice(names.get(str(raw).strip(), raw), (name for name in names.values() if "Storage" in name))


def parse_presence(raw: RawOperand) -> Operand:
    """Refuse everything: only ``present`` and ``absent`` may be asked.

    Raises
    ------
    RuleInvalid
        Always.
    """
    raise RuleInvalid(f'{raw!r} cannot be asked here; write "present" or "absent"')


def _word(key: str, attribute: str, keyword: str, *, is_identifying: bool = False) -> Condition:
    read = partial(read_texts, keywords=(keyword,))
    return Condition(
        key=key,
        attribute=attribute,
        form="word",
        read=read,
        parse=parse_word,
        is_identifying=is_identifying,
        is_single=True,
    )


def _pattern(key: str, attribute: str, *keywords: str) -> Condition:
    read = partial(read_texts, keywords=keywords)
    return Condition(key=key, attribute=attribute, form="pattern", read=read, parse=parse_pattern)


def _words(key: str, attribute: str, keyword: str) -> Condition:
    read = partial(read_texts, keywords=(keyword,))
    return Condition(
        key=key, attribute=attribute, form="words, all of them", read=read, parse=parse_word, needs_all=True
    )


def _number_of(key: str, attribute: str, source: str | Reader, quantity: Quantity) -> Condition:
    read = partial(read_number, keyword=source, quantity=quantity) if isinstance(source, str) else source
    form = f"number, {quantity.unit}" if quantity.unit else "number"
    return Condition(
        key=key, attribute=attribute, form=form, read=read, parse=partial(parse_comparison, quantity=quantity)
    )


def _choice(key: str, attribute: str, source: str | Reader, *choices: str) -> Condition:
    read = partial(read_texts, keywords=(source,)) if isinstance(source, str) else source
    form = f"one of {', '.join(choices)}"
    parse = partial(parse_choice, choices=choices)
    return Condition(key=key, attribute=attribute, form=form, read=read, parse=parse, is_single=True)


CONDITIONS: Mapping[str, Condition] = MappingProxyType(
    {
        condition.key: condition
        for condition in (
            _word("modality", "Modality (0008,0060)", "Modality"),
            Condition(
                key="sop_class",
                attribute="SOP Class UID (0008,0016)",
                form="name or UID of a Storage SOP Class",
                read=read_sop_class,
                parse=parse_sop_class,
                is_single=True,
            ),
            Condition(
                key="body_part",
                attribute="Body Part Examined (0018,0015), Anatomic Region Sequence (0008,2218)",
                form="word for a part of the body",
                read=read_body_part,
                parse=parse_body_part,
            ),
            _pattern(
                "description",
                "Series Description, Protocol Name, Study Description and Requested Procedure Description",
                *DESCRIPTIONS,
            ),
            _pattern("study_description", "Study Description (0008,1030)", "StudyDescription"),
            _pattern("series_description", "Series Description (0008,103E)", "SeriesDescription"),
            _pattern("protocol", "Protocol Name (0018,1030)", "ProtocolName"),
            _pattern("procedure", "Requested Procedure Description (0032,1060)", "RequestedProcedureDescription"),
            Condition(
                key="procedure_code",
                attribute=(
                    "Procedure Code Sequence (0008,1032), Requested Procedure Code Sequence (0032,1064), else order"
                ),
                form="word",
                read=read_procedure_code,
                parse=parse_word,
            ),
            _choice(
                "order_priority",
                "Priority of the order for the Study, the highest",
                ORDER_PRIORITY,
                *(priority.word for priority in Priority),
            ),
            _words("image_type", "Image Type (0008,0008), of Frames their Frame Type (0008,9007)", "ImageType"),
            _choice(
                "presentation_intent",
                "Presentation Intent Type (0008,0068)",
                "PresentationIntentType",
                "FOR PRESENTATION",
                "FOR PROCESSING",
            ),
            _word("view", "View Position (0018,5101)", "ViewPosition"),
            _choice(
                "laterality",
                "Image Laterality (0020,0062), else Laterality (0020,0060)",
                read_laterality,
                "R",
                "L",
                "U",
                "B",
            ),
            _word("patient_position", "Patient Position (0018,5100)", "PatientPosition"),
            _choice("orientation", "Image Orientation (Patient) (0020,0037)", read_orientation, *ORIENTATIONS),
            _number_of(
                "slice_count", "Instances of the Series, or Number of Frames (0028,0008)", read_slice_count, SLICES
            ),
            _number_of(
                "slice_spacing", "Distance of slices by Image Position (Patient)", read_slice_spacing, MILLIMETRES
            ),
            _number_of("coverage", "Extent of the slices by Image Position (Patient)", read_coverage, MILLIMETRES),
            _number_of("slice_thickness", "Slice Thickness (0018,0050)", "SliceThickness", MILLIMETRES),
            _number_of("pixel_spacing", "Pixel Spacing (0028,0030), the larger", read_pixel_spacing, MILLIMETRES),
            _number_of("rows", "Rows (0028,0010)", "Rows", PIXELS),
            _number_of("columns", "Columns (0028,0011)", "Columns", PIXELS),
            _number_of("gantry_tilt", "Gantry/Detector Tilt (0018,1120)", "GantryDetectorTilt", DEGREES),
            _number_of("kvp", "KVP (0018,0060)", "KVP", KILOVOLTS),
            _pattern("kernel", "Convolution Kernel (0018,1210)", "ConvolutionKernel"),
            Condition(
                key="contrast",
                attribute="Contrast/Bolus Agent (0018,0010), of multi-frame images its Sequence (0018,0012)",
                form="presence",
                read=read_contrast,
                parse=parse_presence,
            ),
            _number_of(
                "echo_time",
                "Echo Time (0018,0081), of Frames Effective Echo Time (0018,9082)",
                "EchoTime",
                MILLISECONDS,
            ),
            _number_of("repetition_time", "Repetition Time (0018,0080)", "RepetitionTime", MILLISECONDS),
            _number_of("inversion_time", "Inversion Time (0018,0082)", "InversionTime", MILLISECONDS),
            _number_of("b_value", "Diffusion b-value (0018,9087)", "DiffusionBValue", DIFFUSION),
            _number_of(
                "cardiac_phase",
                "Nominal Percentage of Cardiac Phase (0020,9241)",
                "NominalPercentageOfCardiacPhase",
                PERCENT,
            ),
            _number_of(
                "temporal_position", "Temporal Position Identifier (0020,0100)", "TemporalPositionIdentifier", COUNT
            ),
            _words("scanning_sequence", "Scanning Sequence (0018,0020)", "ScanningSequence"),
            _words("sequence_variant", "Sequence Variant (0018,0021)", "SequenceVariant"),
            _words("scan_options", "Scan Options (0018,0022)", "ScanOptions"),
            _pattern("sequence_name", "Sequence Name (0018,0024)", "SequenceName"),
            _number_of("age", "Patient's Age (0010,1010)", read_age, YEARS),
            _choice("sex", "Patient's Sex (0010,0040)", "PatientSex", "M", "F", "O"),
            _number_of("series_number", "Series Number (0020,0011)", "SeriesNumber", COUNT),
            _choice("burned_in_annotation", "Burned In Annotation (0028,0301)", "BurnedInAnnotation", "YES", "NO"),
            _pattern("manufacturer", "Manufacturer (0008,0070)", "Manufacturer"),
            _pattern("model", "Manufacturer's Model Name (0008,1090)", "ManufacturerModelName"),
            _word("device", "Device Serial Number (0018,1000)", "DeviceSerialNumber"),
            _word("station", "Station Name (0008,1010)", "StationName"),
            _word("department", "Institutional Department Name (0008,1040)", "InstitutionalDepartmentName"),
            _word("requesting_service", "Requesting Service (0032,1033), else order", "RequestingService"),
            _word(
                "referring_physician",
                "Referring Physician's Name (0008,0090)",
                "ReferringPhysicianName",
                is_identifying=True,
            ),
            _word("institution", "Institution Name (0008,0080)", "InstitutionName", is_identifying=True),
            _word("patient_id", "Patient ID (0010,0020)", "PatientID", is_identifying=True),
            _word("accession_number", "Accession Number (0008,0050)", "AccessionNumber", is_identifying=True),
            Condition(
                key="time_of_day",
                attribute="Acquisition Time (0008,0032), else Series Time, else Study Time",
                form="hours",
                read=read_time_of_day,
                parse=parse_hours,
            ),
            _choice("weekday", "Acquisition Date (0008,0022), else Series Date, else Study Date", read_weekday, *DAYS),
            Condition(
                key="calling_aet",
                attribute="AE title that sent the first Instance",
                form="word",
                read=read_calling_aet,
                parse=parse_word,
            ),
        )
    }
)
