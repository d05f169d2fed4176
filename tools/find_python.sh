#!/bin/sh
# Prints the path of a Python that TensorFlow 2.15 or 2.21 has a wheel for, or says in one sentence
# why there is none. $PYTHON, when set, is the only candidate.
#
# Every candidate is run, since a name on PATH can be a shim (pyenv's, the App Store's) that is
# there and does not work.
set -u

serve='Python 3.9 to 3.13'
probe='
import sys
why = ""
if not (3, 9) <= sys.version_info[:2] <= (3, 13):
    why = "is Python %d.%d.%d" % sys.version_info[:3]
else:
    try:
        import ensurepip, venv
    except ImportError:
        why = "is Python %d.%d.%d without its venv module (package python%d.%d-venv)" % (
            sys.version_info[:3] + sys.version_info[:2])
print(why or "ok " + sys.executable)
'

# Sets $answer to "ok <path>" or to the reason against candidate $1.
ask() {
    if ! command -v "$1" >/dev/null 2>&1; then
        answer='is not there'
    elif ! answer=$("$1" -c "$probe" 2>/dev/null) || [ -z "$answer" ]; then
        # A shim of pyenv's does not run where its version is installed and not chosen.
        for real in "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/${1#python}".*/bin/python; do
            [ -x "$real" ] && answer=$("$real" -c "$probe" 2>/dev/null) && return
        done
        answer='does not run'
    fi
}

if [ -n "${PYTHON:-}" ]; then
    ask "$PYTHON"
    case $answer in
        'ok '*) echo "${answer#ok }"; exit 0 ;;
    esac
    echo "estimator_spec_ext needs $serve, for which TensorFlow has wheels, and the named" \
        "PYTHON=$PYTHON $answer; name another, e.g. make demo PYTHON=python3.11" >&2
    exit 1
fi

tried=
for name in python3.11 python3.10 python3.9 python3.12 python3.13 python3 python; do
    ask "$name"
    case $answer in
        'ok '*) echo "${answer#ok }"; exit 0 ;;
        'is not there') ;;
        *) tried="$tried, $name $answer" ;;
    esac
done
tried=${tried#, }
echo "estimator_spec_ext needs $serve, for which TensorFlow has wheels, and none is on PATH" \
    "(${tried:-nothing there is named python}); install one and name it," \
    "e.g. make demo PYTHON=python3.11" >&2
exit 1
