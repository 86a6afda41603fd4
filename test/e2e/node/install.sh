#!/usr/bin/env bash
# Installs the packages of the JavaScript client and of the browser tests from the lock beside it.
set -euo pipefail
cd "$(dirname "$0")"
command -v node >/dev/null && command -v npm >/dev/null || {
  echo "install.sh: Node.js 20 or newer with npm is needed for the tests of the JavaScript client (Debian: apt-get install nodejs npm)" >&2
  exit 1
}
node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || {
  echo "install.sh: this is Node.js $(node --version), 20 or newer is needed" >&2
  exit 1
}
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || {
  echo "install.sh: Chromium is needed for the tests of the dashboard (Debian: apt-get install chromium)" >&2
  exit 1
}
npm ci --no-audit --no-fund --loglevel=error
