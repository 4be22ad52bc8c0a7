"""One call of a run: start or resume it, train until the time is over, evaluate, save."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from training import curve, judge, state, table
from training.canvases import GROUP
from training.losses import KEYER, PARTS
from training.plan import planned
from training.trainer import Trainer
from training.validation import SIDE, Wanted

_LOG_EVERY = 20
_BEST = "best.safetensors"
# The steps between these two are timed, to find how many fit into the run; earlier ones are slower.
_MEASURED = (20, 60)
# Time kept for the last evaluation and saving, as a multiple of what they took before.
_RESERVE = 1.3
# Time kept for the table until it is known how long the shipped model's part of it took.
_TABLE_S = 60.0


class Session:
    """One call and its limits; `run` does the work."""

    def __init__(
        self,
        run: Path,
        changes: dict[str, Any],
        *,
        minutes: float = 0.0,
        device: str | None = None,
        workers: int = 1,
        threads: int = 0,
        no_wait: bool = False,
        new_pool: bool = False,
        evaluate_minutes: float = 20.0,
        per_kind: int = 2,
        stop_after: int | None = None,
        small_state: bool = False,
        table_per_kind: int = 0,
        table_side: int = SIDE,
    ) -> None:
        self._begun = time.monotonic()
        if threads:
            torch.set_num_threads(threads)
        # cuDNN's benchmark may choose other algorithms each time, and runs would then differ.
        torch.backends.cudnn.benchmark = no_wait
        torch.backends.cudnn.deterministic = not no_wait
        self._folder, self._changes = run, changes
        self._deadline = self._begun + minutes * 60 if minutes else float("inf")
        self._device = device or ("cuda:0" if torch.cuda.is_available() else "cpu")
        self._workers, self._wait, self._new_pool = workers, not no_wait, new_pool
        self._evaluate_s, self._per_kind = evaluate_minutes * 60, per_kind
        self._stop_after = stop_after if stop_after is not None else sys.maxsize
        self._small_state = small_state
        self._table_per_kind, self._table_side = table_per_kind, table_side
        self._beside: list[table.Judged] = []
        self._table_s = 0.0
        self._frames: dict[str, list[judge.Prepared]] = {}
        self._stills: list[tuple[judge.Prepared, judge.Prepared]] = []
        self._keyer: dict[str, float] = {}
        self._preparing: threading.Thread | None = None
        self._judging_s = 10.0
        self._saving_s = 5.0

    def run(self) -> int:
        """Train until the run is complete or the time is over; returns the exit status 0."""
        self._folder.mkdir(parents=True, exist_ok=True)
        trainer = self._taken_up()
        self._say(f"run {self._folder} on {self._device}, plan {trainer.plan}")
        try:
            trainer.fill(anew=self._new_pool and trainer.progress.next_group > 0)
            self._say(f"{trainer.pool.held} canvases ready")
            self._begin_preparing()
            self._loop(trainer)
            self._finish(trainer)
        finally:
            trainer.close()
        self._write_table()
        return 0

    def _taken_up(self) -> Trainer:
        """The saved run, or a new one."""
        found = state.load(self._folder)
        plan = found.plan if found is not None else planned(self._changes)
        if found is not None and self._changes.get("steps"):
            plan = plan.lasting(self._changes["steps"])
        trainer = Trainer(plan, device=self._device, workers=self._workers, wait=self._wait)
        if found is not None:
            trainer.restore(found)
            if not (self._folder / _BEST).exists():
                trainer.progress.best = float("inf")
            curve.cut(self._folder / "log.csv", found.progress.step)
            trainer.plan = plan
        elif self._changes.get("init"):
            path = self._changes["init"]
            trainer.begin_from(safetensors.torch.load_file(path), Path(path).name)
        trainer.progress.calls += 1
        trainer.progress.device = self._device_name()
        return trainer

    def _device_name(self) -> str:
        if self._device.startswith("cuda"):
            return torch.cuda.get_device_name(torch.device(self._device))
        return f"cpu, {torch.get_num_threads()} threads"

    def _begin_preparing(self) -> None:
        """Draw the validation frames in a thread, during the first steps."""
        if self._per_kind or self._table_per_kind:
            self._preparing = threading.Thread(target=self._prepare_frames, daemon=True)
            self._preparing.start()

    def _prepare_frames(self) -> None:
        if self._per_kind:
            self._prepare_validation()
        if self._table_per_kind:
            start = time.monotonic()
            jobs = self._frames_of_the_table()
            self._beside = table.judged(jobs, table.BESIDE, self._workers)
            # The candidate alone will take less, and the processes that draw will have ended.
            self._table_s = time.monotonic() - start
            self._say(f"{len(jobs)} frames judged by {' and '.join(table.BESIDE)}")

    def _prepare_validation(self) -> None:
        self._frames = judge.prepared_sets(self._per_kind, workers=self._workers)
        every = [one for frames in self._frames.values() for one in frames]
        self._stills = judge.prepared_stills(every, workers=self._workers)
        keyer = {name: judge.keyer_errors(frames) for name, frames in self._frames.items()}
        self._keyer = _summary(keyer, judge.keyer_change(self._stills))
        self._say(f"{len(every)} validation frames ready")

    # --- the loop ---------------------------------------------------------------------------------

    def _loop(self, trainer: Trainer) -> None:
        last_judged = time.monotonic()
        first = trainer.progress.step
        window, before = _Window(), time.monotonic()
        while not self._over(trainer, first):
            window.add(trainer.step())
            # The time of the whole loop but for evaluation and saving: on a GPU `step` returns
            # before the step is done.
            now = time.monotonic()
            trainer.progress.seconds += now - before
            before, step = now, trainer.progress.step
            if not trainer.plan.steps:
                self._measure(trainer, step - first)
            if step % _LOG_EVERY == 0:
                self._log(trainer, window)
                window = _Window()
            if time.monotonic() - last_judged > self._evaluate_s:
                self._judge(trainer)
                self._save(trainer)
                last_judged = before = time.monotonic()

    def _over(self, trainer: Trainer, first: int) -> bool:
        step, plan = trainer.progress.step, trainer.plan
        if (plan.steps and step >= plan.steps) or step - first >= self._stop_after:
            return True
        return time.monotonic() + self._kept_s() > self._deadline

    def _kept_s(self) -> float:
        """The time kept for the last evaluation, saving, and the table."""
        table_s = (self._table_s or _TABLE_S) if self._table_per_kind else 0.0
        return _RESERVE * (self._judging_s + self._saving_s) + table_s

    def _measure(self, trainer: Trainer, done: int) -> None:
        """Time steps once they run at their usual speed, and fix the number of steps of the run:
        what fits into its minutes, or, where none are given, into those of this call."""
        minutes = self._changes.get("total_minutes")
        if not minutes and self._deadline == float("inf"):
            return
        if done == _MEASURED[0]:
            self._synchronised()
            self._pace_from = time.perf_counter()
        if done == _MEASURED[1]:
            self._synchronised()
            pace = (time.perf_counter() - self._pace_from) / (_MEASURED[1] - _MEASURED[0])
            if minutes:
                left = minutes * 60 - trainer.progress.seconds
            else:
                left = self._deadline - time.monotonic() - self._kept_s()
            steps = trainer.progress.step + max(1, int(left / pace))
            trainer.plan = trainer.plan.lasting(steps)
            self._say(f"{pace:.3f} s per step: the run has {steps} steps")

    def _log(self, trainer: Trainer, window: _Window) -> None:
        progress = trainer.progress
        row = {
            "step": float(progress.step),
            "samples": float(progress.samples),
            "seconds": progress.seconds,
            "rate": trainer.plan.rate(progress.step),
            "canvases": float(progress.next_group * GROUP),
            "waited_s": trainer.waited_s,
            **dict.fromkeys((*PARTS, KEYER), 0.0),
            **window.means(),
        }
        curve.append(self._folder / "log.csv", row)
        if progress.step % (10 * _LOG_EVERY) == 0:
            pace = progress.samples / max(progress.seconds, 1e-6)
            self._say(
                f"step {progress.step} loss {row['loss']:.4f}, alpha {row['alpha']:.4f} "
                f"(keyer {row[KEYER]:.4f}), {pace:.1f} shots/s"
            )

    def _judge(self, trainer: Trainer) -> None:
        """Evaluate the averaged weights on the validation frames; keep them if they are best."""
        if self._preparing is not None:
            self._preparing.join()
        if not self._frames:
            return
        start, progress = time.monotonic(), trainer.progress
        network = trainer.averaged()
        found = {name: judge.errors(network, frames) for name, frames in self._frames.items()}
        errors = _summary(found, judge.change(network, self._stills))
        row = {"step": float(progress.step), "samples": float(progress.samples), **errors}
        progress.history.append(row)
        score = (row["all"] + row.get("quality", row["all"])) / 2
        if score < progress.best:
            progress.best, progress.best_step = score, progress.step
            self._keep_best(trainer)
        self._judging_s = time.monotonic() - start
        figures = ", ".join(f"{k} {v:.1f} ({self._keyer[k]:.1f})" for k, v in errors.items())
        self._say(f"step {progress.step} (keyer): {figures}; best at {progress.best_step}")

    def _keep_best(self, trainer: Trainer) -> None:
        """Write the averaged weights in half precision."""
        halves = {
            name: (t.half() if t.is_floating_point() else t).cpu().contiguous()
            for name, t in trainer.average.items()
        }
        safetensors.torch.save_file(halves, self._folder / _BEST)

    def _save(self, trainer: Trainer) -> None:
        start = time.monotonic()
        state.save(self._folder, trainer.snapshot(), small=self._small_state)
        curve.draw(self._folder / "curve.png", self._folder / "log.csv", trainer.progress.history)
        self._saving_s = time.monotonic() - start

    def _finish(self, trainer: Trainer) -> None:
        self._judge(trainer)
        if not (self._folder / _BEST).exists():
            self._keep_best(trainer)  # a run that is not evaluated
        self._save(trainer)
        progress = trainer.progress
        self._say(
            f"stopped at step {progress.step} of {trainer.plan.steps or 'unknown'}, "
            f"{progress.samples} shots, {progress.seconds / 60:.1f} minutes of training, "
            f"{trainer.waited_s:.0f} s of this call spent waiting for canvases"
        )

    def _write_table(self) -> None:
        """The run's best weights beside the shipped ones and the keyer."""
        if self._preparing is not None:
            self._preparing.join()
        if not self._beside:
            return
        best = self._folder / _BEST
        jobs = self._frames_of_the_table()
        text = table.as_text([*table.judged(jobs, [str(best)], self._workers), *self._beside])
        table.write(self._folder, text)
        self._say(f"{self._folder / table.FILE}\n{text}")

    def _frames_of_the_table(self) -> list[Wanted]:
        return table.wanted(table.SETS, self._table_per_kind, side=self._table_side)

    def _synchronised(self) -> None:
        if self._device.startswith("cuda"):
            torch.cuda.synchronize()

    def _say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._begun:7.1f} s] {text}", flush=True)


def _summary(by_set: dict[str, dict[str, float]], change: float) -> dict[str, float]:
    """Every kind of the frozen set, the mean of the quality set, and the change of stills."""
    quality = {"quality": by_set["quality"]["all"]} if "quality" in by_set else {}
    return {**by_set["frozen"], **quality, "change": change}


class _Window:
    """Means of the loss over some steps; sums stay on the device, so that no step has to wait."""

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}
        self._count = 0

    def add(self, parts: dict[str, Any]) -> None:
        for name, value in parts.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1

    def means(self) -> dict[str, float]:
        return {name: float(value) / self._count for name, value in self._sums.items()}
