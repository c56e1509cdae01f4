"""Makes tests/golden/data: small random checkpoints as transformers saves them, and what transformers computes with them.

    python3 -m venv .venv && .venv/bin/pip install -r tests/golden/requirements.txt
    .venv/bin/python tests/golden/make_golden.py

A comparison is worth what it can tell apart, so nothing here is a default or a round number: biases, norm weights and
eps are off theirs, widths are no multiples of 32, the classifiers are scaled until the logits' standard deviation is
at least 2, and greedy text is kept only where the best two logits are well apart. Each sequence is computed alone and
unpadded in f32; the rows are laid end to end as kefu has them. Tensors of expected.safetensors have the names that
host/model's dump hook gives them. Every checkpoint is seeded: the same versions give the same files.
"""

import json
import pathlib
import shutil

import torch
from safetensors.torch import load_file, save_file
from transformers import (BertConfig, BertForSequenceClassification, BertForTokenClassification, BertModel, GPT2Config,
                          GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)
from transformers.activations import ACT2CLS, ACT2FN

DATA = pathlib.Path(__file__).parent / "data"
N_GREEDY = 24


def randomise(model, seed):
    """Weights that keep the activations' size, everything else off its default."""
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        x = torch.randn(p.shape, generator=g)
        if ("norm" in name.lower() or "ln_" in name) and name.endswith("weight"):
            p.data = 1 + 0.3 * x
        elif p.dim() == 1 and name.endswith("act_fn.weight"):
            p.data = 0.3 + 0.2 * x  # prelu's slope
        elif name.endswith("bias"):
            p.data = 0.3 * x
        elif ".wte." in name:
            p.data = 0.3 * x  # tied: larger, and a token's best successor is itself
        elif "embed" in name or ".wpe." in name:
            p.data = 0.8 * x
        else:
            n_in = p.shape[0] if ".c_" in name else p.shape[1]  # GPT-2's Conv1D is [n_in, n_out]
            p.data = (2.6 if name == "lm_head.weight" else 1.6) * x / n_in ** 0.5
    model.tie_weights()
    return model.eval()


def as_saved(model, dtype):
    """The weights that are left after the file's format; the reference computes with these, in f32. Not model.to(dtype):
    that would round RoPE's frequencies too, which are no weights."""
    for p in model.parameters():
        p.data = p.data.to(dtype).float()
    return model


def sequences(lengths, vocab_size, seed):
    g = torch.Generator().manual_seed(seed)
    return [torch.randint(0, vocab_size, (n,), generator=g) for n in lengths]


def flat(ids):
    cu = torch.tensor([0] + [len(s) for s in ids]).cumsum(0)
    return {"input_ids": torch.cat(ids).to(torch.int32), "cu_seqlens": cu.to(torch.int32)}


class Rows:
    """Collects a module's rows over the sequences, under the dump hook's names."""

    def __init__(self):
        self.tensors = {}

    def add(self, name, x):
        x = x.detach().float().reshape(-1, x.shape[-1])
        old = self.tensors.get(name)
        self.tensors[name] = x if old is None else torch.cat([old, x])

    def output_of(self, module, name):
        module.register_forward_hook(lambda m, i, o: self.add(name, o[0] if isinstance(o, tuple) else o))

    def input_of(self, module, name):
        module.register_forward_pre_hook(lambda m, i: self.add(name, i[0]))


def save(folder, model, dtype, expected):
    shutil.rmtree(folder, ignore_errors=True)
    model.to(dtype).save_pretrained(folder)
    for extra in ("generation_config.json",):
        (folder / extra).unlink(missing_ok=True)
    save_file({k: v.contiguous() for k, v in expected.items()}, folder / "expected.safetensors")
    print(f"{folder.name}: {sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())} bytes")


def scale_logits(linear, logits, least):
    """Makes the logits' standard deviation at least `least` by scaling the layer that makes them."""
    std = logits.std().item()
    if std < least:
        linear.weight.data *= 1.2 * least / std
        linear.bias.data *= 1.2 * least / std


# ---- BERT ----


def hook_bert(bert, rows):
    rows.output_of(bert.embeddings, "embeddings")
    for i, layer in enumerate(bert.encoder.layer):
        rows.output_of(layer.attention.self, f"layers.{i}.context")
        rows.output_of(layer.attention, f"layers.{i}.attention")
        rows.output_of(layer, f"layers.{i}.output")
    if bert.pooler is not None:
        rows.output_of(bert.pooler, "pooler")


def run_bert(model, ids):
    with torch.no_grad():
        return [model(input_ids=s[None], attention_mask=torch.ones(1, len(s))) for s in ids]


def bert_classifier(folder, cls, dtype, seed, **config):
    config = BertConfig(attn_implementation="eager", **config)
    model = as_saved(randomise(cls(config), seed), dtype)
    ids = sequences([7, 1, 23, 40, 2, 17], config.vocab_size, seed)
    scale_logits(model.classifier, torch.cat([o.logits.reshape(-1, o.logits.shape[-1]) for o in run_bert(model, ids)]), 2)
    model = as_saved(model, dtype)
    rows = Rows()
    hook_bert(model.bert, rows)
    for o in run_bert(model, ids):
        rows.add("logits.classifier", o.logits)
    assert rows.tensors["logits.classifier"].std() >= 2
    save(folder, model, dtype, {**rows.tensors, **flat(ids)})


def head_files(folder, name, tensors, n_labels, **fields):
    (folder / "heads").mkdir(exist_ok=True)
    labels = [f"{name}-{i}" for i in range(n_labels)]
    (folder / "heads" / f"{name}.json").write_text(json.dumps({"name": name, "labels": labels, **fields}, indent=1) + "\n")
    save_file(tensors, folder / "heads" / f"{name}.safetensors")


def make_head(g, n_in, n_labels):
    linear = torch.nn.Linear(n_in, n_labels)
    linear.weight.data = 3 * torch.randn(n_labels, n_in, generator=g) / n_in**0.5
    linear.bias.data = torch.randn(n_labels, generator=g)
    return linear


def bert_trunk_with_heads(folder, seed):
    """BertModel and heads beside it: every pooling, with and without a dense layer. """
    config = BertConfig(vocab_size=97, hidden_size=40, num_hidden_layers=3, num_attention_heads=5, intermediate_size=52,
                        max_position_embeddings=48, layer_norm_eps=1e-3, hidden_act="gelu", attn_implementation="eager")
    model = randomise(BertModel(config), seed)
    ids = sequences([9, 48, 1, 16, 31], config.vocab_size, seed)
    rows = Rows()
    hook_bert(model, rows)
    g = torch.Generator().manual_seed(seed)
    dense = make_head(g, 40, 28)
    heads = {
        "words": ("token", None, None, make_head(g, 40, 4)),
        "entities": ("token", None, None, make_head(g, 40, 7)),
        "intent": ("sequence", "cls", None, make_head(g, 40, 5)),
        "sentiment": ("sequence", "mean", None, make_head(g, 40, 3)),
        "topic": ("sequence", "pooler", None, make_head(g, 40, 6)),
        "noise": ("sequence", "mean", dense, make_head(g, 28, 2)),
    }
    for name in ("topic", "noise"):  # few sequences and a tanh before: scaled again for a standard deviation of 2
        heads[name][3].weight.data *= 2
    with torch.no_grad():
        for o in run_bert(model, ids):
            x = o.last_hidden_state[0]
            pooled = {None: x, "cls": x[:1], "mean": x.mean(0, keepdim=True), "pooler": o.pooler_output}
            for name, (_, pooling, before, classifier) in heads.items():
                y = pooled[pooling]
                rows.add(f"logits.{name}", classifier(torch.tanh(before(y)) if before else y))
    save(folder, model, torch.float32, {**rows.tensors, **flat(ids)})
    for name, (kind, pooling, before, classifier) in heads.items():
        tensors = {f"classifier.{k}": v.data for k, v in classifier.named_parameters()}
        fields = {"kind": kind, "activation": None}
        if pooling:
            fields["pooling"] = pooling
        if before:
            tensors |= {f"dense.{k}": v.data for k, v in before.named_parameters()}
            fields["activation"] = "tanh"
        head_files(folder, name, tensors, classifier.out_features, **fields)


# ---- decoders ----


def hook_decoder(model, rows):
    if isinstance(model, GPT2LMHeadModel):
        rows.output_of(model.transformer.drop, "embeddings")
        for i, layer in enumerate(model.transformer.h):
            rows.input_of(layer.attn.c_proj, f"layers.{i}.context")
            rows.input_of(layer.ln_2, f"layers.{i}.attention")
            rows.output_of(layer, f"layers.{i}.output")
        return
    rows.output_of(model.model.embed_tokens, "embeddings")
    for i, layer in enumerate(model.model.layers):
        rows.input_of(layer.self_attn.o_proj, f"layers.{i}.context")
        rows.input_of(layer.post_attention_layernorm, f"layers.{i}.attention")
        rows.output_of(layer, f"layers.{i}.output")


def greedy(model, prompt):
    """N_GREEDY tokens, and the least distance between the best two logits on the way."""
    ids, least = prompt.clone(), float("inf")
    with torch.no_grad():
        for _ in range(N_GREEDY):
            best = model(input_ids=ids[None]).logits[0, -1].topk(2)
            least = min(least, (best.values[0] - best.values[1]).item())
            ids = torch.cat([ids, best.indices[:1]])
    return ids[len(prompt):], least


def decoder(folder, cls, config, dtype, seed, lengths):
    while True:
        model = as_saved(randomise(cls(config), seed), dtype)
        ids = sequences(lengths, config.vocab_size, seed)
        texts = [greedy(model, s) for s in ids]
        if min(least for _, least in texts) > 0.02:
            break
        seed += 1000
    rows = Rows()
    hook_decoder(model, rows)
    with torch.no_grad():
        for s in ids:
            rows.add("logits", model(input_ids=s[None]).logits[0, -1:])
    assert rows.tensors["logits"].std() >= 2, rows.tensors["logits"].std()
    text = torch.stack([t for t, _ in texts]).to(torch.int32)
    print(f"{folder.name}: seed {seed}, logits' std {rows.tensors['logits'].std():.2f}, "
          f"{len(set(text.flatten().tolist()))} different tokens in {text.numel()}")
    save(folder, model, dtype, {**rows.tensors, **flat(ids), "greedy": text})


def without_prefix(path):
    """GPT-2's own file, of before transformers had prefixes, names its tensors so."""
    tensors = load_file(path)
    save_file({k.removeprefix("transformer."): v for k, v in tensors.items()}, path, metadata={"format": "pt"})


def activations(path):
    """Every name that ACT2FN knows, on a grid; prelu is left out: it has a weight of its own."""
    x = torch.cat([torch.linspace(-12, 12, 385), torch.tensor([0.0, -0.5, 1e-4, -1e-4, 30.0, -30.0])])
    y = {name: ACT2FN[name](x).detach().clone() for name in ACT2CLS if name != "prelu"}
    save_file({"x": x, **y}, path)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    DATA.mkdir(exist_ok=True)
    activations(DATA / "activations.safetensors")
    bert_trunk_with_heads(DATA / "bert_trunk", 11)
    bert_classifier(DATA / "bert_sequence", BertForSequenceClassification, torch.float32, 12, vocab_size=113,
                    hidden_size=72, num_hidden_layers=3, num_attention_heads=6, intermediate_size=100,
                    max_position_embeddings=40, layer_norm_eps=3e-3, num_labels=5, hidden_act="gelu")
    bert_classifier(DATA / "bert_token", BertForTokenClassification, torch.float16, 13, vocab_size=89, hidden_size=56,
                    num_hidden_layers=2, num_attention_heads=4, intermediate_size=60, max_position_embeddings=41,
                    layer_norm_eps=2e-3, num_labels=9, hidden_act="gelu_new", type_vocab_size=3,
                    id2label={i: f"tag-{i}" for i in range(9)})
    bert_classifier(DATA / "bert_prelu", BertForSequenceClassification, torch.float32, 14, vocab_size=67, hidden_size=24,
                    num_hidden_layers=2, num_attention_heads=3, intermediate_size=36, max_position_embeddings=40,
                    layer_norm_eps=2e-3, num_labels=3, hidden_act="prelu")
    eager = {"attn_implementation": "eager", "pad_token_id": None, "bos_token_id": None, "eos_token_id": 1}
    decoder(DATA / "qwen3", Qwen3ForCausalLM,
            Qwen3Config(vocab_size=131, hidden_size=40, intermediate_size=52, num_hidden_layers=3, num_attention_heads=6,
                        num_key_value_heads=2, head_dim=12, max_position_embeddings=96, rms_norm_eps=2e-3,
                        rope_theta=700.0, tie_word_embeddings=True, **eager), torch.bfloat16, 21, [5, 33, 1, 17])
    decoder(DATA / "llama", LlamaForCausalLM,
            LlamaConfig(vocab_size=117, hidden_size=72, intermediate_size=100, num_hidden_layers=3, num_attention_heads=9,
                        num_key_value_heads=3, max_position_embeddings=80, rms_norm_eps=3e-3, rope_theta=900.0,
                        attention_bias=True, mlp_bias=True, tie_word_embeddings=False, **eager), torch.float32, 22,
            [16, 2, 31])
    decoder(DATA / "qwen2", Qwen2ForCausalLM,
            Qwen2Config(vocab_size=101, hidden_size=56, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4,
                        num_key_value_heads=2, max_position_embeddings=72, rms_norm_eps=2e-3, rope_theta=300.0,
                        tie_word_embeddings=False, **eager), torch.float32, 23, [8, 19])
    # The longest text and its reply go well past the 32 positions that the scaling starts from; the waves are 6.3 (kept),
    # 13.3, 28.3 (mixed), 60 and longer (slowed down). The second is far past its own without scaling.
    decoder(DATA / "llama3", LlamaForCausalLM,
            LlamaConfig(vocab_size=109, hidden_size=56, intermediate_size=68, num_hidden_layers=2, num_attention_heads=6,
                        num_key_value_heads=2, head_dim=16, max_position_embeddings=96, rms_norm_eps=2e-3,
                        rope_theta=410.0, tie_word_embeddings=True,
                        rope_scaling={"rope_type": "llama3", "factor": 5.5, "low_freq_factor": 0.9,
                                      "high_freq_factor": 4.6, "original_max_position_embeddings": 32},
                        **eager), torch.bfloat16, 24, [61, 9, 34])
    decoder(DATA / "llama_linear", LlamaForCausalLM,
            LlamaConfig(vocab_size=73, hidden_size=40, intermediate_size=36, num_hidden_layers=2, num_attention_heads=4,
                        num_key_value_heads=2, max_position_embeddings=72, rms_norm_eps=2e-3, rope_theta=350.0,
                        tie_word_embeddings=False, rope_scaling={"type": "linear", "factor": 2.6}, **eager),
            torch.float32, 25, [12, 41])
    gpt2 = {"attn_implementation": "eager", "bos_token_id": None, "eos_token_id": 1}
    decoder(DATA / "gpt2", GPT2LMHeadModel,
            GPT2Config(vocab_size=107, n_embd=48, n_layer=2, n_head=4, n_positions=88, layer_norm_epsilon=2e-3,
                       activation_function="gelu_new", **gpt2), torch.float32, 26, [7, 40, 1, 22])
    without_prefix(DATA / "gpt2" / "model.safetensors")
    decoder(DATA / "gpt2_untied", GPT2LMHeadModel,
            GPT2Config(vocab_size=83, n_embd=56, n_layer=2, n_head=4, n_inner=68, n_positions=72, layer_norm_epsilon=3e-3,
                       activation_function="relu", tie_word_embeddings=False, **gpt2), torch.bfloat16, 27, [18, 33])


if __name__ == "__main__":
    main()
