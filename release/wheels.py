"""Build what users install: an sdist, and for each system a wheel that carries the OFX plugin.

    python release/wheels.py --out dist --targets T...   (needs `build` and `twine`)

    repository --build--> sdist --build--> mattebridge-...-py3-none-any.whl (no plugin)
                                             + build/plugin/TARGET/MatteBridge.ofx.bundle
                                             = mattebridge-...-py3-none-SYSTEM.whl

The Python files of all wheels are those of the sdist, so a file that the sdist lacks is missing
from every wheel, and the checks see it. Each wheel is written anew with its own tag and list of
files; of a bundle it gets what a host reads, never what the compiler left beside that. The rule
that must not be broken: a wheel holds one plugin, and that one is for the wheel's system.
trials.py then installs them.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from running import Refused, run

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bridge"))

from mattebridge.commands.plugin_builds import (  # noqa: E402
    BUNDLE,
    CARRIED,
    ICON,
    IN_PACKAGE,
    carried_files,
    targets_of,
)

# The tag of the wheel for each system that the plugin is built for. It promises glibc 2.17 and a
# version of macOS, so the Makefile names both in its targets.
TAGS = {
    ("linux", "x86_64"): "manylinux_2_17_x86_64.manylinux2014_x86_64",
    ("linux", "aarch64"): "manylinux_2_17_aarch64.manylinux2014_aarch64",
    ("windows", "x86_64"): "win_amd64",
    ("macos", "aarch64"): "macosx_11_0_arm64",
    ("macos", "x86_64"): "macosx_11_0_x86_64",
}
# Every wheel has these: one file of each part.
NEEDED = (
    "mattebridge/client/__init__.py",
    "mattebridge/models/twoplate/data/twoplate.safetensors",
    "mattebridge_sample/__init__.py",
    "data/share/mattebridge/nuke/mattebridge_nuke.py",
    "data/share/mattebridge/nuke/ToolSets/mattebridge/MatteBridge.nk",
    "data/share/mattebridge/resolve/mattebridge_fusion.py",
    "data/share/mattebridge/farm/openjd/template.yaml",
)
# What the sdist has beside the package: the sources of all that users install.
NEEDED_OF_SDIST = (
    "plugin_shim/CMakeLists.txt",
    "plugin_shim/src/plugin.cpp",
    "release/wheels.py",
    "docs/hosts.md",
    "nuke/mattebridge_nuke.py",
    "resolve/mattebridge_fusion.py",
    "LICENSE",
    "Makefile",
)
# Left behind by compilers, linkers and tests.
STRAY = (".pdb", ".lib", ".o", ".obj", ".pyc", ".ofx")
# The package is 7 MB, most of it the weights of twoplate, and a plugin less than 1 MB: a larger
# wheel has something in it by mistake.
MOST_BYTES = 10 << 20
# An entry of a zip file has a date; the same for all, so that equal files give equal wheels.
DATE = (2020, 1, 1, 0, 0, 0)
# Only a hang takes so long, however busy the machine.
BUILD_S = 1800


def main() -> int:
    """Build and check; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--builds", type=Path, default=ROOT / "build" / "plugin")
    parser.add_argument(
        "--targets", nargs="*", default=[], help="folders of BUILDS to make wheels with"
    )
    options = parser.parse_args()
    try:
        build(options.out.absolute(), [options.builds / name / BUNDLE for name in options.targets])
    except Refused as why:
        print(f"mattebridge: not released: {why}", file=sys.stderr)
        return 1
    return 0


def build(out: Path, bundles: list[Path]) -> None:
    """The sdist, the wheel without a plugin, and one wheel for each bundle."""
    out.mkdir(parents=True, exist_ok=True)
    for old in (*out.glob("mattebridge-*.whl"), *out.glob("mattebridge-*.tar.gz")):
        old.unlink()
    run([sys.executable, "-m", "build", "--outdir", out, ROOT], BUILD_S, cwd=ROOT)
    (plain,) = out.glob("mattebridge-*-py3-none-any.whl")
    for bundle in bundles:
        wheel_with_plugin(plain, bundle, out)
    made = sorted((*out.glob("mattebridge-*.whl"), *out.glob("mattebridge-*.tar.gz")))
    run([sys.executable, "-m", "twine", "check", "--strict", *made], BUILD_S, cwd=out)
    for path in made:
        if path.suffix == ".whl":
            check(path)
        else:
            check_sdist(path)
        print(f"made {path} ({path.stat().st_size // 1024} KB)")


# ------------------------------------------------------------------------------------ one wheel


def wheel_with_plugin(plain: Path, bundle: Path, out: Path) -> Path:
    """The wheel `plain` with the plugin of a bundle in it, named for the bundle's system."""
    tag = _tag_for(bundle)
    files = _files_of(plain)
    (info,) = {name.split("/")[0] for name in files if name.endswith(".dist-info/WHEEL")}
    files[f"{info}/WHEEL"] = _retagged(files[f"{info}/WHEEL"].decode(), tag).encode()
    for name, path in carried_files(bundle).items():
        files[f"mattebridge/{IN_PACKAGE}/{BUNDLE}/{name}"] = path.read_bytes()
    wheel = out / plain.name.replace("-any.whl", f"-{tag}.whl")
    _write(wheel, files, f"{info}/RECORD")
    return wheel


def _tag_for(bundle: Path) -> str:
    found = targets_of(bundle)
    if len(found) != 1 or found[0] not in TAGS:
        raise Refused(f"{bundle} has plugins for {found or 'no system'}: a wheel takes one")
    return TAGS[found[0]]


def _files_of(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}


def _retagged(text: str, tag: str) -> str:
    """The file WHEEL for a system: its tags, one line each, and that it is no pure Python."""
    kept = [line for line in text.splitlines() if line and not line.startswith(("Root-", "Tag:"))]
    tags = [f"Tag: py3-none-{one}" for one in tag.split(".")]
    return "\n".join([*kept, "Root-Is-Purelib: false", *tags, ""])


def _write(wheel: Path, files: dict[str, bytes], record: str) -> None:
    lines = [
        f"{name},{_digest(data)},{len(data)}" for name, data in files.items() if name != record
    ]
    files[record] = "\n".join([*lines, f"{record},,", ""]).encode()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        # The list of files is the last one, as the format recommends.
        for name in sorted(files, key=lambda name: (name == record, name)):
            entry = zipfile.ZipInfo(name, DATE)
            entry.external_attr = (0o755 if name.endswith(".ofx") else 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name])


def _digest(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest())
    return f"sha256={digest.rstrip(b'=').decode()}"


# --------------------------------------------------------------------------------------- checks


def check(wheel: Path) -> None:
    """Raises `Refused` where a wheel is too large, incomplete, or has what it should not have."""
    size = wheel.stat().st_size
    if size > MOST_BYTES:
        raise Refused(f"{wheel.name} has {size} bytes, more than {MOST_BYTES}")
    files = _files_of(wheel)
    missing = [part for part in NEEDED if not any(name.endswith(part) for name in files)]
    if missing:
        raise Refused(f"{wheel.name} lacks {', '.join(missing)}")
    for name in files:
        if name.startswith(("tests/", "mattebridge_sample/composites")):
            raise Refused(f"{wheel.name} has {name}, which is for tests")
    _check_plugin(wheel, files)


def check_sdist(sdist: Path) -> None:
    """Raises `Refused` where an sdist is too large, incomplete, or has what it should not have."""
    size = sdist.stat().st_size
    if size > MOST_BYTES:
        raise Refused(f"{sdist.name} has {size} bytes, more than {MOST_BYTES}")
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    missing = [part for part in NEEDED_OF_SDIST if part not in names]
    if missing:
        raise Refused(f"{sdist.name} lacks {', '.join(missing)}")
    strays = [
        name for name in names if name.startswith(("build/", "tests/")) or name.endswith(STRAY)
    ]
    if strays:
        raise Refused(f"{sdist.name} has {', '.join(strays)}, which no user needs")


def _check_plugin(wheel: Path, files: dict[str, bytes]) -> None:
    inside = f"mattebridge/{IN_PACKAGE}/"
    plugin = {name: data for name, data in files.items() if name.startswith(inside)}
    strays = [name for name in plugin if not name.endswith(CARRIED)]
    if strays:
        raise Refused(f"{wheel.name} has {', '.join(strays)}, which no host reads")
    tag = wheel.name.removesuffix(".whl").split("-")[-1]
    wanted = [target for target, its in TAGS.items() if its == tag]
    with tempfile.TemporaryDirectory() as folder:
        for name, data in plugin.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        found = targets_of(Path(folder, inside, BUNDLE))
    if found != wanted:
        raise Refused(f"{wheel.name} has a plugin for {found or 'no system'}, not for {wanted}")
    icons = {f"{inside}{BUNDLE}/{ICON}.{kind}" for kind in ("png", "svg")}
    if plugin and not icons <= set(plugin):
        raise Refused(f"{wheel.name} has a plugin without its icon")


if __name__ == "__main__":
    sys.exit(main())
