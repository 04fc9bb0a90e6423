"""The conformance statement in docs/ says what the listener accepts."""

from pathlib import Path

import pytest

from node.dimse.conformance import STORE_FAILURES, conformance_statement
from node.dimse.contexts import accepted_syntaxes
from node.errors import NodeError

DOCUMENT = Path(__file__).parents[1] / "docs" / "conformance.md"


def test_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == conformance_statement()


def test_document_names_every_accepted_uid() -> None:
    text = conformance_statement()
    for sop_class_uid, syntaxes in accepted_syntaxes().items():
        assert sop_class_uid in text
        assert all(f"| {uid} |" in text or sop_class_uid == "1.2.840.10008.1.1" for uid in syntaxes)


@pytest.mark.parametrize("error", STORE_FAILURES)
def test_document_names_every_failure_with_its_status(error: type[NodeError]) -> None:
    assert f"| {error.dimse_status:04X} | `{error.code}` |" in conformance_statement()
