#!/bin/sh
# Prints what to install for TensorFlow $1 (a version, or nothing for the one that fits Python $2):
# the first line is for pip install, the second, which may be empty, for pip install --no-deps.
#
# tensorflow and tensorflow-cpu own the same files, and tf-keras asks for the former by name.
set -eu

version=${1:-}
if [ -z "$version" ]; then
    case $2 in
        3.9 | 3.10 | 3.11) version=2.15.1 ;;
        *) version=2.21.0 ;;
    esac
fi
case $(uname -s)-$(uname -m) in
    Linux-x86_64) name=tensorflow-cpu ;;
    *) name=tensorflow ;;
esac
minor=${version%.*}
case $minor in
    2.12) echo "$name==$version tensorflow-estimator==2.12.0 numpy<1.24"; echo ;;
    2.15) echo "$name==$version tensorflow-estimator==2.15.0 numpy<2"; echo ;;
    2.1[34]) echo "$name==$version tensorflow-estimator==$minor.0 numpy<2"; echo ;;
    *)
        # protobuf 7 lacks what TensorFlow 2.20 writes graphs with; TensorFlow 2.21 may come
        # without TensorBoard.
        echo "$name==$version tensorflow-estimator==2.15.0 protobuf<7 tensorboard"
        echo "tf-keras~=$minor.0"
        ;;
esac
