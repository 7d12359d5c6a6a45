"""Runs on one budget: each trains and is measured once, goes on after a stop, and the page says what differs."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoint
from tiny_towers import save_pair

from visavis.models.training import comparison, translation
from visavis.models.training.comparison import ENTRIES, Entry, compare, dev_files
from visavis.models.training.comparison_report import BEGIN, END, draw_plot, reading, table, write_page
from visavis.models.training.curriculum import phases_of
from visavis.models.training.settings import TrainingSettings

SOME = [entry for entry in ENTRIES if entry.name in ("cross_attention", "concat", "two_phases", "itc_rewards")]
COLORS = ("red", "blue", "green", "white")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingSettings:
    monkeypatch.setattr(translation, "WORDS", 4)
    data = tmp_path / "data"
    data.mkdir()
    for color in COLORS:
        (data / f"{color}.png").write_bytes(tiny_checkpoint.drawn_picture(color))
    for split in ("train", "dev"):
        rows: dict[str, list[dict[str, Any]]] = {"captions": [], "questions": [], "dialogues": []}
        for color in COLORS:
            image = {"image": f"{color}.png"}
            rows["captions"].append({**image, "captions": [f"a {color} dog runs .", f"it is {color} ."]})
            rows["questions"].append({**image, "question": "what color is it", "answers": [color]})
            turn = {"question": "Is it a dog?", "answer": "Yes, it is.", "short": "yes"}
            rows["dialogues"].append({**image, "turns": [turn]})
        for kind, lines in rows.items():
            (data / f"{kind}.{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return TrainingSettings(
        data=(str(data),),
        output=str(tmp_path / "runs"),
        fusion={"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 1},
        batch_photos=2,
        threads=1,
        precision="fp32",
        **save_pair(tmp_path / "towers", "dinov2"),
    )


def test_every_entry_is_trained_and_measured_on_the_same_budget(
    base: TrainingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    (*_, figures) = compare(base, 4, entries=SOME, limit=2, tell=told.append)
    assert told == [f"{number} of 4: {entry.title}" for number, entry in enumerate(SOME, 1)]
    assert list(figures) == [entry.name for entry in SOME]
    for entry in SOME:
        run = figures[entry.name]
        assert run["budget"] == {"steps": 4, "seed": 1, "limit": 2}
        position = json.loads((tmp_path / "runs" / entry.name / "run/position.json").read_text())
        assert position["step"] == 4
        assert {*run["errors"]} == {"captions", "questions", "dialogues"}
        assert run["parameters"] > run["beside_towers"] > 0
        assert (run["retrieval"] is not None) is (entry.name == "itc_rewards")
    assert (tmp_path / "runs/features").is_dir()

    def nothing(*_: object, **__: object) -> None:
        raise AssertionError("nothing is left to train")

    monkeypatch.setattr(comparison, "train_command", nothing)
    assert list(compare(base, 4, entries=SOME, limit=2))[-1] == figures
    with pytest.raises(ValueError, match="choose another output"):
        list(compare(base, 5, entries=SOME[:1], limit=2))
    write_page(tmp_path / "docs/fusion.md", SOME, figures)
    assert table(SOME, figures) in (tmp_path / "docs/fusion.md").read_text()


def test_the_nine_entries_differ_only_in_what_they_name() -> None:
    assert len(ENTRIES) == len({entry.name for entry in ENTRIES}) == 9
    kinds = [entry.changes.get("fusion", {}).get("kind", "cross_attention") for entry in ENTRIES]
    assert kinds[:4] == ["cross_attention", "mmbt", "concat", "birnn_cnn"] and {*kinds[4:]} == {"cross_attention"}
    for entry in ENTRIES:
        assert {*entry.changes} <= {"fusion", "phases", "self_critical_samples"}
        phases_of(TrainingSettings(**entry.changes))  # well-formed
    assert not any("phases" in entry.changes for entry in ENTRIES[:4])


def test_dev_files_are_found_among_the_folders(base: TrainingSettings, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    options = dev_files([str(tmp_path / "other"), *base.data])
    assert options.captions == tmp_path / "data/captions.dev.jsonl" and options.retrieval
    assert dev_files([str(tmp_path / "other")]).retrieval is False


def run_of(cider: float, accuracy: float) -> dict[str, Any]:
    return {
        "parameters": 12_345_678,
        "beside_towers": 2_000_000,
        "train_seconds": 90.0,
        "speed": {"first_over_encoder": 1.5},
        "captions": {"cider": cider, "bleu4": 0.1},
        "questions": {"accuracy": accuracy},
        "dialogues": {"accuracy": accuracy, "blind": None},
        "retrieval": None,
        "errors": {"captions": 0.01, "questions": 0.02, "dialogues": 0.02},
        "budget": {"steps": 10, "seed": 1, "limit": None},
    }


TWO = [Entry("a", "first"), Entry("b", "other <&>"), Entry("c", "not run yet")]
FIGURES = {"a": run_of(0.5, 0.30), "b": run_of(0.4, 0.33)}


def test_the_table_has_a_row_a_run_that_is_done() -> None:
    lines = table(TWO, FIGURES).splitlines()
    assert len(lines) == 4
    assert lines[2] == "| first | 12.3 | 2.0 | 1.5 | 1.50 | 0.500 | 0.100 | 0.300 | 0.300 | - | - |"


def test_only_what_is_more_than_chance_is_called_a_difference() -> None:
    said = reading(TWO, FIGURES)
    assert "Every run: 10 steps, seed 1, all items" in said
    assert "- *other <&>*: CIDEr worse by 0.100; DAQUAR no different (+0.030, noise 0.057)" in said
    assert "not run yet" not in said


def test_a_page_keeps_what_people_wrote(tmp_path: Path) -> None:
    page = tmp_path / "fusion.md"
    page.write_text(f"# Fusion\n\nBefore.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n")
    for _ in range(2):
        write_page(page, TWO, FIGURES)
    text = page.read_text()
    assert text.startswith(f"# Fusion\n\nBefore.\n\n{BEGIN}") and text.endswith(f"{END}\n\nAfter.\n")
    assert "old" not in text and text.count("| first |") == 1
    assert "![fusion](images/fusion.svg)" in text and (tmp_path / "images/fusion.svg").is_file()


def test_the_plot_is_well_formed_and_its_bars_are_in_proportion() -> None:
    import xml.etree.ElementTree as tree

    plot = tree.fromstring(draw_plot(TWO, FIGURES))
    bars = [
        float(shape.get("width", 0))
        for shape in plot.iter("{http://www.w3.org/2000/svg}rect")
        if shape.get("x") == "330"
    ]
    assert bars[1:] == pytest.approx([370, 370 * 0.3 / 0.33, 370 * 0.3 / 0.33, 370 * 0.8, 370, 370], abs=0.1)
