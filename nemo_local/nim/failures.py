"""Stored models that could not be loaded: why, and when to try again."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from nemo_local.nim.stored import Stored

logger = logging.getLogger(__name__)

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0


@dataclass(frozen=True)
class _Failure:
    one: Stored
    reason: str
    wait_s: float
    """How long to wait; infinite when only other files help."""
    again_at: float
    """When to try again, on the clock of `Failures`."""


class Failures:
    """The last failure of each model; what may work later is tried after ever longer waits."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._all: dict[str, _Failure] = {}

    def reasons(self) -> dict[str, str]:
        """Why each model could not be loaded."""
        return {model_id: failure.reason for model_id, failure in self._all.items()}

    def tried_again(self) -> list[str]:
        """The models that may be loaded later although their files stay as they are."""
        return [model_id for model_id, last in self._all.items() if last.wait_s < math.inf]

    def refuse(self, one: Stored, reason: str) -> None:
        """Note that these files cannot be served."""
        if not self.is_refused(one):
            logger.error("%s cannot be served: %s", one.model_id, reason)
        self._all[one.model_id] = _Failure(one, reason, math.inf, math.inf)

    def put_off(self, one: Stored, error: Exception) -> None:
        """Note that loading did not work this time."""
        reason = f"{type(error).__name__}: {error}"
        last = self._all.get(one.model_id)
        if last is None or last.reason != reason:
            logger.warning("%s not loaded, trying again: %s", one.model_id, error)
        wait_s = min(2 * last.wait_s, LONGEST_WAIT_S) if last else FIRST_WAIT_S
        self._all[one.model_id] = _Failure(one, reason, wait_s, self._now_s() + wait_s)

    def is_refused(self, one: Stored) -> bool:
        """Whether these very files were refused."""
        last = self._all.get(one.model_id)
        return last is not None and last.wait_s == math.inf and last.one.key == one.key

    def is_too_early(self, one: Stored) -> bool:
        """Whether a model is to be tried again, but not yet."""
        last = self._all.get(one.model_id)
        return last is not None and self._now_s() < last.again_at < math.inf

    def hurry(self) -> None:
        """Let every model be tried again at once."""
        for model_id, last in self._all.items():
            if last.wait_s < math.inf:
                self._all[model_id] = replace(last, again_at=self._now_s())

    def forget(self, model_id: str) -> None:
        """Forget the failure of a model that is loaded."""
        self._all.pop(model_id, None)

    def keep(self, wanted: Mapping[str, Stored]) -> None:
        """Forget what is not wanted any more, or means something else now."""
        self._all = {
            model_id: last
            for model_id, last in self._all.items()
            if model_id in wanted and wanted[model_id].source == last.one.source
        }
