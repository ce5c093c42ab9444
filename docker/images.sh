#!/bin/sh
# Builds images: docker/images.sh [train] [serve] [tracking]. BASE_IMAGE names another Python 3.11 on glibc 2.28 or newer.
set -eu
cd "$(dirname "$0")/.."
engine=$(sh docker/engine.sh)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
commit=$(git rev-parse HEAD 2>/dev/null || echo unknown)
if [ -n "$(git status --porcelain 2>/dev/null)" ]; then commit="$commit-dirty"; fi
set -- "${@:-train serve tracking}"
for target in $*; do
    digest=$(sha256sum "requirements-$target.lock" | cut -d ' ' -f 1)
    options="--file docker/Dockerfile --target $target --tag bone-age-$target:latest --tag bone-age-$target:$version"
    options="$options --build-arg VERSION=$version --build-arg GIT_COMMIT=$commit --build-arg LOCK_DIGEST=$digest"
    if [ -n "${BASE_IMAGE:-}" ]; then options="$options --build-arg BASE_IMAGE=$BASE_IMAGE"; fi
    if [ "$engine" = podman ]; then options="$options --format docker"; fi  # OCI's own format has no health checks
    echo "== bone-age-$target:$version, commit $commit, lock $digest"
    DOCKER_BUILDKIT=1 "$engine" build $options .
done
