"""Which way a metric goes where listeners like what they hear."""

from __future__ import annotations


def rises(metric: str) -> bool | None:
    """Whether a metric, by its name without a layer, is to rise with ratings; None where that is not known."""
    from mertric.mert_scores import MERT_METRICS
    from mertric.metrics.registry import WAVEFORM_METRICS

    if metric in MERT_METRICS:
        return False
    return WAVEFORM_METRICS[metric].higher_is_better if metric in WAVEFORM_METRICS else None


def wrong_way(metric: str, correlation: float) -> bool:
    """Whether a metric's correlation with ratings has the sign that it is not to have."""
    expected = rises(metric)
    return expected is not None and correlation != 0 and (correlation > 0) != expected
