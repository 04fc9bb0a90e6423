"""What the benchmarks of receivers share: who is measured, where, and how it is told."""

import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from node.benchmark.report import PAGE, Target, describe_targets, refresh_section
from node.cli.output import stdout
from node.errors import NotFound

WriteOption = Annotated[bool, typer.Option("--write", help=f"Refresh its section of {PAGE}.")]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="NAME", help="A receiver; repeat it. Unless given, the usual ones."),
]
FolderOption = Annotated[
    Path | None, typer.Option("--folder", help="Where all is stored; on the file system that shall be measured.")
]
Note = Callable[[str], None]


def chosen(only: Sequence[str] | None, known: Collection[str]) -> Sequence[str]:
    """Return the names that a person gave; none where nobody gave any.

    Raises
    ------
    NotFound
        If one of them is not known.
    """
    for name in only or ():
        if name not in known:
            raise NotFound(f"no receiver is called {name!r}; known are {', '.join(known)}")
    return only or ()


@contextmanager
def measuring(folder: Path | None) -> Iterator[tuple[Path, Note]]:
    """Give an empty folder, below `folder` where one is named, and who is told what is measured now.

    Raises
    ------
    NotFound
        If `folder` is none.
    """
    if folder is not None and not folder.is_dir():
        raise NotFound(f"--folder {folder} is no folder; make it, or name another")
    with tempfile.TemporaryDirectory(prefix="radnode-bench-", dir=folder) as place, stdout().status("") as status:
        yield Path(place), status.update


def command_of(name: str, options: str, only: Sequence[str] | None) -> str:
    """Return the command line that writes a section of the page."""
    return " ".join(("radnode bench", name, options, *(f'--only "{one}"' for one in only or ()), "--write"))


def tell(command: str, facts: str, table: str, targets: Sequence[Target]) -> str:
    """Return a section of the page: the command that made it, where, and what came of it."""
    told = f"`{command}`: {facts}.\n\n{table}"
    return f"{told}\n\n{describe_targets(targets)}" if targets else told


def publish(told: str, section: str, *, write: bool) -> None:
    """Print a section, and put it into the page where that is wanted."""
    if write:
        refresh_section(PAGE, section, told)
    stdout().print(told, markup=False)
