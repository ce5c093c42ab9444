"""Configurations, policies and manifests with anything changed in them: read, or refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bone_age.data.sources import read_dataset
from bone_age.errors import BoneAgeError
from bone_age.governance.policy import Policy
from bone_age.settings import load_config

PROJECT = Path(__file__).parents[2]
CONFIG = (PROJECT / "configs" / "rsna_cpu.yaml").read_text()
POLICY = (PROJECT / "configs" / "policy.yaml").read_text()
MANIFEST = "image,sex,bone_age_months,chronological_age_months,patient_id,split\n" + "".join(
    f"{row}.png,{'MF'[row % 2]},{10 + row},{12 + row},p{row},{('train', 'validation', 'test')[row % 3]}\n"
    for row in range(12)
)
PIECES = st.sampled_from(
    ["", "\n", ":", " ", "  ", "-", "#", "[", "{", "&a ", "*a", "!!python/object:os.system ", "null", "1e999", ".nan",
     "-1", "99999999999999999999", "\t", "\0", "é", "\udc80", ",", '"', "\r", "true", "'", "x" * 300, "\ufeff"]
)  # fmt: skip
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), PIECES), min_size=1, max_size=4)


def changed(text: str, edits: list[tuple[float, int, str]]) -> bytes:
    """Some characters taken out at a place, and something else put there, again and again."""
    for place, taken, piece in edits:
        at = round(place * len(text))
        text = text[:at] + piece + text[at + taken :]
    return text.encode("utf-8", "surrogateescape")


def read_or_refused(read: Callable[[Path], Any], path: Path) -> None:
    said = "read"
    try:
        read(path)
    except BoneAgeError as error:
        said = str(error)
    assert said
    assert "\n" not in said


@pytest.mark.fault
@settings(max_examples=200, deadline=None)
@given(edits=EDITS)
def test_a_changed_configuration(tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[float, int, str]]) -> None:
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    path.write_bytes(changed(CONFIG, edits))
    read_or_refused(load_config, path)


@pytest.mark.fault
@settings(max_examples=150, deadline=None)
@given(edits=EDITS)
def test_a_changed_policy(tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[float, int, str]]) -> None:
    path = tmp_path_factory.getbasetemp() / "policy.yaml"
    path.write_bytes(changed(POLICY, edits))
    read_or_refused(Policy.read, path)


@pytest.mark.fault
@settings(max_examples=150, deadline=None)
@given(edits=EDITS)
def test_a_changed_manifest(tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[float, int, str]]) -> None:
    folder = tmp_path_factory.getbasetemp() / "changed-manifest"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.csv").write_bytes(changed(MANIFEST, edits))
    read_or_refused(read_dataset, folder)
