"""Tests that pytest collects and runs, a target for each file."""

_MAIN = "tools/bazel_pytest.py"

# The switch that a folder's conftest.py asks for before it collects anything, as make sets it.
_SWITCHES = {
    "tests/cluster/": "ESE_CLUSTER",
    "tests/dist/": "ESE_DIST",
    "tests/jobs/": "ESE_MISTAKES",
    "tests/matrix/": "ESE_MATRIX",
    "tests/mistakes/": "ESE_MISTAKES",
    "tests/thirdparty/": "ESE_THIRDPARTY",
}

def _switch(path):
    for folder, name in _SWITCHES.items():
        if path.startswith(folder):
            return name
    return None

def pytest_test(path, size, deps, data, tags = [], env = {}):
    """A py_test, named by its file without `.py`, in which pytest runs that file.

    Honours --test_filter (as pytest's -k) and writes test.xml. A test that starts clusters, needs
    other packages or takes minutes has a switch of its own and is left out of //...: name it.

    Args:
      path: the file from the root of the workspace.
      size: "small", "medium" or "large".
      deps: libraries.
      data: what the tests read, their helpers included.
      tags: further tags.
      env: further variables.
    """
    switch = _switch(path)
    native.py_test(
        name = path[:-len(".py")],
        size = size,
        srcs = [_MAIN, path],
        main = _MAIN,
        args = [path],
        data = data,
        deps = deps,
        env = dict(env, **({switch: "1"} if switch else {})),
        tags = tags + ([switch.lower().replace("ese_", ""), "manual"] if switch else []),
    )

def pytest_tests(sizes, **kwargs):
    """A `pytest_test` for each file.

    Args:
      sizes: the files by size.
      **kwargs: deps and data of all.
    """
    for size, paths in sizes.items():
        for path in paths:
            pytest_test(path, size, **kwargs)
