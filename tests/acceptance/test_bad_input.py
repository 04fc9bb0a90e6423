"""What a person gets wrong: one clear line, the right exit code, nothing started, nothing lost."""

import socket
from pathlib import Path

import pytest

from node.rehearsal.headers import write_datasets
from tests.node_process import QUICK, NodeProcess, run_radnode
from tests.phantoms import small_chest_xray

USAGE = 2
XRAY = (small_chest_xray(with_opacity=False).dataset,)


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[node]\nporrt = 1\n", ("node.porrt", "port")),
        ("[node]\nport = 70000\n", ("node.port",)),
        ("this is no toml", ("TOML",)),
        ('[[rules]]\nname = "r"\nwhen = { modalty = "CT" }\nrun = ["lung_nodules"]\n', ("modalty", "modality")),
        ('[[rules]]\nname = "r"\nwhen = { modality = "CT" }\nrun = ["lung_nodule"]\n', ("lung_nodule",)),
        ('[pipelines.lung_nodules]\nmodl = "ct-nodules"\n', ("modl", "model")),
        ('[destinations.pacs]\ntransport = "carrier-pigeon"\n', ("destinations.pacs.transport",)),
        ('[destinations.pacs]\ntransport = "cstore"\naet = "A"\n', ("destinations.pacs", "host")),
        ('[web]\nport = 0\n[node]\nbind = "0.0.0.0"\n', ("calling", "--insecure")),
        ('[web]\nbind = "0.0.0.0"\n', ("web.bind", "web.tls", "behind_proxy", "--insecure")),
        (
            '[web.oidc]\nissuer = "http://login.example.org"\nclient_id = "x"\nadmins = ["a"]\n',
            ("web.oidc", "https://"),
        ),
    ],
)
def test_a_wrong_setting_stops_the_start_and_names_the_key(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    ended = run_radnode("up", "--settings", write(tmp_path, text), cwd=tmp_path)
    assert ended.returncode == USAGE, ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("radnode:")]
    assert all(word in line for word in words), line
    assert "Traceback" not in ended.stderr


def test_a_port_in_use_is_named_with_its_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = write(tmp_path, f"[node]\nport = {port}\n[web]\nport = 0\n")
        ended = run_radnode("up", "--settings", settings, cwd=tmp_path)
    assert ended.returncode == USAGE
    assert str(port) in ended.stderr
    assert "node.port" in ended.stderr


def test_an_unreachable_destination_is_what_doctor_finds_wrong(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = write(
        tmp_path, f'[destinations.pacs]\ntransport = "cstore"\naet = "PACS"\nhost = "127.0.0.1"\nport = {port}\n'
    )
    ended = run_radnode("doctor", "--settings", settings, cwd=tmp_path)
    assert ended.returncode == 1
    wrong = [line for line in ended.stdout.splitlines() if line.startswith("WRONG")]
    assert len(wrong) == 1
    assert "destination pacs" in wrong[0]
    assert "destination-down" in ended.stdout


def test_sending_to_nobody_fails_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("no image")
    ended = run_radnode("send", tmp_path / "x.txt", "--to", "PACS@127.0.0.1:1", cwd=tmp_path)
    assert ended.returncode in {1, USAGE}
    assert "Traceback" not in ended.stderr
    assert "x.txt" in ended.stdout + ended.stderr


def test_an_unknown_pipeline_of_process_is_refused(tmp_path: Path) -> None:
    ended = run_radnode("process", tmp_path, "--out", tmp_path / "out", "--pipeline", "lungs", cwd=tmp_path)
    assert ended.returncode == USAGE
    assert "lung_nodules" in ended.stderr


def test_a_second_node_on_one_data_folder_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    with NodeProcess(tmp_path / "node", QUICK) as node:
        ended = run_radnode("up", "--settings", node.file, cwd=tmp_path)
        assert ended.returncode == USAGE
        assert "node.data_dir" in ended.stderr
        assert node.process.is_running()
        assert run_radnode("send", *write_datasets(XRAY, tmp_path / "in"), "--to", str(node.peer)).returncode == 0
