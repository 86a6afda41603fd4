#!/usr/bin/env bash
# Builds the images and runs the container tests. It uses the Docker engine that is there (DOCKER_HOST, or the usual socket);
# without one, and as root with dockerd installed, it starts one of its own that changes no firewall and ends with the script.
#
#   DSPEX_BASE=IMAGE         base of the image of dspex, pulled if need be (default: that of the Dockerfile)
#   DSPEX_BASE=debootstrap   makes the base from Debian's packages, for machines that reach no image registry
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
engine=
finish() {
  if [ -n "$engine" ]; then
    kill "$engine" && wait "$engine" || true
  fi
  rm -rf --one-file-system "$work"
}
trap finish EXIT
fail() { echo "containers: $*" >&2; exit 1; }

command -v docker >/dev/null || fail "the docker client is missing (Debian: apt-get install docker.io)"
if ! docker info >/dev/null 2>&1; then
  [ "$(id -u)" = 0 ] && command -v dockerd >/dev/null || fail "no Docker engine answers: start one, or set DOCKER_HOST"
  # Without iptables and the default bridge containers reach each other and this machine, which is all that the tests need.
  dockerd --host "unix://$work/docker.sock" --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/pid" \
    --bridge=none --iptables=false --ip6tables=false --ip-forward=false >"$work/dockerd.log" 2>&1 &
  engine=$!
  export DOCKER_HOST="unix://$work/docker.sock"
  for _ in $(seq 60); do
    docker info >/dev/null 2>&1 && break
    kill -0 "$engine" 2>/dev/null || { tail -20 "$work/dockerd.log" >&2; fail "dockerd ended"; }
    sleep 0.5
  done
  docker info >/dev/null || { tail -20 "$work/dockerd.log" >&2; fail "dockerd does not answer"; }
fi
compose=$(docker compose version >/dev/null 2>&1 && echo "docker compose" || command -v docker-compose) || fail "neither docker compose nor docker-compose is installed"

# The classic builder knows local images without a registry.
export DOCKER_BUILDKIT=0
image() { # image NAME CONTEXT [OPTION...]
  local name=$1 context=$2
  shift 2
  docker build --quiet --tag "$name" "$@" "$context" >"$work/build.log" 2>&1 || { cat "$work/build.log" >&2; fail "the image $name was not built"; }
}

export CGO_ENABLED=0 GOOS=linux
mkdir -p "$work/nats"
go build -o "$work/nats/nats-server" github.com/nats-io/nats-server/v2
go build -o bin/linux/ ./cmd/...
unset CGO_ENABLED GOOS

printf 'FROM scratch\nCOPY nats-server /nats-server\nENTRYPOINT ["/nats-server"]\n' >"$work/nats/Dockerfile"
image dspex-test-nats "$work/nats"

if [ "${DSPEX_BASE:-}" = debootstrap ]; then
  command -v debootstrap >/dev/null || fail "debootstrap is missing (Debian: apt-get install debootstrap)"
  debootstrap --variant=minbase --include=python3,python3-venv,busybox-static,ca-certificates bookworm "$work/base" >"$work/debootstrap.log" ||
    { tail -20 "$work/debootstrap.log" >&2; fail "debootstrap failed"; }
  ln -s busybox "$work/base/bin/wget" # the health check of docker-compose.yml
  rm -rf "$work"/base/var/cache/apt/* "$work"/base/usr/share/{doc,locale,man}
  tar -C "$work/base" -c . | docker import - dspex-test-base >/dev/null
  printf 'FROM dspex-test-base\nCOPY nats-server /usr/local/bin/nats-server\n' >"$work/nats/Dockerfile"
  image dspex-test-nats-shell "$work/nats"
  export NATS_IMAGE=dspex-test-nats-shell
  DSPEX_BASE=dspex-test-base
fi
image dspex-test . --build-arg ENGINE=stub ${DSPEX_BASE:+--build-arg BASE="$DSPEX_BASE"}

# The reaper is an image from a registry; what a test starts, it ends.
export TESTCONTAINERS_RYUK_DISABLED=true TESTCONTAINERS_HOST_OVERRIDE=127.0.0.1
export DSPEX_TEST_COMPOSE="$compose"
go -C test/containers test -count=1 -v ./... "$@"
