#!/bin/sh
# Makes the virtual environment that the Makefile's commands run in, when it is missing or out
# of date: tools/make_venv.sh DIR [FILE]. $PYTHON may name the interpreter (see find_python.sh) and
# $TENSORFLOW the version of TensorFlow (see tensorflow_pins.sh).
# FILE lists packages that are installed last and without what they require: their pins are older
# than TensorFlow 2.15, and what they truly need stands in FILE or in requirements-dev.txt.
#
# DIR/.complete is written last and holds what the environment was made from, so an interrupted
# installation never counts as done. DIR/.made-by-make is written first: a folder without it is
# somebody else's and is left alone.
set -eu

cd "$(dirname "$0")/.."
venv=$1
extra=${2:-}
marker=$venv/.made-by-make
stamp=$venv/.complete

if [ -e "$venv" ] && [ ! -e "$marker" ] && [ -n "$(ls -A "$venv")" ]; then
    echo "$venv was not made by this Makefile and is left alone; move it away or name another" \
        "folder, e.g. make demo VENV=.venv-demo" >&2
    exit 1
fi

# A moved checkout has to be made anew: scripts in bin/ hold absolute paths.
print_wanted() {
    pwd -P
    echo "${TENSORFLOW:-}"
    cat setup.py setup.cfg requirements-dev.txt estimator_spec_ext/version.py tools/make_venv.sh \
        tools/tensorflow_pins.sh $extra | cksum
}

minor() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

wanted=$(print_wanted)
if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && have=$(minor "$venv/bin/python"); then
    # Only a PYTHON that was named can ask for another version than the one that is there.
    [ -n "${PYTHON:-}" ] || exit 0
    python=$(tools/find_python.sh)
    [ "$(minor "$python")" != "$have" ] || exit 0
else
    python=$(tools/find_python.sh)
fi

pins=$(sh tools/tensorflow_pins.sh "${TENSORFLOW:-}" "$(minor "$python")")
beside=$(echo "$pins" | sed -n 1p)
alone=$(echo "$pins" | sed -n 2p)
echo "Making $venv with Python $(minor "$python") and ${beside%% *} (once, about 1.3 GB) ..."
rm -rf "$venv"
mkdir -p "$venv"
: >"$marker"
if ! "$python" -m venv "$venv"; then
    echo "$python -m venv failed; on Debian and Ubuntu install python$(minor "$python")-venv" >&2
    exit 1
fi

log=$venv/pip.log
# Without --no-compile pip would compile thousands of modules of which nobody imports most.
install() {
    if ! "$venv/bin/python" -m pip install -q --no-compile --disable-pip-version-check \
        "$@" >"$log" 2>&1; then
        echo "pip could not install what the project needs; its last lines:" >&2
        tail -n 15 "$log" | sed 's/^/    /' >&2
        exit 1
    fi
}
# A pip that knows editable installs without setup.py develop, and what they are built with.
install 'pip>=23' 'setuptools>=70.1,<81'
# shellcheck disable=SC2086  # several words each
if [ -z "$alone" ]; then
    install --no-build-isolation $beside -r requirements-dev.txt -e '.[test]'
else
    install $beside -r requirements-dev.txt
    install --no-deps $alone
    install --no-build-isolation -e '.[test]'
fi
[ -z "$extra" ] || install --no-deps -r "$extra"
echo "$wanted" >"$stamp"
