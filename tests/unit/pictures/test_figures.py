"""Figures as files."""

from typing import Any
from unittest import mock

from darts_hpc.pictures import figures


def test_a_pdf_has_letters_that_papers_accept_and_the_same_bytes_each_time(quick_letters: dict[str, Any]):
    figure = figures.new_figure(2, 1)
    figure.text(0.1, 0.5, "words")
    with mock.patch.dict(figures.PDF_WORDS, quick_letters):
        drawn = figures.to_pdf(figure)
        assert figures.to_pdf(figure) == drawn
    assert drawn.startswith(b"%PDF-") and b"/Type3" not in drawn and b"/CIDFontType2" in drawn
