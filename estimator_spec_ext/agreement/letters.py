"""Small files by which the roles of a job tell each other something, beside the checkpoints."""

from __future__ import annotations

import dataclasses
import json
import uuid
from typing import Any, Mapping, Optional

from estimator_spec_ext.agreement.sheet import Sheet
from estimator_spec_ext.compat import tf

FOLDER = 'graph_agreement'
_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Letter:
    """What a role says of itself.

    Attributes:
      role: e.g. 'worker/1'.
      run: drawn anew in each run, so that nobody takes a letter of an earlier run for one of this.
      digest: of the role's sheet.
      answers: the `run` of each role whose letter this one has read: the answer shows that both
        are there now.
      agreed: the leader's word that all roles have come and agree.
      failures: the leader's word on what is wrong, by role; '' stands for all roles.
      variables: names of the variables that differ, by role.
    """

    role: str
    run: str
    digest: str
    answers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    agreed: bool = False
    failures: Mapping[str, str] = dataclasses.field(default_factory=dict)
    variables: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)


class Box:
    """The folder in which the letters lie; on any file system that TensorFlow knows.

    Args:
      model_dir: where the checkpoints are.
    """

    def __init__(self, model_dir: str) -> None:
        self.folder = tf.io.gfile.join(model_dir, FOLDER)

    def put(self, letter: Letter) -> None:
        """Writes a role's letter in place of the one before.

        Raises:
          tf.errors.OpError: when it cannot be written.
        """
        self._write(self._path(letter.role, 'json'),
                    json.dumps({'version': _VERSION, **dataclasses.asdict(letter)}))

    def get(self, role: str) -> Optional[Letter]:
        """A role's letter; None when there is none, or none that can be read yet."""
        try:
            found = json.loads(self._read(self._path(role, 'json')))
            if found.pop('version') != _VERSION:
                return None
            return Letter(**found)
        except (tf.errors.OpError, OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def put_sheet(self, role: str, run: str, sheet: Sheet) -> None:
        """Writes what a role's digest is of."""
        self._write(self._path(role, 'graph.json'), f'{run}\n{sheet.to_json()}')

    def get_sheet(self, role: str, run: str) -> Optional[Sheet]:
        """The sheet that a role wrote in a run; None when it cannot be read yet."""
        try:
            written, text = self._read(self._path(role, 'graph.json')).split('\n', 1)
            return Sheet.from_json(text) if written == run else None
        except (tf.errors.OpError, OSError, ValueError, TypeError, KeyError):
            return None

    def remove(self, role: str) -> None:
        """Removes what a role has written."""
        for ending in ('json', 'graph.json'):
            try:
                tf.io.gfile.remove(self._path(role, ending))
            except (tf.errors.OpError, OSError):
                continue  # gone already, or it may stay

    def _path(self, role: str, ending: str) -> str:
        return tf.io.gfile.join(self.folder, f'{role.replace("/", "-")}.{ending}')

    def _write(self, path: str, text: str) -> None:
        tf.io.gfile.makedirs(self.folder)
        # Renamed into its place, so that no reader finds half of it.
        draft = f'{path}.{uuid.uuid4().hex[:8]}'
        with tf.io.gfile.GFile(draft, 'w') as file:
            file.write(text)
        tf.io.gfile.rename(draft, path, overwrite=True)

    def _read(self, path: str) -> Any:
        with tf.io.gfile.GFile(path, 'r') as file:
            return file.read()
