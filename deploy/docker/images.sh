#!/bin/sh
# Builds every image of the Dockerfile, pushes it to REGISTRY, and prints its name by digest, as the chart wants it.
# DOCKER names another tool of docker's grammar (podman, nerdctl).
set -eu
base=${1:-} registry=${2:-} version=${3:-}
docker=${DOCKER:-docker}
case $base in
  *@sha256:*) ;;
  *) echo "BASE is needed: Python 3.11's image by digest, docker.io/library/python:3.11-slim-bookworm@sha256:..." >&2; exit 2 ;;
esac
if [ -z "$registry" ] || [ -z "$version" ]; then
  echo "REGISTRY and VERSION are needed: where to push, and under which tag" >&2
  exit 2
fi
cd "$(dirname "$0")/../.."
for image in gateway billing operator engine engine-cuda; do
  name="$registry/headrace/$image:$version"
  "$docker" build --file deploy/docker/Dockerfile --target "$image" --build-arg "BASE=$base" --tag "$name" . >&2
  "$docker" push "$name" >&2
  "$docker" inspect --format '{{index .RepoDigests 0}}' "$name"
done
