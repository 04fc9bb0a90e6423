"""A Destination that cannot work is refused before anything is sent, and the key is named."""

import pytest

from node.delivery.transport import TRANSPORTS, open_transport
from node.domain.capability import Form
from node.errors import SettingsInvalid
from node.peers.carriage import batches
from node.peers.peer import DestinationSpec

PACS = {"name": "pacs", "transport": "cstore", "aet": "ORTHANC", "host": "127.0.0.1", "port": 4242}


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"transport": "pigeon"}, "destinations.pacs.transport"),
        ({"aet": ""}, "destinations.pacs.aet"),
        ({"aet": "SEVENTEEN-LETTERS"}, "destinations.pacs.aet"),
        ({"calling_aet": "ÄRZTE"}, "node.aet"),
        ({"host": ""}, "destinations.pacs.host"),
        ({"port": 0}, "destinations.pacs.port"),
        ({"port": 65536}, "destinations.pacs.port"),
        ({"transport": "stow"}, "destinations.pacs.url"),
        ({"transport": "stow", "url": "pacs/dicom-web"}, "destinations.pacs.url"),
        ({"transport": "folder"}, "destinations.pacs.url"),
    ],
)
def test_wrong_key_is_named(change: dict[str, object], key: str) -> None:
    with pytest.raises(SettingsInvalid, match=key.replace(".", r"\.")):
        open_transport(DestinationSpec(**(PACS | change)))  # type: ignore[arg-type]  # a table of mixed values


def test_every_alias_opens() -> None:
    url = "http://127.0.0.1:8042/dicom-web"
    for alias in TRANSPORTS:
        open_transport(DestinationSpec(**(PACS | {"transport": alias, "url": url})))  # type: ignore[arg-type]  # ditto


def test_no_association_gets_more_than_128_contexts() -> None:
    keys: list[Form] = [(f"1.{index % 300}", "1.2") for index in range(900)]
    cut = list(batches(keys))
    assert [index for batch in cut for index in batch] == list(range(900))
    assert max(len({keys[index] for index in batch}) for batch in cut) == 128
    assert list(batches([("1.1", "1.2")] * 1000)) == [list(range(1000))]
    assert list(batches([])) == []
