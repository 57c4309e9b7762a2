# Sourced by deploy/run and tests/run: makes $root/.venv from a lock file, once.
# Needs Python 3.11 or newer and the package registry; nothing else.

say() { printf '%s\n' "$*" >&2; }

find_python() {
  for name in python3.11 python3 python3.14 python3.13 python3.12 python; do
    if command -v "$name" >/dev/null 2>&1 &&
      "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      printf '%s' "$name"
      return 0
    fi
  done
  say "taskbell needs Python 3.11 or newer with its venv module, and found none on PATH."
  return 1
}

# prepare NAME LOCK: install LOCK and this checkout into .venv unless that was done already.
prepare() {
  name=$1 lock=$2 venv=$root/.venv stamp=$root/.venv/installed-$1 turn=$root/.venv.lock
  want=$(cat "$lock" "$root/pyproject.toml" | cksum)
  if is_installed; then return 0; fi
  wait_for_turn
  if is_installed || install_it; then failed=0; else failed=1; fi
  rm -rf "$turn"
  return $failed
}

is_installed() {
  [ -x "$venv/bin/python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] &&
    [ "$(cat "$venv/made-for" 2>/dev/null)" = "$root" ]
}

# Two that install into one .venv at a time would break it. Who was killed meanwhile holds nobody up.
wait_for_turn() {
  told=
  until mkdir "$turn" 2>/dev/null; do
    holder=$(cat "$turn/pid" 2>/dev/null) || holder=
    if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null; then
      rm -rf "$turn"
      continue
    fi
    [ -n "$told" ] || say "another command is installing: waiting for it (it holds $turn)"
    told=yes
    sleep 1
  done
  echo $$ >"$turn/pid"
}

install_it() {
  python=$(find_python) || return 1
  if ! "$venv/bin/python" -c '' 2>/dev/null || [ "$(cat "$venv/made-for" 2>/dev/null)" != "$root" ]; then
    say "making $venv"
    rm -rf "$venv"
    "$python" -m venv "$venv" || { say "could not make $venv"; return 1; }
    printf '%s' "$root" >"$venv/made-for"
  fi
  say "installing $name packages from ${lock#"$root"/} (once)"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock" 2>"$venv/pip.log" &&
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e "$root" 2>>"$venv/pip.log" || {
    cat "$venv/pip.log" >&2
    say "installing failed; the lines above say why. Run the same command again when it is mended."
    return 1
  }
  printf '%s' "$want" >"$stamp"
}
