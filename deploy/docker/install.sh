#!/bin/sh
# Installs what IMAGE needs below PREFIX: the libraries of its lock by their hashes, then the wheel in the folder DIST.
# A lock is whole, so nothing is resolved here: --no-deps.
set -eu
image=$1 dist=$2 prefix=$3
cd "$(dirname "$0")/../.."
backend=
if [ "$image" = engine ] && [ -z "${UV_FIND_LINKS:-}" ]; then
  # torch's CPU build: from the builder's find-links where it has one, else from the index that uv knows as "cpu".
  backend="--torch-backend cpu"
fi
# shellcheck disable=SC2086
uv pip install --quiet --python "${PYTHON:-python}" --prefix "$prefix" --no-deps --require-hashes $backend \
  --requirement "requirements/$image.lock"
uv pip install --quiet --python "${PYTHON:-python}" --prefix "$prefix" --no-deps "$dist"/*.whl
