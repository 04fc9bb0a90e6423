"""The site's model folder: a model is there whole, or not at all."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from node.errors import FileUnreadable, ModelInvalid, NotFound, WrongState
from node.models import MODEL_FILE, ModelCard, read_model
from node.store.durability import sync_folder

# What Python compiled is made anew, and was never looked at by whoever trusts the source.
LEFT_OUT = ("__pycache__", ".git")


class Shelf:
    """Where models of the site are installed.

    Parameters
    ----------
    folder
        Made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        """Where the model folders lie."""
        return self._folder

    def add(
        self, source: Path, *, complete: Callable[[Path], None] = lambda _: None, replaces: bool = False
    ) -> ModelCard:
        """Copy a model folder and return its card, once it is proven and in its place under its own name.

        Parameters
        ----------
        complete
            Called with the copy before it is read: writes what is missing there.
        replaces
            Whether a model of that name may be there already.

        Raises
        ------
        NotFound
            If there is no such folder.
        FileUnreadable
            If it cannot be read, or the copy cannot be written.
        ModelInvalid
            If the model is incomplete, holds links, or its weights are not the ones it names.
        WrongState
            If a model of that name is there, and is not to be replaced.
        """
        if not source.is_dir():
            raise NotFound(f"{source} is no folder; name the folder that holds {MODEL_FILE} or a MONAI Bundle")
        _refuse_links(source)
        with self.workplace() as place:
            copy = place / source.resolve().name
            try:
                shutil.copytree(source, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
            except (shutil.Error, OSError) as exc:
                raise FileUnreadable(f"{source} cannot be copied to {self._folder}: {exc}") from exc
            complete(copy)
            return self._put(copy, place, replaces=replaces)

    def remove(self, name: str, *, users: Mapping[str, str]) -> Path:
        """Remove a model; returns where it was.

        Parameters
        ----------
        users
            Pipeline to the name of its model.

        Raises
        ------
        NotFound
            If no model of that name is here.
        WrongState
            If a Pipeline uses it.
        """
        using = sorted(pipeline for pipeline, model in users.items() if model == name)
        if using:
            raise WrongState(
                f"model {name} is used by {', '.join(using)}; give pipelines.{using[0]}.model another one first, or "
                "take that table out of the settings"
            )
        path = self._folder / name
        if not (path / MODEL_FILE).is_file() or path.parent != self._folder:
            raise NotFound(f"model {name!r} is not in {self._folder}; `radnode models list` says where it is")
        with self.workplace() as place:
            path.rename(place / name)
        return path

    @contextmanager
    def workplace(self) -> Iterator[Path]:
        """Yield a folder beside the models that goes when the block ends."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            place = TemporaryDirectory(prefix=".", dir=self._folder)
        except OSError as exc:
            raise FileUnreadable(f"{self._folder} cannot be written ({exc.strerror}); correct its rights") from exc
        with place as path:
            yield Path(path)

    def _put(self, copy: Path, place: Path, *, replaces: bool) -> ModelCard:
        card = read_model(copy)
        card.verify_weights()
        target = self._folder / card.name
        if target.exists() and not replaces:
            raise WrongState(f"a model {card.name} is in {self._folder} already; give --replace, or remove it first")
        _sync(copy)
        if target.exists():
            target.rename(place / "old")
        copy.rename(target)
        sync_folder(self._folder)
        return read_model(target)


def _refuse_links(source: Path) -> None:
    for path in source.rglob("*"):
        if path.is_symlink():
            raise ModelInvalid(f"{path} is a link; a model folder holds its files itself: put the file there")


def _sync(folder: Path) -> None:
    """Return after every file below `folder` is on disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
