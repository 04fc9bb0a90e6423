"""What is known of a Destination is said in words."""

import pytest
from pydicom.uid import UID

from node.dimse.contexts import storage_sop_classes
from node.domain.capability import LABEL_MAP, WRITTEN_FORMS, Capability, Form, name_kind
from node.settings.peers import DestinationSettings


def knowing(accepted: set[Form], refused: set[Form]) -> Capability:
    return Capability(
        destination="pacs",
        address="cstore PACS@host:104",
        accepted=frozenset(accepted),
        refused=frozenset(refused),
        asked_at=None,
    )


def test_words_say_what_is_taken_what_not_and_what_is_not_known() -> None:
    forms = set(WRITTEN_FORMS.values())
    assert knowing(forms, set()).describe() == "takes SEG, SR, SC, KO, PR, PDF, LABELMAP"
    assert knowing(forms - {LABEL_MAP}, {LABEL_MAP}).describe() == "takes SEG, SR, SC, KO, PR, PDF; not LABELMAP"
    assert knowing({WRITTEN_FORMS["SR"]}, {WRITTEN_FORMS["SEG"]}).describe() == (
        "takes SR; not SEG; not known: SC, KO, PR, PDF, LABELMAP"
    )


def test_form_that_is_agreed_on_and_refused_afterwards_is_not_taken() -> None:
    assert knowing({LABEL_MAP}, {LABEL_MAP}).takes(LABEL_MAP) is False
    assert knowing({LABEL_MAP}, set()).takes(LABEL_MAP) is True
    assert knowing(set(), set()).takes(LABEL_MAP) is None


@pytest.mark.parametrize("form", WRITTEN_FORMS.values(), ids=list(WRITTEN_FORMS))
def test_every_form_is_a_storage_class_in_a_transfer_syntax(form: Form) -> None:
    sop_class_uid, transfer_syntax_uid = form
    assert sop_class_uid in storage_sop_classes()
    assert UID(transfer_syntax_uid).is_transfer_syntax


def test_own_results_have_short_names_and_other_objects_that_of_their_class() -> None:
    assert [name_kind(sop_class_uid) for sop_class_uid, _ in WRITTEN_FORMS.values()] == list(WRITTEN_FORMS)
    assert name_kind("1.2.840.10008.5.1.4.1.1.2") == "CT Image"
    assert name_kind("1.2.3") == "1.2.3"


def test_address_tells_peers_apart_and_holds_no_password() -> None:
    pacs = DestinationSettings(transport="cstore", aet="PACS", host="host", port=104)
    assert pacs.address == "cstore PACS@host:104"
    assert pacs.address != pacs.model_copy(update={"port": 105}).address
    web = DestinationSettings(transport="stow", url="https://me:secret@host:8443/dicom-web")
    assert web.address == "stow https://host:8443/dicom-web"
    assert DestinationSettings(transport="folder", url="/srv/results").address == "folder /srv/results"
