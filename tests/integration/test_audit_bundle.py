"""The audit bundle of real versions, checked the way an auditor would: by its own verifier, with nothing installed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from prov.model import ProvDocument
from typer.testing import CliRunner

from bone_age import registry
from bone_age.cli import app
from bone_age.errors import BoneAgeError, ModelError
from bone_age.governance.anchoring import open_ledger
from bone_age.governance.audit_bundle.bundle import attach, attach_all
from bone_age.governance.audit_bundle.zipping import with_sums, zipped
from bone_age.governance.entries import Event, NewEntry, digest_of_entry
from bone_age.mlflow_connection import connect, reopened
from bone_age.serving.bundle import CARD
from tests.audit_world import POLICY, AuditWorld, audit_world, record_another_version

REPOSITORY = Path(__file__).parents[2]
LEDGER = "ledger/entries.jsonl"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditWorld]:
    with audit_world(tmp_path_factory) as made:
        yield made


@pytest.fixture(scope="module")
def files(world: AuditWorld) -> dict[str, bytes]:
    return unzipped(world.bundle().content)


def unzipped(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def verified(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the verifier that lies in a folder, with neither site packages nor environment."""
    command = [sys.executable, "-I", "-S", "-B", str(folder / "verify.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent, timeout=120, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


def laid_out(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def summed_anew(files: dict[str, bytes]) -> dict[str, bytes]:
    """What somebody does who changes a file and knows of SHA256SUMS."""
    return with_sums({name: content for name, content in files.items() if name != "SHA256SUMS"})


def test_the_same_version_gives_the_same_bytes_whatever_happens_to_others(world: AuditWorld, tmp_path: Path) -> None:
    first = world.bundle()
    assert world.bundle().content == first.content
    record_another_version()
    registry.set_version_tag(world.promoted, "looked_at_by", "somebody")
    with reopened(registry.version_facts(world.promoted).run_id):
        mlflow.log_text("of another day", "notes.txt")
    assert world.bundle().content == first.content
    environment = os.environ | {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "bone_age.cli", "audit", "bundle", "--version", str(world.promoted)]
    command += ["--out", "here/bundle.zip"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert f"sha256 {first.sha256}" in done.stdout
    assert (tmp_path / "here" / "bundle.zip").read_bytes() == first.content


def test_everything_that_an_auditor_asks_for_is_in_it_and_no_weights_or_pictures(files: dict[str, bytes]) -> None:
    assert {
        "README.txt", "SHA256SUMS", "verify.py", "model_card.html", "model_card.md", "version.json", "parameters.json",
        "metrics.json", "lineage.prov.json", "environment/sbom.cdx.json", "environment/requirements.lock",
        "environment/environment.json", "data_validation/great_expectations.json", "data_validation/data_docs.html",
        "dataset/manifest.csv", "evaluation/test/predictions.csv", "evaluation/test/metrics.json", LEDGER,
        "ledger/extract.json", "model/checksums.json", "model/config.yaml", "evidence/robustness.json",
        "evidence/SHA256SUMS", "report/report.json",
    } <= set(files)  # fmt: skip
    assert any(name.startswith("policies/") for name in files)
    assert not [name for name in files if name.endswith((".png", ".onnx", ".keras", ".dcm", ".jpg"))]
    assert {"model.onnx", "model.keras"} <= set(json.loads(files["model/checksums.json"]))


def test_an_untouched_bundle_passes_as_folder_and_as_archive(world: AuditWorld, tmp_path: Path) -> None:
    made = world.bundle()
    folder = laid_out(unzipped(made.content), tmp_path / "open")
    (tmp_path / "closed.zip").write_bytes(made.content)
    for arguments in ((), (str(tmp_path / "closed.zip"),), (str(folder),)):
        code, said = verified(folder, *arguments)
        assert code == 0, said
        assert said.startswith("nothing amiss in ")
    for version in (world.resnet, world.reference):
        other = laid_out(unzipped(world.bundle(version).content), tmp_path / str(version))
        assert verified(other)[0] == 0, verified(other)
    last = json.loads(unzipped(made.content)["ledger/extract.json"])
    assert verified(folder, "--holds", f"{last['last']}:{last['last_digest']}")[0] == 0
    assert verified(folder, "--holds", f"1:{'0' * 64}")[0] == 1


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_one_flipped_bit_in_any_file_is_found(files: dict[str, bytes], tmp_path: Path) -> None:
    verifier = laid_out({"verify.py": files["verify.py"]}, tmp_path / "trusted")
    flipped = {name: _flipped(content) for name, content in files.items()}
    (tmp_path / "flipped.zip").write_bytes(zipped({**flipped, "SHA256SUMS": files["SHA256SUMS"]}))
    code, said = verified(verifier, str(tmp_path / "flipped.zip"))
    assert code == 1
    changed = {line.split(": was changed")[0] for line in said.splitlines()}
    assert set(files) - changed == {"SHA256SUMS"}
    (tmp_path / "sums.zip").write_bytes(zipped({**files, "SHA256SUMS": flipped["SHA256SUMS"]}))
    assert verified(verifier, str(tmp_path / "sums.zip"))[0] == 1
    whole = zipped(files)
    at = whole.index(files["model_card.md"][:60])
    (tmp_path / "raw.zip").write_bytes(whole[:at] + b"?" + whole[at + 1 :])
    assert "model_card.md: is damaged" in verified(verifier, str(tmp_path / "raw.zip"))[1]


def test_a_file_that_is_gone_or_was_added_is_found(files: dict[str, bytes], tmp_path: Path) -> None:
    without = {name: content for name, content in files.items() if name != "dataset/manifest.csv"}
    code, said = verified(laid_out(without, tmp_path / "without"))
    assert code == 1
    assert "dataset/manifest.csv: is missing" in said
    code, said = verified(laid_out({**files, "evidence/more.txt": b""}, tmp_path / "with"))
    assert code == 1
    assert "evidence/more.txt: is not listed in SHA256SUMS" in said


def _edited(lines: list[dict[str, object]]) -> list[dict[str, object]]:
    return [lines[0] | {"reason": "nothing to see"}, *lines[1:]]


def _edited_and_sealed(lines: list[dict[str, object]]) -> list[dict[str, object]]:
    first = lines[0] | {"reason": "nothing to see"}
    return [first | {"digest": digest_of_entry(first)}, *lines[1:]]


TAMPERINGS: dict[str, tuple[Callable[[list[dict[str, object]]], list[dict[str, object]]], str]] = {
    "edited": (_edited, "was edited"),
    "edited and sealed anew": (_edited_and_sealed, "does not follow"),
    "removed": (lambda lines: [lines[0], *lines[2:]], "missing or moved"),
    "first removed": (lambda lines: lines[1:], "missing or moved"),
    "reordered": (lambda lines: [lines[1], lines[0], *lines[2:]], "missing or moved"),
    "cut off": (lambda lines: lines[:-1], "the last entry should be"),
    "emptied": (lambda lines: [], "the last entry should be"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_changed_ledger_is_found_though_the_sums_were_made_anew(
    name: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    change, expected = TAMPERINGS[name]
    lines = change([json.loads(line) for line in files[LEDGER].splitlines()])
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    code, said = verified(laid_out(summed_anew({**files, LEDGER: text}), tmp_path / "bundle"))
    assert code == 1
    assert expected in said


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("model/metrics.json", b'"mae"', b'"mad"'),
        ("evidence/test/metrics.json", b'"mae"', b'"mad"'),
        ("dataset/manifest.csv", b",M,", b",F,"),
        ("policies/", b'"promotion": "auto"', b'"promotion": "manual"'),
    ],
)
def test_what_the_ledger_names_cannot_be_exchanged_by_making_the_sums_anew(
    name: str, old: bytes, new: bytes, files: dict[str, bytes], tmp_path: Path
) -> None:
    path = next(file for file in sorted(files) if file.startswith(name))
    assert old in files[path]
    exchanged = {**files, path: files[path].replace(old, new, 1)}
    code, said = verified(laid_out(summed_anew(exchanged), tmp_path / "bundle"))
    assert code == 1
    assert f"{path}: is not" in said


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (b'{"version": 99}', "says version 99, of which the ledger names no model"),
        (b'{"version": 77}', "says version 77, of which the ledger names no model"),
        (b'{"version": "1"}', "does not say which version"),
        (b'{"version": 1.0}', "does not say which version"),
        (b'{"version": true}', "does not say which version"),
        (b'{"version": 1, "version": 1}', "does not say which version"),
        (b"no JSON", "does not say which version"),
        (None, "does not say which version"),
    ],
)
def test_version_json_cannot_unbind_the_files_from_the_ledger(
    version: bytes | None, expected: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    others = {name: content for name, content in files.items() if name != "version.json"}
    changed = others if version is None else {**others, "version.json": version}
    code, said = verified(laid_out(summed_anew(changed), tmp_path / "bundle"))
    assert code == 1
    assert f"version.json: {expected}" in said


def test_a_policy_that_a_decision_names_has_to_be_there(files: dict[str, bytes], tmp_path: Path) -> None:
    others = {name: content for name, content in files.items() if not name.startswith("policies/")}
    code, said = verified(laid_out(summed_anew(others), tmp_path / "bundle"))
    assert code == 1
    assert f"policies/{POLICY.digest}.json: is missing; ledger entry " in said


def test_a_key_that_is_twice_in_an_entry_is_found(files: dict[str, bytes], tmp_path: Path) -> None:
    doubled = files[LEDGER].replace(b'{"actor":', b'{"actor":"somebody else","actor":', 1)
    code, said = verified(laid_out(summed_anew({**files, LEDGER: doubled}), tmp_path / "bundle"))
    assert code == 1
    assert "ledger entry 1: is no entry" in said


TOLD = ("Intended use and limits", "F_060_120", "xception_multi_clahe_off", "no difference could be shown",
        "reviewed the report", "worst_subgroup_mae", "What is absent", "MAE, months", "3 images are faint")  # fmt: skip


def test_the_card_gives_figures_failures_and_decisions_and_escapes_names(files: dict[str, bytes]) -> None:
    page, text = files["model_card.html"].decode(), files["model_card.md"].decode()
    for written in (page, text):
        assert "<script" not in written
        assert "<img" not in written
        for told in TOLD:
            assert told in written, told
    assert "&lt;script&gt;alert(1)" in page
    assert "](" not in text
    worst = page.split("Known failures")[1]
    assert worst.index("=cmd &lt;img src=x onerror=alert(2)&gt;") < worst.index("image-")
    figures = json.loads(files["evidence/test/metrics.json"])
    assert f"{figures['mae']:.2f} [{figures['mae_lo']:.2f}, {figures['mae_hi']:.2f}]" in page


def test_the_bill_of_materials_fits_its_schema_and_lists_the_lock(files: dict[str, bytes]) -> None:
    text = files["environment/sbom.cdx.json"].decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    assert "timestamp" not in document["metadata"]
    pinned = [line for line in files["environment/requirements.lock"].decode().splitlines() if line[:1].isalnum()]
    assert len(document["components"]) == len(pinned)
    numpy = next(one for one in document["components"] if one["name"] == "numpy")
    assert numpy["purl"] == f"pkg:pypi/numpy@{numpy['version']}"
    hashes = {one["content"] for one in numpy["externalReferences"][0]["hashes"]}
    assert all(digest in files["environment/requirements.lock"].decode() for digest in hashes)
    assert len(hashes) > 1
    keras = next(one["bom-ref"] for one in document["components"] if one["name"] == "keras")
    needed = next(one["dependsOn"] for one in document["dependencies"] if one["ref"] == keras)
    assert numpy["bom-ref"] in needed
    told = {one["name"]: one["value"] for one in document["metadata"]["properties"]}
    assert hashlib.sha256(files["environment/requirements.lock"]).hexdigest() in told["bone-age:source"]


def test_the_lineage_leads_from_the_predictions_to_the_data(files: dict[str, bytes]) -> None:
    document = ProvDocument.deserialize(content=files["lineage.prov.json"].decode(), format="json")
    sources: dict[str, set[str]] = {}
    written = json.loads(files["lineage.prov.json"])
    for one in written["wasDerivedFrom"].values():
        sources.setdefault(one["prov:generatedEntity"], set()).add(one["prov:usedEntity"])
    reached, todo = set(), [name for name in written["entity"] if ":predictions." in name]
    assert len(todo) == 1
    while todo:
        name = todo.pop()
        reached.add(name)
        todo += sources.get(name, set()) - reached
    facts = json.loads(files["version.json"])
    assert f"bone-age:dataset.{facts['dataset_fingerprint']}" in reached
    assert f"bone-age:model.{facts['model_digest']}" in reached
    names = {value["bone-age:name"] for value in written["agent"].values()}
    assert "Dr. Roe <roe@example.invalid>" in names
    assert len(document.get_records()) > 15
    (training,) = (value for name, value in written["activity"].items() if ":training." in name)
    assert training["prov:startTime"] < training["prov:endTime"]


def test_versions_without_evidence_get_a_bundle_that_says_what_is_absent(world: AuditWorld) -> None:
    resnet = unzipped(world.bundle(world.resnet).content)
    assert "evidence for the gates: only Xception versions face the gates" in resnet["model_card.html"].decode()
    assert "evaluation/test/predictions.csv" in resnet
    reference = unzipped(world.bundle(world.reference).content)
    card = reference["model_card.html"].decode()
    assert "no pipeline run made this version; it was imported" in card
    assert "No predictions by image were recorded" in card
    assert "answers to changed radiographs" not in unzipped(world.bundle().content)["model_card.html"].decode()
    assert "dataset/manifest.csv" not in reference
    assert "environment/sbom.cdx.json" not in reference


def test_attached_it_is_the_same_file_and_attaching_again_changes_nothing(world: AuditWorld, tmp_path: Path) -> None:
    before = world.bundle()
    run_id = registry.version_facts(world.promoted).run_id
    status = connect().get_run(run_id).info.status
    for _ in range(2):
        (attached,) = attach_all([world.promoted])
        assert attached.content == before.content
    path = f"audit/bone-age-{world.promoted}.zip"
    fetched = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=str(tmp_path))
    assert Path(fetched).read_bytes() == before.content
    tags = connect().get_model_version("bone-age", str(world.promoted)).tags
    assert tags["audit_bundle_sha256"] == before.sha256
    assert connect().get_run(run_id).info.status == status


def test_what_is_recorded_of_the_version_itself_makes_a_longer_extract(world: AuditWorld) -> None:
    before = unzipped(world.bundle(world.resnet).content)[LEDGER]
    open_ledger().append(NewEntry(event=Event.REJECTED, actor="Dr. Roe", version=world.resnet, reason="no Xception"))
    after = unzipped(world.bundle(world.resnet).content)[LEDGER]
    assert after.startswith(before)
    assert len(after) > len(before)


@pytest.mark.parametrize(("version", "said"), [(99, "models:/bone-age/99"), (-1, "")])
def test_a_version_that_is_not_there_is_refused_in_one_line(version: int, said: str, world: AuditWorld) -> None:
    done = CliRunner().invoke(app, ["audit", "bundle", "--version", str(version), "--out", "x.zip"])
    assert done.exit_code != 0
    assert said in str(done.exception)
    assert not Path("x.zip").exists()


def test_a_place_that_cannot_be_written_is_refused_by_name(world: AuditWorld, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "bundle.zip"
    done = CliRunner().invoke(app, ["audit", "bundle", "--version", str(world.promoted), "--out", str(out)])
    assert isinstance(done.exception, BoneAgeError)
    assert str(out) in str(done.exception)


def test_a_version_with_a_changed_file_is_refused_and_the_file_named(world: AuditWorld) -> None:
    file = registry.resolve(f"models:/bone-age/{world.promoted}")[1] / CARD
    whole = file.read_bytes()
    try:
        file.write_bytes(whole + b" ")
        with pytest.raises(ModelError, match=CARD):
            world.bundle()
    finally:
        file.write_bytes(whole)


def test_a_version_whose_run_is_deleted_is_refused(world: AuditWorld) -> None:
    run_id = registry.version_facts(world.reference).run_id
    connect().delete_run(run_id)
    try:
        with pytest.raises(ModelError, match=f"its run {run_id} is deleted"):
            attach(world.reference)
    finally:
        connect().restore_run(run_id)
