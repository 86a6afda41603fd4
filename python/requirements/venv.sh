#!/usr/bin/env bash
# Makes an environment from the hash-pinned locks, the development environment if none is named: venv.sh DIR [PYTHON [LOCK...]]
set -euo pipefail
dir=$1 python=${2:-python3}
here=$(cd "$(dirname "$0")" && pwd)
command -v "$python" >/dev/null || { echo "venv.sh: $python is not installed: Python 3.11 or newer is needed" >&2; exit 1; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "venv.sh: $python is $("$python" --version), 3.11 or newer is needed; name another one: make PYTHON=python3.12 ..." >&2
  exit 1
}
"$python" -c 'import ensurepip, venv' || { echo "venv.sh: $python lacks venv (Debian: apt-get install python3-venv)" >&2; exit 1; }
rm -f "$dir"/.complete*
"$python" -m venv --clear "$dir"
if [ $# -gt 2 ]; then shift 2; else set -- worker dev; fi
for lock; do
  "$dir/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r "$here/$lock.txt"
done
