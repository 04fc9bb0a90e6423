"""What settings say of evidence: who is asked, what is heeded, and what cannot be meant."""

from pathlib import Path

import pytest

from node.destinations import ASK_TIMEOUT_S, asked_peers
from node.domain.completeness import Evidence
from node.errors import SettingsInvalid
from node.settings.loading import load_settings
from node.settings.whole import Settings
from node.site import completeness_terms

PACS = """
[destinations.pacs]
transport = "cstore"
aet = "ORTHANC"
host = "192.0.2.1"
port = 4242

[destinations.share]
transport = "folder"
url = "somewhere"
"""


def load(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "site.toml"
    path.write_text(text)
    return load_settings(path, {})


def test_without_a_word_nobody_is_asked_and_what_is_told_is_heeded() -> None:
    terms = completeness_terms(load_settings(None, {}))
    assert terms.heeded == frozenset(Evidence) - {Evidence.SLICE_GAPS, Evidence.MAXIMUM_AGE}
    assert (terms.after_association_s, terms.while_open_s, terms.sources) == (3.0, 60.0, {})
    assert asked_peers(load_settings(None, {})) == {}


def test_destinations_senders_and_web_services_are_asked(tmp_path: Path) -> None:
    text = f"""{PACS}
[sources.forwarded]
aet = "ORTHANC"
ask = "pacs"
[sources.ct1]
aet = "CT1"
host = "192.0.2.2"
port = 104
sends = "series"
quiet_seconds = 9.0
[sources.cloud]
aet = "*"
url = "https://pacs.example.org/dicom-web"
"""
    settings = load(tmp_path, text)
    peers = asked_peers(settings)
    assert {name: (spec.transport, spec.aet, spec.port) for name, spec in peers.items()} == {
        "pacs": ("cstore", "ORTHANC", 4242),
        "ct1": ("cstore", "CT1", 104),
        "cloud": ("stow", "*", 0),
    }
    assert {spec.timeout_s for spec in peers.values()} == {ASK_TIMEOUT_S}
    terms = completeness_terms(settings)
    assert {aet: source.asked for aet, source in terms.sources.items()} == {
        "ORTHANC": "pacs",
        "CT1": "ct1",
        "*": "cloud",
    }
    assert not terms.sources["CT1"].sends_whole_studies
    assert terms.quiet_of("CT1") == (9.0, Evidence.ASSOCIATION_END)


def test_another_process_asks_the_same(tmp_path: Path) -> None:
    settings = load(tmp_path, f'{PACS}[sources.Any]\naet = "*"\nask = "pacs"\n')
    assert load_settings(None, settings.as_environment()).sources == settings.sources


def test_what_is_read_from_a_folder_waits_for_nobody(tmp_path: Path) -> None:
    offline = load(tmp_path, f'{PACS}[sources.any]\naet = "*"\nask = "pacs"\n').offline(tmp_path, rules=())
    terms = completeness_terms(offline)
    assert not terms.sources
    assert terms.heeded == frozenset({Evidence.ASSOCIATION_END, Evidence.QUIET_TIME})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[sources.a]\naet = "A"\nask = "pcas"', "'pcas', which is no destination that can be asked; known are pacs"),
        ('[sources.a]\naet = "A"\nask = "share"', "which is no destination that can be asked"),
        ('[sources.a]\naet = "A"\nask = "pacs"\nhost = "h"\nport = 1', "exclude each other"),
        ('[sources.a]\naet = "A"\nhost = "h"', "host and port belong together"),
        ('[sources.a]\naet = "*"\nhost = "h"\nport = 1', "host needs the aet"),
        ('[sources.a]\naet = "A"\n[sources.b]\naet = "A"', "two of sources have one aet"),
        ('[sources.pacs]\naet = "A"\nhost = "h"\nport = 1', "has the name of a destination"),
        ('[sources.a]\naet = "A"\nasks = "pacs"', "did you mean ask?"),
        ('[assembly]\nevidence = ["guess"]', "assembly.evidence"),
        ('[assembly]\nat_max_age = "wait"', "at_max_age"),
        ("[assembly]\nmax_age_minutes = 0", "max_age_minutes"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        load(tmp_path, f"{PACS}\n{text}\n")
    assert said in str(refused.value)
    # A key of its own, or both keys in its words: never an empty one.
    assert "setting : " not in str(refused.value)
    assert "Value error" not in str(refused.value)
