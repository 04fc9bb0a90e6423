"""What node and web process tell each other, over the socket that they share."""

import socket
from collections.abc import Iterator
from threading import Thread

import pytest

from node.web import link
from node.web.link import ASK_RECEIVERS, NO, YES, Link, heed, open_pair


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = open_pair()
    with ours, theirs:
        yield ours, theirs


def test_the_node_answers_and_hears_of_commits(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    heard: list[str] = []
    answers = iter([True, False])
    web = Link(theirs)
    node = Thread(
        target=heed,
        args=(ours,),
        kwargs={"committed": lambda: heard.append("commit"), "are_receivers_ready": lambda: next(answers)},
    )
    listener = Thread(target=web.listen)
    node.start()
    listener.start()
    web.tell_committed()
    assert [web.are_receivers_ready(), web.are_receivers_ready()] == [True, False]
    theirs.shutdown(socket.SHUT_WR)
    node.join()
    listener.join()
    assert heard == ["commit"]


def test_an_answer_that_comes_too_late_is_not_that_of_the_next_question(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = ends
    web = Link(theirs)
    listener = Thread(target=web.listen)
    listener.start()
    monkeypatch.setattr(link, "ANSWER_S", 0.0)
    assert not web.are_receivers_ready()
    monkeypatch.setattr(link, "ANSWER_S", 60.0)
    asked: list[bool] = []
    asker = Thread(target=lambda: asked.append(web.are_receivers_ready()))
    asker.start()
    first, second = ours.recv(64), ours.recv(64)
    ours.send(YES + first.removeprefix(ASK_RECEIVERS))
    ours.send(NO + second.removeprefix(ASK_RECEIVERS))
    asker.join()
    assert asked == [False]
    ours.shutdown(socket.SHUT_WR)
    listener.join()


def test_a_node_that_reads_nothing_is_not_waited_for(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "ANSWER_S", 0.0)
    web = Link(ends[1])
    assert not any(web.are_receivers_ready() for _ in range(5000))
