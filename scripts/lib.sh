# What the scripts of this folder share: source it. Messages go to stderr, so that stdout is the script's answer.

URSA_CACHE=${URSA_CACHE:-${HOME:?set HOME or URSA_CACHE}/.cache/ursa}

# The images that the tests' clusters run.
TEST_IMAGES=(ursa ursa-dp ursa-e2e-app ursa-demo)

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
  say "$@"
  exit 1
}

# lock NAME: holds a lock until the script ends, so that two of them don't install the same thing at once.
lock() {
  mkdir -p "$URSA_CACHE/locks"
  exec 9>"$URSA_CACHE/locks/$1"
  if ! flock --nonblock 9; then
    say "waiting for another run that holds $URSA_CACHE/locks/$1"
    flock --timeout 900 9 || die "gave up after 15 minutes; if no other run exists, delete $URSA_CACHE/locks/$1"
  fi
}

# apt_install PACKAGE...: from Debian, when this user may; otherwise says what to run.
apt_install() {
  command -v apt-get >/dev/null || die "install $* with this system's package manager, then run again"
  [ "$(id -u)" = 0 ] || die "$* is missing; run: sudo apt-get install --yes $*"
  say "installing $* by apt-get"
  export DEBIAN_FRONTEND=noninteractive
  local wait=(-o DPkg::Lock::Timeout=300)
  if ! apt-get "${wait[@]}" install --yes --no-install-recommends "$@" >&2; then
    apt-get "${wait[@]}" update >&2
    apt-get "${wait[@]}" install --yes --no-install-recommends "$@" >&2 || die "apt-get could not install $*"
  fi
}
