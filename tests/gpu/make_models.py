"""Checkpoints of the benchmark's shapes with random weights: DIR/config.json and DIR/model.safetensors in bf16.

    python3 tests/gpu/make_models.py NAME DIR [--tiny]

Their size and shape count, not their values, which come from one block of seeded normal numbers, read from another
place for every tensor and scaled to keep activations near 1. The same file every time; needs torch and numpy.
"""

import argparse
import json
import os
import struct

import torch

import shapes

BLOCK = 1 << 22


def tensors(c):
    """[(name, shape, scale)]: scale 0 means ones (norms' weights)."""
    h, f, n = c["hidden_size"], c["intermediate_size"], c["num_hidden_layers"]
    out = []

    def linear(name, n_out, n_in, bias):
        out.append((name + ".weight", [n_out, n_in], n_in ** -0.5))
        if bias:
            out.append((name + ".bias", [n_out], 0.1))

    if c["model_type"] == "bert":
        def norm(name):
            out.append((name + ".weight", [h], 0))
            out.append((name + ".bias", [h], 0.1))

        for name, rows in (("word", c["vocab_size"]), ("position", c["max_position_embeddings"]),
                           ("token_type", c["type_vocab_size"])):
            out.append(("bert.embeddings.%s_embeddings.weight" % name, [rows, h], 0.5))
        norm("bert.embeddings.LayerNorm")
        for i in range(n):
            at = "bert.encoder.layer.%d." % i
            for part in ("query", "key", "value"):
                linear(at + "attention.self." + part, h, h, True)
            linear(at + "attention.output.dense", h, h, True)
            norm(at + "attention.output.LayerNorm")
            linear(at + "intermediate.dense", f, h, True)
            linear(at + "output.dense", h, f, True)
            norm(at + "output.LayerNorm")
        linear("bert.pooler.dense", h, h, True)
        linear("classifier", len(c["id2label"]), h, True)
        return out

    q, kv = c["num_attention_heads"] * c["head_dim"], c["num_key_value_heads"] * c["head_dim"]
    out.append(("model.embed_tokens.weight", [c["vocab_size"], h], h ** -0.5))  # it is the head too
    for i in range(n):
        at = "model.layers.%d." % i
        out.append((at + "input_layernorm.weight", [h], 0))
        for part, width in (("q", q), ("k", kv), ("v", kv)):
            linear(at + "self_attn.%s_proj" % part, width, h, c["model_type"] == "qwen2")
        if c["model_type"] == "qwen3":
            out.append((at + "self_attn.q_norm.weight", [c["head_dim"]], 0))
            out.append((at + "self_attn.k_norm.weight", [c["head_dim"]], 0))
        linear(at + "self_attn.o_proj", h, q, False)
        out.append((at + "post_attention_layernorm.weight", [h], 0))
        linear(at + "mlp.gate_proj", f, h, False)
        linear(at + "mlp.up_proj", f, h, False)
        linear(at + "mlp.down_proj", h, f, False)
    out.append(("model.norm.weight", [h], 0))
    return out


def values(block, start, n, scale):
    """n numbers of the endlessly repeated block."""
    if scale == 0:
        return torch.ones(n, dtype=torch.bfloat16)
    whole = block.repeat((start + n + BLOCK - 1) // BLOCK) if start + n > BLOCK else block
    return (whole[start:start + n] * scale).to(torch.bfloat16)


def write(path, c):
    block = torch.randn(BLOCK, generator=torch.Generator().manual_seed(20261124))
    header, at, todo = {"__metadata__": {"format": "pt"}}, 0, tensors(c)
    for name, shape, _ in todo:
        n_bytes = shapes.BF16 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + n_bytes]}
        at += n_bytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for i, (_, shape, scale) in enumerate(todo):
            x = values(block, i * 999_983 % BLOCK, torch.Size(shape).numel(), scale)
            x.view(torch.int16).numpy().tofile(f)


def make(name, folder, tiny=False):
    """Nothing where it is already there, whole."""
    c = (shapes.TINY if tiny else shapes.SHAPES)[name]
    done = os.path.join(folder, "config.json")  # written last
    if os.path.exists(done) and json.load(open(done)) == c:
        return
    os.makedirs(folder, exist_ok=True)
    write(os.path.join(folder, "model.safetensors"), c)
    with open(done, "w") as f:
        json.dump(c, f, indent=1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=shapes.SHAPES)
    parser.add_argument("folder")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    make(options.name, options.folder, options.tiny)
