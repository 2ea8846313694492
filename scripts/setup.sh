# Creates .venv and installs this project with extras. Other scripts source it:
#
#   source scripts/setup.sh EXTRA...      ("" for no extra)
#
# It changes to the repository's root and sets $PYTHON to the environment's interpreter. It installs
# nothing if .venv is up to date. PARE_JAX_PYTHON names the interpreter to create .venv with; the
# default is the first Python 3.11 to 3.13 found.
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
    # The versions that constraints.txt was tested with come first.
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
        _fail "no Python 3.11, 3.12 or 3.13 found; install one or set PARE_JAX_PYTHON to its path"
    if ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
        package=$("$base" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        _fail "$base cannot create virtual environments; run: apt install $package"
    fi
    echo "setup: creating .venv with $("$base" --version)"
    "$base" -m venv --clear .venv || _fail "cannot create .venv in $PWD (see above)"
}

# Prints a digest of everything .venv depends on: requirements, path and Python version.
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
    # The stamp is written last; without it, an earlier installation may be incomplete.
    # An environment made by another tool may only lack pip, so it is kept.
    if ! "$PYTHON" -m pip --version >/dev/null 2>&1 &&
        ! "$PYTHON" -m ensurepip >/dev/null 2>&1; then
        _make_environment
        had=''
    fi
    # Keep the extras of earlier calls.
    # shellcheck disable=SC2086
    extras=$(printf '%s\n' $had "$@" | sed '/^$/d' | sort -u | paste -sd ' ')
    echo "setup: installing into .venv${extras:+ with extras $extras} (the first time takes minutes)"
    rm -f "$_stamp"
    "$PYTHON" -m pip install -qq --no-input --disable-pip-version-check \
        --constraint constraints.txt --editable ".${extras:+[${extras// /,}]}" ||
        _fail "pip cannot install the requirements (see above)"
    state=$(_wanted_state)
    printf '%s\n%s\n' "$state" "$extras" >"$_stamp"
}

# Callers without extras pass "": a file sourced without arguments would get its caller's.
_set_up "$@"

# BlazePose's files are fetched once, into the user's cache folder.
for _extra in "$@"; do
    if [[ $_extra == keypoints ]] && ! "$PYTHON" -m pare_jax.keypoints.get >/dev/null; then
        echo "setup: continuing without BlazePose" >&2
    fi
done
