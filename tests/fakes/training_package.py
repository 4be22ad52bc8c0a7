"""Makes `import training` work in tests without putting the top of the repository on the path.

There, folders such as `nuke/` would become importable packages of their own.
"""

from __future__ import annotations

import importlib.util
import sys

from fakes.places import ROOT


def _register() -> None:
    folder = ROOT / "training"
    spec = importlib.util.spec_from_file_location(
        "training", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["training"] = module
    spec.loader.exec_module(module)


if "training" not in sys.modules:
    _register()
