"""How much faster, and how exact, is the Fréchet distance than what a user would run instead?

Sides: the route of fadtk and of the paper's code (`sqrtm` and `eig` of the product of covariances),
`scipy.linalg.sqrtm` alone, and NumPy covariances with `eigh` and `eigvalsh`. The reference route is timed
with BLAS as it comes and with one BLAS thread, and the faster of the two counts.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
from environment import environment, peak_memory, timings
from numpy.lib.scimath import sqrt as complex_sqrt
from scipy import linalg
from tables import markdown
from threadpoolctl import threadpool_limits

from mertric.metrics.batch import frechet_distances
from mertric.metrics.frechet import frechet_distance
from mertric.metrics.prepared import prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAMES, DIMS, PAIRS = (75, 374, 749, 2249, 27000), (768, 1024), 250
SQUARE = 1536  # of the product that measures what the machine's `dgemm` can do


def pair(frames: int, dim: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Frames like those of a clip and its separation: falling spectrum, an offset, half the energy shared."""
    rng = np.random.default_rng(seed)
    scale = np.arange(1, dim + 1, dtype=np.float32) ** -0.5
    x = rng.standard_normal((frames, dim), np.float32) * scale + 1.0
    y = rng.standard_normal((frames, dim), np.float32) * scale
    y *= 0.5
    y += 0.7 * x + 0.3
    return x, y


def _moments(x: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.mean(x, axis=0, dtype=np.float64), np.cov(x, rowvar=False, dtype=np.float64)


def _combined(gap: NDArray[Any], c1: NDArray[Any], c2: NDArray[Any], cross: complex) -> float:
    return float(np.real(gap @ gap + np.trace(c1) + np.trace(c2) - 2.0 * cross))


def reference(x: NDArray[Any], y: NDArray[Any]) -> float:
    (m1, c1), (m2, c2) = _moments(x), _moments(y)
    linalg.sqrtm(c1 @ c2)
    values, vectors = linalg.eig(c1 @ c2)
    root = (vectors * complex_sqrt(values)) @ linalg.inv(vectors)
    return _combined(m1 - m2, c1, c2, np.trace(root))


def one_thread(x: NDArray[Any], y: NDArray[Any]) -> float:
    with threadpool_limits(1):
        return reference(x, y)


def sqrtm(x: NDArray[Any], y: NDArray[Any]) -> float:
    (m1, c1), (m2, c2) = _moments(x), _moments(y)
    return _combined(m1 - m2, c1, c2, np.trace(linalg.sqrtm(c1 @ c2)))


def eigvalsh(x: NDArray[Any], y: NDArray[Any]) -> float:
    (m1, c1), (m2, c2) = _moments(x), _moments(y)
    values, vectors = np.linalg.eigh(c1)
    root = (vectors * np.sqrt(values.clip(0.0))) @ vectors.T
    return _combined(m1 - m2, c1, c2, np.sqrt(np.linalg.eigvalsh(root @ c2 @ root).clip(0.0)).sum())


def svd_oracle(x: NDArray[Any], y: NDArray[Any]) -> float:
    x, y = x.astype(np.float64), y.astype(np.float64)
    a, b = (np.linalg.qr((e - e.mean(0)) / np.sqrt(len(e) - 1), mode="r") for e in (x, y))
    gap, cross = x.mean(0) - y.mean(0), np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(gap @ gap + (a**2).sum() + (b**2).sum() - 2.0 * cross)


def exact(x: NDArray[Any], y: NDArray[Any]) -> float:
    with mpmath.workdps(50):
        roots, means = [], []
        for e in (x, y):
            a = mpmath.matrix(e.astype(np.float64).tolist())
            means.append([mpmath.fsum(a.column(j)) / a.rows for j in range(a.cols)])
            for i in range(a.rows):
                for j in range(a.cols):
                    a[i, j] = (a[i, j] - means[-1][j]) / mpmath.sqrt(a.rows - 1)
            roots.append(a)
        gap = mpmath.fsum((p - q) ** 2 for p, q in zip(*means, strict=True))
        traces = mpmath.fsum(v**2 for a in roots for v in a)
        return float(gap + traces - 2 * mpmath.fsum(mpmath.svd_r(roots[0] * roots[1].T, compute_uv=False)))


def operations(frames: int, dim: int) -> float:
    """Float64 operations of the products and of the one reduction of M that no exact route of ours can spare.

    Long clips: two symmetric products to dim x dim and one of triangles; short ones: the product of frames.
    8/3 n³ is what a reduction from both sides takes (Golub & Van Loan, Matrix Computations, 2013, §5.4.8).
    """
    least = min(frames, dim)
    products = 2 * frames * dim**2 + dim**3 if frames > dim else 2 * frames**2 * dim
    return products + 8 / 3 * least**3


ROUTES: dict[str, Any] = {
    "mertric": frechet_distance,
    "reference": reference,
    "one_thread": one_thread,
    "sqrtm": sqrtm,
    "eigvalsh": eigvalsh,
}


def one_pair(frames: int, dim: int, slow_runs: int) -> dict[str, Any]:
    x, y = pair(frames, dim)
    long = frames > 5000
    runs = {"mertric": 5 if long else 15, "eigvalsh": 3 if long else 7}
    runs |= dict.fromkeys(("reference", "one_thread", "sqrtm"), slow_runs)
    for route in (frechet_distance, eigvalsh):
        route(x, y)
    values: dict[str, float] = {}
    sides: dict[str, Any] = {
        name: lambda n=name, r=route: values.__setitem__(n, r(x, y)) for name, route in ROUTES.items()
    }
    square = np.ones((SQUARE, SQUARE))
    sides["dgemm"], runs["dgemm"] = (lambda: square @ square), 15
    timed = timings(sides, runs=runs, warm_up=False)
    truth, row = svd_oracle(x, y), {"frames": frames, "dim": dim, "timings": timed}
    row |= {f"{name}_error": abs(value - truth) / truth for name, value in values.items()}
    row |= {f"{name}_s": t["median_s"] for name, t in timed.items()}
    row["floor_s"] = operations(frames, dim) / (2 * SQUARE**3 / timed["dgemm"]["min_s"])
    row["best_reference_s"] = min(row["reference_s"], row["one_thread_s"])
    row["speedup"] = row["best_reference_s"] / row["mertric_s"]
    row["default_speedup"] = row["reference_s"] / row["mertric_s"]
    row["eigvalsh_speedup"] = row["eigvalsh_s"] / row["mertric_s"]
    print(f"{frames} x {dim}: {row['speedup']:.0f} x fadtk's, {row['eigvalsh_speedup']:.1f} x eigvalsh", flush=True)
    return row


def many_pairs(frames: int, dim: int) -> list[dict[str, Any]]:
    """All pairs on one core and on all cores, with a reference each and with one reference for all."""
    x, y = zip(*(pair(frames, dim, seed) for seed in range(PAIRS)), strict=True)
    rows = []
    for title, references in (("a reference each", list(x)), ("one reference", [x[0]] * PAIRS)):
        sides = {
            "one_core": lambda r=references: frechet_distances(r, y, workers=1),
            "all_cores": lambda r=references: frechet_distances(r, y),
        }
        timed = timings(sides, runs=3)
        row = {"case": f"{PAIRS} pairs, {title}", "frames": frames, "dim": dim, "timings": timed}
        row |= {f"{name}_s": t["min_s"] for name, t in timed.items()}
        rows.append(row | {"scaling": row["one_core_s"] / row["all_cores_s"], "pair_s": row["all_cores_s"] / PAIRS})
    return rows


def accuracy() -> list[dict[str, Any]]:
    """Relative error against 50 digits."""
    rng, rows = np.random.default_rng(0), []
    turn = np.linalg.qr(rng.standard_normal((10, 10)))[0]
    base = rng.standard_normal((2, 24, 10))
    cases = {
        "well conditioned": (base[0, :12], base[1, :14]),
        "condition 1e12": tuple(b @ (np.logspace(0, -12, 10)[:, None] * turn) for b in base),
        "rank 2": tuple(b[:, :2] @ turn[:2] for b in base),
        "offset 1e6": tuple(b + 1e6 for b in base),
        "scale 1e-6": tuple(1e-6 * b for b in base),
        "scale 1e6": tuple(1e6 * b for b in base),
        "nearly alike, 1e-5": (base[0], base[0] + 1e-5 * base[1]),
    }
    for title, (x, y) in cases.items():
        truth = exact(x, y)
        errors = {f"{name}_error": abs(ROUTES[name](x, y) - truth) / truth for name in ("mertric", "sqrtm", "eigvalsh")}
        rows.append({"case": title, "frames": len(x), "dim": 10, "distance": truth, **errors})
    return rows


def memory() -> list[dict[str, Any]]:
    rows = []
    for frames, dim in ((374, 768), (27000, 768)):
        for name in ("mertric", "reference", "eigvalsh"):
            program = f"import distances\nx, y = distances.pair({frames}, {dim})\ndistances.ROUTES[{name!r}](x, y)\n"
            base = program.rsplit("distances.ROUTES", 1)[0]
            peak, without = peak_memory(program), peak_memory(base)
            rows.append(
                {"route": name, "frames": frames, "dim": dim, "peak_mib": peak, "over_input_mib": peak - without}
            )
    return rows


def _columns(*columns: tuple[str, str, str]) -> list[dict[str, str]]:
    return [dict(zip(("key", "title", "format"), column, strict=True)) for column in columns]


SIZE = (("frames", "frames", "d"), ("dim", "dim", "d"))
ERRORS = (
    ("mertric_error", "mertric", ".0e"),
    ("sqrtm_error", "`sqrtm`", ".0e"),
    ("eigvalsh_error", "`eigvalsh`", ".0e"),
)


def tables(singles: list[Any], batches: list[Any], errors: list[Any], peaks: list[Any]) -> list[dict[str, Any]]:
    times = _columns(
        *SIZE,
        ("mertric_s", "mertric", "ms"),
        ("floor_s", "bare products", "ms"),
        ("best_reference_s", "fadtk's route", "ms"),
        ("sqrtm_s", "`sqrtm`", "ms"),
        ("eigvalsh_s", "covariance + `eigvalsh`", "ms"),
        ("speedup", "× fadtk's", ".0f"),
        ("eigvalsh_speedup", "× `eigvalsh`", ".1f"),
        ("mertric_error", "error (SVD)", ".0e"),
    )
    batch = _columns(
        ("case", "", ""),
        ("one_core_s", "one core", "s"),
        ("all_cores_s", "all cores", "s"),
        ("scaling", "scaling", ".2f"),
        ("pair_s", "a pair", "ms"),
    )
    exactness = _columns(("case", "embeddings", ""), ("distance", "distance", ".3g"), *ERRORS)
    resident = _columns(
        ("route", "route", ""), *SIZE, ("peak_mib", "peak MiB", ".0f"), ("over_input_mib", "over its input", ".0f")
    )
    return [
        {"title": "One pair, median time.", "columns": times, "rows": singles},
        {"title": "Many pairs, 374 x 768.", "columns": batch, "rows": batches},
        {"title": "Relative error against 50 digits.", "columns": exactness, "rows": errors},
        {"title": "Peak resident memory of a fresh process.", "columns": resident, "rows": peaks},
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write results here")
    parser.add_argument("--frames", type=int, nargs="+", default=FRAMES)
    parser.add_argument("--dims", type=int, nargs="+", default=DIMS)
    parser.add_argument("--slow-runs", type=int, default=3, help="timed runs of the slow routes")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    prepare(pair(2, 4)[0])
    singles = [one_pair(frames, dim, options.slow_runs) for dim in options.dims for frames in options.frames]
    result = {
        "title": "Fréchet distances",
        "environment": environment(),
        "tables": tables(singles, many_pairs(374, 768), accuracy(), memory()),
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    print(markdown(result))


if __name__ == "__main__":
    main()
