"""Install each wheel that can run on this machine into a fresh environment, and use it from there.

    python release/trials.py --out dist        (in an environment with what the daemon needs)

    wheel --pip--> a fresh environment, in a folder of its own outside the repository, with a home
                   of its own  --> mattebridge --version, install ofx, install nuke, install
                                   service, the first node in test hosts (first_node.py), demo

A wheel is installed without its dependencies: the fresh environment takes the packages of the one
that runs this program, behind the wheel's own folder. The wheel for Windows is tried under Wine
(under_wine.py). The rule that must not be broken: a wheel that was not tried is named, with the
reason; a trial that fails ends the release.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import venv
from pathlib import Path

import under_wine
from running import FIRST_NODE, TESTS, Refused, own_home, run, without_ours

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bridge"))

from mattebridge.commands.plugin_builds import BUNDLE, this_system  # noqa: E402
from mattebridge.image_io import read_frame  # noqa: E402

# Only a hang takes so long, however busy the machine.
STEP_S = 3600


def main() -> int:
    """Try all; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder of the wheels")
    options = parser.parse_args()
    outcomes = []
    try:
        for wheel in sorted(options.out.absolute().glob("mattebridge-*.whl")):
            began = time.monotonic()
            outcome = try_wheel(wheel)
            outcomes.append(f"{wheel.name}: {outcome} ({time.monotonic() - began:.0f} s)")
    except Refused as why:
        print(f"mattebridge: not released: {why}", file=sys.stderr)
        return 1
    print("\n".join(["tried:", *outcomes]))
    return 0


def try_wheel(wheel: Path) -> str:
    """What was tried of a wheel, or why nothing was. Raises `Refused` where a step fails."""
    tag = wheel.name.removesuffix(".whl").split("-")[-1]
    with tempfile.TemporaryDirectory(prefix="mattebridge-wheel-") as name:
        folder = Path(name).resolve()
        if tag == "any":
            return _try_without_plugin(wheel, folder)
        if runs_here(tag, this_system()):
            return _try_here(wheel, folder)
        if tag == "win_amd64":
            prefix = ROOT / "build" / "wine"
            reason = under_wine.why_not(prefix)
            return f"not tried: {reason}" if reason else under_wine.try_wheel(
                wheel, folder, prefix=prefix, packages=ROOT / "build" / "dist" / "windows",
                tools=ROOT / "build" / "plugin" / "tools",
            )  # fmt: skip
    return f"not tried: this machine is {' '.join(this_system())}"


def runs_here(tag: str, here: tuple[str, str]) -> bool:
    """Whether a wheel with a plugin is for a system and a processor."""
    system, processor = here
    start = {"linux": "manylinux", "macos": "macosx", "windows": "win"}.get(system, system)
    ends = {"x86_64": ("x86_64", "amd64"), "aarch64": ("aarch64", "arm64")}
    return tag.startswith(start) and tag.endswith(ends.get(processor, (processor,)))


def _try_without_plugin(wheel: Path, folder: Path) -> str:
    """The wheel for systems that the plugin is not built for: the command says what is missing."""
    python = _fresh_environment(folder / "env", wheel)
    _check_version(python, wheel, folder)
    try:
        _mattebridge(python, folder, "install", "ofx", "--to", "plugins")
    except Refused as refusal:
        if "carries no OFX plugin" not in str(refusal):
            raise
        return "installed by pip, its command; says that it carries no plugin"
    raise Refused(f"`mattebridge install ofx` of {wheel.name}, which has no plugin, ended with 0")


def _try_here(wheel: Path, folder: Path) -> str:
    python = _fresh_environment(folder / "env", wheel)
    _check_version(python, wheel, folder)
    _mattebridge(python, folder, "install", "ofx", "--to", "plugins")
    if not list(folder.glob(f"plugins/{BUNDLE}/Contents/*/MatteBridge.ofx")):
        raise Refused(f"`mattebridge install ofx` of {wheel.name} installed no plugin")
    _mattebridge(
        python, folder,
        "install", "nuke", "--to", "nuke", "--no-packages", "--host-python", "3.11",
    )  # fmt: skip
    if not (folder / "nuke" / "mattebridge" / "mattebridge_nuke.py").exists():
        raise Refused(f"`mattebridge install nuke` of {wheel.name} installed no node")
    _mattebridge(python, folder, "install", "service", "--to", "login")
    if not (folder / "login" / "mattebridge-service.json").exists():
        raise Refused(f"`mattebridge install service` of {wheel.name} installed nothing")
    run([python, FIRST_NODE, folder], STEP_S, cwd=folder,
        environment={**own_home(folder), "PYTHONPATH": str(TESTS)})  # fmt: skip
    _mattebridge(python, folder, "demo", "demo")
    # The demo has measured its mattes; that they are there is seen from outside of the wheel.
    mattes = sorted((folder / "demo" / "matte" / "alpha").iterdir())
    if not mattes or not 0.05 < float(read_frame(mattes[0]).pixels.mean()) < 0.95:
        raise Refused(f"the demo of {wheel.name} has no matte of a subject in {mattes[:1]}")
    return "installed by pip, its command, plugin, Nuke node, service, first nodes and demo"


def _check_version(python: str, wheel: Path, folder: Path) -> None:
    version = wheel.name.split("-")[1]
    if version not in _mattebridge(python, folder, "--version").split():
        raise Refused(f"`mattebridge --version` of {wheel.name} does not say {version}")


def _mattebridge(python: str, folder: Path, *words: str) -> str:
    """The command that pip wrote beside the fresh environment's Python."""
    command = Path(python).with_name("mattebridge" + Path(python).suffix)
    return run([command, *words], STEP_S, cwd=folder, environment=own_home(folder))


def _fresh_environment(folder: Path, wheel: Path) -> str:
    """An environment with the wheel, and the other packages of the one that runs this program."""
    venv.create(folder, with_pip=False, symlinks=os.name == "posix")
    python = str(next(folder.glob("[bS][ic][nr]*/python*")))
    run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps",
         "--no-index", "--disable-pip-version-check", wheel], STEP_S, cwd=folder)  # fmt: skip
    where = _said_by(python, "import sysconfig; print(sysconfig.get_path('purelib'))", folder)
    # Behind the wheel's own folder, and not read for .pth files: mattebridge is the wheel's.
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    Path(where, "others.pth").write_text("\n".join(others) + "\n")
    used = _said_by(python, "import mattebridge; print(mattebridge.__file__)", folder)
    if not Path(used).resolve().is_relative_to(folder):
        raise Refused(f"the fresh environment imports {used}, not the wheel")
    return python


def _said_by(python: str, code: str, cwd: Path) -> str:
    environment = without_ours(os.environ)
    return run([python, "-c", code], STEP_S, cwd=cwd, environment=environment).strip()


if __name__ == "__main__":
    sys.exit(main())
