"""What a decision about one version rests on, as files with checksums, so that it can be judged again later.

A figure says on which radiographs, of which model and under which policy it was measured; what belongs to another is
stale. The folder lies in the version's MLflow run as `evidence/` and the start of its digest, so that evidence is
added and never overwritten; the whole digest is a tag of the version and stands in the ledger, so that a changed figure
is noticed before it is judged.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd
from pydantic import Field, ValidationError

from bone_age.errors import InputError, ModelError
from bone_age.evaluation.evaluation import Evaluation
from bone_age.evaluation.robustness import Robustness
from bone_age.evaluation.whole_file import write_whole
from bone_age.settings import Strict

FACTS, MANIFEST, CONFIG, ROBUSTNESS, SUMS = (
    "evidence.json", "manifest.csv", "config.yaml", "robustness.json", "SHA256SUMS"
)  # fmt: skip
ROW_COLUMNS = ("image_id", "sha256", "sex", "bone_age_months", "patient_id", "split")


class MeasuredChampion(Strict):
    """The version that served when the evidence was collected.

    Attributes:
        latency_ms: Of one image, measured in turns with the other version; None where it was not.
        why_not_measured: In words, where its predictions are absent.
    """

    version: int
    model_digest: str
    latency_ms: float | None = None
    why_not_measured: str = ""


class EvidenceFacts(Strict):
    """Figures that need no file of their own; None where one was not measured.

    Attributes:
        model_digest: Of the version's bundle.
        data_errors: Of the data validation.
        leaks: Patients, images and look-alikes in more than one split.
        baseline_mae: Of the mean for that sex on the test rows, months.
        onnx_difference_months: Largest difference between the Keras and the ONNX model.
        preprocessing_compared, preprocessing_differences: Test images that serving prepared anew, and those of them
            that are not byte for byte what training saw.
        code_digest: Of the package's source files that prepare images and train.
    """

    version: int
    architecture: str
    model_digest: str
    dataset_fingerprint: str
    policy_digest: str
    synthetic: bool
    mlflow_run_id: str
    trained_by: str
    code_digest: str = ""  # of evidence from before it was recorded
    data_errors: int | None = Field(None, ge=0)
    leaks: int | None = Field(None, ge=0)
    baseline_mae: float | None = None
    onnx_difference_months: float | None = None
    preprocessing_compared: int = Field(0, ge=0)
    preprocessing_differences: int | None = Field(None, ge=0)
    latency_ms: float | None = None
    champion: MeasuredChampion | None = None


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that is known of one version.

    Attributes:
        manifest: `ROW_COLUMNS` of every radiograph of the data set.
        config_yaml: How it was trained.
        robustness, champion: None where they were not measured.
    """

    facts: EvidenceFacts
    test: Evaluation
    manifest: pd.DataFrame
    config_yaml: str
    robustness: Robustness | None = None
    champion: Evaluation | None = None

    @property
    def tested(self) -> pd.DataFrame:
        """The manifest's rows that the version was tested on."""
        return self.manifest[self.manifest["image_id"].isin(set(self.test.predictions["image_id"]))]

    @property
    def rows_digest(self) -> str:
        """SHA-256 (hex) over the test radiographs' bytes and labels, whatever their order."""
        lines = sorted(
            f"{image},{sha256},{sex},{months:.6g}"
            for image, sha256, sex, months in zip(
                *(self.tested[name] for name in ("image_id", "sha256", "sex", "bone_age_months")), strict=True
            )
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def patient_of_image(self) -> dict[str, str]:
        return dict(zip(self.tested["image_id"], self.tested["patient_id"], strict=True))

    def champion_test(self, champion: Incumbent) -> Evaluation | None:
        """The champion's predictions on these very rows: measured with this evidence, or on the champion's own day."""
        measured = self.facts.champion
        if measured is not None and measured.model_digest == champion.model_digest and self.champion is not None:
            return self.champion
        own = champion.evidence
        return own.test if own is not None and own.rows_digest == self.rows_digest else None

    def why_not_measured(self, champion: Incumbent) -> str:
        """In words, for a champion whose `champion_test` is None."""
        measured = self.facts.champion
        if measured is None or measured.model_digest != champion.model_digest:
            before = f"version {measured.version}" if measured else "none"
            return f"when the evidence was collected the champion was {before}; run the training pipeline again"
        return measured.why_not_measured or "its predictions are absent"

    def latency_share(self, champion: Incumbent) -> float | None:
        """Time of one image over the champion's, None where the two were not measured together."""
        measured = self.facts.champion
        if measured is None or measured.model_digest != champion.model_digest:
            return None
        return ratio(self.facts.latency_ms, measured.latency_ms)

    def staleness(self, model_digest: str, dataset_fingerprint: str, policy_digest: str) -> str:
        """Why these figures are not of that model, data set or policy, in words; empty where they are."""
        facts = self.facts
        pairs = [
            ("model", facts.model_digest, model_digest),
            ("data set", facts.dataset_fingerprint, dataset_fingerprint),
            ("data set", self.test.scored_set.fingerprint, dataset_fingerprint),
            ("policy", facts.policy_digest, policy_digest),
        ]
        for beside in (self.robustness, self.champion):
            if beside is not None:
                pairs.append(("data set", beside.scored_set.fingerprint, dataset_fingerprint))
        for what, measured, today in pairs:
            if measured != today:
                return (
                    f"stale: measured with {what} {measured[:12]}, it is {today[:12]}; run `train`, or a "
                    "site's `calibrate`, again"
                )
        return ""

    def save(self, folder: Path) -> str:
        """Write everything and, last, the checksums. Returns the evidence's digest.

        Raises:
            InputError: The folder cannot be written.
        """
        self.test.save_tables(folder / "test")
        if self.champion is not None:
            self.champion.save_tables(folder / "champion")
        if self.robustness is not None:
            write_whole(folder / ROBUSTNESS, self.robustness.model_dump_json(indent=2).encode())
        manifest = self.manifest[list(ROW_COLUMNS)].to_csv(index=False, lineterminator="\n")
        write_whole(folder / MANIFEST, manifest.encode())
        write_whole(folder / CONFIG, self.config_yaml.encode())
        write_whole(folder / FACTS, self.facts.model_dump_json(indent=2).encode())
        files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != SUMS)
        sums = "".join(f"{_sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in files)
        write_whole(folder / SUMS, sums.encode())
        return hashlib.sha256(sums.encode()).hexdigest()

    @classmethod
    def load(cls, folder: Path, digest: str) -> Self:
        """Verify and read what `save` wrote.

        Args:
            digest: What `save` returned.
        Raises:
            ModelError: A file is absent, was changed or was added; it is named.
        """
        _verify(folder, digest)
        try:
            robustness = folder / ROBUSTNESS
            return cls(
                facts=EvidenceFacts.model_validate_json((folder / FACTS).read_text()),
                test=Evaluation.load(folder / "test"),
                manifest=_read_manifest(folder / MANIFEST),
                config_yaml=(folder / CONFIG).read_text(),
                robustness=Robustness.model_validate_json(robustness.read_text()) if robustness.is_file() else None,
                champion=Evaluation.load(folder / "champion") if (folder / "champion").is_dir() else None,
            )
        except (OSError, ValidationError, InputError, ValueError) as error:
            raise ModelError(f"{folder}: no evidence: {' '.join(str(error).split())[:200]}") from None


@dataclass(frozen=True, eq=False)
class Incumbent:
    """The version that serves now; `evidence` is what was stored of it, None where there is none."""

    version: int
    model_digest: str
    synthetic: bool
    evidence: Evidence | None = None


def ratio(figure: float | None, reference: float | None) -> float | None:
    """None where one of the two was not measured, or is nothing that a measurement can give."""
    measured = [number for number in (figure, reference) if number is not None and math.isfinite(number) and number > 0]
    return measured[0] / measured[1] if len(measured) == 2 else None


def _read_manifest(file: Path) -> pd.DataFrame:
    text = dict.fromkeys(ROW_COLUMNS, str) | {"bone_age_months": float}
    return pd.read_csv(file, dtype=text, keep_default_na=False, float_precision="round_trip")


def _verify(folder: Path, digest: str) -> None:
    try:
        sums = (folder / SUMS).read_bytes()
    except OSError:
        raise ModelError(f"{folder}: no evidence here ({SUMS} is absent)") from None
    if hashlib.sha256(sums).hexdigest() != digest:
        raise ModelError(f"{folder / SUMS}: is not what was recorded when the evidence was collected")
    listed = {name: expected for expected, _, name in (line.partition("  ") for line in sums.decode().splitlines())}
    for file in sorted(file for file in folder.rglob("*") if file.is_file() and file != folder / SUMS):
        if file.relative_to(folder).as_posix() not in listed:
            raise ModelError(f"{file}: is not listed in {SUMS}; somebody added it")
    for name, expected in listed.items():
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name}: listed in {SUMS} but absent")
        if _sha256(folder / name) != expected:
            raise ModelError(f"{folder / name}: checksum does not match {SUMS}; the file was changed or damaged")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
