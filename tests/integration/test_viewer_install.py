"""The viewer comes whole and is the one that is pinned, or does not come; and it is served as a browser needs it."""

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner

from node.cli.main import app
from node.domain.account import Right
from node.errors import Misconfigured, PackageRefused, PackageUnreachable
from node.viewer.address import viewer_url
from node.viewer.installation import Installation
from node.viewer.package import MAX_FILES, VERSION, Package
from node.viewer.registry import find_registry
from node.web.viewer import POLICY
from tests.websites import Website, website

MAIN = "app.bundle.0123456789abcdef.js"
CHUNK = "12.bundle.fedcba9876543210.js"
# As the bundler writes them.
FILES: Mapping[str, bytes] = {
    "LICENSE": b"MIT",
    "README.md": b"not served",
    f"dist/{MAIN}": b'__webpack_require__.p = "/"; run("/dicom-web")',
    f"dist/{CHUNK}": b'chunk("/")',
    "dist/app.bundle.css": b"@font-face{src:url(/font.woff2)} a{background:url(//else)}",
    "dist/0123456789abcdef.wasm": b"\0asm",
    "dist/index.html": b"<script>telemetry()</script>",
    "dist/app-config.js": b"of another host",
    "dist/sw.js": b"keeps old files",
    "dist/ort/ort.js": b"large",
    "dist/assets/favicon-32x32.png": b"PNG",
    f"dist/{MAIN}.map": b"map",
}
Change = Callable[[tarfile.TarFile], None]


def add_file(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def add_link(tar: tarfile.TarFile, *, kind: bytes, name: str = "package/dist/passwd.js") -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, "/etc/passwd"
    tar.addfile(entry)


def add_many(tar: tarfile.TarFile) -> None:
    for number in range(MAX_FILES):
        add_file(tar, f"package/dist/{number}.js", b"")


def add_bomb(tar: tarfile.TarFile) -> None:
    entry = tarfile.TarInfo("package/dist/bomb.js")
    # Never read: what it says of itself is enough.
    entry.size = 2**30
    tar.fileobj.write(entry.tobuf())


def pack(
    folder: Path, files: Mapping[str, bytes] = FILES, *, change: Change | None = None, version: str = "1.0.0"
) -> tuple[Path, Package]:
    """Return an archive as npm makes them, and what its maker says of it."""
    archive = folder / f"app-{version}.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in files.items():
            add_file(tar, f"package/{name}", content)
        if change is not None:
            change(tar)
    return archive, Package(version=version, sha512=hashlib.sha512(archive.read_bytes()).hexdigest())


def install(folder: Path, data_dir: Path, version: str = "1.0.0") -> Installation:
    archive, package = pack(folder, version=version)
    installation = Installation(data_dir, package=package)
    installation.install_from(archive)
    return installation


def names(folder: Path | None) -> set[str]:
    assert folder is not None
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_is_served_is_there_and_nothing_else(tmp_path: Path) -> None:
    folder = install(tmp_path, tmp_path / "data").folder
    assert names(folder) == {
        "LICENSE", "index.html", "app-config.js", MAIN, CHUNK, "app.bundle.css", "0123456789abcdef.wasm",
        "assets/favicon-32x32.png",
    }  # fmt: skip


def test_files_ask_for_each_other_where_they_are_served(tmp_path: Path) -> None:
    folder = install(tmp_path, tmp_path / "data").folder
    assert folder is not None
    assert (folder / MAIN).read_bytes() == b'__webpack_require__.p = "/viewer/"; run("/dicom-web")'
    assert (folder / CHUNK).read_bytes() == FILES[f"dist/{CHUNK}"]
    style = (folder / "app.bundle.css").read_bytes()
    assert style == b"@font-face{src:url(/viewer/font.woff2)} a{background:url(//else)}"
    page, configuration = (folder / "index.html").read_text(), (folder / "app-config.js").read_text()
    assert f'src="/viewer/{MAIN}"' in page
    assert "telemetry" not in page
    assert "<script>" not in page
    assert "http" not in configuration.replace("httpErrorHandler", "")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (partial(add_file, name="package/dist/../../../out.js", content=b""), "no file within"),
        (partial(add_file, name="/package/dist/out.js", content=b""), "no file within"),
        (partial(add_file, name="../out.js", content=b""), "no file within"),
        (partial(add_link, kind=tarfile.SYMTYPE), "no file within"),
        (partial(add_link, kind=tarfile.LNKTYPE), "no file within"),
        (partial(add_link, kind=tarfile.FIFOTYPE), "no file within"),
        (partial(add_link, kind=tarfile.CHRTYPE), "no file within"),
        (partial(add_file, name=f"package/dist/{MAIN}", content=b""), "FileExistsError"),
        (partial(add_file, name="package/dist/app.bundle.fedcba9876543210.js", content=b""), "no one main script"),
        (add_many, "more than"),
        (add_bomb, "more than"),
    ],
    ids=("upwards", "absolute", "outside", "symlink", "link", "fifo", "device", "twice", "two", "many", "bomb"),
)
def test_a_package_that_is_not_as_it_should_be_is_refused(tmp_path: Path, change: Change, words: str) -> None:
    archive, package = pack(tmp_path, change=change)
    with pytest.raises(PackageRefused, match=words):
        Installation(tmp_path / "data", package=package).install_from(archive)
    assert Installation(tmp_path / "data", package=package).find() is None
    assert list((tmp_path / "data" / "viewer").iterdir()) == []
    assert not list(tmp_path.glob("**/out.js"))


def test_scripts_that_do_not_say_where_they_are_are_refused(tmp_path: Path) -> None:
    archive, package = pack(tmp_path, {**FILES, f"dist/{MAIN}": b"run()"})
    with pytest.raises(PackageRefused, match="do not say where"):
        Installation(tmp_path / "data", package=package).install_from(archive)


def test_a_file_that_is_another_one_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    archive, package = pack(tmp_path)
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(PackageRefused, match="as it was published"):
        Installation(tmp_path / "data", package=package).install_from(archive)
    cut = Package(version="1.0.0", sha512=hashlib.sha512(archive.read_bytes()).hexdigest())
    with pytest.raises(PackageRefused, match="cannot be unpacked"):
        Installation(tmp_path / "data", package=cut).install_from(archive)
    with pytest.raises(PackageRefused, match="cannot be read"):
        Installation(tmp_path / "data").install_from(tmp_path / "absent.tgz")


def test_a_newer_one_takes_the_place_of_the_older_one_or_leaves_it(tmp_path: Path) -> None:
    older = install(tmp_path, tmp_path / "data")
    (tmp_path / "data" / "viewer" / ".left-by-a-kill").mkdir()
    archive, package = pack(tmp_path, change=partial(add_link, kind=tarfile.SYMTYPE), version="2.0.0")
    newer = Installation(tmp_path / "data", package=package)
    with pytest.raises(PackageRefused):
        newer.install_from(archive)
    assert (older.find() is not None, newer.other_versions()) == (True, ("1.0.0",))
    install(tmp_path, tmp_path / "data", version="2.0.0")
    assert [path.name for path in (tmp_path / "data" / "viewer").iterdir()] == ["2.0.0"]
    assert older.folder is None
    # The same again is no accident.
    install(tmp_path, tmp_path / "data", version="2.0.0")
    assert newer.remove()
    assert not newer.remove()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Return the URL of a registry, and the folder that it gives out."""
    folder = tmp_path / "registry"

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    (folder / "@ohif" / "app" / "-").mkdir(parents=True)
    yield f"http://127.0.0.1:{server.server_address[1]}", folder
    server.shutdown()
    server.server_close()


def test_it_is_fetched_from_a_registry(
    tmp_path: Path, registry: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    url, folder = registry
    archive, package = pack(folder / "@ohif" / "app" / "-")
    installation = Installation(tmp_path / "data", package=package)
    assert installation.install_by(f"{url}/").version == "1.0.0"
    archive.unlink()
    with pytest.raises(PackageUnreachable, match="404"):
        installation.install_by(url)
    with pytest.raises(Misconfigured, match="https://"):
        installation.install_by("file:///etc")
    assert installation.find() is not None


@pytest.mark.parametrize(
    ("environment", "npmrc", "found"),
    [
        ({"NPM_CONFIG_REGISTRY": "https://one.example/npm"}, "registry=https://two.example", "https://one.example/npm"),
        ({}, "# mine\n registry = https://two.example/npm \n", "https://two.example/npm"),
        ({}, "registry=https://two.example\n@ohif:registry=https://three.example", "https://three.example"),
    ],
    ids=("variable", "file", "scope"),
)
def test_the_registry_is_the_one_that_npm_is_told(
    tmp_path: Path, environment: dict[str, str], npmrc: str, found: str
) -> None:
    (tmp_path / ".npmrc").write_text(npmrc)
    assert find_registry(home=tmp_path, environment={"PATH": str(tmp_path), **environment}) == found


def test_where_nobody_names_a_registry_a_person_is_asked(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="--registry"):
        find_registry(home=tmp_path, environment={"PATH": str(tmp_path)})


@pytest.mark.needs("npm")
def test_npm_itself_is_asked_where_it_is(tmp_path: Path) -> None:
    told = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "npm_config_registry": "https://four.example/npm/"}
    assert find_registry(home=tmp_path, environment=told) == "https://four.example/npm/"


def run(tmp_path: Path, *words: str) -> tuple[int, str]:
    file = tmp_path / "site.toml"
    file.write_text(f'[node]\ndata_dir = "{tmp_path / "data"}"\n')
    ended = CliRunner().invoke(app, ["viewer", *words, "--settings", str(file)])
    return ended.exit_code, " ".join(ended.output.split())


def test_commands_say_what_is_there(tmp_path: Path) -> None:
    assert run(tmp_path, "status") == (
        1,
        f"not installed; this radnode serves @ohif/app {VERSION}: radnode viewer install",
    )
    install(tmp_path, tmp_path / "data")
    code, said = run(tmp_path, "status")
    assert (code, "there is 1.0.0, which it does not" in said) == (1, True)
    code, said = run(tmp_path, "install", "--from", str(tmp_path / "app-1.0.0.tgz"))
    assert code == 2
    assert "MIT" in said
    assert run(tmp_path, "remove") == (0, "removed")
    assert run(tmp_path, "remove") == (0, "there was none")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    """Return a site with a viewer whose version is the pinned one."""
    folder = tmp_path_factory.mktemp("site")
    with website(folder, rights=frozenset({Right.READ})) as running:
        yield running


@pytest.fixture
def viewer(site: Website, tmp_path: Path) -> Iterator[Website]:
    """Return the site while the viewer is installed, which needs no start."""
    install(tmp_path, site.folder, version=VERSION)
    yield site
    Installation(site.folder).remove()


def test_before_it_is_installed_the_page_says_how(site: Website) -> None:
    response, body = site.ask("GET", "/viewer/viewer?StudyInstanceUIDs=1.2.3")
    assert response.status == 404
    assert f"radnode viewer install --from ohif-app-{VERSION}.tgz".encode() in body
    assert site.ask("GET", "/viewer")[0].headers["Location"] == "/viewer/"


@pytest.mark.parametrize("path", ["/viewer/", viewer_url("1.2.3"), "/viewer/segmentation?StudyInstanceUIDs=1.2.3"])
def test_every_place_inside_is_the_page(viewer: Website, path: str) -> None:
    response, body = viewer.ask("GET", path)
    assert (response.status, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"OHIF Viewer" in body
    assert response.headers["Content-Security-Policy"] == POLICY
    assert response.headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("name", "media_type", "is_immutable"),
    [
        (MAIN, "text/javascript", True),
        ("0123456789abcdef.wasm", "application/wasm", True),
        ("app.bundle.css", "text/css", False),
        ("app-config.js", "text/javascript", False),
        ("assets/favicon-32x32.png", "image/png", False),
    ],
)
def test_a_file_has_its_type_and_is_asked_for_once(
    viewer: Website, name: str, media_type: str, is_immutable: bool
) -> None:
    response, _ = viewer.ask("GET", f"/viewer/{name}")
    headers = response.headers
    assert (response.status, headers["Content-Type"].partition(";")[0]) == (200, media_type)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert ("immutable" in headers["Cache-Control"]) == is_immutable
    again, body = viewer.ask("GET", f"/viewer/{name}", headers={"If-None-Match": f'"other", W/{headers["ETag"]}'})
    assert (again.status, body) == (304, b"")


@pytest.mark.parametrize(
    "name",
    [
        "absent.js", "..%2f..%2fledger.sqlite", "%2e%2e/%2e%2e/ledger.sqlite", "/etc/passwd.txt",
        "assets/../LICENSE.txt",
        ".left/x.js", "a%00.js", "assets\\x.png", "a" * 300 + ".js",
    ],
)  # fmt: skip
def test_nothing_else_is_given_out(viewer: Website, name: str) -> None:
    response, body = viewer.ask("GET", f"/viewer/{name}")
    assert response.status == 404
    assert b"SQLite" not in body


def test_a_stranger_sees_no_viewer(viewer: Website) -> None:
    stranger = {"Authorization": "Bearer no-token-of-anybody"}
    for path in ("/viewer/", f"/viewer/{MAIN}", "/viewer"):
        response, body = viewer.ask("GET", path, headers=stranger)
        assert response.status in {303, 401}
        assert b"OHIF" not in body
