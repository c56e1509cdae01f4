"""The parts of tests/gpu/run as one table, one JSON file and one plot.

A share is of what the same run measured: bandwidth of a copy for decoding (bytes: every weight once and the sequences'
keys and values), a large product's rate for the rest (flops: products and attention). PyTorch's figure is its fastest
variant's. `ratio` is PyTorch's time over ours with --batch-invariant=off, `paper` the time that paper.py computes.
"""

import glob
import json
import os
from xml.sax.saxutils import escape

import paper
import shapes

# What is wanted of a case with --batch-invariant=off: (part, case, the row's key, at least), and of every case a ratio.
TARGETS = [
    ("bert", "jddc 8192", "rate", 2e6), ("bert", "mixed 8192", "rate", 2e6), ("bert", "length 128", "share_off", 0.5),
    ("bert", "length 512", "share_off", 0.5), ("llama-3.2-1b", "decode 1", "share_off", 0.7),
    ("qwen2.5-0.5b", "decode 1", "share_off", 0.55),
]
RATIO = 1.15

FILES = ("results.json", "table.txt", "plot.svg")


def read(folder):
    """The parts of a folder, in the order of shapes.SHAPES."""
    parts = [json.load(open(p)) for p in sorted(glob.glob(os.path.join(folder, "*.json")))]
    order = list(shapes.SHAPES)
    return sorted(parts, key=lambda p: order.index(p["name"]) if "name" in p else -1)


def cost(part, case):
    """(tokens of a run, its bytes or flops, which of the two) of a case by its name."""
    tiny = part["tiny"]
    c = (shapes.TINY if tiny else shapes.SHAPES)[part["name"]]
    if part["name"] == "bert":
        lengths = dict(shapes.bert_cases(tiny))[case]
        flops = shapes.product_flops(c, sum(lengths), len(lengths)) + shapes.attention_flops(c, lengths, False)
        return sum(lengths), flops, "peak"
    kind, n = {name: (kind, n) for name, kind, n in shapes.decoder_cases(tiny)}[case]
    if kind == "decode":
        return n, shapes.decode_bytes(c, n, shapes.context(tiny) + 1), "bandwidth"
    return n, shapes.product_flops(c, n, 1) + shapes.attention_flops(c, [n], True), "peak"


def fastest(part, case):
    """PyTorch's fastest variant of a case, or None."""
    times = [t for t in part["torch"] if t.get("case") == case and "us" in t]
    return min(times, key=lambda t: t["us"]) if times else None


def rows(part):
    """[{case, tokens, ceiling, us_off, us_on, us_torch, variant, share_off, share_on, share_torch, ratio}]"""
    ceilings = {t["ceiling"]: t["value"] for t in part["torch"] if "ceiling" in t}
    cases = [name for name, *_ in (shapes.bert_cases if part["name"] == "bert" else shapes.decoder_cases)(part["tiny"])]
    out = []
    for case in cases:
        n_tokens, work, ceiling = cost(part, case)
        row = {"case": case, "tokens": n_tokens, "ceiling": ceiling}
        for key in ("off", "on"):
            row["us_" + key] = next((t["us"] for t in part["engine"][key] if t["case"] == case), None)
        torch = fastest(part, case)
        row["us_torch"], row["variant"] = (torch["us"], torch["variant"]) if torch else (None, "")
        for key in ("off", "on", "torch"):
            us = row["us_" + key]
            row["share_" + key] = work / us * 1e6 / ceilings[ceiling] if us and ceiling in ceilings else None
        row["ratio"] = row["us_torch"] / row["us_off"] if row["us_torch"] and row["us_off"] else None
        row["rate"] = n_tokens / row["us_off"] * 1e6 if row["us_off"] else None
        row["us_paper"] = None if part["tiny"] else paper.case_us(part["name"], case)
        out.append(row)
    return out


def cell(x, form):
    return form % x if x is not None else "-"


def bench_lines(part):
    machine = next((t["machine"] for t in part["torch"] if "machine" in t), {})
    ceilings = {t["ceiling"]: t["value"] for t in part["torch"] if "ceiling" in t}
    lines = ["", "%s, %s%s: %s, PyTorch %s, %s, commit %s" % (
        part["name"], part["dtype"], " (tiny)" if part["tiny"] else "", machine.get("card", part["device"]),
        machine.get("torch", "-"), part["date"], part["commit"])]
    if ceilings:
        lines.append("measured: a copy %.0f GB/s, a product %.1f TFLOP/s%s"
                     % (ceilings["bandwidth"] / 1e9, ceilings["peak"] / 1e12,
                        ", a small kernel in a graph %.2f us" % ceilings["launch"] if "launch" in ceilings else ""))
    form = "%-13s %10s %10s %9s %12s %8s %8s %10s %8s %6s  %s"
    lines.append(form % ("case", "off us", "on us", "paper us", "tokens/s", "share", "share on", "torch us", "share",
                         "ratio", "of; PyTorch's fastest"))
    for r in rows(part):
        shares = [cell(None if r[k] is None else 100 * r[k], "%.1f %%") for k in ("share_off", "share_on", "share_torch")]
        lines.append(form % (r["case"], cell(r["us_off"], "%.1f"), cell(r["us_on"], "%.1f"),
                             cell(r["us_paper"], "%.0f"), cell(r["rate"], "%.0f"), shares[0], shares[1], cell(r["us_torch"], "%.1f"), shares[2], cell(r["ratio"], "%.2f"),
                             "%s; %s" % (r["ceiling"], r["variant"])))
    lines += ["failed: " + f for f in part["failures"]]
    lines += ["failed: PyTorch, %s, %s: %s" % (t["case"], t["variant"], t["failed"])
              for t in part["torch"] if "failed" in t]
    return lines


def test_lines(part):
    lines = ["", "%s on %s, %s, commit %s" % (part["part"], part["device"], part["date"], part["commit"])]
    for p in part["programs"]:
        lines.append("  %-26s %3d passed, %d failed  %s" % (p["program"], p["passed"], p["failed"], p["wrong"]))
    return lines


def target_lines(parts):
    """The targets on a GPU, met or missed, of the parts that are there."""
    lines = []
    for part in (p for p in parts if "name" in p and p["device"] == "cuda" and not p["tiny"]):
        by_case = {r["case"]: r for r in rows(part)}
        for name, case, key, least in TARGETS:
            got = by_case[case][key] if name == part["name"] else None
            if got is not None:
                form = "%.2f M tokens/s" % (got / 1e6) if key == "rate" else "%.1f %% of %s" % (
                    100 * got, by_case[case]["ceiling"])
                lines.append("  %-7s %s, %s: %s" % ("met" if got >= least else "MISSED", name, case, form))
        for case, r in by_case.items():
            if r["ratio"] is not None and r["ratio"] < RATIO:
                lines.append("  MISSED  %s, %s: %.2f times PyTorch" % (part["name"], case, r["ratio"]))
    return ["", "targets, --batch-invariant=off, and %.2f times PyTorch for every case" % RATIO] + lines if lines else []


def table(parts):
    lines = [line for p in parts for line in (bench_lines if "name" in p else test_lines)(p)]
    return "\n".join(lines + target_lines(parts))


STYLE = """<style>
svg{background:#fff;font:12px system-ui,sans-serif;--ink:#1f2328;--dim:#656d76;--grid:#d8dee4;--c0:#0969da;--c1:#bc4c00;\
--c2:#1a7f37}
@media(prefers-color-scheme:dark){svg{background:#0d1117;--ink:#e6edf3;--dim:#8d96a0;--grid:#30363d;--c0:#58a6ff;\
--c1:#f0883e;--c2:#3fb950}}
text{fill:var(--dim)}.title{fill:var(--ink);font-weight:600;font-size:14px}.label{text-anchor:end}.key{fill:var(--ink)}
.axis{text-anchor:middle}line{stroke:var(--grid)}
.c0{fill:var(--c0)}.c1{fill:var(--c1)}.c2{fill:var(--c2)}
</style>"""

BARS = (("share_off", "c0", "kefu, --batch-invariant=off"), ("share_on", "c1", "kefu, --batch-invariant=on"),
        ("share_torch", "c2", "PyTorch's fastest"))


def plot(parts):
    """Bars: the share of the measured ceiling, a group a case."""
    left, width, bar, gap, y = 190, 560, 9, 12, 64
    body = []
    for part in (p for p in parts if "name" in p):
        card = next((t["machine"]["card"] for t in part["torch"] if "machine" in t), part["device"])
        title = "%s, %s: %s, %s" % (part["name"], part["dtype"], card, part["date"])
        body.append('<text class="title" x="%d" y="%d">%s</text>' % (20, y + 14, escape(title)))
        y += 26
        for r in rows(part):
            label = "%s, of %s" % (r["case"], r["ceiling"])
            body.append('<text class="label" x="%d" y="%.1f">%s</text>' % (left - 8, y + 1.5 * bar + 4, escape(label)))
            for i, (key, cls, _) in enumerate(BARS):
                if r[key] is not None:
                    body.append('<rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/>'
                                % (cls, left, y + i * bar, width * min(r[key], 1.2), bar - 1))
            y += 3 * bar + gap
    grid = []
    for percent in range(0, 101, 20):
        x = left + width * percent / 100
        grid.append('<line x1="%.1f" y1="56" x2="%.1f" y2="%d"/>' % (x, x, y))
        grid.append('<text class="axis" x="%.1f" y="50">%d %%</text>' % (x, percent))
    keys = ['<rect class="%s" x="%d" y="14" width="10" height="10"/><text class="key" x="%d" y="23">%s</text>'
            % (cls, 100 + 220 * i, 100 + 220 * i + 15, escape(text)) for i, (_, cls, text) in enumerate(BARS)]
    return ('<svg xmlns="http://www.w3.org/2000/svg" width="900" height="%d" viewBox="0 0 900 %d" role="img">\n'
            "<title>Share of the measured bandwidth or bf16 peak</title>\n%s\n%s\n</svg>\n"
            % (y + 20, y + 20, STYLE, "\n".join(keys + grid + body)))


def write(parts, folder):
    merged = [dict(p, rows=rows(p)) if "name" in p else p for p in parts]
    for name, text in zip(FILES, (json.dumps(merged, indent=1) + "\n", table(parts).lstrip() + "\n", plot(parts))):
        with open(os.path.join(folder, name), "w") as f:
            f.write(text)
