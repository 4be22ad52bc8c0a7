"""What `mattebridge status` and `release` print of what the daemon replies."""

from __future__ import annotations

from mattebridge.commands.tables import released_text, status_table

GPU = {
    "resident_bytes": 400_000_000,
    "models": {"twoplate": 3_000_000, "portrait": 20_000_000},
    "caches": {"clean_plates": 265_000_000},
    "gpu": {
        "total_bytes": 80_000_000_000,
        "free_bytes": 60_000_000_000,
        "used_bytes": 1_200_000_000,
        "kept_bytes": 0,
    },
}


def test_the_status_shows_memory_by_model_and_cache_and_that_of_the_gpu() -> None:
    text = status_table({"workers": [{"device": "cuda:0", "memory": GPU}, {"device": "cpu"}]})
    assert (
        "cuda:0 holds twoplate 3 MB, portrait 20 MB, clean plates 265 MB, in all 1.2 GB of its "
        "GPU's memory, of which 60.0 GB of 80.0 GB are free" in text
    )
    assert "cpu holds" not in text


def test_notes_and_reasons_are_one_line_each() -> None:
    workers = [{"device": "cuda:1", "reason": "no kernel\nimage"}]
    text = status_table({"workers": workers, "notes": ["a\nb"]})
    assert "\n  cuda:1 is not used: no kernel image\n" in text
    assert "\n  note: a b\n" in text


def test_a_release_names_what_was_held() -> None:
    assert released_text([]) == "mattebridge: no worker held memory"
    text = released_text([{"device": "cuda:0", **GPU}, {"device": "cpu"}])
    assert text == (
        "mattebridge: cuda:0 gave back 400 MB of main memory and 1.2 GB of its GPU's "
        "(twoplate, portrait)\n"
        "mattebridge: cpu gave back 0 MB (no models)"
    )
