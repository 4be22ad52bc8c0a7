"""The processes of `pytest -n` share the cores: each computes with one thread, and so does what it
starts.

Imported before everything else by conftest.py: numpy, torch and OpenCV read these when they are
loaded, and a numpy with threads of its own would keep a second core busy while it waits for them.
"""

import os
import sys

if "PYTEST_XDIST_WORKER" in os.environ:
    assert "numpy" not in sys.modules
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        os.environ.setdefault(variable, "1")
