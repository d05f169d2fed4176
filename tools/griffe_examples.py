"""Lets mkdocstrings take the `Example:` of our docstrings for the examples that they are."""

from __future__ import annotations

from typing import Any

import griffe


class DoctestExamples(griffe.Extension):
    """Google's style says Example, and griffe reads doctests under Examples alone."""

    def on_object(self, *, obj: Any, **kwargs: Any) -> None:
        """Renames the heading."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace('Example:\n', 'Examples:\n')
