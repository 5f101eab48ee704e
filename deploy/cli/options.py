"""Options that several commands share, each described once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lapilli.deploy.comparison.targets import NAMES
from lapilli.ir.errors import InputError

if TYPE_CHECKING:
    from lapilli.deploy.data.reading import How

DIGITS = "digits"  # in place of an archive of images: scikit-learn's

Config = Annotated[
    str | None, typer.Option(help="The model's configuration as JSON, if the file has none.")
]
Preset = Annotated[
    str | None, typer.Option(help="The published model it is: see `lapilli inspect`.")
]
Numbers = Annotated[str, typer.Option(help="Comma-separated, one per channel, of pixel / 255.")]
Arguments = Annotated[
    list[str] | None, typer.Option(help="name=value for CLASS_OR_FACTORY; repeat for several.")
]
Unused = Annotated[
    list[str] | None, typer.Option(help="Pattern of keys in --checkpoint that nothing uses.")
]
Neurons = Annotated[
    list[str] | None,
    typer.Option(
        help="CLASS=RULE for a neuron class of your own: a known neuron's dotted name, or "
        "kind:KEY=VALUE,... as in integer-spike:D=4; repeat for several."
    ),
]
Attributes = Annotated[
    list[str] | None,
    typer.Option("--set", help="name=value for the model once it is made; repeat for several."),
]
PythonPath = Annotated[
    list[Path] | None,
    typer.Option(help="Folder that imports of CLASS_OR_FACTORY are searched in first; repeat."),
]
Key = Annotated[
    str | None, typer.Option(help="Which parameters of a checkpoint that has several sets.")
]
NoNormalisation = Annotated[
    bool,
    typer.Option("--no-normalisation", help="The model takes pixel / 255 as it is."),
]
RunConfig = Annotated[
    str, typer.Option(help="Of Lava: PACKAGE.MODULE:NAME, or FILE.py:NAME; see docs/lava.md.")
]
SIMULATORS = f"One of {', '.join(NAMES)}; or your own: FILE.py:NAME, or PACKAGE.MODULE:NAME."
_SOURCE = "'digits', a folder or file of images, or FILE.py:NAME (runs its code); docs/data.md."
Source = Annotated[str, typer.Option(help=_SOURCE)]
DataSource = Annotated[str | None, typer.Option(help=_SOURCE)]
Resize = Annotated[
    str | None,
    typer.Option(help="Of pictures: 256 (shorter edge), HEIGHTxWIDTH; 256:bicubic; none."),
]
Crop = Annotated[
    str | None, typer.Option(help="Of pictures, about the centre: 224, or HEIGHTxWIDTH; none.")
]
Frames = Annotated[int | None, typer.Option(min=1, help="Of events: how many frames (T).")]
BinBy = Annotated[
    str | None, typer.Option(help="Of events: frames of equal count (the default), or time.")
]
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Name images that cannot be read, and go on.")
]
Count = Annotated[
    int | None,
    typer.Option(min=1, help="So many images: the first; of class folders, from each in turn."),
]
Sensor = Annotated[str | None, typer.Option(help="Of events: HEIGHTxWIDTH of the camera.")]
ClassNames = Annotated[
    str,
    typer.Option(help="In the order of the numbers: a file with a line for each, or a,b,c."),
]
Parameters = Annotated[Path | None, typer.Option(help="Parameters of CLASS_OR_FACTORY's model.")]


def numbers(given: str) -> tuple[float, ...]:
    """Read a comma-separated list."""
    try:
        return tuple(float(part) for part in given.split(",") if part)
    except ValueError as error:
        raise typer.BadParameter(f"{given!r} is no list of numbers") from error


def class_names_of(given: str) -> tuple[str, ...]:
    """Read names of classes: lines of a file, or a list with commas between.

    Raises:
        InputError: there is no such file of text, or a name stands there twice.
    """
    names = given.split(",")
    if "," not in given and given.strip():
        try:
            names = Path(given).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"--class-names {given}: no file of names, a line each, that can be read "
                f"({error}); or give them with commas between"
            ) from error
    found = tuple(name.strip() for name in names if name.strip())
    if twice := [name for name in found if found.count(name) > 1]:
        raise InputError(f"--class-names {given}: names {twice[0]!r} twice")
    return found


def bits_of_layers(given: Sequence[str]) -> dict[str, int]:
    """Read PATH=BITS, as often as it was given."""
    told = {}
    for text in given:
        path, equals, bits = text.rpartition("=")
        if not equals or not bits.isdecimal():
            raise typer.BadParameter(f"{text!r} is no PATH=BITS")
        told[path] = int(bits)
    return told


def how_read(
    resize: str | None,
    crop: str | None,
    frames: int | None = None,
    bin_by: str | None = None,
    sensor: str | None = None,
    *,
    skip_unreadable: bool = False,
) -> How:
    """Read what the command line says of data.

    Raises:
        ImageError: a size or a rule that is none.
    """
    from lapilli.deploy.data.binning import binning_of
    from lapilli.deploy.data.reading import How
    from lapilli.deploy.data.transforms import transform_of

    return How(
        transform=transform_of(resize, crop),
        binning=binning_of(frames, bin_by, sensor),
        skip_unreadable=skip_unreadable,
    )


def index_or_key(result: str) -> int | str:
    """Read which of several results is meant."""
    return int(result) if result.isdecimal() else result


def results_of(given: Sequence[str]) -> int | str | list[int | str] | None:
    """Read which results are answers: one, several, or none that is named."""
    read = [index_or_key(result) for result in given]
    return read if len(read) > 1 else next(iter(read), None)


def layouts_of(given: Sequence[str]) -> str | dict[str, str]:
    """Read the layout of one input, or NAME=LAYOUT of several."""
    told = _named(given)
    if "" not in told:
        return told or "BCHW"
    if len(given) > 1:
        raise typer.BadParameter(f"{', '.join(given)}: one layout, or NAME=LAYOUT each")
    return told[""]


def over_time_of(given: Sequence[str]) -> str | dict[str, str]:
    """Read what answers take of time steps: one rule for all, or RESULT=RULE of some."""
    rules = _named(given)
    if "" not in rules:
        return rules or "mean"
    if len(given) > 1:
        raise typer.BadParameter(f"{', '.join(given)}: give one rule for all, or RESULT=RULE each")
    return rules[""]


def _named(given: Sequence[str]) -> dict[str, str]:
    """NAME=TEXT each; a text alone has no name."""
    parts = (text.rpartition("=") for text in given)
    return {name: text for name, _, text in parts}
