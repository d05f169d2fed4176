"""Lets a Bazel older than 5 build Python targets without the network.

Its own tools name three repositories that it downloads even for a workspace of Python alone. They
hold nothing that such a Bazel does not have built in, so local ones that pass those on will do.
"""

_CC_RULES = [
    "cc_binary",
    "cc_import",
    "cc_library",
    "cc_proto_library",
    "cc_test",
    "cc_toolchain",
    "cc_toolchain_suite",
    "objc_library",
]

_JAVA_RULES = [
    "java_binary",
    "java_import",
    "java_library",
    "java_proto_library",
    "java_runtime",
    "java_toolchain",
]

_COVERAGE = """\
package(default_visibility = ["//visibility:public"])

filegroup(name = "coverage_report_generator")

filegroup(name = "lcov_merger")
"""

def _forward(rules):
    return "".join(["%s = native.%s\n" % (rule, rule) for rule in rules])

def _local_files_impl(repository_ctx):
    repository_ctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % repository_ctx.name)
    for path, text in repository_ctx.attr.files.items():
        repository_ctx.file(path, text, executable = False)

_local_files = repository_rule(
    implementation = _local_files_impl,
    attrs = {"files": attr.string_dict()},
)

def _is_old(version):
    # Debian's Bazel 4 gives its version as "".
    major = version.split(".")[0]
    return not major.isdigit() or int(major) < 5

def bootstrap_repositories():
    """Declares the three repositories on a Bazel older than 5, and nothing on another."""
    if not _is_old(native.bazel_version):
        return
    _local_files(
        name = "rules_cc",
        files = {"cc/BUILD": "", "cc/defs.bzl": _forward(_CC_RULES)},
    )
    _local_files(
        name = "rules_java",
        files = {"java/BUILD": "", "java/defs.bzl": _forward(_JAVA_RULES)},
    )
    _local_files(
        name = "remote_coverage_tools",
        files = {"BUILD": _COVERAGE},
    )
