#!/bin/sh
# Runs the images as they are meant to run: uid 1000, nothing writable but /data, no capability.
#   docker/test_images.sh [train] [serve] [tracking]     (built before by docker/images.sh)
set -eu
cd "$(dirname "$0")/.."
engine=$(sh docker/engine.sh)
strict="--read-only --cap-drop=ALL --security-opt=no-new-privileges"
if [ "$engine" = podman ]; then strict="$strict --read-only-tmpfs=false"; fi
run=bone-age-test-$$
port=${TEST_PORT:-18000}
draw='
import sys, cv2
from bone_age.data.synthetic import render_hand
hand = render_hand(120.0, "F", 3, 512, 416)
sys.stdout.buffer.write(cv2.imencode(".png", hand)[1].tobytes())'

passed() { echo "  ok  $*"; }
failed() { echo "FAILED: $*" >&2; exit 1; }
clean() {
    for name in "$run-serve" "$run-tracking"; do "$engine" rm --force "$name" >/dev/null 2>&1 || true; done
    "$engine" volume rm --force "$run" >/dev/null 2>&1 || true
}
trap clean EXIT INT TERM

inside() {  # inside IMAGE COMMAND...
    image=$1; shift
    "$engine" run --rm $strict --volume "$run:/data" "$image" "$@"
}

label() { "$engine" image inspect --format "{{index .Config.Labels \"$2\"}}" "$1"; }

wait_until_it_answers() {  # URL CONTAINER
    for _ in $(seq 120); do
        if curl --silent --fail --output /dev/null "$1"; then return; fi
        if [ "$("$engine" inspect --format '{{.State.Running}}' "$2")" != true ]; then break; fi
        sleep 1
    done
    "$engine" logs "$2" >&2
    failed "$2 does not answer at $1"
}

common() {  # TARGET
    image=bone-age-$1:latest
    [ "$("$engine" image inspect --format '{{.Config.User}}' "$image")" = 1000:1000 ] || failed "$image runs as root"
    [ "$(inside "$image" id -u)" = 1000 ] || failed "$image does not run as uid 1000"
    passed "$1: uid 1000"
    digest=$(sha256sum "requirements-$1.lock" | cut -d ' ' -f 1)
    [ "$(label "$image" bone-age.lock-digest)" = "$digest" ] || failed "$image was built from another lock"
    [ -n "$(label "$image" org.opencontainers.image.version)" ] || failed "$image has no version"
    [ -n "$(label "$image" org.opencontainers.image.revision)" ] || failed "$image has no commit"
    passed "$1: version $(label "$image" org.opencontainers.image.version)," \
        "commit $(label "$image" org.opencontainers.image.revision), lock $digest"
    inside "$image" sh -c 'for tool in cc gcc make pip git curl; do ! command -v $tool || exit 1; done; ! python -m pip' \
        >/dev/null 2>&1 || failed "$image holds build tools"
    passed "$1: no build tools"
    if inside "$image" sh -c 'touch /app/x || touch /tmp/x || touch /var/tmp/x' 2>/dev/null; then
        failed "$image could write outside /data"
    fi
    passed "$1: writes nowhere but in /data"
    found=$(inside "$image" sh -c 'find /app -name .env -o -name "*.dcm" -o -name "*.csv" -path "*dataset*" -o -name .git')
    [ -z "$found" ] || failed "$image holds $found"
    bytes=$("$engine" image inspect --format '{{.Size}}' "$image")
    passed "$1: $((bytes / 1000000)) MB"
}

test_train() {
    common train
    "$engine" run --rm $strict --volume "$run:/data" --volume "$PWD/docker/quickstart_small.yaml:/config.yaml:ro" \
        bone-age-train:latest bone-age train --config /config.yaml
    inside bone-age-train:latest bone-age history
    inside bone-age-train:latest bone-age audit verify
    passed "train: the whole pipeline, and the ledger verifies"
}

test_serve() {
    common serve
    bytes=$("$engine" image inspect --format '{{.Size}}' bone-age-serve:latest) bound=1200000000
    if base=$("$engine" image inspect --format '{{.Size}}' "${BASE_IMAGE:-python}" 2>/dev/null); then
        bytes=$((bytes - base)) bound=1050000000  # another base than python:3.11-slim: what was added to it
    fi
    [ "$bytes" -lt "$bound" ] || failed "bone-age-serve has $bytes bytes, bound $bound"
    inside bone-age-serve:latest python -c 'import importlib.util as i; assert not i.find_spec("tensorflow")' ||
        failed "bone-age-serve holds TensorFlow"
    passed "serve: no TensorFlow; $bytes bytes, bound $bound"
    "$engine" run --detach --name "$run-serve" $strict --volume "$run:/data" --publish "127.0.0.1:$port:$port" \
        --env "BONE_AGE_SERVE_PORT=$port" --env BONE_AGE_API_TOKEN=a-token-for-this-test bone-age-serve:latest >/dev/null
    wait_until_it_answers "http://127.0.0.1:$port/readyz" "$run-serve"
    hand=$(mktemp)
    inside bone-age-serve:latest python -c "$draw" >"$hand" 2>/dev/null
    answer=$(curl --silent --fail-with-body --header "Authorization: Bearer a-token-for-this-test" \
        --form "image=@$hand;filename=hand.png" --form sex=F "http://127.0.0.1:$port/v1/predict") ||
        failed "no answer: $answer"
    rm -f "$hand"
    echo "$answer" | grep -q '"bone_age_months":' || failed "no bone age in $answer"
    passed "serve: $(echo "$answer" | grep -o '"bone_age_months": *[0-9.]*'), by $(echo "$answer" | grep -o '"model": *"[^"]*"')"
    status=$(curl --silent --output /dev/null --write-out '%{http_code}' --form sex=F "http://127.0.0.1:$port/v1/predict")
    [ "$status" = 401 ] || failed "without a token it answered $status"
    passed "serve: 401 without the token"
    curl --silent --fail --output /dev/null --user "any:a-token-for-this-test" "http://127.0.0.1:$port/" ||
        failed "the page is not there"
    passed "serve: the page is there"
    "$engine" exec "$run-serve" python -c "import os; from urllib.request import urlopen; \
urlopen(f\"http://127.0.0.1:{os.environ['BONE_AGE_SERVE_PORT']}/readyz\")" || failed "the health check fails"
    "$engine" stop --time 30 "$run-serve" >/dev/null
    code=$("$engine" inspect --format '{{.State.ExitCode}}' "$run-serve")
    [ "$code" = 0 ] || failed "asked to stop, it ended with $code"
    passed "serve: health check; stops with 0"
}

test_tracking() {
    common tracking
    "$engine" run --detach --name "$run-tracking" $strict --volume "$run:/data" --publish 127.0.0.1:5000:5000 \
        --env MLFLOW_BACKEND_STORE_URI=sqlite:////data/mlflow.db --env MLFLOW_AUTH_CONFIG_PATH=/auth.ini \
        --volume "$PWD/docker/mlflow/test_auth.ini:/auth.ini:ro" --env MLFLOW_AUTH_ADMIN_USERNAME=keeper \
        --env MLFLOW_AUTH_ADMIN_PASSWORD=a-password-for-this-test --env MLFLOW_FLASK_SERVER_SECRET_KEY=test \
        bone-age-tracking:latest >/dev/null
    wait_until_it_answers http://127.0.0.1:5000/health "$run-tracking"
    ask="http://127.0.0.1:5000/api/2.0/mlflow/experiments/get?experiment_id=0"
    status=$(curl --silent --output /dev/null --write-out '%{http_code}' "$ask")
    [ "$status" = 401 ] || failed "without a log-in MLflow answered $status"
    curl --silent --fail --output /dev/null --user keeper:a-password-for-this-test "$ask" || failed "the log-in fails"
    passed "tracking: answers who logs in, 401 to others"
}

if [ $# = 0 ]; then set -- train serve tracking; fi
for target; do
    echo "== bone-age-$target"
    "test_$target"
done
echo "all images do what they promise: $*"
