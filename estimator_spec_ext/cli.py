"""The command line, `estimator-preflight`; also `python -m estimator_spec_ext`.

Arguments are read before TensorFlow is imported, so `--help` and a wrong option are answered at
once. Each verb adds its own parser and sets `run`, a function from the parsed arguments to the exit
status.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import traceback
from typing import Any, Iterator, Optional, Sequence

from estimator_spec_ext.preflight import command
from estimator_spec_ext.version import __version__

OK, FOUND, FAILED = 0, 1, 2

_STATUS = '''exit status:
  0  nothing found at or above the fail level
  1  findings at or above the fail level
  2  the tool, or its arguments, failed'''


class UsageError(Exception):
    """An argument makes no sense; the text says which, and what would."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the command line.

    Args:
      argv: the arguments; None for those of the process.

    Returns:
      0: nothing found at or above the fail level; 1: something found; 2: the tool failed.

    Raises:
      SystemExit: after `--help` and `--version` (0) and wrong arguments (2), as argparse does.

    Example:
      >>> main(['explain', 'loss-not-scaler'])  # doctest: +SKIP
      estimator-preflight: error: no rule is called 'loss-not-scaler'; did you mean loss-not-scalar?
      2
    """
    arguments = _parser().parse_args(argv)
    # TensorFlow's C++ side reads this when it is first imported, and talks a lot without it.
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    try:
        status = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except UsageError as error:
        print(f'estimator-preflight: error: {error}', file=sys.stderr)
    except BrokenPipeError:
        # The reader, e.g. head, has seen enough. Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception:  # an exit status of 1 would claim findings
        traceback.print_exc()
        print('estimator-preflight: failed, see above', file=sys.stderr)
    return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='estimator-preflight', epilog=_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Finds the mistakes of a tf.estimator job before it is paid for.')
    parser.add_argument('--version', action='version',
                        version=f'estimator_spec_ext {__version__}')
    verbs = parser.add_subparsers(metavar='VERB', dest='verb', required=True)
    for add_verb in (_add_rules, _add_explain):
        add_verb(verbs)
    command.add_verbs(verbs, UsageError)
    return parser


def _add_rules(verbs: Any) -> None:
    verb = verbs.add_parser('rules', help='list all rules',
                            description='Lists all rules, by code.')
    verb.add_argument('--format', choices=('text', 'json', 'markdown'), default='text',
                      help='markdown is what docs/rules.md holds (default: %(default)s)')
    verb.set_defaults(run=_run_rules)


@contextlib.contextmanager
def _quiet_import() -> Iterator[None]:
    """Keeps what TensorFlow's C++ side writes while it is loaded from the terminal.

    From 2.20 on it talks of itself before TF_CPP_MIN_LOG_LEVEL counts. When the import fails, the
    lines are shown: they may say why.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log:
        terminal = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException:
            log.seek(0)
            os.write(terminal, log.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _run_rules(arguments: argparse.Namespace) -> int:
    with _quiet_import():
        from estimator_spec_ext import registry, rule_table
    sys.stdout.write(rule_table.render(registry.rules(), arguments.format))
    return OK


def _add_explain(verbs: Any) -> None:
    verb = verbs.add_parser(
        'explain', help='say what a rule finds, why it matters, and what to do',
        description='Says what a rule finds, why it matters, and what to do.')
    verb.add_argument('name', nargs='+', metavar='NAME',
                      help='a slug (loss-not-scalar) or a code (ESX201)')
    verb.set_defaults(run=_run_explain)


def _run_explain(arguments: argparse.Namespace) -> int:
    with _quiet_import():
        from estimator_spec_ext import registry
    try:
        texts = [registry.explain(name) for name in arguments.name]
    except KeyError as error:
        raise UsageError(error.args[0]) from None
    sys.stdout.write('\n'.join(texts))
    return OK


if __name__ == '__main__':
    sys.exit(main())
