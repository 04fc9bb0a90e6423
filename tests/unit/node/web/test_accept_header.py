"""Media types, as clients write them, and which offer is chosen."""

import pytest

from node.errors import NotAcceptable, RequestMalformed
from node.web.negotiation import MediaRange, MediaType, Offer, choose, parse_accept, parse_media_type

JSON, XML = Offer(name="application/dicom+json"), Offer(name="application/dicom+xml")
PARTS = Offer(name="application/dicom", is_multipart=True, transfer_syntax_uid="1.2.840.10008.1.2.1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("application/dicom", MediaType(name="application/dicom")),
        ("Text/HTML; Charset=UTF-8", MediaType(name="text/html", parameters={"charset": "UTF-8"})),
        (
            'multipart/related; type="application/dicom"; boundary="a b"',
            MediaType(name="multipart/related", parameters={"type": "application/dicom", "boundary": "a b"}),
        ),
        # Without quotes, as many clients write it.
        (
            "multipart/related;type=application/dicom;boundary=x",
            MediaType(name="multipart/related", parameters={"type": "application/dicom", "boundary": "x"}),
        ),
        (r'a/b; c="d\"e"; c=f', MediaType(name="a/b", parameters={"c": 'd"e'})),
        ("a/b;", MediaType(name="a/b")),
    ],
)
def test_a_media_type_is_read_with_its_parameters(text: str, expected: MediaType) -> None:
    assert parse_media_type(text) == expected


@pytest.mark.parametrize("text", ["", "dicom", "a/b c", 'a/b; c="d', "a/b, c/d", "a/b; =c", "/"])
def test_what_is_no_media_type_is_refused(text: str) -> None:
    with pytest.raises(RequestMalformed):
        parse_media_type(text)


def test_accept_is_read_in_its_order_with_weights() -> None:
    told = 'multipart/related; type="application/dicom"; transfer-syntax=*; q=0.5, application/dicom+json'
    assert parse_accept([told, "*/*;q=0.1"]) == (
        MediaRange(name="application/dicom", is_multipart=True, transfer_syntax_uid="*", quality=0.5),
        MediaRange(name="application/dicom+json"),
        MediaRange(name="*/*", quality=0.1),
    )


def test_no_accept_accepts_everything() -> None:
    assert choose(parse_accept([]), (JSON, XML)) == JSON


@pytest.mark.parametrize("text", ["a/b;q=2", "a/b;q=x", "a/b;q=0.1234", "a/b c/d", ",,", "x" * 5000])
def test_an_accept_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RequestMalformed):
        parse_accept([text])


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/dicom+xml", XML),
        ("application/dicom+json;q=0.1, application/dicom+xml", XML),
        # What says more counts: everything, but no JSON.
        ("*/*, application/dicom+json;q=0", XML),
        ("image/png, application/dicom+json;q=0.2", JSON),
        ('multipart/related; type="application/dicom"', PARTS),
        ('multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1', PARTS),
        ("multipart/related", PARTS),
    ],
)
def test_the_offer_that_is_wanted_most_is_chosen(accept: str, expected: Offer) -> None:
    assert choose(parse_accept([accept]), (JSON, XML, PARTS)) == expected


@pytest.mark.parametrize(
    "accept",
    [
        "image/png",
        "application/dicom+json;q=0, application/dicom+xml;q=0",
        "*/*;q=0",
        'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.50',
        "application/dicom",
    ],
)
def test_an_offer_that_nobody_wants_is_not_chosen(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="dicom"):
        choose(parse_accept([accept]), (JSON, XML, PARTS))
