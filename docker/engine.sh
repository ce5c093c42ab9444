#!/bin/sh
# Prints what builds and runs images here: CONTAINER_ENGINE, else Docker where its daemon answers, else Podman.
set -eu
if [ -n "${CONTAINER_ENGINE:-}" ]; then
    echo "$CONTAINER_ENGINE"
elif docker version >/dev/null 2>&1; then
    echo docker
elif podman version >/dev/null 2>&1; then
    echo podman
else
    echo "error: neither Docker nor Podman answers here; docs/how-to/deploy.md says what is needed" >&2
    exit 2
fi
