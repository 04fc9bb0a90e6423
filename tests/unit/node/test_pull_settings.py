"""Whom Studies can be fetched from, as settings say it."""

from datetime import time, timedelta
from pathlib import Path

import pytest

from node.destinations import find_pull_peer, pull_peers
from node.domain.fetch import Retrieve
from node.domain.fetch_terms import FetchTerms, Hours, Poll
from node.errors import NotFound, SettingsInvalid
from node.settings.loading import load_settings
from node.settings.whole import Settings

PACS = '[destinations.pacs]\ntransport = "cstore"\naet = "PACS"\nhost = "127.0.0.1"\nport = 104\n'
FOLDER = '[destinations.folder]\ntransport = "folder"\nurl = "out"\n'
WEB = '[sources.web]\naet = "WEB"\nurl = "http://127.0.0.1/dicom-web"\n'


def load(text: str, folder: Path) -> Settings:
    path = folder / "site.toml"
    path.write_text(text)
    return load_settings(path, {})


def test_whoever_holds_studies_can_be_fetched_from(tmp_path: Path) -> None:
    settings = load(PACS + FOLDER + WEB + '[sources.ct1]\naet = "CT1"\nask = "pacs"\n', tmp_path)
    peers = pull_peers(settings)
    assert {name: peer.spec.transport for name, peer in peers.items()} == {"pacs": "cstore", "web": "stow"}
    assert all(peer.terms == FetchTerms() for peer in peers.values())
    # A source that asks a Destination is that.
    assert find_pull_peer(settings, "ct1") == peers["pacs"]
    with pytest.raises(NotFound, match="pacs, web"):
        find_pull_peer(settings, "folder")


def test_a_source_says_how_the_destination_is_fetched_from_that_it_asks(tmp_path: Path) -> None:
    settings = load(
        PACS + '[sources.ct1]\naet = "CT1"\nask = "pacs"\nretrieve = "get"\nhours = "19:00..06:30"\nper_minute = 6\n'
        'poll = { query = { ModalitiesInStudy = "CT" }, since = "2h" }\n',
        tmp_path,
    )
    assert pull_peers(settings)["pacs"].terms == FetchTerms(
        retrieve=Retrieve.GET,
        hours=Hours(begin=time(19), end=time(6, 30)),
        per_minute=6,
        poll=Poll(query={"ModalitiesInStudy": "CT"}, every=timedelta(seconds=60), since=timedelta(hours=2)),
    )
    # Processes of the node read the same from their environment.
    assert pull_peers(load_settings(None, settings.as_environment())) == pull_peers(settings)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ('retrieve = "get"', "need ask, host or url"),
        ('host = "ct1"\nport = 104\nretrieve = "wado"', "give url"),
        ('ask = "pacs"\nhours = "19..6"', "hours"),
        ('ask = "pacs"\nretrieve = "pull"', "retrieve"),
        ('ask = "pacs"\npoll = { query = {} }', "everything would come"),
        ('ask = "pacs"\npoll = { query = { PatientId = "1" } }', "did you mean PatientID"),
        ('ask = "pacs"\npoll = { query = { PatientID = "1", StudyDate = "20260101" } }', "leave StudyDate"),
        ('ask = "pacs"\npoll = { query = { PatientID = "1" }, since = "a day" }', "since"),
        ('ask = "pacs"\npoll = { query = { PatientID = "1" }, every_second = 3 }', "did you mean every_seconds"),
        ('ask = "pacs"\nper_minute = 1\n[sources.ct2]\naet = "CT2"\nask = "pacs"\nper_minute = 2', "say it once"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(keys: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=words):
        load(f'{PACS}[sources.ct1]\naet = "CT1"\n{keys}\n', tmp_path)
