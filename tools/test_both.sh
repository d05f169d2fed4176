#!/bin/sh
# Runs pytest with TensorFlow 2 behaviour, seen as it goes, and beside it with TF1 behaviour, shown
# when it is done: tools/test_both.sh PYTHON [ARGUMENTS OF PYTEST].
# Both have a core each; one after the other would take twice as long. The tests marked `once`, which
# do not depend on the behaviour, follow the TF1 run, which is the shorter one.
set -u

cd "$(dirname "$0")/.."
python=$1
shift

log=$(mktemp)
other=
finish() {
    [ -z "$other" ] || kill "$other" 2>/dev/null
    rm -f "$log"
}
trap finish EXIT
trap 'exit 130' INT TERM

# 5: the arguments chose no test of this kind.
passed() {
    [ "$1" -eq 0 ] || [ "$1" -eq 5 ]
}

run_other() {
    child=
    trap '[ -z "$child" ] || kill "$child"; exit 143' TERM
    # A cache folder of its own: the runs write which tests failed last.
    ESE_TF1_BEHAVIOR=1 "$python" -m pytest -o cache_dir=.pytest_cache/tf1 "$@" &
    child=$!
    wait "$child"
    tf1=$?
    ESE_TF1_BEHAVIOR=0 "$python" -m pytest -o cache_dir=.pytest_cache/once -m once "$@" &
    child=$!
    wait "$child"
    once=$?
    passed "$tf1" && passed "$once" || return 1
    # Something must have run somewhere.
    [ "$tf1" -eq 0 ] || [ "$once" -eq 0 ] || return 5
}

run_other "$@" >"$log" 2>&1 &
other=$!
ESE_TF1_BEHAVIOR=0 "$python" -m pytest -m 'not once' "$@"
tf2=$?

echo
echo 'The same with TF1 behaviour, and what does not depend on it:'
wait "$other"
rest=$?
other=
cat "$log"
passed "$tf2" && passed "$rest" && { [ "$tf2" -eq 0 ] || [ "$rest" -eq 0 ]; }
