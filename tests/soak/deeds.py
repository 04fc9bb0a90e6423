"""What is done to a node: every few seconds one deed, drawn by chance; some last a while and go on beside others."""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, sleep

import psutil
from redis.exceptions import RedisError

from tests.node_process import ADDRESS
from tests.soak.census import Role, take_census
from tests.soak.disk import Disk
from tests.soak.hospital import RESERVE_BYTES, Hospital

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 7.0
SHORTEST_OUTAGE_S, LONGEST_OUTAGE_S = 4.0, 20.0
# A node that starts is killed again so long after its birth, at most.
LONGEST_START_S = 4.0
# What a service manager waits before it starts a node that has ended (systemd's RestartSec).
# A node that meets a full disk as it starts has ended by then.
START_S = 5.0
RESTART_S = 1.0
POLL_S = 0.1
FULL_DISK = "the disk filled"
START_LIMIT_S = 60.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """Something that can be done.

    Attributes
    ----------
    share
        How often it is drawn, relative to the others.
    do
        Does it; returns whether there was anything to do it to.
    """

    name: str
    share: int
    do: Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage(Deed):
    """A Deed that lasts.

    Attributes
    ----------
    of
        What is away; it can be so in one way at a time.
    undo
        Brings it back.
    """

    of: str
    undo: Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The node ended by itself.

    Attributes
    ----------
    beside
        What went on meanwhile.
    """

    exit_code: int
    beside: str


class Mischief:
    """Does deeds to a hospital, and is the service manager of its node meanwhile.

    Attributes
    ----------
    done
        How often each deed was done.
    ends
        Each time that the node ended by itself, and was started again.
    """

    def __init__(self, hospital: Hospital, *, seed: int, say: Say) -> None:
        self._hospital = hospital
        self._chance = random.Random(f"deeds {seed}")
        self._say = say
        self._begun = monotonic()
        self._outages: dict[str, tuple[float, Outage]] = {}
        # When those that are over ended.
        self._over: dict[str, float] = {}
        self._restart_at: float | None = None
        self._deeds = self._all_deeds()
        self.done: Counter[str] = Counter()
        self.ends: list[End] = []

    def go_on(self, seconds: float) -> None:
        """Do deeds for so long."""
        until = monotonic() + seconds
        while monotonic() < until:
            self.rest(self._chance.uniform(SHORTEST_PAUSE_S, LONGEST_PAUSE_S))
            self._do_one()

    def rest(self, seconds: float) -> None:
        """Do nothing for so long, but end what is due to end, and start a node that has ended."""
        until = monotonic() + seconds
        while monotonic() < until:
            self._tend()
            sleep(POLL_S)

    def make_peace(self) -> None:
        """End whatever goes on, and return when the node serves."""
        for of in list(self._outages):
            self._end(of)
        until = monotonic() + START_LIMIT_S
        while not self._serves() and monotonic() < until:
            self.rest(POLL_S)

    def _do_one(self) -> None:
        possible = [deed for deed in self._deeds if not isinstance(deed, Outage) or deed.of not in self._outages]
        deed = self._chance.choices(possible, [deed.share for deed in possible])[0]
        if not deed.do():
            return
        self.done[deed.name] += 1
        lasting = ""
        if isinstance(deed, Outage):
            outage_s = self._chance.uniform(SHORTEST_OUTAGE_S, LONGEST_OUTAGE_S)
            self._outages[deed.of] = (monotonic() + outage_s, deed)
            lasting = f" for {outage_s:.0f} s"
        self._tell(f"{deed.name}{lasting}")

    def _tend(self) -> None:
        now = monotonic()
        for of in [of for of, (at, _) in self._outages.items() if at <= now]:
            self._end(of)
        code = self._hospital.node.exit_code
        if code is None:
            return
        if self._restart_at is None:
            self._restart_at = now + RESTART_S
            self.ends.append(End(exit_code=code, beside=self._beside(now)))
            self._tell(f"the node ended by itself, exit code {code}")
        elif now >= self._restart_at:
            self._start()

    def _beside(self, now: float) -> str:
        standing = {outage.name for _, outage in self._outages.values()}
        # What a start met takes effect at its end.
        recent = {name for name, ended in self._over.items() if now - ended < START_S}
        return " and ".join(sorted(standing | recent)) or "nothing"

    def _end(self, of: str) -> None:
        _, outage = self._outages.pop(of)
        outage.undo()
        self._over[outage.name] = monotonic()
        self._tell(f"end of: {outage.name}")

    def _start(self) -> None:
        self._restart_at = None
        self._hospital.node.spawn()

    def _serves(self) -> bool:
        output = self._hospital.node.folder / "output.txt"
        return self._hospital.node.exit_code is None and ADDRESS.search(output.read_text()) is not None

    def _tell(self, text: str) -> None:
        self._say(f"{monotonic() - self._begun:7.1f} s  {text}")

    def _all_deeds(self) -> list[Deed]:
        pacs, disk = self._hospital.pacs, self._hospital.disk
        deeds = [
            Deed(name="a receiver killed", share=20, do=lambda: self._kill(Role.RECEIVER)),
            Deed(name="the worker killed", share=10, do=lambda: self._kill(Role.WORKER)),
            Deed(name="the worker's child killed", share=20, do=lambda: self._kill(Role.WORKER_CHILD)),
            Deed(name="the broker killed", share=10, do=lambda: self._kill(Role.BROKER)),
            Deed(name="FLUSHALL", share=10, do=self._flush),
            Deed(name="the node's own process killed", share=4, do=self._kill_parent),
            Deed(name="the node killed with all its processes", share=4, do=self._kill_all),
            Deed(name="the node killed, and again as it started", share=2, do=self._kill_twice),
            Outage(of="the PACS", name="the PACS stopped", share=6, do=lambda: _did(pacs.stop), undo=pacs.start),
            Outage(of="the PACS", name="the PACS killed", share=6, do=lambda: _did(pacs.kill), undo=pacs.start),
        ]
        if disk is not None:
            deeds += [
                self._full_disk(disk, "into the reserve", RESERVE_BYTES * 3 // 4),
                self._full_disk(disk, "to the last byte", 0),
            ]
        return deeds

    @staticmethod
    def _full_disk(disk: Disk, how: str, leave_bytes: int) -> Outage:
        return Outage(
            of="the disk",
            name=f"{FULL_DISK} {how}",
            share=4,
            do=lambda: _did(lambda: disk.fill(leave_bytes=leave_bytes)),
            undo=disk.free,
        )

    def _kill(self, role: Role) -> bool:
        victims = [member.process for member in take_census(self._hospital.node) if member.role is role]
        if not victims:
            return False
        # It may have ended since.
        with suppress(psutil.NoSuchProcess):
            self._chance.choice(victims).kill()
        return True

    def _flush(self) -> bool:
        try:
            return bool(self._hospital.broker.flushall())
        except (RedisError, OSError):
            return False

    def _kill_parent(self) -> bool:
        if self._hospital.node.exit_code is not None:
            return False
        self._hospital.node.kill()
        self._start()
        return True

    def _kill_all(self) -> bool:
        if self._hospital.node.exit_code is not None:
            return False
        self._hospital.node.kill_all()
        self._start()
        return True

    def _kill_twice(self) -> bool:
        if not self._kill_all():
            return False
        sleep(self._chance.uniform(0.0, LONGEST_START_S))
        return self._kill_all()


def _did(deed: Callable[[], object]) -> bool:
    deed()
    return True
