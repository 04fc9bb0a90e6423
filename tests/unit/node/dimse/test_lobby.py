"""Who may come in: Associations in all and for each address, and who has to go when too many wait."""

from node.dimse.lobby import MAX_LEAVING, MAX_LEAVING_PER_PEER, MAX_WAITING, Capacity, Lobby


def lobby(*, associations: int = 3, per_peer: int = 2) -> Lobby[str]:
    return Lobby(Capacity(associations=associations, per_peer=per_peer))


def enter(house: Lobby[str], *names: str, host: str = "10.0.0.1", receiver: str = "one") -> None:
    for name in names:
        house.enter(name, host=host, receiver=receiver)


def test_one_association_more_than_the_capacity_is_not_admitted_wherever_it_is() -> None:
    house = lobby(per_peer=3)
    enter(house, "a", "b", receiver="one")
    enter(house, "c", "d", receiver="two")
    assert [house.admit(name) for name in "abcd"] == [True, True, True, False]


def test_one_address_gets_no_more_than_its_share_over_all_receivers() -> None:
    house = lobby(associations=10)
    enter(house, "a", "b", receiver="one")
    enter(house, "c", receiver="two")
    enter(house, "d", host="10.0.0.2")
    assert [house.admit(name) for name in "abcd"] == [True, True, False, True]


def test_who_leaves_makes_room() -> None:
    house = lobby(per_peer=1)
    enter(house, "a", "b")
    assert house.admit("a")
    assert not house.admit("b")
    house.leave("a")
    assert house.admit("b")


def test_an_association_that_is_over_makes_room_and_never_comes_back() -> None:
    house = lobby(per_peer=1)
    enter(house, "a", "b")
    house.admit("a")
    house.vacate("a")
    house.vacate("nobody")
    assert house.load("one") == 2
    assert house.admit("b")
    house.leave("b")
    assert not house.admit("a")


def test_who_was_never_there_or_has_left_is_not_admitted() -> None:
    house = lobby()
    enter(house, "a")
    house.leave("a")
    house.leave("a")
    assert not house.admit("a")


def test_load_counts_every_connection_of_a_receiver() -> None:
    house = lobby()
    enter(house, "a", "b", receiver="one")
    enter(house, "c", receiver="two")
    house.admit("a")
    assert [house.load(name) for name in ("one", "two", "three")] == [2, 1, 0]


def test_a_receiver_that_is_lost_takes_its_connections_along_and_nobody_elses() -> None:
    house = lobby(associations=2)
    enter(house, "a", "b", receiver="one")
    enter(house, "c", "d", receiver="two")
    house.admit("a")
    house.admit("c")
    assert house.lose("one") == ("a",)
    assert [house.load("one"), house.load("two")] == [0, 2]
    assert house.admit("d")


def test_nobody_has_to_go_while_there_is_room() -> None:
    house = lobby()
    enter(house, *map(str, range(MAX_WAITING)))
    assert house.turn_out() is None


def test_the_oldest_of_the_address_from_which_most_wait_has_to_go() -> None:
    house = lobby()
    enter(house, "patient", host="10.0.0.9")
    enter(house, *map(str, range(MAX_WAITING)), receiver="two")
    assert house.turn_out() == ("0", "two")
    # It is asked once, and comes in no more.
    assert house.turn_out() is None
    assert not house.admit("0")
    assert house.admit("patient")


def test_associations_do_not_wait() -> None:
    house = lobby(associations=MAX_WAITING * 2, per_peer=MAX_WAITING * 2)
    for number in range(MAX_WAITING * 2):
        enter(house, str(number))
        assert house.admit(str(number))
    assert house.turn_out() is None


def test_a_flood_that_does_not_go_is_taken_no_more() -> None:
    house = lobby()
    for number in range(MAX_WAITING + MAX_LEAVING_PER_PEER):
        assert house.has_room("10.0.0.1")
        enter(house, str(number))
        house.turn_out()
    assert not house.has_room("10.0.0.1")
    assert house.has_room("10.0.0.2")
    house.leave("0")
    assert house.has_room("10.0.0.1")


def test_floods_from_many_addresses_that_do_not_go_are_taken_no_more() -> None:
    house = lobby()
    for number in range(MAX_WAITING + MAX_LEAVING):
        host = f"10.0.0.{number % 4}"
        assert house.has_room(host)
        enter(house, str(number), host=host)
        house.turn_out()
    assert not house.has_room("10.0.0.9")
