"""What PyTorch takes for the benchmark's cases, and what the device can do: copying, and one large product.

    python3 tests/gpu/torch_bench.py NAME [--device cpu --tiny] [--compile on|off] [--seconds S]

One line of JSON a case and variant. The models are written here with F.linear and SDPA, as one would who wants them
fast: products on the ragged rows without padding, one product for Q, K and V and one for gate and up, a fixed KV cache,
the logits of the drawn rows only. BERT's attention is done on padded rows with a mask, on ragged rows with varlen_attn
where this PyTorch has it, and without a mask where all lengths are equal. Each is timed as it is called (eager), captured
in a CUDA graph, and captured with its layers compiled by torch.compile; report.py takes the fastest. Inputs lie on the
device, results stay there: the engine's figures include those copies. A variant that fails is a line with "failed".
"""

import argparse
import json
import math
import time

import torch
import torch.nn.functional as F

import shapes

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:
    varlen_attn = None

ROUNDS = 7


class Timer:
    """Times a call as bench.c does: the median of ROUNDS rounds, each of as many calls as fill its time."""

    def __init__(self, device, seconds):
        self.cuda, self.seconds = device == "cuda", seconds

    def sync(self):
        if self.cuda:
            torch.cuda.synchronize()

    def round(self, call, n):
        self.sync()
        begin = time.perf_counter()
        for _ in range(n):
            call()
        self.sync()
        return (time.perf_counter() - begin) / n

    def measure(self, call):
        self.round(call, 3)
        n = 3 * int(self.seconds / ROUNDS / (3 * self.round(call, 3))) + 3
        us = sorted(1e6 * self.round(call, n) for _ in range(ROUNDS))
        return {"us": us[ROUNDS // 2], "us_min": us[0], "us_max": us[-1], "runs": n * ROUNDS}


def captured(call):
    """The call as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def say(**line):
    print(json.dumps(line), flush=True)


def time_variants(options, timer, case, variants):
    """variants: [(name, make)]; make(compile) gives the call, its layers through compile."""
    modes = [("eager", False, False)]
    if options.device == "cuda":
        modes.append(("graph", False, True))
    if options.compile == "on":
        modes.append(("compiled, graph", True, True) if options.device == "cuda" else ("compiled", True, False))
    for name, make in variants:
        for mode, compiled, graph in modes:
            title = "%s, %s" % (name, mode) if name else mode
            try:
                torch.compiler.reset()
                call = make((lambda f: torch.compile(f, dynamic=False, fullgraph=True)) if compiled else (lambda f: f))
                call()
                say(case=case, variant=title, **timer.measure(captured(call) if graph else call))
            except Exception as e:  # a version that lacks something: the other variants go on
                say(case=case, variant=title, failed="%s: %s" % (type(e).__name__, str(e).split("\n")[0][:200]))


# ---- BERT ----


class Weights:
    def __init__(self, device, dtype):
        self.device, self.dtype = device, dtype
        self.generator = torch.Generator(device).manual_seed(1)

    def matrix(self, n_out, n_in):
        w = torch.randn(n_out, n_in, generator=self.generator, device=self.device, dtype=torch.float32)
        return (w * n_in ** -0.5).to(self.dtype)

    def vector(self, n, value=0.0):
        return torch.full((n,), value, device=self.device, dtype=self.dtype)


class Bert:
    def __init__(self, c, device, dtype):
        w = Weights(device, dtype)
        self.c, self.h, self.heads = c, c["hidden_size"], c["num_attention_heads"]
        h, f = self.h, c["intermediate_size"]
        self.word = w.matrix(c["vocab_size"], h)
        self.position = w.matrix(c["max_position_embeddings"], h)
        self.type0 = w.vector(h)
        self.norm = (w.vector(h, 1), w.vector(h))
        self.layers = [(w.matrix(3 * h, h), w.vector(3 * h), w.matrix(h, h), w.vector(h), w.vector(h, 1), w.vector(h),
                        w.matrix(f, h), w.vector(f), w.matrix(h, f), w.vector(h), w.vector(h, 1), w.vector(h))
                       for _ in range(c["num_hidden_layers"])]
        self.pooler, self.pooler_bias = w.matrix(h, h), w.vector(h)
        self.classifier, self.classifier_bias = w.matrix(len(c["id2label"]), h), w.vector(len(c["id2label"]))

    def call(self, ids, positions, first_rows, attention, compile):
        h, eps = self.h, self.c["layer_norm_eps"]

        def layer(x, w):
            wqkv, bqkv, wo, bo, g1, b1, wup, bup, wdown, bdown, g2, b2 = w
            context = attention(F.linear(x, wqkv, bqkv))
            x = F.layer_norm(x + F.linear(context, wo, bo), (h,), g1, b1, eps)
            return F.layer_norm(x + F.linear(F.gelu(F.linear(x, wup, bup)), wdown, bdown), (h,), g2, b2, eps)

        layer = compile(layer)

        def forward():
            x = F.embedding(ids, self.word) + F.embedding(positions, self.position) + self.type0
            x = F.layer_norm(x, (h,), *self.norm, eps)
            for w in self.layers:
                x = layer(x, w)
            pooled = torch.tanh(F.linear(x[first_rows], self.pooler, self.pooler_bias))
            return F.linear(pooled, self.classifier, self.classifier_bias).float()

        return forward


def bert_attentions(lengths, heads, head_dim, device):
    """[(name, function of qkv [n_tokens, 3 * hidden])]"""
    n_seqs, longest, hidden = len(lengths), max(lengths), heads * head_dim
    cu = torch.tensor([0] + lengths, dtype=torch.int32, device=device).cumsum(0, dtype=torch.int32)
    if len(set(lengths)) == 1:
        def equal(qkv):
            q, k, v = qkv.view(n_seqs, longest, 3, heads, head_dim).permute(2, 0, 3, 1, 4)
            return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(-1, hidden)
        return [("no mask", equal)]

    row = torch.cat([torch.arange(n) + i * longest for i, n in enumerate(lengths)]).to(device)
    mask = (torch.arange(longest)[None] < torch.tensor(lengths)[:, None])[:, None, None].to(device)

    def padded(qkv):
        all_rows = qkv.new_zeros(n_seqs * longest, 3 * hidden).index_copy(0, row, qkv)
        q, k, v = all_rows.view(n_seqs, longest, 3, heads, head_dim).permute(2, 0, 3, 1, 4)
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return context.transpose(1, 2).reshape(-1, hidden)[row]

    def ragged(qkv):
        q, k, v = qkv.view(-1, 3, heads, head_dim).unbind(1)
        return varlen_attn(q.contiguous(), k.contiguous(), v.contiguous(), cu, cu, longest, longest).reshape(-1, hidden)

    return [("padded attention", padded)] + ([("varlen_attn", ragged)] if varlen_attn and device == "cuda" else [])


def bench_bert(options, timer, c, dtype):
    model = Bert(c, options.device, dtype)
    for case, lengths in shapes.bert_cases(options.tiny):
        n = sum(lengths)
        ids = torch.randint(0, c["vocab_size"], (n,), device=options.device)
        positions = torch.cat([torch.arange(k) for k in lengths]).to(options.device)
        first = torch.tensor([0] + lengths[:-1]).cumsum(0).to(options.device)
        time_variants(options, timer, case, [
            (name, lambda compile, a=a: model.call(ids, positions, first, a, compile))
            for name, a in bert_attentions(lengths, model.heads, shapes.head_dim(c), options.device)])


# ---- decoders ----


class Decoder:
    def __init__(self, c, device, dtype):
        w = Weights(device, dtype)
        h, f = c["hidden_size"], c["intermediate_size"]
        self.c, self.d = c, c["head_dim"]
        self.q, self.kv = c["num_attention_heads"] * self.d, c["num_key_value_heads"] * self.d
        self.bias = c["model_type"] == "qwen2"
        self.qk_norm = c["model_type"] == "qwen3"
        self.embed = w.matrix(c["vocab_size"], h)
        self.norm = w.vector(h, 1)
        self.layers = [(w.vector(h, 1), w.matrix(self.q + 2 * self.kv, h), w.vector(self.q + 2 * self.kv),
                        w.vector(self.d, 1), w.vector(self.d, 1), w.matrix(h, self.q), w.vector(h, 1),
                        w.matrix(2 * f, h), w.matrix(h, f)) for _ in range(c["num_hidden_layers"])]

    def rope_tables(self, positions):
        freq = self.c["rope_theta"] ** (-torch.arange(0, self.d, 2, device=positions.device).float() / self.d)
        angle = positions.float()[:, None] * freq
        return torch.cat([angle, angle], 1).cos().to(self.embed.dtype), torch.cat([angle, angle], 1).sin().to(
            self.embed.dtype)

    def call(self, n_seqs, n_new, n_before, compile):
        """n_new tokens of each of n_seqs sequences, n_before of each in the cache already; draws the best token."""
        c, d, n_kv, device = self.c, self.d, self.c["num_key_value_heads"], self.embed.device
        n_all, eps, dtype = n_before + n_new, c["rms_norm_eps"], self.embed.dtype
        ids = torch.randint(0, c["vocab_size"], (n_seqs, n_new), device=device)
        cos, sin = self.rope_tables(torch.arange(n_before, n_all, device=device))
        cache = [(torch.randn(n_seqs, n_kv, n_all, d, device=device, dtype=dtype),
                  torch.randn(n_seqs, n_kv, n_all, d, device=device, dtype=dtype)) for _ in self.layers]

        def rotated(x):
            return x * cos + torch.cat([-x[..., d // 2:], x[..., :d // 2]], -1) * sin

        def layer(x, w, k_cache, v_cache):
            g1, wqkv, bqkv, gq, gk, wo, g2, wgu, wdown = w
            qkv = F.linear(F.rms_norm(x, (x.shape[-1],), g1, eps), wqkv, bqkv if self.bias else None)
            q, k, v = (t.view(n_seqs, n_new, -1, d).transpose(1, 2) for t in qkv.split([self.q, self.kv, self.kv], -1))
            if self.qk_norm:
                q, k = F.rms_norm(q, (d,), gq, eps), F.rms_norm(k, (d,), gk, eps)
            k_cache[:, :, n_before:], v_cache[:, :, n_before:] = rotated(k), v
            a = F.scaled_dot_product_attention(rotated(q), k_cache, v_cache, is_causal=n_new > 1, enable_gqa=True)
            x = x + F.linear(a.transpose(1, 2).reshape(n_seqs, n_new, -1), wo)
            gate, up = F.linear(F.rms_norm(x, (x.shape[-1],), g2, eps), wgu).chunk(2, -1)
            return x + F.linear(F.silu(gate) * up, wdown)

        layer = compile(layer)

        def forward():
            x = F.embedding(ids, self.embed)
            for w, (k, v) in zip(self.layers, cache):
                x = layer(x, w, k, v)
            x = F.rms_norm(x[:, -1], (x.shape[-1],), self.norm, eps)
            return F.linear(x, self.embed).argmax(-1)

        return forward


def bench_decoder(options, timer, c, dtype):
    model = Decoder(c, options.device, dtype)
    for case, kind, n in shapes.decoder_cases(options.tiny):
        if kind == "decode":
            make = lambda compile, n=n: model.call(n, 1, shapes.context(options.tiny), compile)
        else:
            make = lambda compile, n=n: model.call(1, n, 0, compile)
        time_variants(options, timer, case, [("", make)])


# ---- the device ----


def ceilings(options, timer, dtype):
    """Bytes a second of a copy (read and written both counted), flops of one large product, us of a launch in a graph."""
    cuda = options.device == "cuda"
    n_bytes, n = ((1 << 30), 8192) if cuda else ((1 << 24), 256)
    x = torch.empty(n_bytes, dtype=torch.uint8, device=options.device).random_()
    y = torch.empty_like(x)
    copy = timer.measure(lambda: y.copy_(x))
    a, b = (torch.randn(n, n, device=options.device, dtype=dtype) for _ in range(2))
    product = timer.measure(lambda: torch.mm(a, b))
    if cuda:
        small = torch.zeros(32, device="cuda")

        def chain():  # kernels that wait for each other and do next to nothing
            for _ in range(1000):
                small.add_(1)

        say(ceiling="launch", value=timer.measure(captured(chain))["us"] / 1000)
    say(ceiling="bandwidth", value=2 * n_bytes / copy["us"] * 1e6)
    say(ceiling="peak", value=2 * math.pow(n, 3) / product["us"] * 1e6)
    card = torch.cuda.get_device_name() if cuda else "cpu (%d threads)" % torch.get_num_threads()
    say(machine={"card": card, "torch": torch.__version__, "cuda": torch.version.cuda,
                 "varlen_attn": varlen_attn is not None})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=shapes.SHAPES)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16")
    parser.add_argument("--compile", choices=["on", "off"], default="on")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--seconds", type=float, default=1)
    options = parser.parse_args()
    torch.manual_seed(1)
    torch.set_grad_enabled(False)
    dtype = torch.bfloat16 if options.dtype == "bf16" else torch.float32
    timer = Timer(options.device, options.seconds)
    c = (shapes.TINY if options.tiny else shapes.SHAPES)[options.name]
    ceilings(options, timer, dtype)
    (bench_bert if options.name == "bert" else bench_decoder)(options, timer, c, dtype)


main()
