"""Many texts as two arrays: a million file names are one allocation, and go to a file as they are."""

import os
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np


class PackedStrings(Sequence[str]):
    """Texts (file names, of any bytes) as their joined bytes (M,) uint8 and where each ends (N,) int64."""

    def __init__(self, text: np.ndarray, ends: np.ndarray):
        self.text, self.ends = text, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> "PackedStrings":
        """Pack texts."""
        encoded = [os.fsencode(text) for text in texts]
        ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        start = self.ends[index - 1] if index else 0
        return os.fsdecode(self.text[start : self.ends[index]].tobytes())

    def equals(self, other: "PackedStrings") -> bool:
        """Return whether they are the same texts."""
        return np.array_equal(self.ends, other.ends) and np.array_equal(self.text, other.text)
