"""A Python toolchain made of an environment that has TensorFlow."""

_PROBE = """
import sys
if not (3, 9) <= sys.version_info[:2] <= (3, 13):
    sys.exit("is Python %d.%d; TensorFlow needs 3.9 to 3.13" % sys.version_info[:2])
from importlib import metadata
found = {(d.metadata["Name"] or "").lower(): d.version for d in metadata.distributions()}
if "tensorflow" not in found and "tensorflow-cpu" not in found:
    sys.exit("has no TensorFlow installed")
print(sys.executable)
print(sys.version.split()[0])
print("\\n".join(sorted("%s==%s" % item for item in found.items())))
"""

_BUILD = """\
load("@bazel_tools//tools/python:toolchain.bzl", "py_runtime_pair")

package(default_visibility = ["//visibility:public"])

py_runtime(
    name = "py3_runtime",
    interpreter_path = "{python}",
    python_version = "PY3",
    stub_shebang = "#!{python}",
)

py_runtime_pair(
    name = "py_runtime_pair",
    py3_runtime = ":py3_runtime",
)

toolchain(
    name = "toolchain",
    toolchain = ":py_runtime_pair",
    toolchain_type = "@bazel_tools//tools/python:toolchain_type",
)

# What is installed there: a target that depends on it is not reused after an upgrade.
py_library(
    name = "installed",
    data = ["installed.txt"],
)
"""

def _local_python_impl(repository_ctx):
    python = repository_ctx.os.environ.get("PYTHON_BIN_PATH", "")
    if not python:
        root = repository_ctx.path(Label("//:WORKSPACE")).dirname
        python = str(root.get_child(".venv").get_child("bin").get_child("python"))
    if not repository_ctx.path(python).exists:
        fail("%s is not there; run `make venv`, or set PYTHON_BIN_PATH to a Python that has TensorFlow 2.15" % python)
    result = repository_ctx.execute([python, "-c", _PROBE], timeout = 120)
    if result.return_code != 0:
        reason = (result.stderr.strip() or "does not run").split("\n")[-1]
        fail("%s %s; run `make venv`, or set PYTHON_BIN_PATH to another Python" % (python, reason))
    lines = result.stdout.strip().split("\n")
    repository_ctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % repository_ctx.name)
    repository_ctx.file("BUILD", _BUILD.format(python = lines[0]), executable = False)
    repository_ctx.file("installed.txt", "\n".join(lines) + "\n", executable = False)

local_python = repository_rule(
    implementation = _local_python_impl,
    configure = True,
    environ = ["PYTHON_BIN_PATH"],
    local = True,
)
