from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from bone_age.errors import InputError
from bone_age.serving.batch.questions import find_questions, survey
from tests.batch_data import write_manifest


def test_a_manifest_is_read_as_a_stream_and_a_broken_row_is_found_before_any_work(tmp_path: Path) -> None:
    rows: list[tuple[str, ...]] = [(f"images/{number:06d}.png", "F") for number in range(3000)]
    questions = find_questions(write_manifest(tmp_path / "data", [*rows, ("3000.png",)]), None)
    assert [question.source_row for question in itertools.islice(questions, 2)] == ["manifest.csv:2", "manifest.csv:3"]
    with pytest.raises(InputError, match=r"manifest\.csv:3002: has 1 fields"):
        survey(questions)


def test_a_folder_is_asked_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "10.png", "a/x.dcm", "9.jpg", "a/README", "b/film.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    told = [question.path for question in find_questions(tmp_path, "M")]
    assert told == ["10.png", "9.jpg", "a/README", "a/x.dcm", "b/2.PNG"]


def test_links_to_folders_are_named_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "out.png").symlink_to("/dev/null")
    told = {question.path: question.problem for question in find_questions(tmp_path / "data", "F")}
    assert told["loop"] == "is a link to a folder, which is not followed"
    assert "leaves the data folder" in told["out.png"]
    assert len(told) == 2


def test_the_fingerprint_changes_with_rows_and_with_images(tmp_path: Path) -> None:
    data = write_manifest(tmp_path / "data", [("0.png", "F"), ("1.png", "M")])
    (data / "0.png").write_bytes(b"one")
    seen = {survey(find_questions(data, None)).fingerprint for _ in range(2)}
    os.utime(data / "0.png", ns=(1, 1))
    seen.add(survey(find_questions(data, None)).fingerprint)
    write_manifest(data, [("1.png", "M"), ("0.png", "F")])
    seen.add(survey(find_questions(data, None)).fingerprint)
    assert len(seen) == 3


def test_an_unreadable_label_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        find_questions(tmp_path, None)
