# What the scripts of this folder share: source it. Progress goes to stderr, so that stdout is the script's answer.

# All versions. KUBERNETES is in kubebox/go.mod, too, which is checked against this.
KIND=v0.33.0         # sigs.k8s.io/kind: the command, and the files of its base image
KUBERNETES=v1.36.3   # k8s.io/kubernetes
CONTAINERD=v2.3.4    # in the node: what this kind pins
CNI_PLUGINS=v1.9.1
COREDNS=v1.14.2      # what this kubeadm asks for
DEBIAN=bookworm      # the node's userland

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/../../scripts/lib.sh"

KIND_CACHE=$URSA_CACHE/kind
BIN=$KIND_CACHE/bin     # kind, kubectl
BUILD=$KIND_CACHE/build # what the node image is made of
LOGS=$KIND_CACHE/logs
ENGINE_DATA=$KIND_CACHE/engine
ENGINE_RUN=${URSA_KIND_RUN:-/run/ursa-kind} # sockets and process ids of our own engine: one a machine
ENGINE_SOCKET=unix://$ENGINE_RUN/docker.sock
# The network of nodes and virtual machines: with subnets of our choice, in which a machine keeps its addresses.
NETWORK=ursa-kind
SUBNET=10.99.0.0/16
SUBNET6=fd99:7572:7361::/64
export KIND_EXPERIMENTAL_DOCKER_NETWORK=$NETWORK
NODE_IMAGE=ursa/kind-node:$KUBERNETES

need_root() { [ "$(id -u)" = 0 ] || die "$1 needs root; or start a Docker engine, which is used if it answers"; }

# need COMMAND=PACKAGE...: installs Debian packages whose command is missing
need() {
  local pair missing=()
  for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
  done
  [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

need_go() { command -v go >/dev/null || die "Go is missing: install Go 1.26 or newer (https://go.dev/dl)"; }

# logged NAME COMMAND...: its output goes to a log, the end of which is shown if it fails
logged() {
  local name=$1 from=$SECONDS status=0
  shift
  mkdir -p "$LOGS"
  say "$name ..."
  (set -euo pipefail; "$@") >"$LOGS/$name.log" 2>&1 </dev/null || status=$?
  if [ "$status" != 0 ]; then
    tail -n 25 "$LOGS/$name.log" >&2
    die "$name failed; all that it said: $LOGS/$name.log"
  fi
  say "$name: $((SECONDS - from)) s"
}

# within SECONDS COMMAND...: waits until the command succeeds
within() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.2
  done
}

answers() { DOCKER_HOST=$1 timeout 20 docker info >/dev/null 2>&1; }

# use_engine: points DOCKER_HOST at an engine that answers, if there is one: the machine's, else ours
use_engine() {
  if answers "${DOCKER_HOST:-}"; then return 0; fi
  answers "$ENGINE_SOCKET" || return 1
  export DOCKER_HOST=$ENGINE_SOCKET
}

# Whether the engine is ours, which reaches no registry: then the node image is ours, too.
is_ours() { [ "${DOCKER_HOST:-}" = "$ENGINE_SOCKET" ]; }

go_static() { CGO_ENABLED=0 go "$1" -trimpath -buildvcs=false -tags "${TAGS:-}" -ldflags "-s -w ${LDFLAGS:-}" "${@:2}"; }
