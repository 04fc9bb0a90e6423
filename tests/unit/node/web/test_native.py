"""Data sets in XML and back, against what pydicom makes of them in JSON."""

import json

import pytest
from pydicom.data import get_testdata_file
from pydicom.filereader import dcmread

from node.errors import NotDicom, RequestMalformed, TooComplex
from node.web.native import Model, from_xml, to_xml

MODEL = "NativeDicomModel"
NAMES = {
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}, {"Phonetic": "x"}]}
}
NESTED: Model = {
    "00081140": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2"]}}, {}]},
    "00280030": {"vr": "DS", "Value": [0.5, 0.25]},
    "00280010": {"vr": "US", "Value": [512]},
    "00080050": {"vr": "SH"},
    "00091001": {"vr": "UN", "InlineBinary": "AAEC"},
    "7FE00010": {"vr": "OW", "BulkDataURI": "a/b?c=d&e"},
    "00081030": {"vr": "LO", "Value": ["<script>{{7*7}}</script>", None, "é"]},
}


def model_of(attributes: str) -> bytes:
    return f"<{MODEL}>{attributes}</{MODEL}>".encode()


@pytest.mark.parametrize("model", [NAMES, NESTED, {}])
def test_a_data_set_survives_its_way_through_xml(model: Model) -> None:
    assert from_xml(to_xml(model)) == model


@pytest.mark.parametrize("name", ["CT_small.dcm", "rtplan.dcm", "reportsi.dcm"])
def test_a_real_header_survives_its_way_through_xml(name: str) -> None:
    ds = dcmread(str(get_testdata_file(name)))
    # A sequence without items is one without a value, in XML.
    model = {tag: el for tag, el in ds.to_json_dict().items() if tag < "7FE00010" and el.get("Value") != []}
    # JSON itself tells no 1 from 1.0.
    assert json.loads(json.dumps(from_xml(to_xml(model)))) == json.loads(json.dumps(model))


def test_a_keyword_stands_where_the_dictionary_has_one() -> None:
    text = to_xml(NESTED).decode()
    assert '<DicomAttribute tag="00280010" vr="US" keyword="Rows"><Value number="1">512</Value>' in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize("number", ["1" * 5000, "x", "-1", "\u0661"])
def test_a_value_whose_number_is_none_is_refused(number: str) -> None:
    with pytest.raises(NotDicom):
        from_xml(
            model_of(f'<DicomAttribute tag="00100020" vr="LO"><Value number="{number}">a</Value></DicomAttribute>')
        )


def test_values_come_in_the_order_of_their_numbers() -> None:
    values = '<Value number="2">2</Value><Value number="1">1</Value>'
    assert from_xml(model_of(f'<DicomAttribute tag="00280030" vr="DS">{values}</DicomAttribute>')) == {
        "00280030": {"vr": "DS", "Value": [1.0, 2.0]}
    }


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", RequestMalformed),
        ("<a", RequestMalformed),
        ('<!DOCTYPE a [<!ENTITY b "c">]><NativeDicomModel/>', RequestMalformed),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><NativeDicomModel/>', RequestMalformed),
        ("<html/>", NotDicom),
        ("<NativeDicomModel><Value/></NativeDicomModel>", NotDicom),
        ('<NativeDicomModel><DicomAttribute tag="00280010"/></NativeDicomModel>', NotDicom),
        (f'<{MODEL}><DicomAttribute tag="00280010" vr="US"><Value>x</Value></DicomAttribute></{MODEL}>', NotDicom),
    ],
)
def test_xml_that_is_no_data_set_is_refused(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        from_xml(text.encode())


def test_sequences_that_nest_without_an_end_are_refused() -> None:
    level = '<DicomAttribute tag="00081140" vr="SQ"><Item number="1">'
    text = model_of(level * 100 + "</Item></DicomAttribute>" * 100)
    with pytest.raises(TooComplex):
        from_xml(text)
