"""A node whose port speaks TLS: dcmtk and radnode itself send to it, and doctor says what is wrong before peers do."""

import subprocess
from pathlib import Path

import pytest

from tests.certificates import Authority, Signed
from tests.node_process import Launch, NodeProcess, run_radnode
from tests.objects import write_object
from tests.peers import require_program, wait_until

pytestmark = pytest.mark.needs("openssl", "echoscu")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


def security(shown: Signed, ca: Path | None) -> str:
    asked = f'ca = "{ca}"\n' if ca is not None else ""
    return f'[security.tls]\ncertificate = "{shown.certificate}"\nkey = "{shown.key}"\n{asked}\n'


def call_by_tls(node: NodeProcess, authority: Authority, modality: Signed) -> Path:
    """Return settings of another node, whose Destination is `node`."""
    path = node.folder / "sender.toml"
    files = f'ca = "{authority.certificate}", certificate = "{modality.certificate}", key = "{modality.key}"'
    path.write_text(
        f'[node]\ndata_dir = "{node.folder / "sender"}"\n\n{security(modality, None)}'
        f'[destinations.node]\ntransport = "cstore"\naet = "RADNODE"\n'
        f'host = "127.0.0.1"\nport = {node.peer.port}\ntls = {{ {files} }}\n'
    )
    return path


def test_dcmtk_and_radnode_send_by_tls_and_doctor_says_until_when(tmp_path: Path, authority: Authority) -> None:
    shown, modality = authority.sign("node"), authority.sign("modality")
    settings = security(shown, authority.certificate)
    with NodeProcess(tmp_path, settings, launch=Launch(verb="serve")) as node:
        echo = [require_program("echoscu"), "-aec", "RADNODE", "127.0.0.1", str(node.peer.port)]
        proof = ["+tls", str(modality.key), str(modality.certificate), "+cf", str(authority.certificate)]
        assert subprocess.run([*echo, *proof], check=False).returncode == 0
        assert subprocess.run(echo, check=False, capture_output=True).returncode != 0
        sent = write_object(tmp_path / "out", "ct")
        sender = call_by_tls(node, authority, modality)
        done = run_radnode("send", sent, "--to", "node", "--settings", sender)
        assert (done.returncode, done.stderr) == (0, "")
        assert "1 of 1 Instances taken" in done.stdout
        wait_until(lambda: node.view.list_studies(limit=10), what="the Study")
        probed = run_radnode("doctor", "--settings", sender)
        assert f"RADNODE@127.0.0.1:{node.peer.port} answers C-ECHO" in probed.stdout
        assert "the certificate is valid until" in probed.stdout
        events = [event.text for event in node.view.list_events(limit=10)]
        assert "TLS with 127.0.0.1 failed: wrong version number" in events


def test_a_certificate_that_has_expired_keeps_the_node_from_starting(tmp_path: Path, authority: Authority) -> None:
    settings = tmp_path / "settings.toml"
    head = f'[node]\nport = 0\ndata_dir = "{tmp_path / "data"}"\n\n[web]\nport = 0\n\n'
    settings.write_text(head + security(authority.sign("old", days=-1), None))
    done = run_radnode("up", "--settings", settings)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("would be refused: certificate has expired; renew it")
    settings.write_text(head + security(authority.sign("soon", days=3), None))
    probed = run_radnode("doctor", "--settings", settings)
    assert probed.returncode == 1
    # A long line of a table is folded.
    said = " ".join(probed.stdout.split())
    assert "settings-invalid: security.tls.certificate" in said
    assert "renew it" in said
