"""Mean errors by the share of a person's joints that is hidden."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

_BINS = 8


def hidden_share(visible: Float[np.ndarray, "samples joints"]) -> Float[np.ndarray, "samples"]:
    """Return the share of each sample's joints that are hidden.

    Args:
        visible: 1 for visible joints, 0 for hidden ones, NaN where unknown.

    Returns:
        In [0, 1]; NaN if any joint of the sample is unknown.
    """
    return 1.0 - visible.mean(1)


def hidden_share_bins(
    share: Float[np.ndarray, "samples"],
) -> tuple[Float[np.ndarray, "edges"], Int[np.ndarray, "samples"]]:
    """Sort samples into bins of equal width between 0 and the largest share.

    Returns:
        The bins' edges, and the bin of each sample.
    """
    edges = np.linspace(0.0, max(float(np.max(share, initial=0.0)), 1e-6), _BINS + 1)
    return edges, np.clip(np.digitize(share, edges) - 1, 0, _BINS - 1)


def by_hidden_share(
    mpjpe: Float[np.ndarray, "samples"],
    mean_pose: Float[np.ndarray, "samples"],
    share: Float[np.ndarray, "samples"],
) -> list[dict[str, Any]]:
    """Average errors over bins of the share of hidden joints, as the figure draws them.

    Args:
        mpjpe: mm, NaN where not measured.
        mean_pose: MPJPE of the mean-pose baseline, mm; NaN where there is none.
        share: from `hidden_share`.

    Returns:
        For each bin with samples: from, to (shares), count, mpjpe and mean_pose_mpjpe.
    """
    known = np.isfinite(mpjpe) & np.isfinite(share)
    mpjpe, mean_pose = mpjpe[known], mean_pose[known]
    edges, bins = hidden_share_bins(share[known])
    table = []
    for number in np.unique(bins):
        inside = bins == number
        baseline = mean_pose[inside].mean()
        table.append(
            {
                "from": float(edges[number]),
                "to": float(edges[number + 1]),
                "count": int(inside.sum()),
                "mpjpe": float(mpjpe[inside].mean()),
                "mean_pose_mpjpe": float(baseline) if np.isfinite(baseline) else None,
            }
        )
    return table
