"""The texts of `mattebridge status`, `release`, `models`, `plates`, of what the daemon replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mattebridge.errors import one_line
from mattebridge.shot.progress import duration
from mattebridge.version import other_release
from mattebridge.wire.params import role_in_words


def status_table(status: Mapping[str, Any]) -> str:
    """The daemon's status for people; unknown or missing parts are left out."""
    lines = [_headline(status)]
    for label in ("folder", "log"):
        if status.get(label):
            lines.append(f"  {label:<9} {one_line(str(status[label]))}")
    lines.append(f"  {'frames':<9} {_frames(status.get('frames', {}))}")
    lines.append(f"  {'queue':<9} {_queue(status.get('queue', {}))}")
    if status.get("users", ["by-hand"]) != ["by-hand"]:
        # They keep `stop --if-unused` from stopping: a farm's sessions, between their tasks too.
        lines.append(f"  {'users':<9} {one_line(', '.join(map(str, status['users'])))}")
    if status.get("timings"):
        lines.append(f"  {'timings':<9} {_timings(status['timings'])}")
    lines.append(f"  {'memory':<9} {_memory(status.get('memory', {}))}")
    lines.append(f"  {'models':<9} {_models(status.get('models', []))}")
    if status.get("color"):
        lines.append(f"  {'colour':<9} {_color(status['color'])}")
    lines += ["", *_workers(status.get("workers", []))]
    notes = [*status.get("notes", []), other_release(str(status.get("version") or ""))]
    lines += [f"  note: {one_line(str(note))}" for note in notes if note]
    lines += ["", *_sessions(status.get("sessions", []))]
    if status.get("plates"):
        lines += ["", clean_plates_table(status["plates"])]
    return "\n".join(lines)


def released_text(workers: Sequence[Mapping[str, Any]]) -> str:
    """What each worker gave back, a line each."""
    lines = [
        one_line(
            f"mattebridge: {worker.get('device', '?')} gave back"
            f" {megabytes(worker.get('resident_bytes'))}{_of_gpu(worker)} ({_models_held(worker)})"
        )
        for worker in workers
    ]
    return "\n".join(lines) or "mattebridge: no worker held memory"


def _of_gpu(worker: Mapping[str, Any]) -> str:
    gpu = worker.get("gpu", {})
    taken = gpu.get("used_bytes", 0) + gpu.get("kept_bytes", 0)
    return f" of main memory and {megabytes(taken)} of its GPU's" if gpu else ""


def _models_held(worker: Mapping[str, Any]) -> str:
    return ", ".join(map(str, worker.get("models", {}))) or "no models"


def models_table(models: Sequence[Mapping[str, Any]]) -> str:
    """The models there are, with what each needs."""
    rows = [["MODEL", "NEEDS", "LICENCE", "WHAT IT IS"]]
    for card in models:
        name = str(card.get("name", ""))
        aliases = ", ".join(card.get("aliases", ()))
        needs = ", ".join(role_in_words(str(need)) for need in card.get("needs", ()))
        shown = f"{name} ({aliases})" if aliases else name
        rows.append([shown, needs, str(card.get("licence", "")), str(card.get("summary", ""))])
    return "\n".join(table(rows))


def model_text(card: Mapping[str, Any]) -> str:
    """One model in full, with its settings."""
    lines = [models_table([card]), "", f"digest     {one_line(str(card.get('digest', '')))}"]
    lines.append(f"alignment  {card.get('default_alignment', '')}")
    extra = ", ".join(card.get("extra_outputs", ())) or "none"
    lines.append(f"outputs    alpha, foreground, premultiplied, comp; further: {extra}")
    settings = card.get("settings", {})
    if settings:
        rows = [["SETTING", "DEFAULT", "VALUES", "WHAT IT DOES"]]
        for name, setting in settings.items():
            rows.append(
                [name, str(setting.get("default")), _range(setting), setting.get("help", "")]
            )
        lines += ["", *table(rows)]
    return "\n".join(lines)


def clean_plates_table(held: Sequence[Mapping[str, Any]]) -> str:
    """The held clean plates with size and memory."""
    rows = [["HELD CLEAN PLATE", "SIZE", "MEMORY"]]
    for one in held:
        size = f"{one.get('w', one.get('width', '?'))}x{one.get('h', one.get('height', '?'))}"
        rows.append([str(one.get("name", "?")), size, megabytes(one.get("bytes"))])
    return "\n".join(table(rows))


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows in columns, each as wide as its widest cell."""
    cleaned = [[one_line(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cleaned) for column in range(len(cleaned[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cleaned
    ]


def megabytes(size: Any) -> str:
    """`12 MB`, `3.1 GB`."""
    value = float(size or 0) / 1e6
    return f"{value / 1000:.1f} GB" if value >= 1000 else f"{value:.0f} MB"


def _headline(status: Mapping[str, Any]) -> str:
    uptime = duration(float(status.get("uptime_s") or 0))
    return (
        f"mattebridge {status.get('version', '?')}: {status.get('state', '?')}"
        f" (instance {one_line(str(status.get('instance', '?')))}, pid {status.get('pid', '?')},"
        f" up {uptime})"
    )


def _frames(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{value} {name}" for name, value in counts.items()) or "none"


def _queue(queue: Mapping[str, Any]) -> str:
    waiting = f"{queue.get('interactive', 0)} interactive, {queue.get('batch', 0)} batch"
    return f"{waiting} (at most {queue.get('limit', '?')})"


def _timings(timings: Mapping[str, Any]) -> str:
    shown = [f"{name.removesuffix('_ms')} {value} ms" for name, value in timings.items()]
    return ", ".join(shown) + " (medians of the last frames)"


def _memory(memory: Mapping[str, Any]) -> str:
    arenas = (
        f"arenas {megabytes(memory.get('arena_bytes'))} of {megabytes(memory.get('arena_limit'))}"
    )
    held = f"clean plates {megabytes(memory.get('plate_bytes'))}"
    return f"{arenas}, {held}, front {megabytes(memory.get('front_bytes'))}"


def _workers(workers: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [["WORKER", "STATE", "PID", "FRAMES", "NOW", "MEMORY", "RESTARTS"]]
    for worker in workers:
        rows.append(
            [
                str(worker.get("device", "?")),
                str(worker.get("state", "?")),
                str(worker.get("pid") or "-"),
                str(worker.get("frames", 0)),
                _now(worker),
                megabytes(worker.get("memory", {}).get("resident_bytes")),
                str(worker.get("restarts", 0)),
            ]
        )
    failed = [worker for worker in workers if worker.get("reason")]
    holding = [(worker, held) for worker in workers if (held := _held(worker.get("memory", {})))]
    return [
        *table(rows),
        *(f"  {worker.get('device', '?')} holds {one_line(held)}" for worker, held in holding),
        *(
            f"  {worker.get('device', '?')} is not used: {one_line(str(worker['reason']))}"
            for worker in failed
        ),
    ]


def _now(worker: Mapping[str, Any]) -> str:
    """What a worker is computing, and how many requests it has beside that."""
    frame, others = worker.get("frame"), worker.get("in_flight", 1) - 1
    text = "-" if frame is None else f"frame {frame}"
    return f"{text} +{others}" if others > 0 else text


def _held(memory: Mapping[str, Any]) -> str:
    """The memory of a worker by model and cache, and that of its GPU."""
    parts = [f"{name} {megabytes(size)}" for name, size in memory.get("models", {}).items()]
    caches = memory.get("caches", {})
    parts += [f"{name.replace('_', ' ')} {megabytes(size)}" for name, size in caches.items()]
    gpu = memory.get("gpu", {})
    if gpu:
        free, total = megabytes(gpu.get("free_bytes")), megabytes(gpu.get("total_bytes"))
        used = megabytes(gpu.get("used_bytes"))
        parts.append(f"in all {used} of its GPU's memory, of which {free} of {total} are free")
    if memory.get("pageable_bytes"):
        slow, why = megabytes(memory["pageable_bytes"]), memory.get("pageable_because")
        parts.append(f"{slow} of arenas that are copied slowly, because of the driver: {why}")
    return ", ".join(parts)


def _sessions(sessions: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [["CLIENT", "HOST", "PID", "ARENAS", "MEMORY", "OUT", "FRAMES"]]
    for session in sessions:
        rows.append(
            [
                str(session.get("client") or "-"),
                str(session.get("host") or "-"),
                str(session.get("pid", "-")),
                str(session.get("arenas", 0)),
                megabytes(session.get("bytes")),
                str(session.get("out", 0)),
                str(session.get("frames", 0)),
            ]
        )
    return table(rows)


def _models(models: Sequence[Any]) -> str:
    names = [
        str(entry.get("name", entry)) if isinstance(entry, Mapping) else str(entry)
        for entry in models
    ]
    return one_line(", ".join(names)) or "known once a worker is up"


def _color(color: Mapping[str, Any]) -> str:
    where, digest = str(color.get("config", "?")), str(color.get("digest", ""))
    return one_line(f"{where} (digest {digest[:12]})")


def _range(setting: Mapping[str, Any]) -> str:
    if setting.get("choices"):
        return " | ".join(map(str, setting["choices"]))
    limits = [setting.get("min"), setting.get("max")]
    if limits != [None, None]:
        return " .. ".join("" if limit is None else f"{limit:g}" for limit in limits)
    return str(setting.get("type", ""))
