#!/bin/sh
# Fill $VENV from the hashed lock; called by `make install`. PYTHON names an interpreter, otherwise a fitting one is looked for.
set -eu

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

python=""
for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
    if fits "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
    echo "error: no Python 3.11, 3.12 or 3.13 found (looked for: ${PYTHON:-python3 python3.13 python3.12 python3.11 python})" >&2
    exit 2
fi

echo "Installing into $VENV (some 2 GB, once) ..."
rm -rf "$VENV"
if uv --version >/dev/null 2>&1; then
    uv venv --quiet --seed --python "$("$python" -c 'import sys; print(sys.executable)')" "$VENV"
    uv pip sync --quiet --python "$VENV/bin/python" --require-hashes requirements.lock
    uv pip install --quiet --python "$VENV/bin/python" --no-deps --no-build-isolation --editable .
else
    "$python" -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements.lock
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --no-build-isolation --editable .
fi
# On all cores, where pip takes one; and here, since with PYTHONDONTWRITEBYTECODE every command would compile all it imports.
"$VENV/bin/python" -m compileall -qq -j 0 "$VENV"/lib/python*/site-packages || true  # some packages carry templates
