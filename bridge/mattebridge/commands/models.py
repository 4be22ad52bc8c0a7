"""`mattebridge models`: the models there are, and the checkpoints that the user has added to them.

`list` and `show` ask the daemon where one runs, since its models are those that a frame would get;
`add`, `remove` and `verify` work on the folder of weights (`models/weights/installed.py`), with or
without a daemon.
"""

from __future__ import annotations

import argparse
import contextlib
import re
from pathlib import Path
from typing import Any, cast

from mattebridge.commands.options import path_to_write, shared_again
from mattebridge.commands.terminal import print_json
from mattebridge.errors import (
    ConnectionFailed,
    MattebridgeError,
    ModelError,
    OutputExistsError,
    UsageError,
    one_line,
)
from mattebridge.hosts.request import find_card

# How long to wait for a busy daemon; after that it notices a change in the folder by itself.
DAEMON_LIMIT_S = 5.0

EPILOG = """\
examples:
  mattebridge models
  mattebridge models show difference
  mattebridge models add pytorch_mobilenetv2.pth --name portrait --licence MIT
  mattebridge models add CorridorKey.pth --name key --screen green
  mattebridge matte plate.####.exr --clean-plate clean.exr --model portrait -o mattes
  mattebridge models verify
  mattebridge models remove portrait
  mattebridge models export mine -o mine.onnx --size 1920x1080
"""


def add_parser(commands: Any, reached: argparse.ArgumentParser) -> None:
    """The grammar of `mattebridge models`."""
    command = commands.add_parser(
        "models",
        parents=[reached],
        help="which models there are; add a checkpoint of your own",
        description="The models there are, what each needs, and its settings.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_list)
    command.add_argument("--json", action="store_true", help="everything, for programs")
    actions = command.add_subparsers(title="actions", metavar="ACTION")
    again = shared_again()
    listed = actions.add_parser("list", parents=[again], help="all models (the default)")
    listed.set_defaults(run=run_list)
    shown = actions.add_parser("show", parents=[again], help="one model with its settings")
    shown.set_defaults(run=run_show)
    shown.add_argument("name", metavar="NAME", nargs="?", default="default")
    _add_add(actions, again)
    removed = actions.add_parser("remove", parents=[again], help="forget an added checkpoint")
    removed.set_defaults(run=run_remove)
    removed.add_argument("name", metavar="NAME")
    verified = actions.add_parser(
        "verify", parents=[again], help="read the files of added checkpoints again"
    )
    verified.set_defaults(run=run_verify)
    verified.add_argument("names", metavar="NAME", nargs="*", help="which (default: all)")
    _add_export(actions, again)


def _add_add(actions: Any, again: argparse.ArgumentParser) -> None:
    command = actions.add_parser(
        "add",
        parents=[again],
        help="add a checkpoint: .pth or .safetensors of BackgroundMattingV2 or CorridorKey",
        description="Copy a checkpoint into the folder of weights, under a name of yours.",
    )
    command.set_defaults(run=run_add)
    command.add_argument("file", metavar="FILE", type=Path)
    command.add_argument("--name", metavar="NAME", required=True, help="1 to 64 of a-z 0-9 . _ -")
    command.add_argument(
        "--licence", "--license", metavar="TEXT", default="", help="its terms, shown in lists"
    )
    command.add_argument(
        "--screen",
        choices=("green", "blue"),
        default="",
        help="of a CorridorKey checkpoint: the screen that it is for (default: green)",
    )
    command.add_argument(
        "--replace", action="store_true", help="also where another file has the name"
    )


def _add_export(actions: Any, again: argparse.ArgumentParser) -> None:
    command = actions.add_parser(
        "export",
        parents=[again],
        help="write a network of the twoplate family as ONNX",
        description="Write a network as an ONNX file for one frame size, checked against torch "
        "with onnxruntime. Alignment and exposure fit of the clean plate are not in it.",
    )
    command.set_defaults(run=run_export)
    command.add_argument("name", metavar="NAME")
    command.add_argument("-o", "--output", metavar="FILE.onnx", type=path_to_write, required=True)
    command.add_argument(
        "--size", metavar="WxH", type=_size, default=(1920, 1080), help="of the frames (1920x1080)"
    )
    command.add_argument(
        "--existing",
        choices=("error", "overwrite"),
        default="error",
        help="a file that is there: refuse (default), or write it again",
    )


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch("([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 1920x1080")
    return int(match.group(1)), int(match.group(2))


# ------------------------------------------------------------------------------------ list and show


def run_list(options: argparse.Namespace) -> int:
    """`mattebridge models`: what the daemon knows, or what is installed when none runs."""
    models, problems = _known_models(options)
    if options.json:
        print_json(models)
        return 0
    from mattebridge.commands.tables import models_table

    print(models_table(models))
    for problem in problems:
        print(f"note: {one_line(problem)}")
    return 0


def run_show(options: argparse.Namespace) -> int:
    """`mattebridge models show NAME`: one card, with its settings."""
    model = find_card(_known_models(options)[0], options.name)
    if options.json:
        print_json([model])
        return 0
    from mattebridge.commands.tables import model_text

    print(model_text(model))
    return 0


def _known_models(options: argparse.Namespace) -> tuple[list[dict[str, Any]], list[str]]:
    from mattebridge.client import MatteClient
    from mattebridge.models.registry import Registry

    registry = Registry()
    try:
        with MatteClient.connect(options.instance, name="models") as client:
            models = client.models()
    except ConnectionFailed:
        models = registry.describe()
    return models, registry.problems


# ------------------------------------------------------------------------------- the user's weights


def run_add(options: argparse.Namespace) -> int:
    """`mattebridge models add FILE --name NAME`."""
    installed = _installed()
    record = installed.add(
        options.file,
        options.name,
        licence=options.licence,
        screen=options.screen,
        replace=options.replace,
    )
    found = ", ".join(f"{name} {value}" for name, value in record.settings.items())
    print(f"mattebridge: model '{record.name}' is {record.family}: {found}")
    print(f"  {record.digest}, {record.size_bytes / 1e6:.1f} MB, in {installed.folder}")
    if _daemon_looks_elsewhere(options, record.name, record.digest):
        print(
            "note: the running daemon does not see it: it was started with another "
            "MATTEBRIDGE_MODELS or data folder; stop it with `mattebridge stop`"
        )
    return 0


def run_remove(options: argparse.Namespace) -> int:
    """`mattebridge models remove NAME`; a running daemon unloads the weights at once."""
    _installed().remove(options.name)
    print(f"mattebridge: model '{options.name}' is removed")
    with contextlib.suppress(MattebridgeError):
        from mattebridge.client import MatteClient

        with MatteClient.connect(options.instance, name="models") as client:
            client.unload_model(options.name, timeout_s=DAEMON_LIMIT_S)
    return 0


def run_verify(options: argparse.Namespace) -> int:
    """`mattebridge models verify [NAME ...]`: a line for each, status 2 where any is bad."""
    installed = _installed()
    names = options.names or sorted(installed.records())
    bad = [] if options.names or not installed.problem else [installed.problem]
    for name in names:
        try:
            record = installed.check(name)
        except ModelError as error:
            bad.append(error.message)
            print(f"{name}: BAD: {one_line(error.message)}")
        else:
            print(f"{name}: good, {record.digest}")
    if bad:
        raise ModelError(bad[0] if len(bad) == 1 else f"{bad[0]} (and {len(bad) - 1} more)")
    if not names:
        print(f"mattebridge: no model was added in {installed.folder}")
    return 0


def run_export(options: argparse.Namespace) -> int:
    """`mattebridge models export NAME -o FILE.onnx`: written only if it computes the same."""
    from mattebridge.models.registry import Registry

    path: Path = options.output
    if path.suffix.lower() != ".onnx":
        raise UsageError(f"-o takes a file of type .onnx; got {path.name}")
    if path.exists() and options.existing == "error":
        raise OutputExistsError(
            f"{path} exists already; use --existing overwrite to write it again, or another -o"
        )
    registry = Registry()
    card = registry.card(options.name)
    if card.family != "twoplate":
        raise UsageError(
            f"model '{card.name}' is of the family {card.family}; only networks of the family "
            "twoplate are exported"
        )
    # Imported only now, since they load torch.
    from mattebridge.models.twoplate.onnx import checked_onnx
    from mattebridge.whole_files import replace_file

    width, height = options.size
    network = cast(Any, registry.make(card.name)).plain_network()
    data, largest = checked_onnx(network, height=height, width=width)
    replace_file(path, data)
    print(
        f"mattebridge: {path} is '{card.name}' for frames of {width}x{height}: "
        f"{len(data) / 1e6:.1f} MB, within {largest:.0e} of torch"
    )
    return 0


def _installed() -> Any:
    from mattebridge.models.weights.installed import InstalledModels, models_folder

    return InstalledModels(models_folder())


def _daemon_looks_elsewhere(options: argparse.Namespace, name: str, digest: str) -> bool:
    from mattebridge.client import MatteClient

    try:
        with MatteClient.connect(options.instance, name="models") as client:
            models = client.models(timeout_s=DAEMON_LIMIT_S)
    except MattebridgeError:
        return False
    return (name, digest) not in {(card["name"], card["digest"]) for card in models}
