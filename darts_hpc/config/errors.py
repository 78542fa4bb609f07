"""A user's mistake that takes more than a line to explain."""


class ExplainedError(ValueError):
    """One line, as of any ValueError, and text that is shown below it, such as a table."""

    def __init__(self, line: str, explanation: str):
        super().__init__(line)
        self.explanation = explanation
