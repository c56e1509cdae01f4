"""The time of every kernel and of every whole shape on paper, from bytes, flops and the number of kernels.

    python3 tests/gpu/paper.py            prints the tables
    python3 tests/gpu/paper.py --write    puts them into cuda/PAPER.md, between its two marks
    python3 tests/gpu/paper.py --check    fails where that file says something else

A kernel takes the longer of its bytes at 3.0 TB/s and its flops at 800 TFLOP/s, and a gap: launch behind the kernel
before it, the way up to full bandwidth and the drain. Bytes are those that must come from or go to memory once; what
stays in the 50 MB L2 between two kernels is cheaper, so activations are counted high.
"""

import argparse
import os
import sys

import shapes

BANDWIDTH, PEAK = 3.0e12, 800e12
GAPS = (1.2, 2.0, 3.0)  # us
GAP = 2.0
PAPER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../cuda/PAPER.md")
BEGIN, END = "<!-- tests/gpu/paper.py --write -->\n", "<!-- end -->\n"


class Kernel:
    """`times` launches of one kind: bytes and flops are one launch's."""

    def __init__(self, name, times, n_bytes, flops=0, product=False):
        self.name, self.times, self.bytes, self.flops, self.product = name, times, n_bytes, flops, product

    def us(self, efficiency=1):
        """Without its gap; efficiency: the share of the peak that products reach."""
        return 1e6 * max(self.bytes / BANDWIDTH, self.flops / PEAK / (efficiency if self.product else 1))


def product(name, times, n_rows, n_in, n_out, out_bytes=shapes.BF16, residual=False):
    n_bytes = shapes.BF16 * (n_in * n_out + n_rows * n_in) + n_rows * n_out * (out_bytes + shapes.BF16 * residual)
    return Kernel(name, times, n_bytes, 2 * n_rows * n_in * n_out, True)


def rows(name, times, n_rows, width_read, width_written):
    return Kernel(name, times, shapes.BF16 * n_rows * (width_read + width_written))


def total_us(kernels, gap, efficiency=1):
    return sum(k.times * (k.us(efficiency) + gap) for k in kernels)


def n_launches(kernels):
    return sum(k.times for k in kernels)


# ---- the kernels of a pass, as host/model enqueues them ----


def bert(c, lengths, gelu_apart):
    n, h, f, layers = sum(lengths), c["hidden_size"], c["intermediate_size"], c["num_hidden_layers"]
    s = len(lengths)
    flops = shapes.attention_flops(c, lengths, False) / layers
    out = [rows("embed_bert, layernorm", 1, n, 2 * h, h),
           product("linear QKV, bias", layers, n, h, 3 * h), Kernel("attention", layers, shapes.BF16 * n * 4 * h, flops),
           product("linear output, bias, residual", layers, n, h, h, residual=True), rows("layernorm", 2 * layers, n, h, h),
           product("linear up, bias", layers, n, h, f)]
    if gelu_apart:
        out.append(rows("GELU (erf), a pass of its own", layers, n, f, f))
    out += [product("linear down, bias, residual", layers, n, f, h, residual=True), rows("gather rows", 1, s, h, h),
            product("linear pooler", 1, s, h, h), rows("tanh", 1, s, h, h),
            product("linear classifier", 1, s, h, len(c["id2label"]), 4)]
    return out


FUSED = ["as host/model enqueues it", "act(gate) * up in the product", "and both RMSNorms in the products",
         "and RoPE and the KV write in the attention"]


def decoder(c, n_new, n_seqs, kv_len, fused=0):
    """n_new rows of n_seqs sequences, each with kv_len keys at the end of this pass; fused: an index of FUSED."""
    h, f, layers, d = c["hidden_size"], c["intermediate_size"], c["num_hidden_layers"], c["head_dim"]
    q, kv = c["num_attention_heads"] * d, c["num_key_value_heads"] * d
    per_seq = n_new // n_seqs
    keys = n_seqs * (per_seq * kv_len - per_seq * (per_seq - 1) / 2)  # pairs of a query and a key
    out = [rows("embed", 1, n_new, h, h)]
    if fused < 2:
        out.append(rows("rmsnorm", 2 * layers, n_new, h, h))
    out.append(product("linear QKV", layers, n_new, h, q + 2 * kv))
    if fused < 3:
        out.append(rows("rope_kv_write", layers, n_new, q + 2 * kv, q + 2 * kv))
    out.append(Kernel("attention_paged", layers, shapes.BF16 * (n_new * 2 * q + n_seqs * kv_len * 2 * kv), 4 * q * keys))
    out.append(product("linear output, residual", layers, n_new, q, h, residual=True))
    if fused < 1:
        out += [product("linear gate and up", layers, n_new, h, 2 * f), rows("gated", layers, n_new, 2 * f, f)]
    else:
        gate_up = product("linear gate and up", layers, n_new, h, 2 * f)
        gate_up.bytes -= shapes.BF16 * n_new * f
        out.append(gate_up)
    out.append(product("linear down, residual", layers, n_new, f, h, residual=True))
    if fused < 2:
        out += [rows("gather rows", 1, n_seqs, h, h), rows("rmsnorm, last", 1, n_seqs, h, h)]
    out.append(product("linear head", 1, n_seqs, h, c["vocab_size"], 4))
    out.append(Kernel("sample", 1, 4 * n_seqs * c["vocab_size"]))
    return out


def case_us(name, case):
    """A case of the benchmark as host/model enqueues it today."""
    c = shapes.SHAPES[name]
    if name == "bert":
        return total_us(bert(c, dict(shapes.bert_cases())[case], True), GAP)
    kind, n = {title: (kind, n) for title, kind, n in shapes.decoder_cases()}[case]
    return total_us(decoder(c, n, n, shapes.CONTEXT + 1) if kind == "decode" else decoder(c, n, 1, n), GAP)


# ---- tables ----


def table(head, lines):
    out = ["| " + " | ".join(head) + " |", "|" + " --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(out + ["| " + " | ".join(line) + " |" for line in lines]) + "\n"


def kernel_table(kernels):
    lines = []
    for k in kernels:
        lines.append([k.name, str(k.times), "%.3g MB" % (k.bytes / 1e6), "%.3g" % (k.flops / 1e9) if k.flops else "",
                      "%.2f" % k.us(), "%.0f" % (k.times * (k.us() + GAP))])
    lines.append(["all", str(n_launches(kernels)), "%.0f MB" % (sum(k.times * k.bytes for k in kernels) / 1e6),
                  "%.3g" % (sum(k.times * k.flops for k in kernels) / 1e9), "", "%.0f" % total_us(kernels, GAP)])
    return table(["kernel", "launches", "bytes of one", "GFLOP of one", "us of one, no gap", "us of all, gap %.1f" % GAP],
                 lines)


def share_of_products(kernels, gap, efficiency):
    """Of the pass's time, with the products' own gaps."""
    products = [k for k in kernels if k.product]
    return total_us(products, gap, efficiency) / total_us(kernels, gap, efficiency)


def bert_text():
    c, out = shapes.BERT_BASE, []
    cases = dict(shapes.bert_cases())
    out.append("### BERT-base, kernel by kernel: %d utterances, 2,048 tokens\n" % len(cases["jddc 2048"]))
    out.append(kernel_table(bert(c, cases["jddc 2048"], True)))
    out.append("### BERT-base, whole passes\n")
    lines = []
    for name, lengths in cases.items():
        for gelu, title in ((True, "GELU apart"), (False, "GELU fused")):
            kernels = bert(c, lengths, gelu)
            flops = sum(k.times * k.flops for k in kernels)
            line = ["%s, %s" % (name, title), str(n_launches(kernels))]
            for efficiency in (1.0, 0.6):
                us = total_us(kernels, GAP, efficiency)
                line += ["%.0f" % us, "%.2f M" % (sum(lengths) / us), "%.0f %%" % (100 * flops / us / PEAK * 1e6),
                         "%.0f %%" % (100 * share_of_products(kernels, GAP, efficiency))]
            lines.append(line)
    out.append(table(["case", "launches", "us", "tokens/s", "of peak", "products", "us, products at 60 %", "tokens/s",
                      "of peak", "products"], lines))
    return out


def decode_targets():
    return {"llama-3.2-1b": 0.70, "qwen2.5-0.5b": 0.55}


def decode_text():
    out, n_keys = [], shapes.CONTEXT + 1
    for name in shapes.DECODERS:
        out.append("### %s, one sequence decoding with %d keys, kernel by kernel\n" % (name, n_keys))
        out.append(kernel_table(decoder(shapes.SHAPES[name], 1, 1, n_keys)))
    out.append("### Decoding one sequence: gaps against bytes\n")
    lines = []
    for name in shapes.DECODERS:
        c = shapes.SHAPES[name]
        floor = 1e6 * shapes.decode_bytes(c, 1, n_keys) / BANDWIDTH
        for fused, title in enumerate(FUSED):
            kernels = decoder(c, 1, 1, n_keys, fused)
            line = ["%s: %s" % (name, title) if fused == 0 else title, str(n_launches(kernels)), "%.0f" % floor]
            for gap in GAPS:
                us = total_us(kernels, gap)
                line.append("%.0f (%.0f %%)" % (us, 100 * floor / us))
            target = decode_targets().get(name)
            line.append("%.0f %%: %.1f us" % (100 * target, (floor / target - total_us(kernels, 0)) / n_launches(kernels))
                        if target else "")
            lines.append(line)
    out.append(table(["shape", "launches", "floor, us"] + ["us (share), gap %.1f" % g for g in GAPS]
                     + ["target: gap at most"], lines))
    out.append("### Decoding more at a time, as host/model enqueues it, gap %.1f us\n" % GAP)
    lines = []
    for name in shapes.DECODERS:
        c = shapes.SHAPES[name]
        for n in (1, 8, 32, 128):
            us = total_us(decoder(c, n, n, n_keys), GAP)
            lines.append(["%s, %d" % (name, n), "%.0f" % us, "%.0f" % (n / us * 1e6),
                          "%.0f %%" % (100e6 * shapes.decode_bytes(c, n, n_keys) / BANDWIDTH / us)])
    out.append(table(["shape, sequences", "us a step", "tokens/s", "of bandwidth"], lines))
    return out


def prefill_text():
    out, lines = ["### llama-3.2-1b, a prompt of 1,024 tokens, kernel by kernel\n",
                  kernel_table(decoder(shapes.SHAPES["llama-3.2-1b"], 1024, 1, 1024)),
                  "### Prefill of one prompt, as host/model enqueues it, gap %.1f us\n" % GAP], []
    for name in shapes.DECODERS:
        c = shapes.SHAPES[name]
        for n in (128, 512, 1024, 2048, 4096):
            kernels = decoder(c, n, 1, n)
            flops = sum(k.times * k.flops for k in kernels)
            line = ["%s, %d" % (name, n)]
            for efficiency in (1.0, 0.6):
                us = total_us(kernels, GAP, efficiency)
                line += ["%.0f" % us, "%.0f" % (n / us * 1e6), "%.0f %%" % (100 * flops / us / PEAK * 1e6)]
            line.append("%.0f %%" % (100 * share_of_products(kernels, GAP, 1)))
            lines.append(line)
    out.append(table(["shape, tokens", "us", "tokens/s", "of peak", "us, products at 60 %", "tokens/s", "of peak",
                      "products' share"], lines))
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    text = "\n".join(bert_text() + decode_text() + prefill_text())
    if not options.write and not options.check:
        print(text)
        return
    with open(PAPER) as f:
        old = f.read()
    before, after = old.split(BEGIN)[0], old.split(END)[1]
    new = before + BEGIN + "\n" + text + "\n" + END + after
    if options.write:
        with open(PAPER, "w") as f:
            f.write(new)
    elif new != old:
        sys.exit("cuda/PAPER.md is not what tests/gpu/paper.py computes: run it with --write")


if __name__ == "__main__":
    main()
