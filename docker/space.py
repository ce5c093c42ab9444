"""Write a folder that a Hugging Face Docker Space takes as it is: `python docker/space.py FOLDER`  (`make space`).

The Space builds the `serve` target itself, so the folder holds its sources, its lock, the reference model and a
Dockerfile without the other targets. A Space shows its page in a frame of huggingface.co, which has to be allowed.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PORT = 7860
PARTS = ("bone_age", "steps", "pipelines", "configs", "models", "docker/entrypoint.sh", "docker/first_answer.py",
         "pyproject.toml", "hatch_build.py", "LICENSE", "requirements-build.lock",
         "requirements-serve.lock")  # fmt: skip
OTHER_TARGETS = ("train", "tracking")
README = """\
---
title: Bone age
emoji: 🖐
colorFrom: gray
colorTo: blue
sdk: docker
app_port: {port}
pinned: false
license: apache-2.0
short_description: Bone age in months from a hand radiograph
---

# Bone age

Upload a hand radiograph (PNG, JPEG or DICOM) and say the child's sex; the answer is a bone age in months with an
interval. It comes from the project's reference model, whose terms and limits are in `models/reference/MODEL_CARD.md`.

**Not a medical device.** Upload no radiograph of a person who has not agreed to it, and none with a name on it: who
hosts this Space can read what it is sent. Set the secret `BONE_AGE_API_TOKEN` to let in only those who know it.

What is answered is written to `/data` in the container, without the image; it is lost when the Space restarts unless
the Space has persistent storage. Built from commit `{commit}`, version {version}.
"""


def main(folder: Path) -> None:
    """Write the folder anew; one that holds anything else is refused."""
    marker = folder / "README.md"
    if folder.exists() and any(folder.iterdir()) and not (marker.is_file() and "sdk: docker" in marker.read_text()):
        sys.exit(f"error: {folder} holds something that is no Space; name another folder")
    for old in folder.iterdir() if folder.exists() else ():
        if old.name != ".git":
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    for name in _files():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, target)
    version = re.search(r'^version = "(.*)"$', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    commit = _git("rev-parse", "HEAD").strip() + ("-dirty" if _git("status", "--porcelain") else "")
    digest = hashlib.sha256((PROJECT / "requirements-serve.lock").read_bytes()).hexdigest()
    known = {"VERSION": version[1], "GIT_COMMIT": commit, "LOCK_DIGEST": digest}
    (folder / "Dockerfile").write_text(dockerfile((PROJECT / "docker" / "Dockerfile").read_text(), known))
    (folder / "README.md").write_text(README.format(port=PORT, commit=commit, version=version[1]))
    (folder / ".gitattributes").write_text("*.onnx filter=lfs diff=lfs merge=lfs -text\n")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and ".git" not in file.parts)
    print(f"{folder}: {size / 1e6:.0f} MB; push it to a Space of the kind Docker (`git lfs install` first)")


def dockerfile(text: str, known: dict[str, str]) -> str:
    """The project's Dockerfile without the other targets' stages, on the Space's port, with what is known of it.

    Args:
        known: Values of build arguments that say where the image comes from.
    """
    head, *stages = re.split(r"(?m)^(?=FROM )", text)
    kept = [stage for stage in stages if not _name(stage).startswith(OTHER_TARGETS)]
    assert _name(kept[-1]) == "serve", "a Space builds the last stage"
    kept[-1] = kept[-1].replace("8000", str(PORT)).replace(
        f"BONE_AGE_SERVE_PORT={PORT}",
        f"BONE_AGE_SERVE_PORT={PORT} \\\n    BONE_AGE_SERVE_FRAME_ANCESTORS=https://huggingface.co",
    )  # fmt: skip
    for name, value in known.items():
        kept[-1] = kept[-1].replace(f"ARG {name}=unknown", f"ARG {name}={value}")
    return "# Written by `make space` from docker/Dockerfile.\n" + re.sub(r"(?m)^# .*\n", "", head) + "".join(kept)


def _name(stage: str) -> str:
    return stage.splitlines()[0].split(" AS ")[1]


def _files() -> list[str]:
    return [name for name in _git("ls-files", "-z", "--", *PARTS).split("\0") if name and (PROJECT / name).is_file()]


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(PROJECT), *arguments], capture_output=True, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docker/space.py FOLDER")
    main(Path(sys.argv[1]))
