"""A registered model, a site's radiographs, and what becomes of them: version, evidence, gates, promotion, trail."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bone_age import registry
from bone_age.data.loading import load_dataset
from bone_age.data.synthetic import write_synthetic
from bone_age.errors import BusyError, InputError
from bone_age.governance.anchoring import open_ledger
from bone_age.governance.approval import promote_version
from bone_age.governance.audit import verify
from bone_age.governance.audit_bundle.bundle import build
from bone_age.governance.policy import Policy
from bone_age.governance.recording import import_reference
from bone_age.governance.stored import load_evidence
from bone_age.one_process import alone
from bone_age.serving.bundle import load_bundle
from bone_age.serving.predictor import Predictor
from bone_age.serving.references import load_predictor
from bone_age.settings import DataSettings, Home, SyntheticData
from bone_age.site_calibration.calibrate import calibrate

WIDE = {
    "test_mae_months": 500, "test_mae_upper_months": 500, "share_of_baseline_mae": 50, "test_r2": -500,
    "subgroup_rows": 2, "subgroup_mae_months": 500, "subgroup_bias_months": 500, "large_errors_share": 1,
    "coverage_tolerance": 0.89, "subgroup_coverage": 0.0001, "onnx_difference_months": 5,
    "robustness_months": {"marker": 500},
}  # fmt: skip
POLICY = Policy(promotion="manual", robustness_rows=4, overridable=("onnx_agrees",), synthetic_bounds=WIDE)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 drawn hands whose ages a reader gave."""
    return write_synthetic(tmp_path_factory.mktemp("clinic"), SyntheticData(n=70, seed=21, height_px=128, width_px=104))


@pytest.fixture
def parent(home: Home, tiny_bundle: Path, tmp_path: Path) -> Predictor:
    bundle = load_bundle(Path(shutil.copytree(tiny_bundle, tmp_path / "model")))
    version, _ = import_reference(bundle)
    return load_predictor(f"models:/bone-age/{version}")


def labelled_by(parent: Predictor, clinic: Path, folder: Path, shift: float = 7.0) -> Path:
    """The same radiographs, with ages that lie some months above what the model says, and a little noise."""
    site = Path(shutil.copytree(clinic, folder / "site"))
    table = pd.read_csv(site / "manifest.csv")
    random = np.random.default_rng(4)
    asked = zip(table["image"], table["sex"], strict=True)
    answers = np.array([parent.predict(site / image, sex).bone_age_months for image, sex in asked])
    labels = answers + shift + random.normal(0, 3, len(table))
    labels[:2] += (-40, 40)  # a model of two epochs says much the same of all, and a data set spans years
    table["bone_age_months"] = np.maximum(labels.round(1), 1)
    table.drop(columns=[c for c in table if c not in ("image", "sex", "bone_age_months")]).to_csv(
        site / "manifest.csv", index=False
    )
    return site


def test_a_site_gets_a_version_that_is_promoted_and_leaves_a_trail(
    parent: Predictor, clinic: Path, tmp_path: Path
) -> None:
    site = load_dataset(DataSettings(source=str(labelled_by(parent, clinic, tmp_path))))
    made = calibrate(site, parent, POLICY, Home())
    assert made.fit.kind in ("shift", "line")
    assert made.after.metrics.mae.value < made.before.metrics.mae.value
    assert abs(made.after.metrics.bias.value) < abs(made.before.metrics.bias.value)

    answering = load_predictor(f"models:/bone-age/{made.version}")
    image = next(site.root.rglob("*.png"))
    before, after = parent.predict(image, "F"), answering.predict(image, "F")
    line = made.fit.correction
    expected = line.slope * before.bone_age_months + line.intercept_months
    assert after.bone_age_months == pytest.approx(expected, abs=0.01)
    assert after.dataset_fingerprint == before.dataset_fingerprint, "it still learned from what its parent did"
    assert answering.bundle.facts.measured_on == site.fingerprint
    assert answering.bundle.held_out is not None
    assert site.name in (answering.bundle.folder / "MODEL_CARD.md").read_text()

    evidence = load_evidence(registry.version_facts(made.version))
    assert evidence.test.n == made.after.n
    assert {gate.name for gate in made.gates if not gate.holds} == {"onnx_agrees"}, "nobody measured it of the parent"
    assert registry.version_by_alias("champion") is None, "never by itself"

    again = calibrate(site, parent, POLICY, Home())
    assert (again.version, again.is_new) == (made.version, False)
    assert len(registry.all_versions()) == 2

    decision, _ = promote_version(made.version, "A. Roe", "fits the clinic", {"onnx_agrees": "same file"}, POLICY)
    assert decision.promoted, decision.reason
    assert list(verify(open_ledger())) == []
    assert build(made.version, open_ledger()).content == build(made.version, open_ledger()).content

    rival = calibrate(site.with_table(site.table.head(65)), parent, POLICY, Home())
    held = {gate.name: gate.holds for gate in rival.gates}
    assert rival.is_new
    assert held["same_test_rows"], "the champion was measured on the site's rows"
    assert "not_inferior_to_champion" in held


def test_a_model_is_not_calibrated_on_what_it_learned_from(parent: Predictor, clinic: Path, tmp_path: Path) -> None:
    site = load_dataset(DataSettings(source=str(labelled_by(parent, clinic, tmp_path))))
    first = calibrate(site, parent, POLICY, Home())
    child = load_predictor(f"models:/bone-age/{first.version}")
    with pytest.raises(InputError, match=r"trained or chosen on this very image.* --model models:/bone-age/1"):
        calibrate(site, child, POLICY, Home())


@pytest.mark.fault
def test_what_is_wrong_with_a_site_is_said_and_registers_nothing(
    parent: Predictor, clinic: Path, tmp_path: Path
) -> None:
    folder = labelled_by(parent, clinic, tmp_path)
    table = pd.read_csv(folder / "manifest.csv")
    table.assign(bone_age_months=table["bone_age_months"] / 12).to_csv(folder / "manifest.csv", index=False)
    with pytest.raises(InputError, match="data validation failed"):
        calibrate(load_dataset(DataSettings(source=str(folder))), parent, POLICY, Home())
    table.assign(bone_age_months=table["bone_age_months"] + 60).to_csv(folder / "manifest.csv", index=False)
    with pytest.raises(InputError, match=r"months apart on average|slope"):
        calibrate(load_dataset(DataSettings(source=str(folder))), parent, POLICY, Home())
    with alone(Home().root / "calibration.lock", "calibration"), pytest.raises(BusyError, match="another calibration"):
        calibrate(load_dataset(DataSettings(source=str(folder))), parent, POLICY, Home())
    assert len(registry.all_versions()) == 1
