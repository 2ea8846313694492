# Sourced by the other scripts: makes .venv, installs this project and the extras asked for.
#
#   source scripts/setup.sh EXTRA...      ("" for none)
#
# Goes to the repository's root, leaves the environment's interpreter in $PYTHON, and does nothing
# when the environment already has what was asked for. PARE_JAX_PYTHON names the interpreter to
# build on when the one found first is not the one wanted.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
PYTHON="$PWD/.venv/bin/python"
_stamp=.venv/.pare-jax-setup

_fail() {
    echo "setup: $1" >&2
    exit 2
}

_find_python() {
    local candidate
    # The versions constraints.txt was tried with first.
    for candidate in ${PARE_JAX_PYTHON:-python3.11 python3.12 python3.13 python3}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
            2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

_make_environment() {
    local base package
    base=$(_find_python) ||
        _fail "no Python 3.11, 3.12 or 3.13 found; install one or name it in PARE_JAX_PYTHON"
    if ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
        package=$("$base" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        _fail "$base cannot make virtual environments; install $package (apt install $package)"
    fi
    echo "setup: making .venv with $("$base" --version)"
    "$base" -m venv --clear .venv || _fail "could not make .venv in $PWD"
}

# What an up-to-date environment was made from: the requirements, and the place it points to.
_wanted_state() {
    "$PYTHON" - "$PWD" pyproject.toml constraints.txt <<'PY'
import hashlib, pathlib, sys

files = b"".join(pathlib.Path(name).read_bytes() for name in sys.argv[2:])
print(hashlib.sha256(files + sys.argv[1].encode() + sys.version.encode()).hexdigest())
PY
}

_set_up() {
    local state='' extras had_state='' had='' extra missing=''
    if [[ -x $PYTHON && -f $_stamp ]]; then
        { read -r had_state && read -r had; } <"$_stamp" || true
        state=$(_wanted_state)
        for extra in "$@"; do
            [[ -z $extra || " $had " == *" $extra "* ]] || missing=yes
        done
        if [[ $had_state == "$state" && -z $missing ]]; then
            return
        fi
    fi
    # A stamp is written last: without one, an installation may have been cut off half-way.
    # An environment made by another tool may only lack pip, and hold what somebody put there.
    if ! "$PYTHON" -m pip --version >/dev/null 2>&1 &&
        ! "$PYTHON" -m ensurepip >/dev/null 2>&1; then
        _make_environment
        had=''
    fi
    # Keep what earlier calls asked for.
    # shellcheck disable=SC2086
    extras=$(printf '%s\n' $had "$@" | sed '/^$/d' | sort -u | paste -sd ' ')
    echo "setup: installing into .venv${extras:+ with extras $extras} (the first time takes minutes)"
    rm -f "$_stamp"
    "$PYTHON" -m pip install -qq --no-input --disable-pip-version-check \
        --constraint constraints.txt --editable ".${extras:+[${extras// /,}]}" ||
        _fail "pip could not install the requirements (see above)"
    state=$(_wanted_state)
    printf '%s\n%s\n' "$state" "$extras" >"$_stamp"
}

# Without arguments of its own a sourced file sees its caller's, so callers that want no extra pass
# an empty one.
_set_up "$@"
