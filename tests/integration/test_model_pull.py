"""Models are pulled from servers that cut, lie, forget, or hold something else: whole and proven, or not at all."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch

from node.catalogue.download import PIECE_BYTES, TRIES, Download
from node.catalogue.pull import FETCHED, Order, pull_model
from node.catalogue.shelf import Shelf
from node.catalogue.table import Entry
from node.errors import Misconfigured, ModelInvalid, ModelUnreachable, NotFound, WrongState
from tests.bundles import make_volume_bundle
from workers.inference.conversion import convert_weights

CONTENT = os.urandom(3 * PIECE_BYTES + 17)


@dataclass
class Shop:
    """A server that has one file, and some habits.

    Attributes
    ----------
    cuts
        After how many bytes each answer ends too early, in their order.
    excess
        By how many bytes Content-Length is too large.
    """

    content: bytes = CONTENT
    tag: str = '"first"'
    heeds_range: bool = True
    cuts: list[int] = field(default_factory=list)
    excess: int = 0
    status: int = 200
    asked: list[str | None] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/weights/model.pt"


class Handler(BaseHTTPRequestHandler):
    shop: Shop

    def do_GET(self) -> None:
        shop, asked = self.shop, self.headers.get("Range")
        shop.asked.append(asked)
        if shop.status != 200:
            self.send_error(shop.status)
            return
        start = 0
        if asked and shop.heeds_range and self.headers.get("If-Range") == shop.tag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(shop.content):
                self.send_error(416)
                return
        rest = shop.content[start:]
        self.send_response(206 if start else 200)
        if shop.tag:
            self.send_header("ETag", shop.tag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(shop.content) - 1}/{len(shop.content)}")
        self.send_header("Content-Length", str(len(rest) + shop.excess))
        self.end_headers()
        self.wfile.write(rest[: shop.cuts.pop(0)] if shop.cuts else rest)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("no_proxy", "*")
    shop = Shop()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Mine", (Handler,), {"shop": shop}))
    shop.port = server.server_address[1]
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield shop
    server.shutdown()
    server.server_close()


def fetch(shop: Shop, place: Path, max_bytes: int = 10 * PIECE_BYTES) -> bytes:
    return Download(shop.url, place, max_bytes=max_bytes).fetch().read_bytes()


def test_a_file_comes_with_its_progress(shop: Shop, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    download = Download(
        shop.url, tmp_path, max_bytes=len(CONTENT), progress=lambda here, total: told.append((here, total))
    )
    assert download.fetch().read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert len(told) > 2


def test_a_download_that_is_cut_goes_on_where_it_was(shop: Shop, tmp_path: Path) -> None:
    shop.cuts = [PIECE_BYTES, PIECE_BYTES]
    assert fetch(shop, tmp_path) == CONTENT
    assert shop.asked == [None, f"bytes={PIECE_BYTES}-", f"bytes={2 * PIECE_BYTES}-"]


def test_another_command_goes_on_where_the_first_gave_up(shop: Shop, tmp_path: Path) -> None:
    shop.cuts = [PIECE_BYTES, 0]
    with pytest.raises(ModelUnreachable, match=f"{PIECE_BYTES} bytes are kept, the same command goes on"):
        fetch(shop, tmp_path)
    assert fetch(shop, tmp_path) == CONTENT
    assert shop.asked[-1] == f"bytes={PIECE_BYTES}-"


@pytest.mark.parametrize("habit", ["ignores Range", "has no ETag", "has a weak ETag", "has a new file"])
def test_where_it_cannot_go_on_it_begins_anew(habit: str, shop: Shop, tmp_path: Path) -> None:
    shop.cuts = [PIECE_BYTES]
    shop.heeds_range = habit != "ignores Range"
    shop.tag = {"has no ETag": "", "has a weak ETag": 'W/"first"'}.get(habit, '"first"')
    if habit == "has a new file":
        shop.cuts.append(0)
        with pytest.raises(ModelUnreachable):
            fetch(shop, tmp_path)
        shop.content, shop.tag = CONTENT[::-1], '"second"'
    assert fetch(shop, tmp_path) == shop.content


def test_a_server_that_announces_more_than_it_has_is_not_believed(shop: Shop, tmp_path: Path) -> None:
    shop.excess = 100
    with pytest.raises(ModelUnreachable):
        fetch(shop, tmp_path)
    assert len(shop.asked) <= TRIES


@pytest.mark.parametrize("announced", [True, False])
def test_more_than_it_may_have_is_not_taken(announced: bool, shop: Shop, tmp_path: Path) -> None:
    shop.excess = 0 if announced else -len(CONTENT) + 10
    limit = PIECE_BYTES if announced else 5
    with pytest.raises(ModelInvalid, match=f"more than the {limit} bytes"):
        fetch(shop, tmp_path, limit)
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("status", [404, 403, 503])
def test_a_server_that_refuses_is_told_with_its_status(status: int, shop: Shop, tmp_path: Path) -> None:
    shop.status = status
    with pytest.raises(ModelUnreachable, match=f"127.0.0.1 .*HTTP {status}.*--mirror DIR"):
        fetch(shop, tmp_path)


def test_without_a_network_the_remedy_is_named(shop: Shop, tmp_path: Path) -> None:
    download = Download("http://no-such-host.invalid/model.pt", tmp_path, max_bytes=1)
    with pytest.raises(ModelUnreachable, match=r"no-such-host\.invalid does not give the file .*--mirror DIR"):
        download.fetch()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/model.pt", "model.pt"])
def test_nothing_but_http_is_asked(url: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="https://"):
        Download(url, tmp_path, max_bytes=1)


@pytest.fixture
def entry(shop: Shop, tmp_path: Path) -> Entry:
    bundle = make_volume_bundle(tmp_path / "published")
    shop.content = (bundle / "models" / "model.pt").read_bytes()
    label = {"name": "Lesion", "value": 1, "code": ["52988006", "SCT", "Lesion"]}
    return Entry(
        name="lesions",
        version="1.0",
        licence="CC0-1.0",
        facts="marks what is bright",
        url=shop.url,
        max_bytes=PIECE_BYTES,
        md5=hashlib.md5(shop.content).hexdigest(),
        card={
            "intended_use": "Tests",
            "series_offset": 60,
            "inputs": {"ct": {"modality": "CT"}},
            "labels": [label],
            "bundle": {"kind": "segmentation"},
        },
        config={"network_def": {"_target_": "torch.nn.Identity"}},
    )


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "models")


pull = partial(pull_model, convert=convert_weights, progress=lambda _here, _all: None)


def installed(shelf: Shelf) -> list[str]:
    return sorted(path.name for path in shelf.folder.iterdir() if path.name != FETCHED) if shelf.folder.is_dir() else []


def test_a_model_is_pulled_converted_and_installed(entry: Entry, shelf: Shelf) -> None:
    card = pull(entry, shelf, Order())
    assert (card.name, card.weights.name, card.licence) == ("lesions", "weights.safetensors", "CC0-1.0")
    card.verify_weights()
    assert installed(shelf) == ["lesions"]
    assert not (shelf.folder / FETCHED / "lesions").exists()


def test_a_model_is_not_pulled_twice_unasked(entry: Entry, shelf: Shelf) -> None:
    pull(entry, shelf, Order())
    with pytest.raises(WrongState, match="--replace"):
        pull(entry, shelf, Order())
    assert pull(entry, shelf, Order(replaces=True)).name == "lesions"


@pytest.mark.parametrize("by", ["md5", "sha256"])
def test_another_file_under_its_name_is_thrown_away(by: str, entry: Entry, shelf: Shelf, shop: Shop) -> None:
    named = replace(entry, md5=entry.md5 if by == "md5" else "", sha256="0" * 64 if by == "sha256" else "")
    shop.content += b" " if by == "md5" else b""
    with pytest.raises(ModelInvalid, match=f"the file has {by} .*nothing of it is kept"):
        pull(named, shelf, Order())
    assert installed(shelf) == []
    assert not (shelf.folder / FETCHED / "lesions").exists()


def test_a_digest_that_nobody_named_is_confirmed_by_a_person(entry: Entry, shelf: Shelf, shop: Shop) -> None:
    unnamed, digest = replace(entry, md5=""), hashlib.sha256(shop.content).hexdigest()
    with pytest.raises(ModelInvalid, match=f"--confirm {digest}"):
        pull(unnamed, shelf, Order())
    assert installed(shelf) == []
    asked = len(shop.asked)
    assert pull(unnamed, shelf, Order(confirmed=digest)).name == "lesions"
    assert len(shop.asked) == asked


def test_what_a_person_confirms_must_be_what_came(entry: Entry, shelf: Shelf) -> None:
    with pytest.raises(ModelInvalid, match="expected is 1111"):
        pull(replace(entry, md5=""), shelf, Order(confirmed="1" * 64))
    assert installed(shelf) == []


def test_a_mirror_may_be_a_folder(entry: Entry, shelf: Shelf, shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"model\.pt does not exist; bring the file of http"):
        pull(entry, shelf, Order(mirror=str(tmp_path / "mirror")))
    (tmp_path / "mirror").mkdir()
    file = tmp_path / "mirror" / "model.pt"
    file.write_bytes(shop.content + b" ")
    with pytest.raises(ModelInvalid, match="md5"):
        pull(entry, shelf, Order(mirror=str(file.parent)))
    assert file.exists()
    file.write_bytes(shop.content)
    assert pull(entry, shelf, Order(mirror=str(file.parent))).name == "lesions"
    assert shop.asked == []


def test_a_mirror_may_be_a_url(entry: Entry, shelf: Shelf, shop: Shop) -> None:
    elsewhere = replace(entry, url="http://no-such-host.invalid/deep/model.pt")
    assert pull(elsewhere, shelf, Order(mirror=f"http://127.0.0.1:{shop.port}/mirror/")).name == "lesions"


def test_a_pickle_that_would_run_code_is_not_read(entry: Entry, shelf: Shelf, shop: Shop, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"state_dict": Trap()}, tmp_path / "trap.pt")
    shop.content = (tmp_path / "trap.pt").read_bytes()
    with pytest.raises(ModelInvalid, match=r"posix\.mkdir, which could run code"):
        pull(replace(entry, md5=""), shelf, Order(confirmed=hashlib.sha256(shop.content).hexdigest()))
    assert not (tmp_path / "ran").exists()
    assert installed(shelf) == []


def test_what_is_not_fetched_says_what_to_do(entry: Entry, shelf: Shelf) -> None:
    with pytest.raises(NotFound, match="bring it as a MONAI Bundle"):
        pull(replace(entry, url="", how="bring it as a MONAI Bundle"), shelf, Order())
