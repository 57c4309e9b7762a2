# Sourced by tests/services/run and tests/deployment/run, after deploy/environment.sh: finds programs, or unpacks
# Debian's packages of them below .venv. They are never installed: an installed nginx would start and take port 80.

programs=$root/.venv/debian
PATH="$PATH:/usr/sbin:$programs/usr/sbin:$programs/usr/bin"

# bring PROGRAM PACKAGE: put PROGRAM on PATH. Fails, with a line that says why, where it cannot be had.
bring() {
  command -v "$1" >/dev/null 2>&1 && return 0
  log=$root/.venv/debian-$2.log
  command -v apt-get >/dev/null 2>&1 || { say "not run: $1 is not here, and there is no apt-get to get it with"; return 1; }
  say "unpacking Debian's $2 (once)"
  # once more with new lists: those of an image are often missing or old
  { unpack "$2" || { as_root && apt update && unpack "$2"; }; } >"$log" 2>&1 && command -v "$1" >/dev/null 2>&1 || {
    say "not run: $1 is not here, and Debian's $2 cannot be had (${log#"$root"/} says why; run apt-get update first)"
    return 1
  }
}

unpack() {
  rm -rf "$programs/packages" && mkdir -p "$programs/packages" || return 1
  libraries=$(apt-cache depends "$1" | sed -n 's/^ *Depends: \(lib[^ ]*\)$/\1/p')
  # libraries alone: they start nothing
  # shellcheck disable=SC2086
  if as_root && [ -n "$libraries" ]; then
    DEBIAN_FRONTEND=noninteractive apt install -y --no-install-recommends $libraries || return 1
  fi
  (cd "$programs/packages" && apt download "$1" && dpkg -x "$1"_*.deb "$programs")
}

apt() { apt-get -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o DPkg::Lock::Timeout=300 "$@"; }
as_root() { [ "$(id -u)" = 0 ]; }
