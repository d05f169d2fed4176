"""The verbs `check` and `run` of the command line. TensorFlow is imported when they run."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from typing import Any, Callable, Iterator, Optional

_LEVELS = ('error', 'warning', 'info', 'never')
_OK, _FOUND = 0, 1


def add_verbs(verbs: Any, usage_error: type[Exception]) -> None:
    """Adds `check` and `run` to the parser of the command line.

    Args:
      verbs: what `ArgumentParser.add_subparsers` returned.
      usage_error: raised for arguments that make no sense.
    """
    check = verbs.add_parser(
        'check', help='check the job that a function builds',
        description='Checks the job that a function builds. The function takes no arguments and '
                    'returns (estimator, train_spec, eval_spec), and a serving_input_receiver_fn '
                    'as a fourth if there is one.')
    check.add_argument('builder', metavar='MODULE:FUNCTION',
                       help='e.g. trainer.task:build, importable from here')
    _add_options(check)
    check.add_argument('--roles', choices=('all',),
                       help='build the graphs of all tasks of the cluster in TF_CONFIG, and '
                            'compare them')
    check.add_argument('--child-processes', action='store_true',
                       help='with --roles: build each task in a process of its own')
    check.set_defaults(run=lambda arguments: _run(arguments, usage_error, _check_builder))
    script = verbs.add_parser(
        'run', help='run a script and check its job instead of starting it',
        description='Runs a script as it is. train_and_evaluate, and the methods train, evaluate, '
                    'predict and export of an Estimator, check the job instead of running it.')
    _add_options(script)
    script.add_argument('--execute', action='store_true',
                        help='do not check anything: run the script for real, with tf.estimator '
                             'put back on TensorFlow 2.16 and newer; no other option applies')
    script.add_argument('script', metavar='SCRIPT', help='the script')
    script.add_argument('arguments', metavar='...', nargs=argparse.REMAINDER,
                        help='its own arguments')
    script.set_defaults(run=lambda arguments: _execute(arguments, usage_error)
                        if arguments.execute else _run(arguments, usage_error, _run_script))


def _add_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument('--depth', choices=('graph', 'run', 'serve'), default='serve',
                      help='graph: build and check every mode; run: also rehearse them; serve: '
                           'also export and ask the export (default: %(default)s)')
    verb.add_argument('--format', choices=('text', 'json', 'sarif', 'html'), default='text',
                      help='of the report (default: %(default)s)')
    verb.add_argument('--output', metavar='FILE', help='where to write the report '
                                                       '(default: standard output)')
    verb.add_argument('--fail-level', choices=_LEVELS, default='error',
                      help='exit with 1 for findings at or above this (default: %(default)s)')
    verb.add_argument('--suppress', metavar='RULE=REASON', action='append', default=[],
                      help='accept the findings of a rule; may be given again')
    verb.add_argument('--skip-hooks', metavar='CLASS', action='append', default=[],
                      help='leave hooks of this class out of rehearsals, as module:Class')
    verb.add_argument('--run-exporters', metavar='NAME', action='append', default=[],
                      help='run an exporter of your own too, in the scratch folder')
    verb.add_argument('--time-limit', metavar='SECONDS', type=float, default=600.,
                      help='for all rehearsals (default: %(default)g)')


def _execute(arguments: argparse.Namespace, usage_error: type[Exception]) -> int:
    from estimator_spec_ext import executing
    return executing.execute(_script(arguments, usage_error), _rest(arguments))


def _run(arguments: argparse.Namespace, usage_error: type[Exception],
         job: Callable[[argparse.Namespace, dict[str, Any], Any, type[Exception]], Any]) -> int:
    suppress = {}
    for item in arguments.suppress:
        name, mark, reason = item.partition('=')
        if not mark or not reason.strip():
            raise usage_error(f'--suppress {item}: write --suppress slug-of-the-rule=the reason')
        suppress[name] = reason
    options = {'depth': arguments.depth, 'suppress': suppress or None,
               'time_limit': arguments.time_limit,
               'skip_hooks': tuple(_named(name, usage_error) for name in arguments.skip_hooks),
               'run_exporters': tuple(arguments.run_exporters)}
    status = _OK
    with _progress() as say:
        # What the job prints is not the report.
        with contextlib.redirect_stdout(sys.stderr):
            from estimator_spec_ext.installing import install_tf_estimator
            install_tf_estimator()
            from estimator_spec_ext.preflight.api import PreflightInterrupted
            try:
                report = job(arguments, options, say, usage_error)
            except PreflightInterrupted as interrupted:
                report, status = interrupted.report, 2
    _write(report, arguments)
    return status or _status(report, arguments.fail_level)


def _check_builder(arguments: argparse.Namespace, options: dict[str, Any],
                   say: Callable[[str], None], usage_error: type[Exception]) -> Any:
    if arguments.roles:
        return _check_roles(arguments, options, say, usage_error)
    if arguments.child_processes:
        raise usage_error('--child-processes goes with --roles all')
    from estimator_spec_ext.preflight import api, script
    builder = _named(arguments.builder, usage_error)
    say(f'calling {arguments.builder}')
    try:
        made = builder()
    except (Exception, SystemExit) as error:
        return api.failed_before_job(error, depth=arguments.depth)
    if not isinstance(made, (tuple, list)) or not 1 <= len(made) <= 4:
        raise usage_error(f'{arguments.builder} returned a {type(made).__name__}; expected '
                          '(estimator, train_spec, eval_spec)')
    estimator, train_spec, eval_spec, receiver_fn = [*made, None, None, None][:4]
    try:
        job = api.job_of(estimator, train_spec, eval_spec, receiver_fn)
        return script.check_quietly(job, progress=say, **options)
    except (TypeError, ValueError) as error:
        raise usage_error(f'{arguments.builder}: {error}') from error


def _check_roles(arguments: argparse.Namespace, options: dict[str, Any],
                 say: Callable[[str], None], usage_error: type[Exception]) -> Any:
    from estimator_spec_ext.preflight.roles import preflight_roles
    if not arguments.builder.rpartition(':')[0]:
        raise usage_error(f'{arguments.builder}: write module:name, e.g. trainer.task:build')
    if options.pop('run_exporters'):
        raise usage_error('--run-exporters does not go with --roles: no role exports')
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    # By its name: the module is imported under the TF_CONFIG of the first task, not before.
    return preflight_roles(arguments.builder, child_processes=arguments.child_processes,
                           progress=say, **options)


def _run_script(arguments: argparse.Namespace, options: dict[str, Any],
                say: Callable[[str], None], usage_error: type[Exception]) -> Any:
    from estimator_spec_ext.preflight.script import Script
    return Script(_script(arguments, usage_error), _rest(arguments), options, say).run()


def _script(arguments: argparse.Namespace, usage_error: type[Exception]) -> str:
    if not os.path.isfile(arguments.script):
        raise usage_error(f'there is no file {arguments.script}')
    return str(arguments.script)


def _rest(arguments: argparse.Namespace) -> list[str]:
    rest = list(arguments.arguments)
    return rest[1:] if rest[:1] == ['--'] else rest


def _named(name: str, usage_error: type[Exception]) -> Any:
    module_name, mark, attribute = name.partition(':')
    if not mark or not module_name or not attribute:
        raise usage_error(f'{name}: write module:name, e.g. trainer.task:build')
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise usage_error(f'{name}: {error}') from error
    found: Any = module
    for part in attribute.split('.'):
        if not hasattr(found, part):
            raise usage_error(f'{name}: module {module_name} has no {attribute}')
        found = getattr(found, part)
    if not callable(found):
        raise usage_error(f'{name} is not callable')
    return found


def _status(report: Any, level: str) -> int:
    if level == 'never':
        return _OK
    worst = _LEVELS.index(level)
    return _FOUND if any(finding.severity.rank <= worst for finding in report.findings) else _OK


def _write(report: Any, arguments: argparse.Namespace) -> None:
    content = {'text': report.to_text, 'json': report.to_json, 'sarif': report.to_sarif,
               'html': report.to_html}[arguments.format]()
    if arguments.output:
        with open(arguments.output, 'w', encoding='utf-8') as file:
            file.write(content)
    else:
        sys.stdout.write(content)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Gives a function that shows a line of progress on standard error."""
    console = _rich_console()
    if console is None:
        def say(text: str) -> None:
            sys.stderr.write(f'estimator-preflight: {text}\n')
            sys.stderr.flush()
        yield say
        return
    with console.status('estimator-preflight') as status:
        yield lambda text: status.update(f'estimator-preflight: {text}')


def _rich_console() -> Optional[Any]:
    if not sys.stderr.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(stderr=True)
