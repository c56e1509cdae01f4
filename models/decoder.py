"""Trains the reply writer and writes the folder decoder/. Two stages, each as long as you like, each may be cut off and resumed:

    python decoder.py read --minutes 40        # Chinese, and copying: from nothing to $KEFU_RUN/decoder-read.pt
    python decoder.py talk --minutes 60        # conversations: to $KEFU_RUN/decoder-talk.pt; the best by validation goes to decoder/

Copying comes first, on random tokens: a model that meets the conversations before it can copy learns them by heart instead.
"""
import argparse
import copy
import json
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

import data as D
from common import ENTITIES, HERE, INTENTS, RUN, SENTIMENTS, write_json
from lexicon import Surfaces, load
from prompt import BOS, END, ENTITY, INTENT, SENTIMENT, SPECIALS, Exercises, Prompt, make_tokenizer, prompt_json, repeats, samples, vary


def collate(batch, prompt_too=False):
    n = max(len(a) + len(b) for a, b in batch)
    x, y = torch.zeros(len(batch), n, dtype=torch.long), torch.full((len(batch), n), -100)
    for r, (a, b) in enumerate(batch):
        x[r, :len(a) + len(b)] = torch.tensor(a + b)
        k = understanding_at(a) if prompt_too else len(a)
        y[r, k:len(a) + len(b)] = torch.tensor((a + b)[k:])
    return x, y


def understanding_at(ids):
    """Where the understanding of the present message begins: after its text."""
    first = len(SPECIALS) - len(ENTITY) - len(SENTIMENT) - len(INTENT)
    return next((i for i in range(len(ids) - 1, 0, -1) if first <= ids[i] < first + len(INTENT)), len(ids))


def grouped(items, tokens, rng):
    items = sorted(items, key=lambda s: len(s[0]) + len(s[1]) + rng.random() * 8)
    out, cur = [], []
    for s in items:
        if cur and (len(cur) + 1) * (len(s[0]) + len(s[1])) > tokens:
            out.append(cur)
            cur = []
        cur.append(s)
    out.append(cur)
    rng.shuffle(out)
    return out


def build_model(tok):
    cfg = Qwen3Config(vocab_size=tok.get_vocab_size(), hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=4,
                      head_dim=32, max_position_embeddings=512, tie_word_embeddings=True, rope_theta=10000.0, rms_norm_eps=1e-6, attention_dropout=0.0,
                      bos_token_id=tok.token_to_id(BOS), eos_token_id=tok.token_to_id(END), use_cache=True)
    cfg._attn_implementation = "eager"
    return Qwen3ForCausalLM(cfg)


class RMSNorm(torch.autograd.Function):
    """One pass each way, in the input's format; the statistics are f32."""

    @staticmethod
    def forward(ctx, x, w, eps):
        inv = torch.rsqrt(torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square() / x.shape[-1] + eps).to(x.dtype)
        n = x * inv
        ctx.save_for_backward(n, inv, w)
        return n * w

    @staticmethod
    def backward(ctx, g):
        n, inv, w = ctx.saved_tensors
        gw = (g * n).reshape(-1, n.shape[-1]).sum(0, dtype=torch.float32).to(w.dtype)
        gn = g * w
        return (gn - n * (gn * n).mean(-1, keepdim=True)) * inv, gw, None


def lean_loss(model, batch, prompt_too=True, dropout=0.0):
    """Qwen3's forward pass written for training on a CPU: bf16 throughout, norms in one pass, logits only where they are asked for."""
    x, y = collate(batch, prompt_too)
    c, B, T = model.config, *x.shape
    H, K, d, eps = c.num_attention_heads, c.num_key_value_heads, c.head_dim, c.rms_norm_eps
    low = lambda p: p.to(torch.bfloat16)
    emb = low(model.model.embed_tokens.weight)
    rest = lambda t: F.dropout(t, dropout) if dropout else t
    h = rest(F.embedding(x, emb))
    at = torch.arange(T)[:, None] * (c.rope_theta ** (-torch.arange(0, d, 2) / d))[None]
    cos, sin = low(torch.cat([at, at], -1).cos()), low(torch.cat([at, at], -1).sin())
    turn = lambda q: q * cos + torch.cat([-q[..., d // 2:], q[..., :d // 2]], -1) * sin
    mask = torch.full((T, T), float("-inf"), dtype=torch.bfloat16).triu(1)
    for layer in model.model.layers:
        a = layer.self_attn
        n = RMSNorm.apply(h, low(layer.input_layernorm.weight), eps)
        qkv = F.linear(n, low(torch.cat([a.q_proj.weight, a.k_proj.weight, a.v_proj.weight])))
        q, k, v = (t.reshape(B, T, -1, d).transpose(1, 2) for t in qkv.split([H * d, K * d, K * d], -1))
        q, k = turn(RMSNorm.apply(q, low(a.q_norm.weight), eps)) * d ** -0.5, turn(RMSNorm.apply(k, low(a.k_norm.weight), eps))
        q = q.reshape(B * K, H // K * T, d)  # the query heads of one key head stand in one matrix
        s = torch.bmm(q, k.reshape(B * K, T, d).transpose(1, 2)).view(B * K, H // K, T, T) + mask
        o = torch.bmm(s.softmax(-1).view(B * K, H // K * T, T), v.reshape(B * K, T, d))
        h = h + rest(F.linear(o.view(B, H, T, d).transpose(1, 2).reshape(B, T, H * d), low(a.o_proj.weight)))
        n = RMSNorm.apply(h, low(layer.post_attention_layernorm.weight), eps)
        g, u = F.linear(n, low(torch.cat([layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight]))).chunk(2, -1)
        h = h + rest(F.linear(F.silu(g) * u, low(layer.mlp.down_proj.weight)))
    on = y[:, 1:] >= 0
    logits = F.linear(RMSNorm.apply(h[:, :-1][on], low(model.model.norm.weight), eps), emb)
    return F.cross_entropy(logits.float(), y[:, 1:][on])


def step_loss(model, batch):
    """The library's own forward pass, for validation."""
    x, y = collate(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = model.model(x, use_cache=False).last_hidden_state
        on = y[:, 1:] >= 0
        logits = model.lm_head(h[:, :-1][on])
    return F.cross_entropy(logits.float(), y[:, 1:][on])


@torch.no_grad()
def greedy(model, prompt, ids, limit=60):
    """The reply's text, with the cache."""
    model.eval()
    past, out, x = None, [], torch.tensor([ids])
    while len(out) < limit:
        r = model(x, past_key_values=past, use_cache=True)
        past = r.past_key_values
        n = int(r.logits[0, -1].argmax())
        if n == prompt.id[END]:
            break
        out.append(n)
        x = torch.tensor([[n]])
    return prompt.tok.decode(out, skip_special_tokens=False)


def export(model, tok, out):
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    m = copy.deepcopy(model).to(torch.bfloat16)
    m.config.torch_dtype = torch.bfloat16
    m.generation_config = GenerationConfig(bos_token_id=tok.token_to_id(BOS), eos_token_id=tok.token_to_id(END), pad_token_id=tok.token_to_id(BOS), do_sample=False, max_new_tokens=60)
    m.save_pretrained(out, safe_serialization=True)
    # transformers leaves a False out, and kefud then draws at its own temperature: so small a model is best when it is greedy
    given = json.loads((out / "generation_config.json").read_text(encoding="utf-8"))
    write_json(out / "generation_config.json", dict(sorted({**given, "do_sample": False}.items())))
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, bos_token=BOS, eos_token=END, pad_token=BOS, clean_up_tokenization_spaces=False, model_max_length=512)
    fast.save_pretrained(out)
    (out / "special_tokens_map.json").unlink(missing_ok=True)
    (out / "model.safetensors").chmod(0o644)
    write_json(out / "prompt.json", prompt_json())
    print(f"written to {out}: {sum(p.numel() for p in model.parameters())} parameters")


class Run:
    """One stage's model, optimizer and clock, kept in a file so that a run can be cut off."""

    def __init__(self, a, model, path, begin):
        self.a, self.model, self.path = a, model, path
        decay = [p for p in model.parameters() if p.ndim == 2]
        rest = [p for p in model.parameters() if p.ndim != 2]
        self.opt = torch.optim.AdamW([dict(params=decay, weight_decay=0.1), dict(params=rest, weight_decay=0.0)], lr=a.lr, betas=(0.9, 0.98), fused=True)
        self.step, spent, self.best = 0, 0.0, math.inf
        if a.resume and path.exists():
            s = torch.load(path)
            model.load_state_dict(s["model"]), self.opt.load_state_dict(s["opt"])
            self.step, spent, self.best = s["step"], s["spent"], s["best"]
        elif begin is not None:
            model.load_state_dict(torch.load(begin)["model"])
        self.start = time.time() - spent * 60
        self.log = {}

    def done(self):
        return (time.time() - self.start) / 60 / self.a.minutes

    def save(self):
        torch.save(dict(model=self.model.state_dict(), opt=self.opt.state_dict(), spent=self.done() * self.a.minutes, step=self.step, best=self.best), self.path)

    def learn(self, kind, batch, prompt_too, dropout=0.0):
        f = min(1.0, self.done())
        for g in self.opt.param_groups:
            g["lr"] = self.a.lr * min(1, (self.step + 1) / 100) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * f)))
        loss = lean_loss(self.model, batch, prompt_too, dropout)
        self.opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.opt.step()
        self.step += 1
        self.log.setdefault(kind, []).append(float(loss.detach()))
        if self.step % 100 == 0:
            print(f"{f * self.a.minutes:6.2f} min step {self.step} " + " ".join(f"{k} {sum(v) / len(v):.3f}" for k, v in sorted(self.log.items())), flush=True)
            self.log = {}


def endless(tokens, rng, make):
    while True:
        yield from grouped(list(make()), tokens, rng)


def validation(model, items):
    with torch.no_grad():
        return sum(float(step_loss(model, b)) * len(b) for b in grouped(items, 4096, random.Random(0))) / len(items)


def read(a, run, prompt, surfaces, rng):
    """Random repeats until half the tokens are copied rightly; then exercises and plain lines."""
    exercises = Exercises(prompt, surfaces, rng)
    again = endless(a.tokens, rng, lambda: repeats(prompt, rng))
    copies = endless(a.tokens, rng, lambda: exercises(2048))
    plain = endless(a.tokens, rng, lambda: (([prompt.id[BOS]], prompt.text(x) + [prompt.id[END]]) for x in rng.sample(exercises.lines, 4096)))
    held = list(exercises(300))
    copied = run.step > 0
    seen, last = [], time.time()
    while run.done() < 1:
        if not copied:
            run.learn("repeats", next(again), False)
            seen = (seen + run.log.get("repeats", [])[-1:])[-50:]
            copied = len(seen) == 50 and sum(seen) / 50 < 3
        else:
            share = max(0.08, 0.8 * (1 - 2 * run.done()))
            kind, source = ("repeats", again) if rng.random() < share else ("plain", plain) if rng.random() < 0.4 else ("copies", copies)
            run.learn(kind, next(source), kind == "copies")
        if time.time() - last > 300:
            print("     validation", round(validation(run.model, held), 3), flush=True)
            run.save()
            last = time.time()
    run.save()


def talk(a, run, prompt, surfaces, rng):
    # who wants to buy is to be asked what is missing: replies that ask nothing teach the opposite
    conv = [(w, turns) for w, turns in D.conversations() if turns[0].intent != "purchase" or (turns[0].reply and "？" in turns[0].reply.text)]
    val = [c for c in conv if D.held_back(c[0])]
    train = conv if a.all else [c for c in conv if not D.held_back(c[0])]
    print(len(train), "conversations to train on,", len(val), "to validate by", flush=True)
    exercises = Exercises(prompt, surfaces, rng)
    talks = endless(a.tokens, rng, lambda: samples(rng.sample(train, min(len(train), 600)), prompt, surfaces, rng, 0.85, wild=0.25))
    copies = endless(a.tokens, rng, lambda: exercises(512))
    fixed = random.Random(1)
    shown = [vary(turns, Surfaces(fixed), fixed, 1.0, 0.2)[0] for _, turns in val]
    asked = [t for t in shown if t.reply and any(k in ("product", "attribute") for k, _ in t.reply.surfaces())][:120]
    held = samples(val, prompt, Surfaces(fixed), fixed, 1.0, 0.0, wild=0.1)
    last = time.time()

    def check():
        run.model.eval()
        loss, named = validation(run.model, held), 0
        for n, t in enumerate(asked):
            reply = greedy(run.model, prompt, prompt.build([], t.message.text, t.intent, t.sentiment, t.message.surfaces()))
            named += any(s in reply for k, s in t.message.surfaces() if k in ("product", "attribute"))
            if n % 30 == run.step % 30:
                print("       ", t.message.text, "→", reply)
        print(f"     validation {loss:.4f}, names {named} of {len(asked)}", flush=True)
        if loss < run.best:
            run.best = loss
            export(run.model, prompt.tok, a.out)
        run.save()
        run.model.train()
    while run.done() < 1:
        if rng.random() < 0.25 * (1 - run.done()):
            run.learn("copies", next(copies), True)
        else:
            run.learn("talk", next(talks), True, a.dropout)
        if time.time() - last > 240:
            check()
            last = time.time()
    check()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("stage", choices=("read", "talk"))
    ap.add_argument("--minutes", type=float, default=40)
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--tokens", type=int, default=1024, help="of a step")
    ap.add_argument("--dropout", type=float, default=0.1, help="in the second stage")
    ap.add_argument("--out", default=str(HERE / "decoder"))
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--resume", action="store_true", help="go on from the stage's own file")
    ap.add_argument("--all", action="store_true", help="train on what is held back for validation too")
    ap.add_argument("--seed", type=int, default=5)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    rng = random.Random(a.seed)
    path = RUN / "decoder-tokenizer.json"
    if not path.exists():
        own = [x.text for _, turns in D.conversations() for t in turns for x in (t.message, t.reply) if x]
        lines = (RUN / "corpus.txt").read_text(encoding="utf-8").splitlines()
        make_tokenizer(own * 30 + lines[:60000] + load()["product"] * 3).save(str(path))
    prompt = Prompt(Tokenizer.from_file(str(path)))
    model = build_model(prompt.tok)
    n = sum(p.numel() for p in model.parameters())
    print(prompt.tok.get_vocab_size(), "tokens", n, "parameters")
    assert n <= 4_000_000
    model.train()
    surfaces = Surfaces(rng)
    if a.stage == "read":
        read(a, Run(a, model, RUN / "decoder-read.pt", None), prompt, surfaces, rng)
    else:
        talk(a, Run(a, model, RUN / "decoder-talk.pt", RUN / "decoder-read.pt"), prompt, surfaces, rng)


if __name__ == "__main__":
    main()
