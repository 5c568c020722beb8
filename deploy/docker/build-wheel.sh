#!/bin/sh
# This distribution as a wheel in the folder OUT, built by the tools that requirements/build.lock names.
set -eu
out=$1
cd "$(dirname "$0")/../.."
uv build --quiet --wheel --build-constraints requirements/build.lock --require-hashes --out-dir "$out" .
