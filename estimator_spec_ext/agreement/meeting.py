"""How the roles find out whether they agree: the leader reads what all others wrote.

A letter of an earlier run looks like one of this run, and clocks differ. So each role draws a name
for its run, and believes a letter only when it answers this name: the others answer the leader's,
the leader answers theirs. Only the leader reads everybody's letters.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
import uuid
from typing import Callable, Optional

from absl import logging

from estimator_spec_ext.agreement import compare
from estimator_spec_ext.agreement.letters import Box, Letter
from estimator_spec_ext.agreement.sheet import Sheet
from estimator_spec_ext.job_role import JobRole

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 2.0
# After a failure the leader answers for so long those who come a little later.
_LAST_WORDS = 15.0
_READERS = 16
_FIX = ('make the same variables in the same order in every role: no branch on the role before a\n'
        '    variable is made, no loop over a set, the same code and the same configuration')


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a job cannot begin.

    Attributes:
      text: what every role says of it.
      variables: names of the variables that differ.
    """

    text: str
    variables: tuple[str, ...] = ()


class Pauses:
    """Waits between two looks: short at first, then longer, never beyond the limit."""

    def __init__(self, limit_secs: float) -> None:
        self._end = time.monotonic() + limit_secs
        self._pause = _FIRST_PAUSE

    @property
    def over(self) -> bool:
        """Whether the limit has passed."""
        return time.monotonic() >= self._end

    def shorten(self, limit_secs: float) -> None:
        """Ends after so many seconds from now, or when it would have ended."""
        self._end = min(self._end, time.monotonic() + limit_secs)

    def wait(self, sleep: Callable[[float], object] = time.sleep) -> None:
        """Sleeps once."""
        sleep(max(0.0, min(self._pause, self._end - time.monotonic())))
        self._pause = min(_LONGEST_PAUSE, self._pause * 1.5)


class Participant:
    """One role at the meeting.

    Args:
      role: which one.
      box: where the letters are.
      sheet: the fingerprint of its graph.
    """

    def __init__(self, role: JobRole, box: Box, sheet: Sheet) -> None:
        self._role = role
        self._box = box
        self._sheet = sheet
        self._letter = Letter(role.name, uuid.uuid4().hex, sheet.digest)

    def come(self) -> None:
        """Writes the first letter.

        Raises:
          tf.errors.OpError: when it cannot be written.
        """
        self._box.put_sheet(self._role.name, self._letter.run, self._sheet)
        self._box.put(self._letter)

    def leave(self) -> None:
        """Removes the letter."""
        self._box.remove(self._role.name)

    def _say(self, **changes: object) -> None:
        self._letter = dataclasses.replace(self._letter, **changes)  # type: ignore[arg-type]
        self._box.put(self._letter)


class Leader(Participant):
    """The chief: reads every letter, answers it, and says what came out."""

    def look(self) -> tuple[str, ...]:
        """Reads the letters once and answers those that are new.

        Returns:
          The roles that have not come yet.
        """
        missing = self.missing
        with concurrent.futures.ThreadPoolExecutor(min(_READERS, len(missing) or 1)) as readers:
            letters = dict(zip(missing, readers.map(self._box.get, missing)))
        return self._answer(letters)

    def look_again(self) -> tuple[str, ...]:
        """Like `look`, also at those who have come already, and may have been started anew."""
        others = [name for name in self._role.trainers if name != self._role.name]
        return self._answer({name: self._box.get(name) for name in others})

    def _answer(self, letters: dict[str, Optional[Letter]]) -> tuple[str, ...]:
        answers, failures = dict(self._letter.answers), dict(self._letter.failures)
        variables = dict(self._letter.variables)
        for name, letter in letters.items():
            if letter is None or letter.answers.get(self._role.name) != self._letter.run:
                continue
            if answers.get(name) == letter.run:
                continue
            try:
                found = self._judge(letter)
            except LookupError:
                continue  # what it differs in is not there yet
            answers[name] = letter.run
            failures.pop(name, None)
            if found is not None:
                failures[name], variables[name] = found.text, list(found.variables)
        if answers != self._letter.answers:
            self._say(answers=answers, failures=failures, variables=variables)
        return self.missing

    @property
    def missing(self) -> tuple[str, ...]:
        """The roles that have not come yet."""
        return tuple(name for name in self._role.trainers
                     if name != self._role.name and name not in self._letter.answers)

    @property
    def failure(self) -> Optional[Failure]:
        """What is wrong; None as long as nothing is."""
        for name, text in self._letter.failures.items():
            return Failure(text, tuple(self._letter.variables.get(name, ())))
        return None

    def meet(self, limit_secs: float) -> Optional[Failure]:
        """Waits until all have come, and says so.

        Args:
          limit_secs: how long to wait.

        Returns:
          What is wrong, or None.
        """
        pauses, failed = Pauses(limit_secs), False
        while self.look() and not pauses.over:
            if self.failure is not None and not failed:
                failed = True
                pauses.shorten(_LAST_WORDS)
            pauses.wait()
        if self.failure is None and self.missing:
            came = list(self._letter.answers)
            self._say(failures={'': absent(self._role.name, self.missing, limit_secs,
                                           self._box.folder, came)})
        if self.failure is None:
            self._say(agreed=True)
        return self.failure

    def _judge(self, letter: Letter) -> Optional[Failure]:
        if letter.digest == self._letter.digest:
            return None
        theirs = self._box.get_sheet(letter.role, letter.run)
        if theirs is None:
            raise LookupError(letter.role)
        found = compare.difference(self._role.name, self._sheet, letter.role, theirs)
        if found is None:
            return None
        lines = '\n'.join(f'    {line}' for line in found.lines)
        if not found.harmful:
            logging.warning('The graph of %s differs from that of %s; %s:\n%s', letter.role,
                            self._role.name, found.why, lines)
            return None
        return Failure(f'the graph of {letter.role} is not that of {self._role.name}:\n{lines}\n'
                       f'  why: {found.why}\n  fix: {_FIX}', found.variables)


class Member(Participant):
    """A role that is not the leader: asks the leader, and believes it."""

    leader_run: Optional[str] = None

    def ask(self) -> Optional[Letter]:
        """Reads the leader's letter and answers it.

        Returns:
          The letter when it is of this run and for this role; None otherwise.
        """
        leader = self._role.leader
        letter = self._box.get(leader)
        if letter is None:
            return None
        if self._letter.answers.get(leader) != letter.run:
            self._say(answers={leader: letter.run})
        if letter.answers.get(self._role.name) != self._letter.run:
            return None
        self.leader_run = letter.run
        return letter

    def meet(self, limit_secs: float, *, all_agree: bool) -> Optional[Failure]:
        """Waits for the leader's word.

        Args:
          limit_secs: how long to wait for the leader to come, and then for its word.
          all_agree: whether to wait for all the others too.

        Returns:
          What is wrong, or None.

        Raises:
          LookupError: when the leader did not come; with a text that says so.
        """
        pauses, answered = Pauses(limit_secs), False
        while True:
            letter = self.ask()
            if letter is not None:
                failure = self.failure_in(letter, all_agree)
                if failure is not None or letter.agreed or not all_agree:
                    return failure
                if not answered:
                    # The leader waits for the others for as long as it may.
                    answered, pauses = True, Pauses(limit_secs + _LAST_WORDS)
            if pauses.over:
                break
            pauses.wait()
        raise LookupError(absent(self._role.name, (self._role.leader,), limit_secs,
                                 self._box.folder))

    def failure_in(self, letter: Letter, all_agree: bool) -> Optional[Failure]:
        """What the leader says is wrong: with this role, or with any."""
        mine = self._role.name
        names = [mine, *letter.failures] if all_agree else [mine]
        for name in names:
            if name in letter.failures:
                return Failure(letter.failures[name], tuple(letter.variables.get(name, ())))
        return None


def absent(role: str, missing: tuple[str, ...], limit_secs: float, folder: str,
           came: tuple[str, ...] | list[str] = ()) -> str:
    """Says who did not come."""
    who = ', '.join(missing[:5]) + (f' and {len(missing) - 5} more' if len(missing) > 5 else '')
    others = f'  these came: {", ".join(sorted(came)[:8])}\n' if came else ''
    return (f'{who} did not come within {limit_secs:g} s; {role} waited in {folder}\n{others}'
            f'  fix: start every role that TF_CONFIG lists, each with the hook and with the same '
            f'model_dir,\n    on a file system that all of them see')
