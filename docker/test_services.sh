#!/bin/sh
# Runs what compose.yaml describes without containers: the same settings and ports, PostgreSQL, MariaDB and Prometheus from
# Debian, MLflow's and ZenML's servers from PyPI; then trains, promotes, serves, breaks, backs up and restores against them.
# In a network of its own, where the services' names lead to the loopback interface: nothing here meets what runs already.
set -eu
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then echo "error: needs root, for a network of its own" >&2; exit 2; fi
absent=""
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || absent="$absent postgresql"
for pair in mariadbd:mariadb-server prometheus:prometheus ip:iproute2 unshare:util-linux; do
    command -v "${pair%:*}" >/dev/null || absent="$absent ${pair#*:}"
done
if [ -n "$absent" ]; then echo "error: not here, install with: apt-get install$absent" >&2; exit 2; fi

made=build/services
environment() {  # NAME PIP-ARGUMENTS...
    name=$1; shift
    [ -f "$made/$name/.installed" ] && [ "$made/$name/.installed" -nt requirements-tracking.lock ] && return
    echo "Installing into $made/$name ..."
    rm -rf "${made:?}/$name"
    .venv/bin/python -m venv "$made/$name"
    "$made/$name/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    touch "$made/$name/.installed"
}
environment tracking --no-deps --require-hashes -r requirements-tracking.lock
environment zenml "zenml[server]==$(sed -n 's/.*zenml-server:\([0-9.]*\).*/\1/p' docker/compose.yaml)"

# ZenML 0.98 builds what Kubeflow's compiler takes up to 2.16; into a folder of its own, for it wants an older protobuf
if [ ! -f "$made/kfp/.installed" ]; then
    echo "Installing into $made/kfp ..."
    rm -rf "${made:?}/kfp"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --target "$made/kfp" \
        "kfp>=2.6,<2.17" "kfp-kubernetes<2.17" s3fs boto3
    touch "$made/kfp/.installed"
fi

hosts=$(mktemp)
trap 'rm -f "$hosts"' EXIT INT TERM
echo "127.0.0.1 localhost postgres mlflow zenml-database zenml serve prometheus" >"$hosts"
export PROJECT_HOSTS="$hosts" BONE_AGE_SERVICES=1 BONE_AGE_KFP="$PWD/$made/kfp"
unshare --net --mount --pid --mount-proc --kill-child --fork sh -c '
    ip link set lo up
    mount --bind "$PROJECT_HOSTS" /etc/hosts
    exec .venv/bin/python -m pytest -m services -rA tests/services "$@"' sh "$@"
