"""Runs pytest as Bazel expects of a test: its filter, its report file, its scratch folder."""

import os
import sys

import pytest


def main(argv):
    """Runs pytest on `argv` and returns its exit status."""
    args = ['-p', 'no:cacheprovider']
    if os.environ.get('XML_OUTPUT_FILE'):
        args.append('--junitxml=' + os.environ['XML_OUTPUT_FILE'])
    if os.environ.get('TESTBRIDGE_TEST_ONLY'):
        args += ['-k', os.environ['TESTBRIDGE_TEST_ONLY']]
    if os.environ.get('TEST_TMPDIR'):
        args.append('--basetemp=' + os.path.join(os.environ['TEST_TMPDIR'], 'pytest'))
    return int(pytest.main(args + argv))


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
