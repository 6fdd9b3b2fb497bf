"""What vLLM's CPU workers lack; they import this module, the program does not."""

from __future__ import annotations

import torch


class RewindableGenerator(torch.Generator):  # type: ignore[misc]
    """A CPU generator that vLLM can rewind.

    A long prompt is computed in parts, and vLLM takes back what a seeded request draws behind an
    unfinished one by the generator's offset. A CPU generator has none, and its error ends the
    engine. Nothing that counts was drawn before, so the start is where it has to go back to.
    """

    def get_offset(self) -> int:
        """Return a place to count from."""
        return 0

    def set_offset(self, offset: int) -> None:
        """Go back to the seed."""
        self.manual_seed(self.initial_seed())


torch.Generator = RewindableGenerator


class WorkerExtension:
    """Nothing but the way by which vLLM's workers come to import this module."""
