"""The report as a text summary in a folder of logs, where TensorBoard shows it."""

from __future__ import annotations

from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Report


def write(report: Report, logdir: str, *, step: int, name: str) -> None:
    """Writes one event file; see `Report.write_summary`."""
    # TensorBoard reads Markdown, which leaves the lines of a fenced block as they are.
    text = f'```text\n{report.to_text()}```\n'
    # A graph of its own, since the caller's may be finalized, or there may be none.
    with tf.Graph().as_default(), v1.Session() as session:
        summary = session.run(v1.summary.text(name, tf.constant(text)))
        # The writer, not FileWriterCache's, which belongs to the training.
        with v1.summary.FileWriter(logdir, filename_suffix='.estimator_spec_ext') as writer:
            writer.add_summary(summary, step)
