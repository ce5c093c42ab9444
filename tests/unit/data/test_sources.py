"""Every known layout is read to the same manifest; what cannot become one is refused with file and row."""

from __future__ import annotations

import hashlib
import math
import os
import socket
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bone_age.data.layouts import TRAINING, labelled_rows, read_label_file
from bone_age.data.manifest import require_labels
from bone_age.data.sources import read_dataset
from bone_age.errors import InputError

Write = Callable[..., Path]


@pytest.fixture
def rsna_dir() -> Path:
    if not os.environ.get("BONE_AGE_RSNA_DIR"):
        pytest.skip("needs real radiographs: set BONE_AGE_RSNA_DIR")
    return Path(os.environ["BONE_AGE_RSNA_DIR"])


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file below the data folder; an image's bytes need not be an image, reading only hashes them."""

    def to(name: str, content: str | bytes = b"") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content or name.encode())
        return path

    return to


def manifest(write: Write, *rows: str, header: str = "image,sex,bone_age_months") -> None:
    write("manifest.csv", "\n".join([header, *rows]))


# Layouts -------------------------------------------------------------------------------------------------------------


def test_the_training_layout_is_read(write: Write, tmp_path: Path) -> None:
    write("boneage-training-dataset.csv", "id,boneage,male\n1377,180,False\n1378,12,True\n")
    write("boneage-training-dataset/1377.png", b"first")
    write("boneage-training-dataset/1378.JPG", b"second")
    dataset = read_dataset(tmp_path)
    rows = dataset.table.to_dict("list")
    assert rows["image_id"] == ["1377", "1378"]
    assert rows["path"] == ["boneage-training-dataset/1377.png", "boneage-training-dataset/1378.JPG"]
    assert rows["sha256"] == [hashlib.sha256(b"first").hexdigest(), hashlib.sha256(b"second").hexdigest()]
    assert rows["sex"] == ["F", "M"]
    assert rows["bone_age_months"] == [180.0, 12.0]
    assert rows["patient_id"] == ["1377", "1378"]
    assert rows["split"] == ["", ""]
    assert rows["source_row"] == ["boneage-training-dataset.csv:2", "boneage-training-dataset.csv:3"]
    assert dataset.name == tmp_path.name
    assert not dataset.synthetic


def test_the_validation_layout_finds_images_in_both_of_its_folders(write: Write, tmp_path: Path) -> None:
    write("Validation Dataset.csv", "Image ID,male,Bone Age (months)\n1386,TRUE,165.5\n1392,FALSE,74\n")
    write("boneage-validation-dataset-1/1386.png")
    write("boneage-validation-dataset-2/1392.png")
    table = read_dataset(tmp_path).table
    assert list(table["path"]) == ["boneage-validation-dataset-1/1386.png", "boneage-validation-dataset-2/1392.png"]
    assert list(table["sex"]) == ["M", "F"]
    assert list(table["bone_age_months"]) == [165.5, 74.0]


def test_the_test_layout_is_read_with_byte_order_mark_and_bare_carriage_returns(write: Write, tmp_path: Path) -> None:
    text = "\ufeffCase ID,Sex,Ground truth bone age (months)\r4360,M,168.93\r4361,f,169.1\r"
    write("any name.csv", text.encode())
    write("boneage-test-dataset/4360.png")
    write("boneage-test-dataset/4361.png")
    table = read_dataset(tmp_path).table
    assert list(table["sex"]) == ["M", "F"]
    assert list(table["bone_age_months"]) == [168.93, 169.1]
    assert list(table["source_row"]) == ["any name.csv:2", "any name.csv:3"]
    assert (table["sha256"] != "").all()


def test_a_test_file_without_labels_has_no_bone_age(write: Write, tmp_path: Path) -> None:
    write("boneage-test-dataset.csv", "Case ID,Sex\n4360,M\n")
    write("boneage-test-dataset/4360.png")
    dataset = read_dataset(tmp_path)
    assert math.isnan(dataset.table["bone_age_months"][0])
    with pytest.raises(InputError, match=r"boneage-test-dataset\.csv:2: bone age is ''"):
        require_labels(dataset)


def test_parts_of_the_challenge_in_one_folder_are_its_splits(write: Write, tmp_path: Path) -> None:
    write("boneage-training-dataset.csv", "id,boneage,male\n1,10,True\n")
    write("boneage-validation-dataset.csv", "Image ID,male,Bone Age (months)\n2,False,20\n")
    write("test.csv", "Case ID,Sex,Ground truth bone age (months)\n3,F,30\n")
    table = read_dataset(tmp_path).table
    assert dict(zip(table["image_id"], table["split"], strict=True)) == {"1": "train", "2": "validation", "3": "test"}


def test_an_unlabelled_test_part_beside_others_is_left_out(write: Write, tmp_path: Path) -> None:
    write("boneage-training-dataset.csv", "id,boneage,male\n1,10,True\n")
    write("boneage-test-dataset.csv", "Case ID,Sex\n3,F\n")
    table = read_dataset(tmp_path).table
    assert list(table["image_id"]) == ["1"]
    assert list(table["split"]) == [""]


def test_a_second_training_file_beside_the_challenges_own_is_ignored(write: Write, tmp_path: Path) -> None:
    write("boneage-training-dataset.csv", "id,boneage,male\n1,10,True\n")
    write("full-size.csv", "id,boneage,male\n2,20,True\n")
    assert list(read_dataset(tmp_path).table["image_id"]) == ["1"]


def test_a_training_file_of_another_name_takes_images_from_the_folder_named_alike(write: Write, tmp_path: Path) -> None:
    write("full-size.csv", "id,boneage,male\n2,20,True\n")
    write("full-size/2.png")
    assert list(read_dataset(tmp_path).table["path"]) == ["full-size/2.png"]


def test_two_files_for_one_part_are_refused(write: Write, tmp_path: Path) -> None:
    write("a.csv", "id,boneage,male\n1,10,True\n")
    write("b.csv", "id,boneage,male\n2,20,True\n")
    with pytest.raises(InputError, match=r"a\.csv and b\.csv are both"):
        read_dataset(tmp_path)


def test_images_in_a_folder_within_the_folder_are_found(write: Write, tmp_path: Path) -> None:
    write("boneage-training-dataset.csv", "id,boneage,male\n1,10,True\n")
    write("boneage-training-dataset/boneage-training-dataset/1.png")
    table = read_dataset(tmp_path).table
    assert list(table["path"]) == ["boneage-training-dataset/boneage-training-dataset/1.png"]


def test_images_beside_the_label_file_are_found(write: Write, tmp_path: Path) -> None:
    write("boneage-training-dataset.csv", "id,boneage,male\n1,10,True\n")
    write("1.dcm")
    assert list(read_dataset(tmp_path).table["path"]) == ["1.dcm"]


def test_a_manifest_with_all_columns_is_read(write: Write, tmp_path: Path) -> None:
    header = " Image ,SEX,Bone_Age_Months,chronological_age_months,patient_id,split,scanner"
    manifest(write, "./a/1.png,Female,100.5,99,P1,val,X", '"b,2.dcm",male,7,,P2,Train,Y', ",,,,,,", "", header=header)
    write("a/1.png")
    write("b,2.dcm")
    table = read_dataset(tmp_path).table
    assert list(table["image_id"]) == ["a/1", "b,2"]
    assert list(table["path"]) == ["a/1.png", "b,2.dcm"]
    assert list(table["patient_id"]) == ["P1", "P2"]
    assert list(table["split"]) == ["validation", "train"]
    assert table["chronological_age_months"][0] == 99
    assert math.isnan(table["chronological_age_months"][1])
    assert (table["sha256"] != "").all()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends_make_no_difference(write: Write, tmp_path: Path, encoding: str, line_end: str) -> None:
    lines = ["image,sex,bone_age_months", "ü.png,F,12", "", "b.png,M,24", "", ""]
    write("manifest.csv", line_end.join(lines).encode(encoding))
    table = read_dataset(tmp_path).table
    assert list(table["image_id"]) == ["ü", "b"]
    assert list(table["source_row"]) == ["manifest.csv:2", "manifest.csv:4"]


def test_row_numbers_count_lines_inside_quotes(write: Write, tmp_path: Path) -> None:
    manifest(write, 'a.png,F,12,"two\nlines"', "b.png,M,24,", header="image,sex,bone_age_months,remark")
    assert list(read_dataset(tmp_path).table["source_row"]) == ["manifest.csv:2", "manifest.csv:4"]


# Values that are kept for validation ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sex"),
    [
        *[("M", "M"), ("m", "M"), (" Male ", "M"), ("TRUE", "M"), ("F", "F"), ("female", "F"), ("False", "F")],
        *[("", ""), ("X", "X"), ("1", "1"), ("boy", "boy")],
    ],
)
def test_sex_is_understood_or_kept_as_it_is(write: Write, tmp_path: Path, text: str, sex: str) -> None:
    manifest(write, f"a.png,{text},12")
    assert list(read_dataset(tmp_path).table["sex"]) == [sex]


@pytest.mark.parametrize(
    "text", ["", "nan", "NA", "inf", "-inf", "0x10", "1e400", "1e2", "1_0", "١٢", '"12,5"', "9" * 400]
)
def test_what_is_no_plain_number_is_no_age_but_keeps_its_text(write: Write, tmp_path: Path, text: str) -> None:
    manifest(write, f"a.png,F,{text}")
    row = read_dataset(tmp_path).table.iloc[0]
    assert math.isnan(row["bone_age_months"])
    assert row["raw_bone_age"] == text.strip('"')


@pytest.mark.parametrize("text", ["-1", "+7", "12.", ".5", "300"])
def test_plain_numbers_are_ages_even_where_no_child_is_that_old(write: Write, tmp_path: Path, text: str) -> None:
    manifest(write, f"a.png,F,{text}")
    assert list(read_dataset(tmp_path).table["bone_age_months"]) == [float(text)]


def test_images_that_cannot_be_read_have_no_digest(write: Write, tmp_path: Path) -> None:
    manifest(write, "absent.png,F,12", "folder.png,F,12", "pipe.png,F,12", "empty.png,F,12")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty.png").touch()
    digests = list(read_dataset(tmp_path).table["sha256"])
    assert digests == ["", "", "", hashlib.sha256(b"").hexdigest()]


def test_duplicate_ids_and_absent_images_stay_in_the_table(write: Write, tmp_path: Path) -> None:
    write("boneage-training-dataset.csv", "id,boneage,male\n1,10,True\n1,20,True\n")
    table = read_dataset(tmp_path).table
    assert list(table["image_id"]) == ["1", "1"]
    assert list(table["path"]) == ["boneage-training-dataset/1.png"] * 2


# Refusals ------------------------------------------------------------------------------------------------------------


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such data folder"):
        read_dataset(tmp_path / "nowhere")


def test_a_file_in_place_of_a_folder_is_refused(write: Write) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        read_dataset(write("data.zip"))


def test_a_folder_in_no_known_layout_is_refused_with_what_is_known_and_what_was_found(
    write: Write, tmp_path: Path
) -> None:
    write("1.png")
    with pytest.raises(InputError, match=r"id,boneage,male.*found: 1\.png"):
        read_dataset(tmp_path)
    write("notes.csv", "date,remark\n1,2\n")
    with pytest.raises(InputError, match=r"manifest\.csv with image,sex.*found: notes\.csv with date,remark"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("manifest.csv", "", "manifest.csv: is empty"),
        ("manifest.csv", "\n\n", "manifest.csv: is empty"),
        ("manifest.csv", "image,sex,bone_age_months\n", "has a header but no rows"),
        ("manifest.csv", "image,bone_age_months\na.png,1\n", "column 'sex' is missing; found: image, bone_age_months"),
        ("data.csv", "id,boneage\n1,2\n", "column 'male' is missing"),
        ("boneage-test-dataset.csv", "Case ID,truth\n1,2\n", "column 'sex', 'ground truth bone age (months)' is"),
        ("manifest.csv", "image;sex;bone_age_months\na.png;F;1\n", "separated by ';', expected commas"),
        ("manifest.csv", "image,sex,bone_age_months,Sex\n", "column 'sex' appears more than once"),
        ("manifest.csv", "image,sex,bone_age_months,patientid\na,F,1,x\n", "did you mean 'patient_id'?"),
        ("manifest.csv", "image,sex,bone_age_months\na.png,F\n", "manifest.csv:2: has 2 fields, the header has 3"),
        ("manifest.csv", "image,sex,bone_age_months\na.png,F,1,2\n", "manifest.csv:2: has 4 fields, the header has 3"),
        ("manifest.csv", 'image,sex,bone_age_months\n"a.png,F,1\n', "manifest.csv:2: is no valid CSV"),
        ("manifest.csv", b"image,sex,bone_age_months\na.png,F,1\n\xe9.png,F,1\n", "manifest.csv:3: is not UTF-8 text"),
        ("manifest.csv", "image,sex,bone_age_months\na\0.png,F,1\n", "manifest.csv:2: holds a NUL character"),
        ("manifest.csv", "image,sex,bone_age_months\n,F,1\n", "manifest.csv:2: image is empty"),
        ("manifest.csv", "image,sex,bone_age_months\n.,F,1\n", "manifest.csv:2: image '.' is no file"),
        ("manifest.csv", "image,sex,bone_age_months,split\na,F,1,holdout\n", "manifest.csv:2: split is 'holdout'"),
        ("manifest.csv", "image,sex,bone_age_months,split\na,F,1,test\nb,F,1,\n", "manifest.csv:3: split is empty"),
        ("manifest.csv", "image,sex,bone_age_months,chronological_age_months\na,F,1,x\n", "manifest.csv:2: chron"),
    ],
)
def test_a_broken_label_file_is_refused_in_one_line(
    write: Write, tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError) as refusal:
        read_dataset(tmp_path)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("path", ["../1", "a/../../1.png", "/etc/passwd", "C:\\1.png", "..\\1.png", "\\\\host\\1.png"])
def test_a_path_that_leaves_the_data_folder_is_refused(write: Write, tmp_path: Path, path: str) -> None:
    manifest(write, "ok.png,F,1", f"{path},F,1")
    with pytest.raises(InputError, match=r"manifest\.csv:3: image .* leaves the data folder"):
        read_dataset(tmp_path)


def test_an_address_is_the_name_of_a_file_that_is_not_there_and_nobody_is_asked(write: Write, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        manifest(write, f"http://127.0.0.1:{server.getsockname()[1]}/1.png,F,1", "file:///etc/passwd,F,1")
        table = read_dataset(tmp_path).table
        with pytest.raises(TimeoutError):
            server.accept()
    assert table["sha256"].tolist() == ["", ""]


@pytest.mark.parametrize("image_id", ["../1", "a/1", "a\\1", ".."])
def test_an_id_that_is_a_path_is_refused(write: Write, tmp_path: Path, image_id: str) -> None:
    write("boneage-training-dataset.csv", f"id,boneage,male\n{image_id},10,True\n")
    with pytest.raises(InputError, match=r"boneage-training-dataset\.csv:2: id .* leaves the data folder"):
        read_dataset(tmp_path)


def test_links_that_leave_the_data_folder_are_refused(
    write: Write, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "1.png").write_bytes(b"secret")
    manifest(write, "link/1.png,F,1")
    (tmp_path / "link").symlink_to(outside)
    with pytest.raises(InputError, match=r"manifest\.csv:2: 'link/1\.png' is a link that leaves the data folder"):
        read_dataset(tmp_path)
    (tmp_path / "manifest.csv").unlink()
    write("boneage-training-dataset.csv", "id,boneage,male\n1,10,True\n")
    (tmp_path / "boneage-training-dataset").mkdir()
    (tmp_path / "boneage-training-dataset" / "1.png").symlink_to(outside / "1.png")
    with pytest.raises(InputError, match="is a link that leaves the data folder"):
        read_dataset(tmp_path)


def test_links_within_the_data_folder_are_followed(write: Write, tmp_path: Path) -> None:
    manifest(write, "link.png,F,1")
    write("real.png", b"bytes")
    (tmp_path / "link.png").symlink_to("real.png")
    assert list(read_dataset(tmp_path).table["sha256"]) == [hashlib.sha256(b"bytes").hexdigest()]


def test_an_id_with_two_images_is_refused(write: Write, tmp_path: Path) -> None:
    write("boneage-training-dataset.csv", "id,boneage,male\n1,10,True\n")
    write("boneage-training-dataset/1.png")
    write("boneage-training-dataset/1.jpg")
    with pytest.raises(InputError, match="id '1' has several images"):
        read_dataset(tmp_path)


# Invariants ----------------------------------------------------------------------------------------------------------


def test_a_larger_limit_keeps_all_rows_of_a_smaller_one(write: Write, tmp_path: Path) -> None:
    manifest(write, *(f"{i}.png,F,{i}" for i in range(60)))
    chosen = [set(read_dataset(tmp_path, limit=limit).table["image_id"]) for limit in (1, 7, 20, 59, 60, 1000)]
    assert [len(ids) for ids in chosen] == [1, 7, 20, 59, 60, 60]
    assert all(smaller <= larger for smaller, larger in pairwise(chosen))


def test_a_limit_keeps_the_order_of_the_file_and_ignores_its_order_when_choosing(write: Write, tmp_path: Path) -> None:
    rows = [f"{i}.png,F,{i}" for i in range(60)]
    manifest(write, *rows)
    forward = list(read_dataset(tmp_path, limit=20).table["image_id"])
    manifest(write, *reversed(rows))
    assert list(read_dataset(tmp_path, limit=20).table["image_id"]) == forward[::-1]


@settings(deadline=None, max_examples=50)
@given(content=st.binary(max_size=300))
def test_any_bytes_as_label_file_end_as_rows_or_as_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "manifest.csv").write_bytes(b"image,sex,bone_age_months\n" + content)
    try:
        assert len(read_dataset(folder)) > 0
    except InputError as error:
        assert str(error).isprintable()  # noqa: PT017


@settings(deadline=None, max_examples=50)
@given(ages=st.lists(st.floats(0, 240).map(lambda age: round(age, 3)), min_size=1, max_size=20))
def test_ages_survive_reading(tmp_path_factory: pytest.TempPathFactory, ages: list[float]) -> None:
    path = tmp_path_factory.mktemp("ages") / "ages.csv"
    path.write_text("id,boneage,male\n" + "".join(f"{i},{age:f},True\n" for i, age in enumerate(ages)))
    assert [row.bone_age_months for row in labelled_rows(read_label_file(path), TRAINING)] == pytest.approx(ages)


def test_the_rsna_folder_is_read_whole(rsna_dir: Path) -> None:
    dataset = read_dataset(rsna_dir, limit=200)
    assert len(dataset) == 200
    require_labels(dataset)
