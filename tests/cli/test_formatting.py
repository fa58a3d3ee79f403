"""Sizes and times in people's units: never a thousand of the smaller one."""

import pytest

from lightreasoner.formatting import format_bytes, format_duration, plural


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "1 kB"),
        (812_400, "812 kB"),
        (999_600, "1.0 MB"),
        (3_440_000, "3.4 MB"),
        (120_400_000, "120 MB"),
        (999_900_000, "999 MB"),
        (1_240_000_000, "1.2 GB"),
        (15_231_000_000, "15 GB"),
    ],
)
def test_sizes(size, text):
    """Memory was said as 15,231 MB, and a free disk as 812,000 MB."""
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 second"),
        (40, "40 seconds"),
        (89, "89 seconds"),
        (400, "7 minutes"),
        (12_600, "3.5 hours"),
        (400_000, "4.6 days"),
    ],
)
def test_times(seconds, text):
    """A run of six hours was said to have taken 21,600 s."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 problems"), (1, "1 problem"), (1_204, "1,204 problems")])
def test_counts(count, text):
    """A job was called "Sample 1 problems of Bundled, train", and files had "1 samples"."""
    assert plural(count, "problem") == text
