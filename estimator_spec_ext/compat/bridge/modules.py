"""How a module that TensorFlow no longer has gets its place among TensorFlow's."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from typing import Callable


def supply(name: str, make: Callable[[str], types.ModuleType]) -> None:
    """Puts a module where `import name` finds it, unless there is one.

    Args:
      name: the full name of the module; its parent package is there.
      make: gets the name and returns the module.
    """
    if importlib.util.find_spec(name) is not None:
        return
    module = make(name)
    # A module that was put there by hand must answer find_spec too.
    module.__spec__ = importlib.util.spec_from_loader(name, loader=None)
    sys.modules[name] = module
    package, _, child = name.rpartition('.')
    setattr(importlib.import_module(package), child, module)
