#!/bin/sh
# Writes the hash-pinned locks again. Needs uv on the PATH; see README.md.
# A release must be 14 days old before a lock takes it: time for others to find out that it is bad.
set -eu
cd "$(dirname "$0")"

lock() {
  out=$1
  shift
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --only-binary :all: \
    --exclude-newer "14 days" --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
    --upgrade "$@" --output-file "$out"
}

lock worker.txt worker.in --overrides overrides.txt
lock litellm.txt litellm.in --constraints worker.txt
lock dev.txt dev.in --constraints worker.txt
lock programs.txt programs.in --constraints worker.txt --constraints dev.txt
lock model.txt model.in
lock clients.txt clients.in
