"""Evidence comes back as it went in, or with the name of the file that was changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from bone_age.errors import ModelError
from bone_age.governance.evidence import SUMS, Evidence, MeasuredChampion
from tests.worlds import evidence, robustness

MEASURED = MeasuredChampion(version=7, model_digest="77" * 32, latency_ms=10.0)
FOUND = evidence(7.0, champion=MEASURED)
FILES = (
    "champion/metrics.json", "champion/predictions.csv", "config.yaml", "evidence.json", "manifest.csv",
    "robustness.json", "test/metrics.json", "test/predictions.csv",
)  # fmt: skip


def test_evidence_comes_back_as_it_went_in(tmp_path: Path) -> None:
    loaded = Evidence.load(tmp_path, FOUND.save(tmp_path))
    assert loaded.facts == FOUND.facts
    assert loaded.config_yaml == FOUND.config_yaml
    assert loaded.robustness == FOUND.robustness
    assert loaded.test.metrics == FOUND.test.metrics
    assert loaded.test.subgroups == FOUND.test.subgroups
    assert loaded.champion is not None
    assert FOUND.champion is not None
    pd.testing.assert_frame_equal(loaded.champion.predictions, FOUND.champion.predictions)
    pd.testing.assert_frame_equal(loaded.manifest, FOUND.manifest)
    assert loaded.rows_digest == FOUND.rows_digest
    assert loaded.patient_of_image == FOUND.patient_of_image


def test_what_was_not_measured_is_none_again(tmp_path: Path) -> None:
    alone = replace(evidence(), robustness=None)
    loaded = Evidence.load(tmp_path, alone.save(tmp_path))
    assert loaded.robustness is loaded.champion is None


def test_the_same_evidence_has_the_same_digest_and_other_evidence_another(tmp_path: Path) -> None:
    first, again = FOUND.save(tmp_path / "a"), FOUND.save(tmp_path / "b")
    changed = replace(FOUND, robustness=robustness(0.6)).save(tmp_path / "c")
    assert first == again != changed


def test_every_file_is_under_its_checksum(tmp_path: Path) -> None:
    FOUND.save(tmp_path)
    listed = [line.partition("  ")[2] for line in (tmp_path / SUMS).read_text().splitlines()]
    written = [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()]
    assert tuple(sorted(listed)) == FILES
    assert set(written) == {*FILES, SUMS}


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", [*FILES, SUMS])
@pytest.mark.parametrize("at", [0, -1])
def test_a_byte_that_was_changed_is_found_and_its_file_named(name: str, at: int, tmp_path: Path) -> None:
    digest = FOUND.save(tmp_path)
    flip(tmp_path / name, at)
    with pytest.raises(ModelError, match=re.escape(str(tmp_path / name))):
        Evidence.load(tmp_path, digest)


@pytest.mark.parametrize("name", [*FILES, SUMS])
def test_a_file_that_was_removed_is_named(name: str, tmp_path: Path) -> None:
    digest = FOUND.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match=f"{re.escape(name)}.*absent"):
        Evidence.load(tmp_path, digest)


def add_robustness(folder: Path) -> str:
    (folder / "robustness.json").write_text(robustness(0.1).model_dump_json())
    return "robustness.json"


def add_champion(folder: Path) -> str:
    assert FOUND.champion is not None
    FOUND.champion.save_tables(folder / "champion")
    return "champion/"


@pytest.mark.parametrize("add", [add_robustness, add_champion])
def test_a_figure_that_somebody_added_is_not_taken(add: Callable[[Path], str], tmp_path: Path) -> None:
    digest = replace(evidence(), robustness=None).save(tmp_path)
    name = add(tmp_path)
    with pytest.raises(ModelError, match=f"{name}.*somebody added it"):
        Evidence.load(tmp_path, digest)


def test_all_of_it_written_anew_with_its_checksums_is_found(tmp_path: Path) -> None:
    digest = FOUND.save(tmp_path)
    replace(FOUND, robustness=robustness(0.1)).save(tmp_path)
    with pytest.raises(ModelError, match="is not what was recorded"):
        Evidence.load(tmp_path, digest)


def test_an_empty_folder_holds_no_evidence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no evidence here"):
        Evidence.load(tmp_path, "00" * 32)


def test_rows_are_the_same_whatever_their_order_and_others_with_another_label() -> None:
    shuffled = replace(FOUND, manifest=FOUND.manifest.sample(frac=1, random_state=1))
    assert shuffled.rows_digest == FOUND.rows_digest
    labels = FOUND.manifest["bone_age_months"].copy()
    labels.iloc[-1] += 1
    assert replace(FOUND, manifest=FOUND.manifest.assign(bone_age_months=labels)).rows_digest != FOUND.rows_digest
