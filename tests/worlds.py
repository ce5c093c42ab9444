"""A registry with a few small versions, for tests of who becomes champion; no network is trained for it.

The template is made once a session and copied for each test, with the places in MLflow's database rewritten.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
from mlflow.tracking._tracking_service import utils
from onnx import TensorProto, helper, numpy_helper

from bone_age import registry
from bone_age.evaluation.answer_sample import AnswerSample
from bone_age.evaluation.bootstrap import Estimate
from bone_age.evaluation.evaluation import Evaluation, ScoredSet, evaluate_predictions
from bone_age.evaluation.intervals import IntervalCalibration, Knot
from bone_age.evaluation.robustness import ChangeEffect, Robustness
from bone_age.evaluation.subgroups import subgroup_names
from bone_age.governance.anchoring import open_ledger
from bone_age.governance.approval import promote_version
from bone_age.governance.audit import verify
from bone_age.governance.automatic import face_the_gates
from bone_age.governance.candidates import Candidate
from bone_age.governance.evidence import ROW_COLUMNS, Evidence, EvidenceFacts, MeasuredChampion
from bone_age.governance.gate import Decision
from bone_age.governance.ledger import Ledger
from bone_age.governance.policy import Bounds, Policy
from bone_age.governance.recording import record_registered
from bone_age.governance.stored import store_evidence
from bone_age.imaging import PreprocessingSettings
from bone_age.mlflow_connection import connect, experiment_id
from bone_age.serving.bundle import Bundle, ModelFacts, Origin, write_bundle
from bone_age.settings import EvaluationSettings, Home

FINGERPRINT = "ab" * 32
CONFIG = "name: tiny\nseed: 3\ntraining:\n  epochs: 2\n"
SIZE_PX, COVERAGE, TEST_ROWS = 32, 0.9, 240
QUICK = EvaluationSettings(bootstrap_replicates=200)
ARCHITECTURES = {1: "xception_multi", 2: "xception_multi", 3: "xception_single", 4: "resnet50_multi"}
POLICY = Policy(
    overridable=("worst_subgroup_mae", "latency"),
    bounds=Bounds(
        test_mae_upper_months=12.0,
        test_r2=0.8,
        subgroup_rows=10,
        subgroup_mae_months=12.0,
        subgroup_bias_months=10.0,
        large_errors_share=0.2,
        coverage_tolerance=0.15,
        subgroup_coverage=0.2,
        robustness_months={"mirrored": 2.0},
    ),
)
WEAK_GROUP = "M_120_168"


def manifest_table(n_train: int = 100, fewer: int = 0) -> pd.DataFrame:
    """Radiographs to learn from and to test on, each of a patient of its own."""
    chance = np.random.default_rng(7)
    n = n_train + TEST_ROWS
    table = pd.DataFrame(
        {
            "image_id": [f"image-{row}" for row in range(n)],
            "sha256": [f"{row:064x}" for row in range(n)],
            "sex": chance.choice(["M", "F"], n),
            "bone_age_months": np.clip((chance.normal(127, 41, n) / 6).round() * 6, 1, 228),
            "patient_id": [f"patient-{row}" for row in range(n)],
            "split": ["train"] * n_train + ["test"] * TEST_ROWS,
        }
    )
    return table[list(ROW_COLUMNS)].iloc[fewer:].reset_index(drop=True)


def predicted(error_months: float, weak_group_times: float = 1.0, **scored: Any) -> Evaluation:
    """A test of the rows above: the same radiographs are hard for all models, by so much as the model errs."""
    rows = manifest_table().query("split == 'test'").reset_index(drop=True)
    errors = np.random.default_rng(5).normal(0, error_months, len(rows))
    groups = np.array(subgroup_names(rows["sex"].tolist(), rows["bone_age_months"].tolist()))
    errors = np.where(groups == WEAK_GROUP, errors * weak_group_times, errors)
    where = {"dataset": "hands", "fingerprint": FINGERPRINT, "split": "test", "synthetic": False} | scored
    table = rows.assign(predicted_months=rows["bone_age_months"] + errors)
    return evaluate_predictions(table, "xception_multi", ScoredSet(**where), calibration(error_months), QUICK, seed=3)


def calibration(error_months: float) -> IntervalCalibration:
    width = 1.645 * error_months
    knots = (Knot(at_months=100, n_calibration=200, half_width_months=width),)
    return IntervalCalibration(coverage=COVERAGE, n_calibration=200, half_width_months=width, knots=knots)


def robustness(rise_months: float = 0.5, fingerprint: str = FINGERPRINT) -> Robustness:
    effect = ChangeEffect(
        name="mirrored",
        description="mirrored left to right",
        n=50,
        mae=7.0,
        mae_increase=Estimate(rise_months, rise_months - 0.2, rise_months + 0.2),
        mean_shift=0.1,
        mean_absolute_shift=1.0,
        p95_absolute_shift=3.0,
    )
    scored = ScoredSet("hands", fingerprint, "test")
    return Robustness(model="m", scored_set=scored, n=50, mae=6.5, effects=(effect,), replicates=200, seed=3)


def evidence(
    error_months: float = 8.0,
    *,
    champion: MeasuredChampion | None = None,
    champion_error_months: float = 8.0,
    weak_group_times: float = 1.0,
    rise_months: float = 0.5,
    config_yaml: str = CONFIG,
    manifest: pd.DataFrame | None = None,
    **facts: Any,
) -> Evidence:
    """Evidence that passes every gate of `POLICY`, unless told otherwise; it names no version that exists."""
    told = {
        "version": 1,
        "architecture": "xception_multi",
        "model_digest": "11" * 32,
        "dataset_fingerprint": FINGERPRINT,
        "policy_digest": POLICY.digest,
        "synthetic": False,
        "mlflow_run_id": "no-run",
        "trained_by": "trainer",
        "code_digest": "c0de",
        "data_errors": 0,
        "leaks": 0,
        "baseline_mae": 33.0,
        "onnx_difference_months": 0.001,
        "preprocessing_compared": 32,
        "preprocessing_differences": 0,
        "latency_ms": 10.0 if champion else None,
        "champion": champion,
    }
    return Evidence(
        facts=EvidenceFacts(**told | facts),
        test=predicted(error_months, weak_group_times),
        manifest=manifest_table() if manifest is None else manifest,
        config_yaml=config_yaml,
        robustness=robustness(rise_months),
        champion=predicted(champion_error_months) if champion else None,
    )


@dataclass(frozen=True)
class World:
    """A home with the versions of `ARCHITECTURES`, of which none is champion yet."""

    home: Home
    policy: Policy = field(default=POLICY)

    def under(self, **changes: Any) -> World:
        """The same with other rules; evidence that was collected before is stale under them."""
        return replace(self, policy=self.policy.model_copy(update=changes))

    @property
    def ledger(self) -> Ledger:
        return open_ledger()

    @property
    def alias(self) -> int | None:
        found = registry.version_by_alias("champion")
        return int(found.version) if found else None

    @property
    def recorded(self) -> int | None:
        champion = self.ledger.champion_on()
        return champion.version if champion else None

    def findings(self) -> list[str]:
        return list(verify(self.ledger))

    def events(self) -> list[str]:
        """After the versions were registered."""
        return [entry.event.value for entry in self.ledger.entries() if entry.event.value != "registered"]

    def collect(self, version: int, error_months: float = 8.0, **changes: Any) -> str:
        """Store evidence of a version, today's champion measured beside it. Returns its digest."""
        facts = registry.version_facts(version)
        today = registry.version_by_alias("champion")
        if today is not None and int(today.version) != version:
            digest = registry.VersionFacts.of(today).model_digest
            measured = MeasuredChampion(version=int(today.version), model_digest=digest, latency_ms=10.0)
            changes = {"champion": measured} | changes
        told = {
            "version": version,
            "architecture": facts.architecture,
            "model_digest": facts.model_digest,
            "policy_digest": self.policy.digest,
            "mlflow_run_id": facts.run_id,
        }
        return store_evidence(evidence(error_months, **told | changes))

    def promote(self, version: int, approver: str = "A. Roe", reason: str = "reviewed", **overrides: str) -> Decision:
        """By a person, on the evidence that is stored."""
        return promote_version(version, approver, reason, overrides, self.policy)[0]

    def crown(self, *versions: int) -> None:
        """Promote one after the other, each on evidence that holds and a little better than the one before."""
        for step, version in enumerate(versions):
            self.collect(version, 8.0 - step, champion_error_months=9.0 - step)
            assert self.promote(version, reason=f"promoted as {version}").promoted

    def automatic(self, version: int, error_months: float = 8.0, **changes: Any) -> Decision:
        """By the pipeline, after it collected evidence."""
        digest = self.collect(version, error_months, **changes)
        facts = registry.version_facts(version)
        candidate = Candidate(
            version=version, architecture=facts.architecture, validation_mae=7.0, evidence_sha256=digest
        )
        return face_the_gates([candidate], self.policy, "night")[0]

    def bundle(self, version: int) -> Path:
        """Where the files of a version lie in the artifact store."""
        return registry.resolve(f"models:/bone-age/{version}")[1]

    def evidence_folder(self, version: int, digest: str) -> Path:
        facts = registry.version_facts(version)
        run = connect().get_run(facts.run_id)
        return Path(run.info.artifact_uri.removeprefix("file://")) / "evidence" / digest[:16]


def write_onnx(path: Path, offset_months: float) -> None:
    """Months are the mean grey level and an offset."""
    uint8, float32 = TensorProto.UINT8, TensorProto.FLOAT
    inputs = [("image", uint8, ["N", SIZE_PX, SIZE_PX]), ("sex", float32, ["N", 1])]
    outputs = [("bone_age_months", ["N", 1]), ("pooled_features", ["N", 1]), ("attention", ["N", SIZE_PX, SIZE_PX])]
    constants = {
        "axes": np.array([1, 2], np.int64),
        "column": np.array([-1, 1], np.int64),
        "offset": np.array([[offset_months]], np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["attention"], to=float32),
        helper.make_node("ReduceMean", ["attention", "axes"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "column"], ["pooled_features"]),
        helper.make_node("Add", ["pooled_features", "offset"], ["sexless"]),
        helper.make_node("Add", ["sexless", "sex"], ["bone_age_months"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean-grey",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(name, float32, shape) for name, shape in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def register(architecture: str, offset_months: float, scratch: Path, held_out: AnswerSample | None = None) -> int:
    """A bundle with a run of its own as the next version, and in the ledger."""
    tags = {"kind": "architecture", "architecture": architecture, "trained_by": "trainer", "git_commit": "c0ffee"}
    run_id = connect().create_run(experiment_id(), tags=tags, run_name=architecture).info.run_id
    connect().set_terminated(run_id)
    bundle = write_small_bundle(scratch, offset_months, architecture, run_id, held_out)
    tags = {
        "architecture": architecture,
        "inputs": bundle.facts.inputs,
        "dataset_fingerprint": FINGERPRINT,
        "synthetic": "False",
        "git_commit": "c0ffee",
        "seed": "3",
        "onnx_sha256": bundle.onnx_sha256,
        "model_digest": bundle.digest,
    }
    version = registry.register_bundle(bundle.folder, run_id, tags, f"{architecture}: MAE 6.4 months on hands")
    record_registered(registry.version_facts(version))
    return version


def write_small_bundle(
    scratch: Path,
    offset_months: float,
    architecture: str = "xception_multi",
    run_id: str = "no-run",
    held_out: AnswerSample | None = None,
) -> Bundle:
    """A model folder in `scratch`, whose network is `write_onnx`'s."""
    model, bundle_folder = scratch / "model", scratch / "bundle"
    for folder in (model, bundle_folder):
        folder.mkdir(parents=True)
    write_onnx(model / "model.onnx", offset_months)
    (model / "model.keras").write_bytes(b"not a network")
    (model / "training.json").write_text("{}")
    settings = PreprocessingSettings(image_size_px=SIZE_PX, clahe=None)
    (model / "preprocessing.json").write_text(settings.model_dump_json())
    facts = ModelFacts(
        architecture=architecture,
        inputs="image + sex",
        dataset_name="hands",
        dataset_fingerprint=FINGERPRINT,
        synthetic=False,
        images_digest="cd" * 32,
        weights="none",
        seed=3,
        mlflow_run_id=run_id,
        test_mae=6.4,
        git_commit="c0ffee",
    )
    origin = Origin(CONFIG, predicted(8.0).to_json())
    return write_bundle(bundle_folder, model, calibration(8.0), facts, origin, held_out=held_out)


def copy_world(template: Path, target: Path) -> None:
    """The same world in another place; runs keep their ids, by which MLflow remembers where artifacts lie."""
    utils._artifact_repos_cache.clear()
    shutil.copytree(template, target, dirs_exist_ok=True)
    with closing(sqlite3.connect(target / "mlflow.db")) as database, database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for _, column, kind, *_ in database.execute(f"PRAGMA table_info({table})").fetchall():
                if "CHAR" in kind.upper() or "TEXT" in kind.upper():
                    moved = f"UPDATE {table} SET {column} = replace({column}, ?, ?) WHERE instr({column}, ?)"
                    database.execute(moved, (str(template), str(target), str(template)))
