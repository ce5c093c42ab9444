"""A model file is data: whoever sends one cannot make this project run what it holds."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bone_age.errors import ModelError
from bone_age.evaluation.likeness import Likeness
from bone_age.serving.bundle import LIKENESS, load_bundle, write_checksums

PROJECT = Path(__file__).parents[2]
SOURCES = sorted(file for part in ("bone_age", "steps", "pipelines") for file in (PROJECT / part).rglob("*.py"))
RUNS_WHAT_IT_READS = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}

ANSWER = """
import sys
from pathlib import Path
from bone_age.serving.references import load_predictor
import numpy as np

def no_pickle(event, arguments):
    if event == "pickle.find_class":
        raise RuntimeError(f"a pickle wants {arguments}")

sys.addaudithook(no_pickle)
if sys.argv[2] == "control":
    import pickle
    pickle.loads(pickle.dumps(Path("x")))
else:
    predictor = load_predictor(sys.argv[1])
    size = predictor.preprocessing.image_size_px
    print(predictor.predict_prepared(np.zeros((1, size, size), np.uint8), ["F"]))
"""


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_nothing_is_imported_or_called_that_runs_what_it_reads(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            assert not RUNS_WHAT_IT_READS & {name.name.partition(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in RUNS_WHAT_IT_READS
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "compile", "keras.models.load_model", "keras.saving.load_model")
            for keyword in node.keywords:
                told = (keyword.arg, ast.unparse(keyword.value))
                assert told not in (("allow_pickle", "True"), ("safe_mode", "False"), ("shell", "True"))


def answered(model: Path, what: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ANSWER, str(model), what]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT, timeout=300)


def test_loading_and_asking_the_reference_model_reads_no_pickle() -> None:
    reference = PROJECT / "models" / "reference"
    done = answered(reference, "answer")
    assert done.returncode == 0, done.stderr
    control = answered(reference, "control")
    assert "a pickle wants" in control.stderr, "the guard would notice one"


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("went-off"),)  # type: ignore[return-value]


def test_a_bomb_in_a_models_arrays_is_refused_and_does_not_go_off(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Bomb()))
    assert Path("went-off").exists(), "as it would where pickles are read"
    Path("went-off").unlink()
    model = tmp_path / "model"
    model.mkdir()
    for file in tiny_bundle.iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    bomb = np.empty(1, dtype=object)
    bomb[0] = Bomb()
    np.savez(model / LIKENESS, mean=bomb)
    write_checksums(model)
    with pytest.raises(ModelError):
        load_bundle(model)
    with pytest.raises(ModelError):
        Likeness.load(model / LIKENESS)
    assert not Path("went-off").exists()
