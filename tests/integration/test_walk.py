"""The way to a Destination: the first step that fails ends it, and says what to do."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from node.delivery.walk import Step, StepState, Walk, walk_to
from node.domain.capability import WRITTEN_FORMS
from node.domain.confirmation import ConfirmBy
from node.peers.peer import DestinationSpec
from node.rehearsal.pacs import SimulatedPacs
from tests.websites import website

LIMIT_S = 10.0


def cstore(host: str, port: int, *, aet: str = "PACS", confirm: ConfirmBy = ConfirmBy.AUTO) -> DestinationSpec:
    return DestinationSpec(name="pacs", transport="cstore", aet=aet, host=host, port=port, confirm=confirm)


def states(walk: Walk) -> list[StepState]:
    return [step.state for step in walk.steps]


def failed(walk: Walk) -> Step:
    (step,) = [step for step in walk.steps if step.state is StepState.FAILED]
    return step


@contextmanager
def mute_port() -> Iterator[int]:
    """Listen, take connections, and hang up at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.close()

        thread = Thread(target=hang_up, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_a_pacs_that_takes_everything_passes_five_steps_and_gets_no_image(tmp_path: Path) -> None:
    with SimulatedPacs(tmp_path, aet="PACS") as pacs:
        walk = walk_to(cstore("127.0.0.1", pacs.peer.port), limit_s=LIMIT_S)
        assert pacs.record.received == ()
    assert [step.name for step in walk.steps] == ["Name", "TCP", "Association", "C-ECHO", "Contexts"]
    assert states(walk)[:4] == [StepState.PASSED] * 4
    assert walk.accepted == frozenset(WRITTEN_FORMS.values())
    assert walk.is_passed
    assert walk.steps[-1].said.startswith(f"{len(WRITTEN_FORMS)} of {len(WRITTEN_FORMS)} accepted")


def test_a_name_that_nobody_knows_ends_at_the_first_step() -> None:
    walk = walk_to(cstore("no-such-host.invalid", 104), limit_s=LIMIT_S)
    assert states(walk) == [StepState.FAILED, *[StepState.NOT_REACHED] * 4]
    assert "no-such-host.invalid" in failed(walk).said
    assert (walk.accepted, walk.is_passed) == (None, False)


def test_a_port_at_which_nobody_listens_ends_at_the_second() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    walk = walk_to(cstore("127.0.0.1", port), limit_s=LIMIT_S)
    assert states(walk) == [StepState.PASSED, StepState.FAILED, *[StepState.NOT_REACHED] * 3]
    assert f"port {port}" in failed(walk).said


def test_whoever_speaks_no_dicom_ends_at_the_association() -> None:
    with mute_port() as port:
        walk = walk_to(cstore("127.0.0.1", port), limit_s=LIMIT_S)
    assert (failed(walk).name, states(walk)[-1]) == ("Association", StepState.NOT_REACHED)


def test_a_web_service_is_asked_by_its_search(tmp_path: Path) -> None:
    with website(tmp_path) as site:
        walk = walk_to(DestinationSpec(name="web", transport="stow", url=site.url), limit_s=LIMIT_S)
    assert [step.name for step in walk.steps] == ["Name", "TCP", "HTTP", "QIDO-RS"]
    assert walk.is_passed, walk.steps


def test_a_web_service_that_lets_nobody_in_fails_where_it_says_so(tmp_path: Path) -> None:
    with website(tmp_path, rights=frozenset()) as site:
        walk = walk_to(DestinationSpec(name="web", transport="stow", url=site.url), limit_s=LIMIT_S)
        url = f"http://kim:secret@127.0.0.1:{site.port}/dicom-web"
        secret = walk_to(DestinationSpec(name="web", transport="stow", url=url), limit_s=LIMIT_S)
    assert failed(walk).name == "HTTP"
    assert "asks for credentials" in failed(walk).said
    assert "secret" not in str(secret)


def test_a_folder_is_looked_at_and_not_written(tmp_path: Path) -> None:
    spec = DestinationSpec(name="out", transport="folder", url=str(tmp_path / "out"))
    walk = walk_to(spec, limit_s=LIMIT_S)
    assert (walk.is_passed, list(tmp_path.iterdir())) == (True, [])
    (tmp_path / "out").write_text("no folder")
    assert failed(walk_to(spec, limit_s=LIMIT_S)).name == "Folder"


@pytest.mark.parametrize("url", ["", "ftp://127.0.0.1/x"])
def test_a_url_that_is_none_fails_in_a_step(url: str) -> None:
    walk = walk_to(DestinationSpec(name="web", transport="stow", url=url), limit_s=LIMIT_S)
    assert not walk.is_passed
