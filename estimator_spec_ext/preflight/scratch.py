"""The scratch folder of a rehearsal, and the hooks of the user's that take part in it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from typing import Any, Iterable, Iterator, Optional

from estimator_spec_ext import hooks as hooks_lib
from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import rehearsal_internals as internals

# Attributes that say how rarely a hook acts.
_RARELY = re.compile(r'every|interval|freq|period')


class Scratch:
    """A folder that disappears, and what is sent there.

    Args:
      estimator: the user's estimator.
      skip_hooks: hooks, and classes of hooks, that take no part.
      resumes: whether a checkpoint in model_dir makes Estimator leave out warm starting.

    Attributes:
      folder: the folder.
      model_dir: the model_dir of the rehearsal, inside of it.
      left_out: (name of the class, why) of hooks that do not take part.
      moved: folders outside that would have been written to.
      saved: those of them in which somebody saves checkpoints by himself.
      prepared: the hooks that took part since this list was last cleared.
    """

    def __init__(self, estimator: Any, skip_hooks: tuple[Any, ...], *,
                 resumes: bool = False) -> None:
        self.folder = tempfile.mkdtemp(prefix='ese_preflight_')
        self.model_dir = os.path.join(self.folder, 'model')
        self.estimator = internals.scratch_estimator(
            estimator, self.model_dir, warm_start=not resumes)
        self.left_out: list[tuple[str, str]] = []
        self.moved: list[str] = []
        self.saved: list[str] = []
        self.prepared: list[Any] = []
        self._real = estimator
        self._skip = skip_hooks

    def remove(self) -> None:
        """Deletes the folder with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """What is written to `model_dir` meanwhile is gone afterwards."""
        kept = self.model_dir + '.kept'
        shutil.copytree(self.model_dir, kept, copy_function=_link)
        try:
            yield
        finally:
            shutil.rmtree(self.model_dir, ignore_errors=True)
            os.rename(kept, self.model_dir)

    def inside(self, folder: str) -> Optional[str]:
        """A folder in the scratch folder in the place of one outside; None for one inside."""
        path = os.path.abspath(folder)
        root = os.path.abspath(self.folder)
        if path == root or path.startswith(root + os.sep):
            return None
        if folder not in self.moved:
            self.moved.append(folder)
        other = os.path.join(self.folder, 'elsewhere', str(self.moved.index(folder)))
        os.makedirs(other, exist_ok=True)
        return other

    def saved_inside(self, folder: str) -> Optional[str]:
        """The same for the folder of a checkpoint that is being saved."""
        other = self.inside(folder)
        if other is not None and folder not in self.saved:
            self.saved.append(folder)
        return other

    def read_inside(self, folder: str) -> Optional[str]:
        """Where checkpoints that were saved to a folder outside are; None if none were."""
        return self.inside(folder) if folder in self.saved else None

    @property
    def notes(self) -> list[str]:
        """What would have been written outside, for the report."""
        return [f'checkpoints that the job itself saves to {folder!r} went to the scratch folder'
                for folder in self.saved]

    def leaves_out(self, hook: Any) -> bool:
        """Whether a hook does not take part."""
        name = type(hook).__name__
        if hooks_lib.is_own(hook):
            return True  # they watch over a real job; in a rehearsal there is no other role
        if any(hook is item or isinstance(item, type) and isinstance(hook, item)
               for item in self._skip):
            self._note(name, 'named in skip_hooks')
            return True
        if any(self.inside(folder) is not None for folder in internals.writers_of(hook)):
            self._note(name, 'holds a summary writer of its own')
            return True
        return False

    def _note(self, name: str, reason: str) -> None:
        if (name, reason) not in self.left_out:
            self.left_out.append((name, reason))

    def prepare(self, hook: Any) -> Any:
        """Makes a hook write inside, and act at each step; returns it."""
        self.prepared.append(hook)
        internals.keep_inside(hook, self.inside, self._real, self.estimator)
        if not hooks_lib.is_stock(hook):
            for name, value in list(getattr(hook, '__dict__', {}).items()):
                if type(value) is int and value > 1 and _RARELY.search(name):
                    hook.__dict__[name] = 1
        return hook

    def edit_spec(self, spec: Any) -> Any:
        """The spec without the hooks that are left out; the others are prepared."""
        spec = internals.without_hooks(spec, self.leaves_out)
        for field in hooks_lib.HOOK_FIELDS:
            for hook in getattr(spec, field) or ():
                self.prepare(hook)
        return spec

    @contextlib.contextmanager
    def borrowed(self, hooks: Optional[Iterable[Any]], *,
                 restore: bool = True) -> Iterator[list[Any]]:
        """The user's own hooks for one rehearsal; with `restore` given back as they were."""
        taken = [hook for hook in hooks or () if not self.leaves_out(hook)]
        kept = [(hook, _snapshot(hook)) for hook in taken]
        try:
            yield [self.prepare(hook) for hook in taken]
        finally:
            for hook, values in kept if restore else ():
                _restore(hook, values)

    @contextlib.contextmanager
    def acting(self, hooks: Iterable[Any]) -> Iterator[None]:
        """Hooks with a timer of TensorFlow's act at each step, for a while."""
        kept = [(hook, _snapshot(hook)) for hook in hooks]
        try:
            for hook, _ in kept:
                timer = getattr(hook, '_timer', None)
                if isinstance(timer, tf_estimator.SecondOrStepTimer):
                    timer.__dict__.update(_every_secs=None, _every_steps=1)
            yield
        finally:
            for hook, values in kept:
                _restore(hook, values)


def _link(source: str, target: str) -> None:
    """Copies a file in no time where the file system can; TensorFlow replaces files, once written.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _snapshot(value: Any, depth: int = 0) -> Optional[dict[str, Any]]:
    """The attributes of an object, its containers copied, and those of its own objects."""
    stored = getattr(value, '__dict__', None)
    if type(stored) is not dict:
        return None
    found: dict[str, Any] = {}
    for name, item in stored.items():
        copied = item.copy() if type(item) in (dict, list, set) else item
        inner = _snapshot(item, depth + 1) if depth < 2 and _is_plain(item) else None
        found[name] = (item, copied, inner)
    return found


def _is_plain(value: Any) -> bool:
    """Whether an object is a small helper of a hook, such as a timer."""
    module, name = type(value).__module__, type(value).__name__
    return (not isinstance(value, type) and module != 'builtins'
            and (name.endswith('Timer') or not module.startswith('tensorflow')))


def _restore(value: Any, known: Optional[dict[str, Any]]) -> None:
    if known is None:
        return
    stored = value.__dict__
    stored.clear()
    for name, (item, copied, inner) in known.items():
        if type(item) in (dict, set):
            item.clear()
            item.update(copied)
        elif type(item) is list:
            item[:] = copied
        stored[name] = item
        _restore(item, inner)
