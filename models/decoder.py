"""Trains the reply writer and writes the folder decoder/.

    python decoder.py --minutes 10 --out decoder       # --resume goes on from $KEFU_RUN/decoder.pt

A reply must name what the customer named, also products never seen. So the marked entities of a whole conversation are replaced
together (message, prompt and reply) by thousands of other surfaces, a few of them random characters.
"""
import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

import data as D
from common import ENTITIES, HERE, INTENTS, RUN, SENTIMENTS, Marked, Turn, write_json
from lexicon import Surfaces, load

BOS, USER, ASSISTANT, END = "<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"
INTENT = {i: f"<|intent:{i}|>" for i in INTENTS}
SENTIMENT = {s: f"<|sentiment:{s}|>" for s in SENTIMENTS}
ENTITY = {e: f"<|entity:{e}|>" for e in ENTITIES}
SPECIALS = [BOS, USER, ASSISTANT, END, *INTENT.values(), *SENTIMENT.values(), *ENTITY.values()]
# one token at most a Han character, a digit or a mark, so a copied surface is cut as it was where it came from
PATTERN = r"\p{Han}|(?:(?!\p{Han})\p{L})+|\p{N}|[^\s\p{L}\p{N}]|\s+"
VOCAB = 4096
MAX_ENTITIES = 8
HISTORY = 2


def make_tokenizer(texts):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=SPECIALS, show_progress=False, max_token_length=12,
                                                     initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return t


def prompt_json():
    """What kefu reads: bos, then earlier turns, then the present one; entities in the order of the text, each its token and
    its surface. A key that nothing reads is refused."""
    return {
        "bos": BOS, "user": USER, "assistant": ASSISTANT, "end": END,
        "intent": INTENT, "sentiment": SENTIMENT, "entity": ENTITY,
        "earlier_turn": ["user", "text", "assistant", "reply", "end"],
        "present_turn": ["user", "text", "intent", "sentiment", "entities", "assistant"],
        "max_history_turns": HISTORY, "max_entities": MAX_ENTITIES,
        "stop": [END],
    }


class Prompt:
    """The ids of a prompt. Plain text is encoded apart from the special tokens, so it can never hold one."""

    def __init__(self, tok):
        self.tok = tok
        self.id = {s: tok.token_to_id(s) for s in SPECIALS}
        self.cache = {}

    def text(self, s):
        if s not in self.cache:
            if len(self.cache) > 300000:
                self.cache.clear()
            # a special token's text inside a message is cut as plain text: it is encoded in two halves
            parts = s.split("<|")
            ids = self.tok.encode(parts[0], add_special_tokens=False).ids
            for p in parts[1:]:
                ids = ids + self.tok.encode("<", add_special_tokens=False).ids + self.tok.encode("|" + p, add_special_tokens=False).ids
            self.cache[s] = ids
        return self.cache[s]

    def build(self, earlier, message, intent, sentiment, surfaces):
        ids = [self.id[BOS]]
        for text, reply in earlier[-HISTORY:]:
            ids += [self.id[USER], *self.text(text), self.id[ASSISTANT], *self.text(reply), self.id[END]]
        ids += [self.id[USER], *self.text(message), self.id[INTENT[intent]], self.id[SENTIMENT[sentiment]]]
        for kind, s in surfaces[:MAX_ENTITIES]:
            ids += [self.id[ENTITY[kind]], *self.text(s)]
        return ids + [self.id[ASSISTANT]]


def replaced(m, mapping):
    """A marked text with its surfaces replaced; unmarked mentions of a replaced surface follow."""
    out, spans, at, n = [], [], 0, 0
    plain = sorted(((s, v) for (k, s), v in mapping.items() if len(s) >= 2 and s != v), key=lambda x: -len(x[0]))

    def follow(s):
        for old, new in plain:
            if old in s:
                s = s.replace(old, new)
        return s
    for kind, a, b in sorted(m.spans, key=lambda x: x[1]):
        p = follow(m.text[at:a])
        out.append(p)
        n += len(p)
        s = mapping.get((kind, m.text[a:b]), mapping.get(("*", m.text[a:b]), m.text[a:b]))
        out.append(s)
        spans.append((kind, n, n + len(s)))
        n += len(s)
        at = b
    out.append(follow(m.text[at:]))
    return Marked("".join(out), spans)


def vary(turns, surfaces, rng, p, wild=0.0):
    """Other surfaces for the entities of a conversation; with probability `wild` random characters for what has a name."""
    mapping = {}
    if rng.random() < p:
        for t in turns:
            for kind, s in t.message.surfaces():
                if (kind, s) not in mapping and rng.random() < 0.9:
                    if kind in ("product", "brand", "attribute") and rng.random() < wild:
                        mapping[kind, s] = "".join(rng.choice(surfaces.chars) for _ in range(rng.randint(2, 4)))
                    else:
                        mapping[kind, s] = surfaces.draw(kind, s)
                    mapping.setdefault(("*", s), mapping[kind, s])
    if not mapping:
        return turns
    return [Turn(t.intent, t.sentiment, replaced(t.message, mapping), t.also, replaced(t.reply, mapping) if t.reply else None) for t in turns]


def samples(conv, prompt, surfaces, rng, p_vary, p_noise=0.12, wild=0.0):
    out = []
    for _, turns in conv:
        turns = vary(turns, surfaces, rng, p_vary, wild)
        earlier = []
        for t in turns:
            if not t.reply:
                break
            if len(t.reply.text) <= 60:
                text, spans = D.noise(t.message.text, t.message.spans, rng) if rng.random() < 0.3 else (t.message.text, t.message.spans)
                if not text.strip():
                    text, spans = t.message.text, t.message.spans
                ents = [(k, text[a:b]) for k, a, b in sorted(spans, key=lambda x: x[1])]
                u = rng.random()
                if u < p_noise / 2:
                    ents = []  # the encoder may miss some
                elif u < p_noise:
                    ents = [e for e in ents if rng.random() < 0.6]
                intent = t.intent
                if t.also and rng.random() < 0.4:
                    intent = rng.choice(t.also)
                elif rng.random() < 0.03:
                    intent = rng.choice(INTENTS)
                sentiment = t.sentiment if rng.random() < 0.95 else rng.choice(SENTIMENTS)
                ids = prompt.build(earlier, text, intent, sentiment, ents)
                reply = prompt.text(t.reply.text) + [prompt.id[END]]
                out.append((ids, reply))
            earlier = earlier + [(t.message.text, t.reply.text)]
    return out


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


def plain_batches(prompt, tokens, rng):
    """Reviews and our own messages as plain text: what Chinese looks like."""
    lines = [l for l in (RUN / "corpus.txt").read_text(encoding="utf-8").splitlines() if 6 <= len(l) <= 72]
    while True:
        rng.shuffle(lines)
        for k in range(0, len(lines), 8192):
            yield from grouped([([prompt.id[BOS]], prompt.tok.encode(l).ids + [prompt.id[END]]) for l in lines[k:k + 8192] if "<|" not in l], tokens, rng)


def borrow(model, tok):
    """The embeddings start as the distilled encoder's, in the 256 directions in which those differ most."""
    from transformers import BertModel
    vocab = {t: i for i, t in enumerate((RUN / "student" / "vocab.txt").read_text(encoding="utf-8").split())}
    w = BertModel.from_pretrained(RUN / "student", add_pooling_layer=False).embeddings.word_embeddings.weight.detach()
    rows = [(i, vocab[s]) for i in range(tok.get_vocab_size()) if (s := tok.decode([i], skip_special_tokens=False).strip().lower()) in vocab]
    v = w[[j for _, j in rows]]
    v = v - v.mean(0)
    d = model.config.hidden_size
    v = v @ torch.linalg.svd(v, full_matrices=False)[2][:d].T
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(0, 0.03)
        model.model.embed_tokens.weight[[i for i, _ in rows]] = 0.04 * v / v.std() + 0.005 * torch.randn(len(rows), d)
    print(len(rows), "embeddings borrowed")


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


def lean_loss(model, batch, prompt_too=True):
    """Qwen3's forward pass written for training on a CPU: bf16 throughout, norms in one pass, logits only where they are asked for."""
    x, y = collate(batch, prompt_too)
    c, B, T = model.config, *x.shape
    H, K, d, eps = c.num_attention_heads, c.num_key_value_heads, c.head_dim, c.rms_norm_eps
    low = lambda p: p.to(torch.bfloat16)
    emb = low(model.model.embed_tokens.weight)
    h = F.embedding(x, emb)
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
        h = h + F.linear(o.view(B, H, T, d).transpose(1, 2).reshape(B, T, H * d), low(a.o_proj.weight))
        n = RMSNorm.apply(h, low(layer.post_attention_layernorm.weight), eps)
        g, u = F.linear(n, low(torch.cat([layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight]))).chunk(2, -1)
        h = h + F.linear(F.silu(g) * u, low(layer.mlp.down_proj.weight))
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
def greedy(model, prompt, ids, limit=70):
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
    import copy
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    m = copy.deepcopy(model).to(torch.bfloat16)
    m.config.torch_dtype = torch.bfloat16
    m.generation_config = GenerationConfig(bos_token_id=tok.token_to_id(BOS), eos_token_id=tok.token_to_id(END), pad_token_id=tok.token_to_id(BOS), do_sample=False, max_new_tokens=64)
    m.save_pretrained(out, safe_serialization=True)
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, bos_token=BOS, eos_token=END, pad_token=BOS, clean_up_tokenization_spaces=False, model_max_length=512)
    fast.save_pretrained(out)
    (out / "special_tokens_map.json").unlink(missing_ok=True)
    (out / "model.safetensors").chmod(0o644)
    write_json(out / "prompt.json", prompt_json())
    print(f"written to {out}: {sum(p.numel() for p in model.parameters())} parameters")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--minutes", type=float, default=10)
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--tokens", type=int, default=1024)
    ap.add_argument("--plain", type=float, default=0.1, help="share of plain-text steps at the start; it falls to nothing at two thirds of the time")
    ap.add_argument("--out", default=str(HERE / "decoder"))
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--resume", action="store_true")
    ap.add_argument("--all", action="store_true")
    ap.add_argument("--seed", type=int, default=5)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    rng = random.Random(a.seed)
    conv = D.conversations()
    val = [c for c in conv if D.held_back(c[0])]
    train = conv if a.all else [c for c in conv if not D.held_back(c[0])]
    surfaces = Surfaces(rng)
    path = RUN / "decoder-tokenizer.json"
    if not path.exists():
        own = [x.text for _, turns in conv for t in turns for x in (t.message, t.reply) if x]
        lines = (RUN / "corpus.txt").read_text(encoding="utf-8").splitlines()
        lex = load()
        make_tokenizer(own * 30 + lines[:60000] + lex["product"] * 3).save(str(path))
    tok = Tokenizer.from_file(str(path))
    prompt = Prompt(tok)
    model = build_model(tok)
    borrow(model, tok)
    n = sum(p.numel() for p in model.parameters())
    print(tok.get_vocab_size(), "tokens", n, "parameters", len(train), "conversations")
    assert n <= 4_000_000
    decay = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim != 2]
    opt = torch.optim.AdamW([dict(params=decay, weight_decay=0.1), dict(params=rest, weight_decay=0.0)], lr=a.lr, betas=(0.9, 0.98), fused=True)
    ck, spent, step = RUN / "decoder.pt", 0.0, 0
    if a.resume and ck.exists():
        s = torch.load(ck)
        model.load_state_dict(s["model"]), opt.load_state_dict(s["opt"])
        spent, step = s["spent"], s["step"]

    def talk():
        while True:
            f = min(1, (time.time() - start) / 60 / a.minutes)
            items = samples(rng.sample(train, min(len(train), 600)), prompt, surfaces, rng, 0.9 - 0.25 * f, wild=max(0.08, 0.7 - 1.2 * f))
            yield from grouped(items, a.tokens, rng)
    talks, plain = talk(), plain_batches(prompt, a.tokens, rng)
    val_items = samples(val, prompt, surfaces, random.Random(1), 0.0, 0.0)
    val_new = samples(val, prompt, surfaces, random.Random(1), 1.0, 0.0)
    start, log, last = time.time() - spent * 60, {"talk": [], "plain": []}, time.time()

    def check():
        model.eval()
        with torch.no_grad():
            v = [sum(float(step_loss(model, b)) * len(b) for b in grouped(it, 4096, random.Random(0))) / len(it) for it in (val_items, val_new) if it]
        print("     validation", [round(x, 4) for x in v], flush=True)
        for _, turns in rng.sample(val, min(3, len(val))):
            t = vary(turns, surfaces, rng, 0.7)[0]
            print("       ", t.message.text, "→", greedy(model, prompt, prompt.build([], t.message.text, t.intent, t.sentiment, t.message.surfaces())), flush=True)
        torch.save(dict(model=model.state_dict(), opt=opt.state_dict(), spent=(time.time() - start) / 60, step=step), ck)
        model.train()
    model.train()
    while True:
        at = (time.time() - start) / 60
        if at > a.minutes:
            break
        f = at / a.minutes
        for g in opt.param_groups:
            g["lr"] = a.lr * min(1, (step + 1) / 100) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * f)))
        kind = "plain" if rng.random() < a.plain * max(0, 1 - 1.5 * f) else "talk"
        loss = lean_loss(model, next(plain if kind == "plain" else talks), prompt_too=kind == "talk")
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        step += 1
        log[kind].append(float(loss.detach()))
        if step % 100 == 0:
            print(f"{at:6.2f} min step {step} " + " ".join(f"{k} {sum(v) / len(v):.3f}" for k, v in log.items() if v), flush=True)
            log = {"talk": [], "plain": []}
        if time.time() - last > 300:
            check()
            last = time.time()
    check()
    export(model, tok, a.out)


if __name__ == "__main__":
    main()
