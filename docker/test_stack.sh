#!/bin/sh
# Runs a small training on the stack `local_docker`: every step in a fresh container of the image `train`, MLflow behind
# its server. Needs the image (docker/images.sh train) and `.venv`; works through Docker, or Podman's socket.
#   docker/test_stack.sh        (PYTHON=.venv/bin/python; TEST_PORT=18000 for MLflow; about 15 min, 2 cores)
set -eu
cd "$(dirname "$0")/.."
engine=$(sh docker/engine.sh)
python=${PYTHON:-$PWD/.venv/bin/python}
place=$(mktemp -d)
processes=

clean() {
    for process in $processes; do kill "$process" 2>/dev/null || true; done
    rm -rf "$place"
}
trap clean EXIT INT TERM
failed() { echo "FAILED: $*" >&2; exit 1; }

wait_for() {  # WHAT COMMAND...
    what=$1; shift
    for _ in $(seq 60); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 1
    done
    failed "$what does not answer"
}

if [ "$engine" = podman ] && [ -z "${DOCKER_HOST:-}" ]; then
    export DOCKER_HOST="unix://$place/podman.sock"
    podman system service --time=0 "$DOCKER_HOST" & processes="$processes $!"
    wait_for "Podman's service" test -S "$place/podman.sock"
fi

export BONE_AGE_HOME="$place/home" BONE_AGE_RESULTS="$place/results" MLFLOW_DISABLE_TELEMETRY=true
unset BONE_AGE_DATABASE_URL ZENML_CONFIG_PATH RADIOGRAPHS
mkdir -p "$BONE_AGE_HOME"
export MLFLOW_TRACKING_URI="http://127.0.0.1:${TEST_PORT:-18000}"
"$python" -m mlflow server --host 127.0.0.1 --port "${TEST_PORT:-18000}" --workers 1 \
    --backend-store-uri "sqlite:///$place/mlflow.db" --serve-artifacts --artifacts-destination "$place/artifacts" \
    >"$place/mlflow.log" 2>&1 & processes="$processes $!"
wait_for MLflow "$python" -c "from urllib.request import urlopen; urlopen('$MLFLOW_TRACKING_URI/health')"

"$python" -m pipelines.stacks local_docker
"$python" -m pipelines.stacks local_docker  # twice is as good as once

# Who runs, looked at every second: containers are removed when done, and not every engine keeps its events.
while sleep 1; do "$engine" ps --no-trunc --format '{{.ID}} {{.Image}}' >>"$place/started"; done & processes="$processes $!"
"$python" -m bone_age.cli train --config docker/quickstart_small.yaml

"$python" - "$place/started" <<'PYTHON'
import sys
from pathlib import Path

from pipelines import stacks  # points ZenML to the home
from zenml.client import Client

run = Client().list_pipeline_runs(sort_by="desc:created", size=1, hydrate=True).items[0]
assert run.stack.name == "local_docker", run.stack.name
assert run.status == "completed", run.status
started = {line.split()[0] for line in Path(sys.argv[1]).read_text().splitlines() if "bone-age-train" in line}
print(f"  ok  {len(run.steps)} steps of run {run.name}, {len(started)} containers of the image train")
assert len(started) == len(run.steps), "not every step had a container of its own"
PYTHON
"$python" -m bone_age.cli history
"$python" -m bone_age.cli audit verify
echo "  ok  the ledger that the containers wrote verifies"
