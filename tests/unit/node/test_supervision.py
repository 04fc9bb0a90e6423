"""What is watched and who is told, as the settings say; and whose mistakes are refused."""

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from node.alarms.reading import Verdict
from node.clock import utc_now
from node.domain.alarm import AlarmKind
from node.errors import SettingsInvalid
from node.ledger.traces import TraceLedger
from node.scheduler import ALONE
from node.settings.loading import load_settings
from node.settings.whole import Settings
from node.supervision import Supervision, build_watches, build_webhook
from tests.ledgers import Books, copy_ledger, make_facts
from tests.peers import wait_until
from tests.trace_receiver import TraceReceiver, serve_traces

SECRET = "T0ken"  # no password of anybody


def read(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "site.toml"
    path.write_text(f'[node]\ndata_dir = "{tmp_path}"\n{text}', encoding="utf-8")
    return load_settings(path, {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('webhook = "ops.example.org/hook"', "alarms.webhook.*http"),
        ('webhook = "file:///etc/passwd"', "alarms.webhook.*http"),
        ('webhook = "https://ops.example.org:99999/hook"', "alarms.webhook.*port"),
        ('webhook = "https://ops.example.org:0/hook"', "alarms.webhook.*port"),
        ('webhook = "https://ops.example.org:T0ken/hook"', "alarms.webhook.*port"),
        ('webhook = "https://ops.example.org/höök"', "alarms.webhook.*ASCII"),
        ('webhook = "https://ops.example.org/my hook"', "alarms.webhook.*spaces"),
        ('webhook = "https://ops.example.org/hook\\n"', "alarms.webhook.*ASCII"),
        ('webhook = "https://ops..example.org/hook"', "alarms.webhook.*host"),
        ('webhook = "https://[ops/hook"', "alarms.webhook.*host"),
        ('sources = [{ aet = "CT1" }]', "minutes is missing"),
        ('sources = [{ aet = "CT1", minutes = 0 }]', "minutes"),
        ('sources = [{ aet = "CT1", minutes = 5, hours = [18, 7] }]', "two entries"),
        ('sources = [{ aet = "CT1", minutes = 5, days = [0] }]', "days"),
        ('sources = [{ aet = "CT1", minutes = 5, days = [] }]', "days"),
        ('sources = [{ aett = "CT1", minutes = 5 }]', "did you mean|unknown setting"),
        ('pipelines = [{ pipeline = "chest_xry", minutes = 5 }]', "chest_xry.*no pipeline"),
        ("job_wait_minutes = -1", "job_wait_minutes"),
    ],
)
def test_an_expectation_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsInvalid, match=words):
        read(tmp_path, f"[alarms]\n{text}\n")


def test_a_webhook_is_a_secret_that_other_processes_are_told(tmp_path: Path) -> None:
    settings = read(tmp_path, f'[alarms]\nwebhook = "https://ops.example.org/{SECRET}"\n')
    assert SECRET not in repr(settings)
    assert load_settings(None, settings.as_environment()).alarms == settings.alarms
    with pytest.raises(SettingsInvalid) as caught:
        read(tmp_path, f'[alarms]\nwebhook = "http://ops:{SECRET}/"\n')
    assert SECRET not in str(caught.value)


def test_nobody_is_told_unless_a_webhook_is_named_and_its_authority_must_be_there(tmp_path: Path) -> None:
    assert build_webhook(read(tmp_path, "")) is None
    assert build_webhook(read(tmp_path, '[alarms]\nwebhook = "http://127.0.0.1:9/"\n')) is not None
    missing = '[alarms]\nwebhook = "HTTPS://127.0.0.1:9/"\nwebhook_ca = "absent.pem"\n'
    with pytest.raises(SettingsInvalid, match=r"alarms\.webhook\.ca absent\.pem"):
        build_webhook(read(tmp_path, missing))


def test_everything_that_an_alarm_may_be_is_watched(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        """
[store]
reserve_bytes = 0
[alarms]
sources = [{ aet = "CT1", minutes = 5 }, { aet = "CT1", minutes = 60 }]
[destinations.pacs]
transport = "folder"
url = "out"
""",
    )
    settings.store_root.mkdir()
    books = Books(copy_ledger(tmp_path))
    began = utc_now()
    watches = build_watches(settings, books.engine, since=began)
    readings = [reading for watch in watches for reading in watch(began + timedelta(seconds=1))]
    assert {reading.kind for reading in readings} == set(AlarmKind)
    # A node that was just started and has nothing to do is in order, whatever it may still miss.
    assert Verdict.WRONG not in {reading.verdict for reading in readings}
    books.close()


def test_a_node_without_a_collector_does_not_load_what_speaks_to_one(tmp_path: Path) -> None:
    # The client of Redis loads the rest of OpenTelemetry wherever it is installed.
    code = "import sys, node.app; sys.exit(any(name.startswith('opentelemetry.exporter') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0


def test_traces_are_told_where_a_collector_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    books, receiver = Books(copy_ledger(tmp_path)), TraceReceiver()
    server = serve_traces(receiver)
    settings = read(tmp_path, f'[tracing]\nendpoint = "{receiver.endpoint}"\n')
    supervision = Supervision(settings, books.engine, sharing=replace(ALONE, sweep=timedelta(seconds=0.05)))
    # What is not there yet is news from now on.
    TraceLedger(books.engine).record_told(0, now=utc_now())
    books.instances.record_instance(make_facts(received_at=utc_now()))
    books.route(now=utc_now())
    supervision.start()
    wait_until(lambda: {"study", "receive", "settle", "route"} == {span.name for span in receiver.spans}, what="spans")
    supervision.stop()
    server.shutdown()
    server.server_close()
    books.close()
