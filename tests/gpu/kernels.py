"""What Nsight Compute says of each kernel of one run of gpu_bench: launches, time, bytes and rate, beside PAPER.md's.

ncu runs each kernel alone and with cold caches, so the sum of times is no pass's time: it shows which kernel is slow, the
benchmark shows how slow the pass is. Of a decoder only what comes after the last but one `sample` counts: before it lies
the filling of the cache.
"""

import csv
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../nvcc"))
from names import short  # noqa: E402

METRICS = {"gpu__time_duration.sum": "ns", "dram__bytes.sum": "bytes"}


def command(program):
    """ncu's part of the command; clocks are left as the benchmark has them."""
    return ["ncu", "--clock-control", "none", "--graph-profiling", "node", "--csv", "--page", "raw", "--print-units", "base",
            "--metrics", ",".join(METRICS)] + program


def launches(text):
    """[(kernel, ns, bytes)] in order, from ncu's output; its own messages and the program's lines are passed over."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    out = []
    for row in csv.DictReader(lines):
        if row["ID"]:  # else the row of units
            out.append((short(row["Kernel Name"]),) + tuple(float(row[m].replace(",", "")) for m in METRICS))
    return out


def last_run(found):
    ends = [i for i, (name, _, _) in enumerate(found) if re.match(r"sample\b", name)]
    return found[ends[-2] + 1:] if len(ends) > 1 else found


def table(found):
    """Kernels, the most expensive first."""
    totals = {}
    for name, ns, n_bytes in found:
        n, all_ns, all_bytes = totals.get(name, (0, 0, 0))
        totals[name] = (n + 1, all_ns + ns, all_bytes + n_bytes)
    lines = ["%-60s %8s %10s %10s %8s" % ("kernel", "launches", "us of all", "us of one", "GB/s")]
    for name, (n, ns, n_bytes) in sorted(totals.items(), key=lambda t: -t[1][1]):
        lines.append("%-60.60s %8d %10.1f %10.2f %8.0f" % (name, n, ns / 1e3, ns / 1e3 / n, n_bytes / ns if ns else 0))
    lines.append("%-60s %8d %10.1f" % ("all", len(found), sum(ns for _, ns, _ in found) / 1e3))
    return "\n".join(lines)
