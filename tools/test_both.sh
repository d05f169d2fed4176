#!/bin/sh
# Runs pytest twice, side by side: with TensorFlow 2 behaviour, seen as it goes, and with TF1
# behaviour, shown when it is done: tools/test_both.sh PYTHON [ARGUMENTS OF PYTEST].
# Both have a core each; one after the other would take twice as long.
set -u

cd "$(dirname "$0")/.."
python=$1
shift

log=$(mktemp)
tf1=
finish() {
    [ -z "$tf1" ] || kill "$tf1" 2>/dev/null
    rm -f "$log"
}
trap finish EXIT
trap 'exit 130' INT TERM

# A cache folder of its own: both runs write which tests failed last.
ESE_TF1_BEHAVIOR=1 "$python" -m pytest -o cache_dir=.pytest_cache/tf1 "$@" >"$log" 2>&1 &
tf1=$!
ESE_TF1_BEHAVIOR=0 "$python" -m pytest "$@"
status=$?

echo
echo 'The same with TF1 behaviour:'
wait "$tf1"
tf1_status=$?
tf1=
cat "$log"
# 5: none of the chosen tests depends on the behaviour, and the other run has shown them.
case $tf1_status in
    0 | 5) ;;
    *) status=1 ;;
esac
exit "$status"
