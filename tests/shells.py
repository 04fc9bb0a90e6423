"""`radnode` as a person calls it, on a ledger that the test fills."""

from pathlib import Path

from typer.testing import CliRunner, Result

from node.cli.main import app
from tests.ledgers import Books, copy_ledger


class Shell:
    """Runs `radnode` on a ledger of its own."""

    def __init__(self, folder: Path) -> None:
        url = copy_ledger(folder)
        self.settings = folder / "site.toml"
        self.settings.write_text(f'[node]\ndata_dir = "{folder}"\n[ledger]\nurl = "{url}"\n', encoding="utf-8")
        self.books = Books(url)

    def run(self, *words: str, typed: str = "") -> Result:
        """Return what a command says."""
        return CliRunner().invoke(app, [*words, "--settings", str(self.settings)], input=typed)
