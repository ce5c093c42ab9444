"""`bone-age batch` as it is run: every layout, hostile input, killed and started again."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bone_age.cli import main
from bone_age.serving.answering import answer
from bone_age.serving.batch import parts, run_batch
from bone_age.serving.batch.parts import Parts
from bone_age.serving.predictor import Predictor
from tests.batch_data import draw, write_manifest
from tests.worlds import FINGERPRINT, World

Run = Callable[..., tuple[int, str, str]]
Answers = list[dict[str, str]]


@pytest.fixture
def model(world: World) -> Path:
    return world.bundle(1)


@pytest.fixture
def run(model: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process: its exit code, stdout and stderr."""

    def batch(*arguments: str | Path, reference: str | Path = model) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["batch", "--model", str(reference), *map(str, arguments)])
        out, err = capsys.readouterr()
        return int(str(ended.value.code or 0)), out, err

    return batch


def workplace(out: Path) -> Path:
    return Parts(out, 0).folder


@pytest.fixture
def hands(tmp_path: Path) -> Path:
    """Twelve radiographs of girls and boys, half of them with an age."""
    folder = tmp_path / "hands"
    rows = []
    for number in range(12):
        draw(folder / f"{number}.png", number)
        rows.append((f"{number}.png", "FM"[number % 2], 100 + number if number % 4 < 2 else ""))
    return write_manifest(folder, rows, "image,sex,chronological_age_months")


def read(out: Path) -> Answers:
    with out.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def failures(out: Path) -> dict[str, str]:
    return {row["image"]: row["error"] for row in read(out.with_name(f"{out.stem}.failed.csv"))}


def test_every_row_is_answered_as_predict_answers_it_in_the_order_of_the_input(
    run: Run, model: Path, hands: Path, tmp_path: Path
) -> None:
    out = tmp_path / "answers.csv"
    code, _, _ = run("--data", hands, "--out", out)
    rows, predictor = read(out), Predictor.from_folder(model, str(model))
    assert code == 0
    assert [row["image"] for row in rows] == [f"{number}.png" for number in range(12)]
    for row in rows:
        age = float(row["chronological_age_months"]) if row["chronological_age_months"] else None
        alone = answer(predictor, hands / row["image"], row["sex"], age)
        for name in ("bone_age_months", "lower_months", "upper_months"):
            assert float(row[name]) == pytest.approx(getattr(alone, name), abs=1e-3)
        assert row["growth_verdict"] == (alone.growth.verdict if alone.growth else "")
        assert (row["model"], row["model_digest"]) == (str(model), predictor.digest)
        assert row["dataset_fingerprint"] == FINGERPRINT
    assert sum(bool(row["growth_verdict"]) for row in rows) == 6
    assert not (tmp_path / "answers.failed.csv").exists()
    assert not workplace(out).exists()


def test_parquet_holds_what_csv_holds(run: Run, hands: Path, tmp_path: Path) -> None:
    run("--data", hands, "--out", tmp_path / "a.csv")
    run("--data", hands, "--out", tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in table] == read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("header", "folder"),
    [
        ("id,boneage,male", "boneage-training-dataset"),
        ("id,male", "boneage-training-dataset"),
        ("Image ID,male,Bone Age (months)", "boneage-validation-dataset"),
        ("Case ID,Sex", "boneage-test-dataset"),
    ],
)
def test_the_challenges_layouts_are_answered_with_and_without_labels(
    header: str, folder: str, run: Run, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    values = {"male": ("True", "False"), "Sex": ("M", "F"), "boneage": ("100", ""), "Bone Age (months)": ("", "7")}
    lines = [header]
    for number in range(2):
        draw(data / folder / f"{number}.png", number)
        lines.append(",".join(values.get(name, (str(number),) * 2)[number] for name in header.split(",")))
    (data / f"{folder}.csv").write_text("\r".join(lines), encoding="utf-8-sig")
    assert run("--data", data, "--out", tmp_path / "a.csv")[0] == 0
    told = [(row["image"], row["sex"]) for row in read(tmp_path / "a.csv")]
    assert told == [(f"{folder}/0.png", "M"), (f"{folder}/1.png", "F")]
    run("--data", data / f"{folder}.csv", "--out", tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_bare_folder_of_one_sex_is_answered_whatever_its_files_are_called(run: Run, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "a.csv"
    names = [
        "Mädchen/左手.png",
        "a\nb.png",
        "IM0001",
        "1.2.840.3",
        '=cmd|" /c calc"!A1.png',
        "-1.png",
        "@a.png",
        "\t.png",
    ]
    for number, name in enumerate(names):
        draw(data / name, number)
    undecodable = os.fsdecode(b"caf\xe9.png")
    draw(data / undecodable)
    (data / "notes.txt").write_text("not a radiograph")
    (data / ".hidden.png").write_bytes(b"")
    assert run("--data", data, "--sex", "F", "--out", out)[0] == 0
    told = [row["image"] for row in read(out)]
    safe = [f"'{name}" if name[0] in "=-@\t" else name for name in names]
    assert sorted(told) == sorted([*safe, "caf\\xe9.png"])
    run("--data", data, "--sex", "F", "--out", tmp_path / "a.parquet")
    assert set(names) < set(pq.read_table(tmp_path / "a.parquet")["image"].to_pylist())


@pytest.mark.fault
def test_bad_rows_are_listed_with_their_reason_and_the_others_are_answered(
    run: Run, hands: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.csv"
    draw(tmp_path / "elsewhere.png")
    (hands / "link.png").symlink_to(tmp_path / "elsewhere.png")
    (hands / "cut.png").write_bytes((hands / "0.png").read_bytes()[:300])
    (hands / "text.png").write_text("hello")
    (hands / "empty.png").touch()
    (hands / "folder.png").mkdir()
    os.mkfifo(hands / "pipe.png")
    wrong = ["link", "cut", "text", "empty", "folder", "pipe", "absent"]
    rows = [("0.png", "F", ""), ("1.png", "", ""), ("2.png", "x", ""), ("3.png", "M", "old"), ("4.png", "M", "241")]
    rows += [("5.png", "M", "-3"), ("../elsewhere.png", "M", ""), ("", "F", "")]
    rows += [(f"{name}.png", "F", "") for name in wrong] + [("6.png", "female", "100")]
    write_manifest(hands, rows, "image,sex,chronological_age_months")
    code, printed, err = run("--data", hands, "--out", out)
    assert code == 0
    assert [row["image"] for row in read(out)] == ["0.png", "6.png"]
    reasons = failures(out)
    assert list(reasons) == [row[0] for row in rows[1:-1]]
    said = {
        "1.png": "sex is ''",
        "2.png": "sex is 'x'",
        "3.png": "chronological_age_months is 'old'",
        "4.png": "241 months, expected 0 to 240",
        "5.png": "-3",
        "../elsewhere.png": "leaves the data folder",
        "": "image is empty",
        "link.png": "is a link that leaves the data folder",
        "cut.png": "PNG is truncated",
        "text.png": "is not a PNG, JPEG or DICOM file",
        "empty.png": "file is empty",
        "folder.png": "is a folder",
        "pipe.png": "is not a regular file",
        "absent.png": "no such file",
    }
    assert all(reason in reasons[image] for image, reason in said.items()), reasons
    assert not any(str(tmp_path) in reason for image, reason in reasons.items() if image != "link.png")
    assert {row["source_row"] for row in read(tmp_path / "a.failed.csv")} >= {"manifest.csv:3", "manifest.csv:4"}
    assert "2 of 16 radiographs answered" in printed
    assert "warning: 14 of 16 rows have no answer" in err


def test_nothing_answered_is_exit_code_2_and_the_reasons_are_there(run: Run, tmp_path: Path) -> None:
    data = write_manifest(tmp_path / "data", [("gone.png", "F"), ("gone, too.png", "M")])
    code, _, err = run("--data", data, "--out", tmp_path / "a.csv")
    assert code == 2
    assert "error: 2 of 2 rows have no answer" in err
    assert failures(tmp_path / "a.csv") == {"gone.png": "no such file", "gone, too.png": "no such file"}


def test_a_result_without_failures_takes_away_the_failures_of_the_one_before(run: Run, tmp_path: Path) -> None:
    data = write_manifest(tmp_path / "data", [("0.png", "F"), ("1.png", "F")])
    draw(data / "0.png")
    run("--data", data, "--out", tmp_path / "a.csv")
    assert len(read(tmp_path / "a.csv")) == 1
    draw(data / "1.png")
    run("--data", data, "--out", tmp_path / "a.csv")
    assert len(read(tmp_path / "a.csv")) == 2
    assert not (tmp_path / "a.failed.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "{hands}", "--out", "a.txt"], "ends in .parquet or .csv"),
        (["--data", "{hands}", "--out", "/proc/a.csv"], "/proc/a.csv: cannot be written"),
        (["--data", "{hands}", "--out", "{hands}/0.png/a.csv"], "cannot be written"),
        (["--data", "{hands}", "--out", "{tmp}/a.csv", "--sex", "F"], "manifest.csv says of which sex each child is"),
        (["--data", "{hands}", "--out", "{tmp}/a.csv", "--sex", "male"], "--sex is 'male', expected M or F"),
        (["--data", "{hands}", "--out", "{tmp}/a.csv", "--engine", "spark"], "--engine is 'spark'"),
        (["--data", "{tmp}/none", "--out", "{tmp}/a.csv"], "none: no such folder or file"),
        (["--data", "{empty}", "--out", "{tmp}/a.csv", "--sex", "M"], "holds no radiograph"),
        (["--data", "{empty}", "--out", "{tmp}/a.csv"], "needs --sex"),
        (["--data", "{hands}/0.png", "--out", "{tmp}/a.csv"], "is not UTF-8 text"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line_before_any_work(
    arguments: list[str], message: str, run: Run, hands: Path, tmp_path: Path
) -> None:
    places = {"hands": hands, "tmp": tmp_path, "empty": tmp_path / "empty"}
    (tmp_path / "empty").mkdir()
    code, printed, err = run(*(argument.format(**places) for argument in arguments))
    assert (code, printed) == (2, "")
    assert len(err.splitlines()) == 1
    assert message in err
    assert not (tmp_path / "a.csv").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("out", ["again.failed.csv", "again.csv"])
def test_a_result_never_replaces_the_rows_that_are_asked(out: str, run: Run, hands: Path) -> None:
    asked = (hands / "manifest.csv").rename(hands / "again.failed.csv")
    rows = asked.read_bytes()
    code, _, err = run("--data", asked, "--out", hands / out)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "again.failed.csv would replace the rows that are asked" in err
    assert asked.read_bytes() == rows


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("image\n0.png\n", "column 'sex' is missing"),
        ("image,sex,chronological_age\n0.png,F,3\n", "did you mean 'chronological_age_months'"),
        ("image,sex\n0.png,F\n1.png\n", "manifest.csv:3: has 1 fields, the header has 2"),
        ('image,sex\n"0.png,F\n', "is no valid CSV"),
        ("image,sex\n", "holds no radiograph"),
    ],
)
def test_a_broken_manifest_is_refused_before_any_work(
    manifest: str, message: str, run: Run, hands: Path, tmp_path: Path
) -> None:
    (hands / "manifest.csv").write_text(manifest)
    code, _, err = run("--data", hands, "--out", tmp_path / "a.csv")
    assert code == 2
    assert message in err


def test_json_is_one_document_and_leads_back_to_model_and_images(
    run: Run, model: Path, hands: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.parquet"
    told = json.loads(run("--data", hands, "--out", out, "--json")[1])
    digest = Predictor.from_folder(model).digest
    assert (told["rows"], told["answered"], told["failed_rows"], told["failed"]) == (12, 12, 0, None)
    assert (told["model_digest"], told["dataset_fingerprint"]) == (digest, FINGERPRINT)
    moved = Path(shutil.copytree(hands, tmp_path / "moved"))
    assert json.loads(run("--data", moved, "--out", out, "--json")[1])["input_fingerprint"] == told["input_fingerprint"]
    draw(moved / "3.png", 99)
    assert json.loads(run("--data", moved, "--out", out, "--json")[1])["input_fingerprint"] != told["input_fingerprint"]


# Killed and started again ---------------------------------------------------------------------------------------------

ROWS = 10 * parts.PART_ROWS + 5


@pytest.fixture
def long_data(tmp_path: Path) -> Path:
    """More rows than are answered at once, a bad one among them."""
    data = tmp_path / "long"
    for number in range(5):
        draw(data / f"{number}.png", number)
    rows = [(f"{number % 5}.png", "FM"[number % 2]) for number in range(ROWS)]
    rows[300] = ("absent.png", "F")
    return write_manifest(data, rows)


def start(model: Path, data: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bone_age.cli", "batch", "--model", model, "--data", data, "--out", out]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition() and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.fault
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_killed_anywhere_it_goes_on_and_makes_the_same_file_byte_for_byte(
    suffix: str, run: Run, model: Path, long_data: Path, tmp_path: Path
) -> None:
    whole, out = tmp_path / f"whole.{suffix}", tmp_path / f"a.{suffix}"
    assert run("--data", long_data, "--out", whole)[0] == 0
    chance = random.Random(time.time_ns())
    kills = sorted(chance.sample(range(1, 10), 2))
    for after in kills:
        process = start(model, long_data, out)
        wait_for(lambda after=after: len(list(workplace(out).glob("part-*"))) >= after, process)
        time.sleep(chance.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not out.exists(), kills
    kept = {part: part.stat().st_mtime_ns for part in workplace(out).glob("part-*")}
    report = run_batch(long_data, out, str(model))
    assert report.resumed_rows >= (kills[-1] - 1) * parts.PART_ROWS
    assert report.resumed_rows <= len(kept) * parts.PART_ROWS
    assert (report.rows, report.answered, report.failed_rows) == (ROWS, ROWS - 1, 1)
    assert out.read_bytes() == whole.read_bytes(), kills
    beside = [path.with_name(f"{path.stem}.failed.csv").read_bytes() for path in (out, whole)]
    assert beside[0] == beside[1]
    assert not workplace(out).exists()


def interrupted(model: Path, data: Path, out: Path) -> None:
    process = start(model, data, out)
    wait_for(lambda: len(list(workplace(out).glob("part-*"))) >= 2, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 1
    assert err.splitlines()[-1] == "error: interrupted; the same command goes on with what is not done yet"


def test_a_changed_input_starts_anew_and_says_so(run: Run, model: Path, long_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.csv"
    interrupted(model, long_data, out)
    draw(long_data / "0.png", 77)
    code, _, err = run("--data", long_data, "--out", out)
    assert code == 0
    assert "warning: the input changed since this was interrupted; starting anew" in err
    run("--data", long_data, "--out", tmp_path / "b.csv")
    assert out.read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_changed_model_starts_anew_and_says_so(
    run: Run, world: World, model: Path, long_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.csv"
    interrupted(model, long_data, out)
    code, _, err = run("--data", long_data, "--out", out, reference="models:/bone-age/2")
    assert code == 0
    assert "warning: the model changed since this was interrupted; starting anew" in err
    assert {row["model"] for row in read(out)} == {"models:/bone-age/2"}


@pytest.mark.fault
def test_a_second_process_on_the_same_result_is_refused(run: Run, model: Path, long_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.csv"
    first = start(model, long_data, out)
    wait_for(lambda: list(workplace(out).glob("part-*")), first)
    first.send_signal(signal.SIGSTOP)
    try:
        code, _, err = run("--data", long_data, "--out", out)
    finally:
        first.send_signal(signal.SIGCONT)
    _, said = first.communicate(timeout=120)
    assert code == 1
    assert f"another batch (process {first.pid})" in err
    assert first.returncode == 0, said
    assert len(read(out)) == ROWS - 1


@pytest.mark.fault
def test_a_part_that_was_tampered_with_is_not_taken_for_an_answer(
    model: Path, long_data: Path, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "a.csv"
    interrupted(model, long_data, out)
    folder = workplace(out)
    shutil.copyfile(folder / "part-000000000.parquet", folder / "part-000000001.parquet")
    code, _, err = run("--data", long_data, "--out", out)
    assert code == 1
    assert "a part near row 64 is not what it should be" in err
    assert not out.exists()


def test_fifty_real_radiographs_are_answered_as_predict_answers_them(
    rsna_dir: Path, home: object, tmp_path: Path
) -> None:
    with (rsna_dir / "boneage-training-dataset.csv").open() as file:
        labels = [row for row, _ in zip(csv.DictReader(file), range(50), strict=False)]
    folder = rsna_dir / "boneage-training-dataset"
    data = tmp_path / "data"
    shutil.copytree(folder, data / folder.name, ignore=lambda _, names: {n for n in names if n[:-4] not in ids(labels)})
    with (data / "boneage-training-dataset.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, labels[0])
        writer.writeheader()
        writer.writerows(labels)
    report = run_batch(data, tmp_path / "a.parquet")
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert (report.rows, report.answered, report.model) == (50, 50, "reference")
    assert [Path(row["image"]).stem for row in rows] == [label["id"] for label in labels]
    errors = [abs(row["bone_age_months"] - float(label["boneage"])) for row, label in zip(rows, labels, strict=True)]
    assert sum(errors) / 50 < 12
    from bone_age.serving.references import load_predictor

    predictor = load_predictor(None)
    for row in rows[:10]:
        alone = predictor.predict(data / row["image"], row["sex"])
        assert row["bone_age_months"] == pytest.approx(alone.bone_age_months, abs=1e-3)
        assert row["warnings"] == ";".join(warning.code for warning in alone.warnings)


def ids(labels: list[dict[str, str]]) -> set[str]:
    return {label["id"] for label in labels}
