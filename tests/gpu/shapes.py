"""The models and cases of the benchmark, and what they cost: shared by make_models.py, torch_bench.py, paper.py and run.

A shape is its config.json. The counts are exact: parameters of the matrix products, bytes of weights that a decoder's
step reads, flops of a forward pass (a multiplication and an addition are two).
"""

import math
import random

BF16 = 2  # bytes

BERT_BASE = {
    "architectures": ["BertForSequenceClassification"], "model_type": "bert", "vocab_size": 21128, "hidden_size": 768,
    "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "max_position_embeddings": 512,
    "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
    "id2label": {str(i): "LABEL_%d" % i for i in range(24)},
}


def decoder(family, vocab_size, hidden, intermediate, n_layers, n_heads, n_kv_heads, head_dim, theta):
    return {
        "architectures": [family + "ForCausalLM"], "model_type": family.lower(), "vocab_size": vocab_size,
        "hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": n_layers,
        "num_attention_heads": n_heads, "num_key_value_heads": n_kv_heads, "head_dim": head_dim, "rope_theta": theta,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": True,
    }


SHAPES = {
    "bert": BERT_BASE,
    "qwen2.5-0.5b": decoder("Qwen2", 151936, 896, 4864, 24, 14, 2, 64, 1e6),
    "qwen3-0.6b": decoder("Qwen3", 151936, 1024, 3072, 28, 16, 8, 128, 1e6),
    "llama-3.2-1b": decoder("Llama", 128256, 2048, 8192, 16, 32, 8, 64, 5e5),  # without its RoPE scaling
}

# For a trial of the scripts on a machine without a GPU: the same families and head sizes, small.
TINY = {
    "bert": dict(BERT_BASE, vocab_size=500, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
                 num_attention_heads=2),
    "qwen2.5-0.5b": decoder("Qwen2", 1000, 64, 160, 2, 4, 2, 64, 1e6),
    "qwen3-0.6b": decoder("Qwen3", 1000, 64, 160, 2, 4, 2, 128, 1e6),
    "llama-3.2-1b": decoder("Llama", 1000, 64, 160, 2, 4, 2, 64, 5e5),
}

DECODERS = [name for name in SHAPES if name != "bert"]

# ---- cases ----

CONTEXT = 512  # tokens in the cache before a decoded one


def ragged(n_tokens, median, p95, longest, seed):
    """Lengths of sequences, log-normal with this median and 95th percentile, n_tokens in all."""
    rng, lengths = random.Random(seed), []
    sigma = math.log(p95 / median) / 1.645
    while sum(lengths) < n_tokens:
        n = round(median * math.exp(sigma * rng.gauss(0, 1)))
        lengths.append(max(1, min(n, longest, n_tokens - sum(lengths))))
    return lengths


def bert_cases(tiny=False):
    """[(name, lengths)]: utterances as JDDC has them (mean 7), longer ones, and two lengths without raggedness."""
    if tiny:
        return [("jddc 60", ragged(60, 6.4, 13, 32, 1)), ("length 16", [16] * 2)]
    return [
        ("jddc 2048", ragged(2048, 6.4, 13, 64, 1)),
        ("jddc 8192", ragged(8192, 6.4, 13, 64, 1)),
        ("mixed 2048", ragged(2048, 16, 48, 512, 2)),
        ("mixed 8192", ragged(8192, 16, 48, 512, 2)),
        ("length 128", [128] * 64),
        ("length 512", [512] * 16),
    ]


def decoder_cases(tiny=False):
    """[(name, kind, n)]: sequences that decode one token each after CONTEXT, or tokens of one prompt."""
    if tiny:
        return [("decode 1", "decode", 1), ("decode 3", "decode", 3), ("prefill 24", "prefill", 24)]
    return ([("decode %d" % n, "decode", n) for n in (1, 8, 32, 128)]
            + [("prefill %d" % n, "prefill", n) for n in (128, 512, 1024, 2048, 4096)])


def context(tiny=False):
    return 20 if tiny else CONTEXT


# ---- what they cost ----


def matrices(c):
    """[(name, n_in, n_out, how many)] of every product of a token's forward pass, and [(name, n_in, n_out)] of the
    products of a row that draws (a decoder) or is classified (BERT)."""
    h, f, n = c["hidden_size"], c["intermediate_size"], c["num_hidden_layers"]
    if c["model_type"] == "bert":
        layer = [("qkv", h, 3 * h, n), ("attention output", h, h, n), ("up", h, f, n), ("down", f, h, n)]
        return layer, [("pooler", h, h), ("classifier", h, len(c["id2label"]))]
    q = c["num_attention_heads"] * c["head_dim"]
    kv = c["num_key_value_heads"] * c["head_dim"]
    layer = [("qkv", h, q + 2 * kv, n), ("attention output", q, h, n), ("gate and up", h, 2 * f, n), ("down", f, h, n)]
    return layer, [("head", h, c["vocab_size"])]


def product_flops(c, n_tokens, n_rows):
    layer, last = matrices(c)
    return (2 * n_tokens * sum(i * o * n for _, i, o, n in layer) + 2 * n_rows * sum(i * o for _, i, o in last))


def attention_flops(c, lengths, causal):
    """Of the products with keys and values; a causal row i has i + 1 keys."""
    width = c["num_attention_heads"] * head_dim(c)
    keys = sum(n * (n + 1) / 2 if causal else n * n for n in lengths)
    return 4 * width * keys * c["num_hidden_layers"]


def head_dim(c):
    return c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]


def weight_bytes(c):
    """Of the matrices, once: what a step of few rows reads of them."""
    layer, last = matrices(c)
    return BF16 * (sum(i * o * n for _, i, o, n in layer) + sum(i * o for _, i, o in last))


def kv_bytes(c):
    """Of K and V of one token over all layers."""
    return 2 * BF16 * c["num_key_value_heads"] * c["head_dim"] * c["num_hidden_layers"]


def decode_bytes(c, n_seqs, kv_len):
    return weight_bytes(c) + n_seqs * kv_len * kv_bytes(c)
