"""`maml plot`: the figures of a folder drawn again from what it keeps, without computing anything."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from matplotlib.figure import Figure

from mamlcli.drawing import cosine_drawing, learning_drawing, loss_drawing
from mamlcli.errors import CheckpointError, Remedy, RunFolderError, UsageError
from mamlcli.figures.drawing import Drawing
from mamlcli.figures.style import LOOKS, Look, Width
from mamlcli.results import PlotResult
from mamlcli.rows import PlottedFigure
from mamlcli.runs.drawings import drawings, read_drawing
from mamlcli.runs.folder import RunFolder
from mamlcli.runs.info import KINDS
from mamlcli.runs.latest import latest_run
from mamlcli.runs.named import FIGURE_KINDS, check_figure, check_writable, write_figure
from mamlcli.runs.pointed import FolderLike, folder_of

_Drawings: TypeAlias = dict[str, Callable[[], Drawing]]
_FORMATS = tuple(suffix.removeprefix(".") for suffix in FIGURE_KINDS)
_USUAL_FORMATS = ("png", "svg")
# What logs hold, which go on while a figure stands still, and are there where a training was killed before its figure.
_LOGGED: Mapping[str, tuple[str, str, Callable[[RunFolder], Drawing]]] = {
    "loss": ("train", "metrics.jsonl", loss_drawing),
    "learning": ("compare-orders", "first/metrics.jsonl", learning_drawing),
    "cosine": ("compare-orders", "cosines.jsonl", cosine_drawing),
}
_EVALUATE = Remedy("mamlcli.evaluate('{run}') makes it", "maml eval {run} makes it")
_COMPARE = Remedy("mamlcli.compare_orders with resume=True makes it", "maml compare-orders --resume {run} makes it")
_COMPARE_RUNS = Remedy("mamlcli.compare with resume=True makes it", "maml compare --resume {run} makes it")
_MAKERS: Mapping[tuple[str, str], Remedy] = {
    ("train", "adaptation"): _EVALUATE,
    ("train", "fits"): _EVALUATE,
    ("train", "loss"): Remedy("mamlcli.train with resume=True makes it", "maml train --resume {run} makes it"),
    **{("compare-orders", stem): _COMPARE for stem in ("learning", "adaptation", "differences", "cosine")},
    **{("compare", stem): _COMPARE_RUNS for stem in ("adaptation", "differences")},
    ("sweep", "sweep"): Remedy("mamlcli.sweep with resume=True makes it", "maml sweep --resume {run} makes it"),
    ("reproduce", "curves"): Remedy("reproducing again makes it", "maml reproduce --resume {run} makes it"),
}
"""Of each kind of folder, what makes a figure that it lacks."""


def plot(run: FolderLike | None = None, what: str = "loss", *, width: Width = "page") -> Figure:
    """Draw a figure of a run again; a notebook shows what is returned, and its `savefig` writes it.

    Args:
        run: A run folder, or one with an evaluation, a comparison or a reproduction; None for the run that finished
            last under `outputs/`.
        what: Which of its figures, like loss, adaptation, fits, learning or cosine.
        width: Of the page of a paper, 7.0 inches, or of one of its two columns, 3.4 inches.

    Raises:
        UsageError: If it has no such figure; the message says which it has, and what makes others.
        CheckpointError: If the folder is none of ours, or what it keeps cannot be read.
    """
    return _chosen(_folder(run), [what])[what]().drawn(_look(width))


def redraw(
    run: FolderLike | None = None,
    *,
    what: Sequence[str] = (),
    formats: Sequence[str] = (),
    width: Width | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> PlotResult:
    """Draw figures of a run again and write them: in the place of those that it has, or elsewhere.

    Args:
        run: As for `plot`.
        what: Which of its figures; all that there are if empty.
        formats: Some of png, svg and pdf; png and svg if empty, or what the name of `out` says.
        width: As for `plot`; "page" if None.
        out: A file to write, whose name ends with its format, or a folder, which is made if need be. None is the
            run's own folder if neither a format nor a width is given, and else the working folder.
        overwrite: Whether files of those names may be there already; in the run's folder they always may.

    Raises:
        UsageError: If it has no such figure, or the options do not fit together.
        CheckpointError: If the folder is none of ours, or what it keeps cannot be read.
        RunFolderError: If a file to write is there already, or cannot be written.
    """
    folder = _folder(run)
    chosen = {stem: make() for stem, make in _chosen(folder, what).items()}
    drawn: list[PlottedFigure] = []
    if out is None and width is None and not formats:
        for stem, drawing in chosen.items():
            png = folder.save_figure(stem, drawing)
            drawn.append({"what": stem, "files": [png.with_suffix(f".{kind}") for kind in _USUAL_FORMATS]})
        return PlotResult(run=folder.path, width="page", figures=drawn)
    files = _files(list(chosen), _checked(formats), width, None if out is None else Path(out))
    for path in (path for paths in files.values() for path in paths):
        check_writable(path, overwrite=overwrite, read=())
    for stem, drawing in chosen.items():
        figure = drawing.drawn(_look(width or "page"))
        for path in files[stem]:
            write_figure(path, figure)
        drawn.append({"what": stem, "files": files[stem]})
    return PlotResult(run=folder.path, width=width or "page", figures=drawn)


def _folder(run: FolderLike | None) -> RunFolder:
    """The folder that is meant."""
    folder = latest_run() if run is None else RunFolder(folder_of(run))
    if not folder.path.is_dir():
        raise CheckpointError(f"{folder.path}: no such run folder")
    if not drawings(folder.path) and _kind(folder) not in KINDS:
        raise CheckpointError(f"{folder.path}: not a run: it holds no run.json, and no figure to draw again")
    return folder


def _kind(folder: RunFolder) -> str:
    """What made a folder; that of an evaluation elsewhere says nothing of it."""
    return str(folder.read_info().get("kind")) if (folder.path / "run.json").exists() else "eval"


def _chosen(folder: RunFolder, what: Sequence[str]) -> _Drawings:
    """What draws the figures that are asked for, or all that there are."""
    kind = _kind(folder)
    found: _Drawings = {stem: partial(read_drawing, path) for stem, path in drawings(folder.path).items()}
    for stem, (of, log, make) in _LOGGED.items():
        if of == kind and (folder.path / log).exists():
            found[stem] = partial(make, folder)
    missing = [stem for stem in what if stem not in found]
    if missing or not found:
        others = [stem for of, stem in _MAKERS if of == kind and stem not in found]
        stem = missing[0] if missing else others[0] if others else ""
        has = f"it has {', '.join(sorted(found))}" if found else "it has none yet"
        maker = _MAKERS.get((kind, stem))
        remedy = maker and Remedy(*(words.format(run=folder.path) for words in maker))
        raise UsageError(f"{folder.path}: no figure {stem!r}: {has}", remedy)
    return {stem: found[stem] for stem in what or sorted(found)}


def _look(width: str) -> Look:
    for name, look in LOOKS.items():
        if name == width:
            return look
    raise UsageError(f"width: must be {' or '.join(LOOKS)}, got {width!r}")


def _checked(formats: Sequence[str]) -> list[str]:
    """Formats in small letters, each once."""
    names = list(dict.fromkeys(name.lower().removeprefix(".") for name in formats))
    if wrong := [name for name in names if name not in _FORMATS]:
        raise UsageError(f"format: must be among {', '.join(_FORMATS)}, got {wrong[0]!r}")
    return names


def _files(
    stems: Sequence[str], formats: Sequence[str], width: Width | None, out: Path | None
) -> dict[str, list[Path]]:
    """Where each figure goes."""
    if out is not None and out.suffix and not out.is_dir():
        check_figure(out)
        if len(stems) > 1:
            raise UsageError(f"{out} holds one figure, of {', '.join(stems)}: name which, or a folder")
        if formats and list(formats) != [out.suffix.lower()[1:]]:
            raise UsageError(
                f"{out}: its name says another format than {', '.join(formats)}: give one format, or a folder"
            )
        return {stems[0]: [out]}
    folder = Path() if out is None else out
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot make it: {error.strerror}") from None
    ending = f"-{width}" if width else ""
    return {stem: [folder / f"{stem}{ending}.{kind}" for kind in formats or _USUAL_FORMATS] for stem in stems}
