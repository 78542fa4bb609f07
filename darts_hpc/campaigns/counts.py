"""How many of what is planned are finished, and how many never will be."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Count:
    """Cells or trainings: done, of planned. failed: those that will never be done."""

    done: int
    planned: int
    failed: int

    def __str__(self) -> str:
        missing = f" of {self.planned}" if self.done < self.planned else ""
        return f"{self.done}{missing}" + (f", {self.failed} failed" if self.failed else "")

    @property
    def can_be_any(self) -> bool:
        """Whether one is done, or may still be."""
        return self.failed < self.planned

    @property
    def why_none(self) -> str:
        """What stands in place of a number that is of none."""
        return "not done yet" if self.can_be_any else "failed"
