"""What one GPU gives: frames a second through the bridge, tensors alone, stages, copies, precision.

    python -m benchmarks gpu                     everything, a table and one JSON
    python benchmarks/bench_gpu.py --json FILE --device cuda:0
    python benchmarks/bench_gpu.py --device cpu --small      the script itself, tried without a GPU

Needs torch with CUDA, numpy, pyzmq, msgpack, opencv, safetensors and (for the tests) pytest, and
no other package. Each part stands alone: one that fails is reported with its error, and the others
go on. Ends within --limit seconds (480): what no longer fits is reported as left out.

Method. Pictures are drawn here: a subject with soft edges and strands before a textured set. The
BackgroundMattingV2 networks get generated weights, which cost what trained ones cost, except that
the cells to refine are scattered instead of clustered: their rates are lower bounds.

    copies      a sealed memfd, as an arena is, to the device and back: pageable, then registered
    tensors     the network alone, pictures on the device, best of the rounds, after a warm-up: its
                steps replayed from a CUDA graph, launched one by one, and the published forward
    precision   TF32, half and float32 on the device against the form for a CPU in float32
    hint_keyer  the plate + hint network alone at its sizes, whole and in tiles: milliseconds, and
                the memory beyond its weights
    stages      one frame through the engine in this process: milliseconds by stage, device memory
    bridge      frames a second through a daemon with one worker on the device: held clean plate,
                premultiplied only, float and half planes, 1 and 3 in flight; the plate + hint
                network with generated weights and a hint
    workers     `twoplate` in half planes with 1, 2 and 4 workers on the device, whose parts on the
                CPU then run side by side
    tests       the tests marked `gpu`
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import mmap
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
for folder in (ROOT, ROOT / "bridge", ROOT / "tests"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

SIZES = {"HD": (1920, 1080), "UHD": (3840, 2160)}
SMALL = {"HD": (480, 270), "UHD": (960, 540)}
BACKBONES = ("mobilenetv2", "resnet50")
# The published settings: scale of the first look, pixels refined.
SETTINGS = {"HD": (0.25, 80_000), "UHD": (0.125, 320_000)}
LIMIT_S = 480.0
# What is kept of them for the tests, which come last.
TESTS_S = 75.0
# What a client may have.
MOST_IN_FLIGHT = 8
# The name under which generated weights of the plate + hint network are added.
HINT_KEYER = "plate_hint"


def main(arguments: list[str]) -> None:
    """Run every part, print what each found, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/gpu.json"))
    parser.add_argument("--limit", type=float, default=LIMIT_S, metavar="S")
    parser.add_argument("--small", action="store_true", help="small frames: tries the script")
    parser.add_argument("--only", nargs="*", help="parts to run")
    options = parser.parse_args(arguments)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print(f"no CUDA device for {options.device}: torch is {torch.__version__}")
        return
    bench = Bench(options.device, SMALL if options.small else SIZES, options.limit)
    parts: dict[str, Callable[[], Any]] = {
        "machine": bench.machine,
        "copies": bench.copies,
        "tensors": bench.tensors,
        "precision": bench.precision,
        "hint_keyer": bench.hint_keyer,
        "stages": bench.stages,
        "bridge": bench.bridge,
        "workers": bench.workers,
        "tests": bench.tests,
    }
    found: dict[str, Any] = {}
    for name, part in parts.items():
        if options.only and name not in options.only:
            continue
        print(f"\n-- {name}", flush=True)
        started = time.monotonic()
        found[name] = _attempt(part)
        if "error" in found[name]:
            print(f"failed: {found[name]['error']}", flush=True)
        found[name]["seconds"] = round(time.monotonic() - started, 1)
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten: {options.json}", flush=True)


def _attempt(part: Callable[[], Any]) -> dict[str, Any]:
    try:
        return dict(part())
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:2000]}


class Bench:
    """The parts; each returns what goes into the JSON."""

    def __init__(self, device: str, sizes: dict[str, tuple[int, int]], limit_s: float) -> None:
        import torch

        self.torch = torch
        self.device = torch.device(device)
        self.on_gpu = self.device.type == "cuda"
        self.sizes = sizes
        self.until = time.monotonic() + limit_s
        self.rounds = 20 if self.on_gpu else 2
        self.span_s = 4.0 if self.on_gpu else 1.0  # of the frames that go through a daemon
        self.backbones = BACKBONES
        self.workers_on_it: tuple[int, ...] = (1, 2, 4)
        self.squares: tuple[int, ...] = (64,)
        if self.on_gpu:
            from mattebridge.models.greenformer.budget import SIZES as SQUARES

            self.squares = tuple(SQUARES)

    # -- machine ---------------------------------------------------------------------------------

    def machine(self) -> dict[str, Any]:
        torch = self.torch
        found = {
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "device": str(self.device),
        }
        if self.on_gpu:
            properties = torch.cuda.get_device_properties(self.device)
            found |= {
                "gpu": properties.name,
                "gpu_bytes": properties.total_memory,
                "multiprocessors": properties.multi_processor_count,
                "tf32_cudnn_default": torch.backends.cudnn.allow_tf32,
                "tf32_matmul_default": torch.backends.cuda.matmul.allow_tf32,
            }
        print(", ".join(f"{name} {value}" for name, value in found.items()), flush=True)
        return found

    # -- copies ----------------------------------------------------------------------------------

    def copies(self) -> dict[str, Any]:
        """GB/s between an arena and the device, and whether an arena can be registered."""
        from mattebridge.wire import oslayer

        torch, (width, height) = self.torch, self.sizes["UHD"]
        size = width * height * 4 * 4
        layer = oslayer.current()
        fd = layer.create_memory(size)
        found: dict[str, Any] = {"bytes": size}
        with contextlib.closing(mmap.mmap(fd, size)) as memory:
            here = torch.frombuffer(memory, dtype=torch.uint8)
            here.fill_(1)
            there = torch.empty(size, dtype=torch.uint8, device=self.device)
            found["pageable"] = self._rates(here, there)
            if self.on_gpu:
                runtime = torch.cuda.cudart()
                code = int(runtime.cudaHostRegister(here.data_ptr(), size, 0))
                found["register_code"] = code
                if code == 0:
                    found["is_pinned"] = here.is_pinned()
                    found["registered"] = self._rates(here, there)
                    found["unregister_code"] = int(runtime.cudaHostUnregister(here.data_ptr()))
            del here
        os.close(fd)
        print(json.dumps(found), flush=True)
        return found

    def _rates(self, here: Any, there: Any) -> dict[str, float]:
        gigabytes = here.numel() / 1e9
        to = self._best(lambda: there.copy_(here, non_blocking=True))
        back = self._best(lambda: here.copy_(there, non_blocking=True))
        return {"to_gb_s": round(gigabytes / to, 1), "back_gb_s": round(gigabytes / back, 1)}

    # -- tensors ---------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Any]:
        """Frames a second of the networks alone."""
        found: dict[str, Any] = {}
        torch = self.torch
        dtypes = {"float32": torch.float32}
        if self.on_gpu:
            dtypes |= {"float16": torch.float16, "bfloat16": torch.bfloat16}
        with self._tf32(False), torch.inference_mode():
            for backbone in self.backbones:
                for name in self.sizes:
                    for label, dtype in dtypes.items():
                        for way in ("graph", "eager") if self.on_gpu else ("eager",):
                            self._case(
                                found,
                                f"{backbone} {name} {label} {way}",
                                lambda b=backbone, n=name, d=dtype, w=way: self._form(
                                    b, n, d, w == "graph"
                                ),
                            )
                        self._case(
                            found,
                            f"{backbone} {name} {label} plain",
                            lambda b=backbone, n=name, d=dtype: self._plain(b, n, d),
                        )
            for name in self.sizes:
                for way in ("graph", "eager") if self.on_gpu else ("eager",):
                    self._case(
                        found,
                        f"twoplate {name} float32 {way}",
                        lambda n=name, w=way: self._twoplate(n, w == "graph"),
                    )
        return found

    def _twoplate(self, name: str, graph: bool) -> dict[str, Any]:
        """The network without its keyer, whose matte it is given here as a plain difference."""
        from mattebridge.models.pytorch.fold import folded
        from mattebridge.models.pytorch.graphs import Graphs
        from mattebridge.models.twoplate.card import shipped
        from mattebridge.models.twoplate.model import shipped_model
        from mattebridge.models.twoplate.whole import Planes, WholeFrame

        model = shipped_model(shipped()["twoplate"].card)
        network = folded(model.plain_network()).to(self.device)
        plate, clean = self._on_device(name, self.torch.float32)
        alpha = (8 * (plate - clean).abs().mean(2)).clamp(0, 1)
        planes = Planes(plate, clean, alpha, plate, None, None)
        frame, notes = WholeFrame(network, Graphs() if graph else None), set()
        best = self._best(lambda: notes.add(frame(planes, scene_linear=True, exact=False).graph))
        found = {"frames_s": round(1 / best, 1), "ms": round(best * 1e3, 2)}
        if graph:
            found |= {"graph": sorted(notes), "graph_mb": frame.memory_bytes >> 20}
        return found

    def _form(self, backbone: str, name: str, dtype: Any, graph: bool) -> dict[str, Any]:
        """The form for a GPU, and on one whether its frames were replayed from a graph."""
        from mattebridge.models.background_matting.gpu import GpuMatting
        from mattebridge.models.pytorch.graphs import Graphs

        plate, clean = self._on_device(name, self.torch.float32)
        matting = GpuMatting(self._network(backbone, name), dtype, Graphs() if graph else None)
        look, notes = self._look(name), set()
        best = self._best(lambda: notes.add(matting(plate, clean, look).graph))
        found = {"frames_s": round(1 / best, 1), "ms": round(best * 1e3, 2)}
        if graph:
            found |= {
                "graph": sorted(notes),
                "graph_mb": matting.memory_bytes >> 20,
                "apart_from_eager": self._apart(matting, backbone, name, dtype),
            }
        return found

    def _apart(self, matting: Any, backbone: str, name: str, dtype: Any) -> dict[str, float]:
        """How far a replayed frame of another picture is from the same steps, launched singly."""
        from mattebridge.models.background_matting.gpu import GpuMatting

        clean, plate = self._on_device(name, self.torch.float32)
        eager = GpuMatting(self._network(backbone, name), dtype)
        look = self._look(name)
        return _difference(matting(plate, clean, look).alpha, eager(plate, clean, look).alpha)

    def _look(self, name: str) -> Any:
        from mattebridge.models.background_matting.matting import Look

        scale, pixels = SETTINGS[name]
        return Look(backbone_scale=scale, refine_mode="sampling", refine_sample_pixels=pixels)

    def _plain(self, backbone: str, name: str, dtype: Any) -> dict[str, float]:
        network = self._network(backbone, name).to(dtype)
        pair = [image.permute(2, 0, 1)[None].contiguous() for image in self._on_device(name, dtype)]
        best = self._best(lambda: network(*pair))
        return {"frames_s": round(1 / best, 1), "ms": round(best * 1e3, 2)}

    def _network(self, backbone: str, name: str) -> Any:
        from fakes.generated_weights import generated_state
        from mattebridge.models.background_matting.networks import MattingRefine

        scale, pixels = SETTINGS[name]
        network = MattingRefine(backbone, backbone_scale=scale, refine_sample_pixels=pixels)
        network.load_state_dict(generated_state(network.state_dict()))
        return network.eval().to(self.device)

    # -- precision -------------------------------------------------------------------------------

    def precision(self) -> dict[str, Any]:
        """How far alpha and foreground are from the form for a CPU in float32, HD."""
        torch, found = self.torch, {}
        cases = [("float32", torch.float32, False)]
        if self.on_gpu:
            cases += [
                ("tf32", torch.float32, True),
                ("float16", torch.float16, False),
                ("bfloat16", torch.bfloat16, False),
            ]
        with torch.inference_mode():
            for backbone in self.backbones:
                wanted = self._on_cpu(backbone)
                for label, dtype, tf32 in cases:
                    self._case(
                        found,
                        f"{backbone} {label}",
                        lambda b=backbone, d=dtype, t=tf32, w=wanted: self._from(w, b, d, t),
                    )
        return found

    def _on_cpu(self, backbone: str) -> Any:
        from mattebridge.models.background_matting.fast import FastMatting

        network = self._network(backbone, "HD").cpu()
        pair = [self.torch.from_numpy(image) for image in pictures(*self.sizes["HD"])]
        return FastMatting(network)(*pair, self._look("HD"))

    def _from(self, wanted: Any, backbone: str, dtype: Any, tf32: bool) -> dict[str, Any]:
        """Differences in cells that both refined or both did not, and how many others there are."""
        from mattebridge.models.background_matting.gpu import GpuMatting

        with self._tf32(tf32):
            matting = GpuMatting(self._network(backbone, "HD"), dtype)
            made = matting(*self._on_device("HD", self.torch.float32), self._look("HD"))
        agreed = made.cells.cpu() == wanted.cells
        height, width = wanted.alpha.shape
        same = agreed.repeat_interleave(4, 0).repeat_interleave(4, 1)[:height, :width]
        return {
            "alpha": _difference(made.alpha.cpu()[same], wanted.alpha[same]),
            "foreground": _difference(made.foreground.cpu()[same], wanted.foreground[same]),
            "other_cells": int((~agreed).sum()),
        }

    # -- hint_keyer ------------------------------------------------------------------------------

    def hint_keyer(self) -> dict[str, Any]:
        """The plate + hint network with generated weights."""
        from mattebridge.models.greenformer.fast import BY_LAYERS, FULL_FRAME

        torch, found = self.torch, {}
        dtypes = [torch.bfloat16, torch.float32] if self.on_gpu else [torch.float32]
        with self._tf32(False), torch.inference_mode():
            for dtype in dtypes:
                for size in self.squares:
                    for way in (FULL_FRAME, BY_LAYERS):
                        self._case(
                            found,
                            f"{size} {dtype} {way}".replace("torch.", ""),
                            lambda d=dtype, s=size, w=way: self._keyed(d, s, w),
                        )
        return found

    def _keyed(self, dtype: Any, size: int, way: str) -> dict[str, float]:
        from fakes.seeded_keyer import seeded_state
        from mattebridge.checkpoint import no_checkpoint
        from mattebridge.models.greenformer.fast import FastGreenformer, on_device
        from mattebridge.models.greenformer.recognise import network_from

        network = on_device(network_from(seeded_state()), self.device)
        fast, x = FastGreenformer(network, dtype), self.torch.rand(1, 4, size, size)
        x = x.to(self.device)
        fast(x, [way], 1.0, no_checkpoint)
        made = {}
        if self.on_gpu:
            self.torch.cuda.reset_peak_memory_stats(self.device)
            before = self.torch.cuda.memory_allocated(self.device)
        made["ms"] = round(self._best(lambda: fast(x, [way], 1.0, no_checkpoint)) * 1e3, 1)
        if self.on_gpu:
            peak = self.torch.cuda.max_memory_allocated(self.device) - before
            made["bytes_per_pixel"] = round(peak / size**2)
        return made

    # -- stages ----------------------------------------------------------------------------------

    def stages(self) -> dict[str, Any]:
        """Milliseconds by stage of one frame through the engine, third frame of the same plate."""
        from mattebridge.engine.engine import Engine

        found: dict[str, Any] = {}
        with _checkpoints(self.backbones) as registry_of:
            engine = Engine(str(self.device), registry=registry_of())
            for model in (*self.backbones, "twoplate", "difference"):
                for name in self.sizes:
                    self._case(
                        found,
                        f"{model} {name}",
                        lambda m=model, n=name: self._staged(engine, m, n),
                    )
        return found

    def _staged(self, engine: Any, model: str, name: str) -> dict[str, Any]:
        from mattebridge.wire.params import RenderParams

        width, height = self.sizes[name]
        plate, clean = pictures(width, height)
        out = {"premultiplied": np.empty((height, width, 4), np.float32)}
        if self.on_gpu:
            self.torch.cuda.reset_peak_memory_stats(self.device)
        report, wall = None, []
        for _ in range(3):
            started = time.perf_counter()
            report = engine.matte(
                {"plate": plate, "clean_plate": clean},
                RenderParams(colorspace="linear"),
                model=model,
                out=out,
                clean_plate_key=f"{model}{name}",
            )
            wall.append(time.perf_counter() - started)
        made: dict[str, Any] = {key: round(ms, 1) for key, ms in report.timings_ms.items()}
        made["total"] = round(min(wall) * 1e3, 1)
        if self.on_gpu:
            made["peak_mb"] = self.torch.cuda.max_memory_allocated(self.device) >> 20
        return made

    # -- bridge ----------------------------------------------------------------------------------

    def bridge(self) -> dict[str, Any]:
        """Frames a second through a daemon, client and daemon on this machine."""
        from benchmarks.daemon import running

        found: dict[str, Any] = {}
        with (
            _checkpoints(self.backbones, keep=True, hint_keyer=True) as folder,
            running(devices=str(self.device), in_flight=3, MATTEBRIDGE_MODELS=str(folder)) as (
                client,
                _process,
            ),
        ):
            for model in (*self.backbones, "twoplate", HINT_KEYER):
                client.load_model(model)
                for name in self.sizes:
                    for dtype in ("float16", "float32"):
                        for in_flight in (1, 3):
                            self._case(
                                found,
                                f"{model} {name} {dtype} {in_flight} in flight",
                                lambda m=model, n=name, d=dtype, k=in_flight: self._rate(
                                    client, m, n, d, k
                                ),
                            )
        return found

    # -- workers ---------------------------------------------------------------------------------

    def workers(self) -> dict[str, Any]:
        """Frames a second of the default model by the number of workers that share the device."""
        from benchmarks.daemon import running

        found: dict[str, Any] = {}
        for workers in self.workers_on_it:
            # One frame more than workers keeps them busy, three for each hide the copies.
            in_flight = min(3 * workers, MOST_IN_FLIGHT)
            devices = ",".join([str(self.device)] * workers)
            with running(devices=devices, in_flight=in_flight) as (client, _process):
                client.load_model("twoplate")
                for name in self.sizes:
                    self._case(
                        found,
                        f"{workers} x twoplate {name} float16",
                        lambda n=name, c=client, k=in_flight: self._rate(
                            c, "twoplate", n, "float16", k
                        ),
                    )
        return found

    def _rate(
        self, client: Any, model: str, name: str, dtype: str, in_flight: int
    ) -> dict[str, float]:
        width, height = self.sizes[name]
        plate, clean = (image.astype(dtype) for image in pictures(width, height))
        client.hold_clean_plate("clean", clean)
        hinted: dict[str, Any] = {}
        if model == HINT_KEYER:
            # Where the subject is, within a few pixels.
            hint = (np.abs(plate - clean).max(axis=2, keepdims=True) > 0.1).astype(dtype)
            hinted = {"alpha_hint": hint, "settings": {"img_size": self.squares[-1]}}
        outs = [{"premultiplied": np.empty((height, width, 4), dtype)} for _ in range(in_flight)]

        def send(number: int) -> Any:
            return client.submit(
                plate,
                "clean",
                model=model,
                outputs=["premultiplied"],
                output_dtype=dtype,
                out=outs[number % in_flight],
                colorspace="linear",
                **hinted,
            )

        # Of each worker on a GPU one frame, a recorded one, and a replayed one.
        for _ in range(3 if self.on_gpu else 1):
            for first in [send(number) for number in range(in_flight)]:
                first.result(timeout_s=120)
        frames, started, waiting = 0, time.perf_counter(), collections.deque()
        while time.perf_counter() - started < self.span_s or frames < 3:
            while len(waiting) < in_flight:
                waiting.append(send(len(waiting) + frames))
            waiting.popleft().result(timeout_s=120)
            frames += 1
        seconds = time.perf_counter() - started
        while waiting:
            waiting.popleft().result(timeout_s=120)
        client.drop_clean_plate("clean")
        return {"frames_s": round(frames / seconds, 2), "frames": frames}

    # -- tests -----------------------------------------------------------------------------------

    def tests(self) -> dict[str, Any]:
        """The tests marked `gpu`, those that import what is not installed left out."""
        left_s = self.until - time.monotonic()
        if left_s < 1:
            return {"left_out": "no time left"}
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"),
                *("-o", "addopts=--import-mode=importlib", "-o", "filterwarnings=ignore"),
                *("tests/unit/models", "--continue-on-collection-errors"),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'bridge'}{os.pathsep}{ROOT / 'tests'}"},
            capture_output=True,
            text=True,
            timeout=left_s,
        )
        lines = done.stdout.strip().splitlines()
        print("\n".join(lines[-15:]), flush=True)
        return {"status": done.returncode, "summary": lines[-1] if lines else done.stderr[-500:]}

    # -- helpers ---------------------------------------------------------------------------------

    def _case(self, found: dict[str, Any], name: str, measure: Callable[[], Any]) -> None:
        if time.monotonic() > self.until - TESTS_S:
            found[name] = {"left_out": "no time left"}
            return
        found[name] = _attempt(measure)
        print(f"{name}: {json.dumps(found[name])[:300]}", flush=True)

    def _best(self, compute: Callable[[], Any]) -> float:
        """Seconds of the best round, the device having finished."""
        times = []
        for _ in range(self.rounds + 2):
            self._finish()
            started = time.perf_counter()
            compute()
            self._finish()
            times.append(time.perf_counter() - started)
        return min(times[2:])

    def _finish(self) -> None:
        if self.on_gpu:
            self.torch.cuda.synchronize(self.device)

    def _on_device(self, name: str, dtype: Any) -> list[Any]:
        return [
            self.torch.from_numpy(image).to(self.device, dtype)
            for image in pictures(*self.sizes[name])
        ]

    @contextlib.contextmanager
    def _tf32(self, allowed: bool) -> Iterator[None]:
        cudnn, matmul = self.torch.backends.cudnn, self.torch.backends.cuda.matmul
        before = cudnn.allow_tf32, matmul.allow_tf32
        cudnn.allow_tf32 = matmul.allow_tf32 = allowed
        try:
            yield
        finally:
            cudnn.allow_tf32, matmul.allow_tf32 = before


def pictures(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Plate and clean plate (H, W, 3) float32, 0..1: a subject with strands before a set."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    u, v = x / height, y / height
    set_ = np.stack(
        [0.3 + 0.2 * np.sin(9 * u + 2 * np.sin(5 * v)), 0.35 + 0.2 * np.cos(7 * v), 0.3 + 0.1 * u],
        axis=-1,
    )
    set_ += 0.06 * np.sin(60 * u[..., None] + np.array([0, 1, 2])) * np.sin(50 * v)[..., None]
    across, down = (u - 0.9) / 0.3, (v - 0.6) / 0.42
    radius, angle = np.hypot(across, down), np.arctan2(down, across)
    strands = 0.08 * np.sin(140 * angle) * np.clip(-down, 0, 1)
    alpha = np.clip((1.0 + strands - radius) / 0.06, 0, 1)[..., None]
    skin = np.stack([0.7 - 0.2 * v, 0.45 + 0.1 * np.sin(20 * u), 0.35 + 0 * u], axis=-1)
    grain = [rng.standard_normal((height, width, 3)).astype(np.float32) * 0.006 for _ in range(2)]
    plate = np.clip(alpha * skin + (1 - alpha) * set_ + grain[0], 0, 1)
    return plate.astype(np.float32), np.clip(set_ + grain[1], 0, 1).astype(np.float32)


def _difference(found: Any, wanted: Any) -> dict[str, float]:
    apart = (found - wanted).abs()
    return {"largest": float(apart.max()), "mean": float(apart.mean())}


@contextlib.contextmanager
def _checkpoints(
    backbones: Sequence[str], keep: bool = False, hint_keyer: bool = False
) -> Iterator[Any]:
    """A folder of generated checkpoints, or with `keep` false what makes a registry of it."""
    import safetensors.torch
    import torch

    from fakes.generated_weights import generated_state
    from fakes.seeded_keyer import seeded_state
    from mattebridge.models.background_matting.networks import MattingRefine
    from mattebridge.models.families import built_in
    from mattebridge.models.registry import Registry
    from mattebridge.models.weights.installed import InstalledModels

    with tempfile.TemporaryDirectory(prefix="mb-bench-") as place:
        models = InstalledModels(Path(place) / "models")
        for backbone in backbones:
            network = MattingRefine(backbone)
            state = generated_state(network.state_dict())
            file = Path(place) / f"{backbone}.safetensors"
            safetensors.torch.save_file({key: t.contiguous() for key, t in state.items()}, file)
            models.add(file, backbone)
        if hint_keyer:
            # Copied into the folder, hashed and loaded: 275 MB.
            file = Path(place) / f"{HINT_KEYER}.pth"
            torch.save(seeded_state(), file)
            models.add(file, HINT_KEYER, screen="green")
            file.unlink()
        yield models.folder if keep else lambda: Registry(built_in, models)


if __name__ == "__main__":
    main(sys.argv[1:])
