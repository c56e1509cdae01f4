"""Trains the trunk and its four heads together and writes the folder encoder/.

    python finetune.py --minutes 8 --out encoder      # from $KEFU_RUN/student; --resume goes on from $KEFU_RUN/finetune.pt
"""
import argparse
import json
import math
import random
import shutil
import time
from collections import Counter
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import BertModel, BertTokenizerFast

import data as D
from common import ENTITIES, HERE, INTENTS, RUN, SENTIMENTS, write_json


class Heads(nn.Module):
    def __init__(self, hidden, tags):
        super().__init__()
        self.intent_dense = nn.Linear(hidden, hidden)
        self.intent = nn.Linear(hidden, len(INTENTS))
        self.sentiment = nn.Linear(hidden, len(SENTIMENTS))
        self.entities = nn.Linear(hidden, len(D.ENTITY_LABELS))
        self.words = nn.Linear(hidden, len(tags))
        self.drop = nn.Dropout(0.1)

    def sequence(self, h, mask):
        m = self.drop((h.float() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
        return self.intent(self.drop(torch.tanh(self.intent_dense(m)))), self.sentiment(m)


def pad(rows, value):
    n = max(map(len, rows))
    return torch.tensor([list(r) + [value] * (n - len(r)) for r in rows])


def batches(items, tokens, rng):
    """Shuffled batches of items of about one length."""
    items = sorted(items, key=lambda x: len(x["ids"]) + rng.random() * 4)
    out, cur = [], []
    for it in items:
        if cur and (len(cur) + 1) * len(it["ids"]) > tokens:
            out.append(cur)
            cur = []
        cur.append(it)
    out.append(cur)
    rng.shuffle(out)
    return out


class MessageTask:
    """Intent, sentiment and entities of messages, changed anew in every epoch."""

    def __init__(self, messages, tok, rng, change=True, cuts=None, tags=()):
        self.m, self.tok, self.rng, self.change = messages, tok, rng, change
        self.cuts, self.tags = cuts or {}, {l: i for i, l in enumerate(tags)}  # LAC's words, where a message stays as it is
        self.surfaces = D.Surfaces(rng) if change else None
        self.index = {l: i for i, l in enumerate(D.ENTITY_LABELS)}

    def epoch(self):
        texts, spans = [], []
        for m in self.m:
            t, s = m["text"], m["spans"]
            if self.change:
                if s and self.rng.random() < 0.5:
                    t, s = D.substitute(t, s, self.surfaces, self.rng, 0.7)
                if self.rng.random() < 0.6:
                    t, s = D.noise(t, s, self.rng)
            texts.append(t if t.strip() else m["text"])
            spans.append(s if t.strip() else m["spans"])
        enc = self.tok(texts, truncation=True, max_length=160, return_offsets_mapping=True)
        out = []
        for m, t, s, ids, offs in zip(self.m, texts, spans, enc["input_ids"], enc["offset_mapping"]):
            y = torch.zeros(len(INTENTS))
            y[INTENTS.index(m["intent"])] = 1.0
            for a in m["also"]:
                y[INTENTS.index(a)] = 0.5
            y = y / y.sum()
            out.append(dict(ids=ids, intent=y, sentiment=SENTIMENTS.index(m["sentiment"]), later=m["turn"] > 0,
                            entities=D.label_spans(offs, s, self.index, 0),
                            labels=D.label_spans(offs, D.word_spans(*self.cuts[t]), self.tags, -100) if t in self.cuts else [-100] * len(ids)))
        return out


def words_items(pairs, tok, tags, weight):
    index = {l: i for i, l in enumerate(tags)}
    texts = ["".join(w) for w, _ in pairs]
    enc = tok(texts, truncation=True, max_length=160, return_offsets_mapping=True) if texts else dict(input_ids=[], offset_mapping=[])
    return [dict(ids=i, labels=D.label_spans(o, D.word_spans(w, t), index, -100), weight=weight)
            for (w, t), i, o in zip(pairs, enc["input_ids"], enc["offset_mapping"])]


def trunk(model, batch):
    ids = pad([b["ids"] for b in batch], 0)
    mask = (ids != 0).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = model(ids, attention_mask=mask).last_hidden_state
    return h.float(), mask


def validate(model, heads, items, word_items):
    model.eval(), heads.eval()
    ok = also = sent = n = 0
    tp = fp = fn = 0
    logits_all, gold_all = [], []
    with torch.no_grad():
        for b in batches(items, 4096, random.Random(0)):
            h, mask = trunk(model, b)
            li, ls = heads.sequence(h, mask)
            le = heads.entities(h).numpy()
            y = torch.stack([x["intent"] for x in b])
            ok += int((li.argmax(-1) == y.argmax(-1)).sum())
            also += int((y.gather(1, li.argmax(-1, keepdim=True)) > 0).sum())
            sent += int((ls.argmax(-1) == torch.tensor([x["sentiment"] for x in b])).sum())
            logits_all.append(li)
            gold_all.append(y.argmax(-1))
            n += len(b)
            for x, e in zip(b, le):
                L = len(x["ids"])
                got = set(D.decode(e[1:L - 1], D.ENTITY_LABELS))
                gold = set()
                k = 0
                labs = [D.ENTITY_LABELS[v] if v >= 0 else "O" for v in x["entities"][1:L - 1]]
                while k < len(labs):
                    if labs[k].startswith("B-"):
                        j = k + 1
                        while j < len(labs) and labs[j] == "I-" + labs[k][2:]:
                            j += 1
                        gold.add((labs[k][2:], k, j))
                        k = j
                    else:
                        k += 1
                tp, fp, fn = tp + len(got & gold), fp + len(got - gold), fn + len(gold - got)
        wrong = total = 0
        for b in batches(word_items, 4096, random.Random(0)):
            h, _ = trunk(model, b)
            lab = pad([x["labels"] for x in b], -100)
            on = lab >= 0
            wrong += int((heads.words(h).argmax(-1)[on] != lab[on]).sum())
            total += int(on.sum())
    model.train(), heads.train()
    li, y = torch.cat(logits_all), torch.cat(gold_all)
    temps = [(float(F.cross_entropy(li / t, y)), t) for t in [0.5 + 0.05 * k for k in range(60)]]
    return dict(intent=ok / n, intent_or_also=also / n, sentiment=sent / n, entity_f1=2 * tp / max(1, 2 * tp + fp + fn),
                words_token=1 - wrong / max(1, total), temperature=min(temps)[1], nll=min(temps)[0])


def clean_tokenizer(vocab):
    """The tokenizer as published: without the truncation that training set."""
    path = RUN / "vocab.txt"
    path.write_text("".join(t + "\n" for t, _ in sorted(vocab.items(), key=lambda x: x[1])), encoding="utf-8")
    return BertTokenizerFast(str(path), do_lower_case=True, model_max_length=512)


def export(model, heads, tags, tok, out, temperature):
    """A Hugging Face folder in bf16, with the heads beside the trunk."""
    out = Path(out)
    shutil.rmtree(out / "heads", ignore_errors=True)
    (out / "heads").mkdir(parents=True)
    import copy
    m = copy.deepcopy(model).to(torch.bfloat16)
    m.config.torch_dtype = torch.bfloat16
    m.config.hidden_dropout_prob = m.config.attention_probs_dropout_prob = 0.1
    m.save_pretrained(out, safe_serialization=True)
    clean_tokenizer(tok.vocab).save_pretrained(out)
    for f in ("special_tokens_map.json",):
        (out / f).unlink(missing_ok=True)

    def save(name, kind, labels, last, dense=None, scale=1.0):
        t = {"classifier.weight": last.weight / scale, "classifier.bias": last.bias / scale}
        if dense is not None:
            t |= {"dense.weight": dense.weight, "dense.bias": dense.bias}
        save_file({k: v.detach().to(torch.bfloat16).contiguous() for k, v in t.items()}, out / "heads" / f"{name}.safetensors", metadata={"format": "pt"})
        write_json(out / "heads" / f"{name}.json", dict(name=name, kind=kind, pooling="mean" if kind == "sequence" else None,
                                                       activation="tanh" if dense is not None else None, labels=labels))
    save("intent", "sequence", INTENTS, heads.intent, heads.intent_dense, temperature)
    save("sentiment", "sequence", SENTIMENTS, heads.sentiment)
    save("entities", "token", D.ENTITY_LABELS, heads.entities)
    save("words", "token", tags, heads.words)
    for p in [*out.glob("*.safetensors"), *(out / "heads").glob("*.safetensors")]:
        p.chmod(0o644)
    n = sum(p.numel() for p in model.parameters()) + sum(p.numel() for p in heads.parameters())
    print(f"written to {out}: {n} parameters with heads")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--minutes", type=float, default=8)
    ap.add_argument("--lr", type=float, default=1.5e-4)
    ap.add_argument("--tokens", type=int, default=2048)
    ap.add_argument("--messages", type=float, default=0.5, help="share of the steps that are messages; the rest are words")
    ap.add_argument("--silver", type=float, default=0.35, help="share of the words steps that are LAC's cuts of messages and replies")
    ap.add_argument("--student", default=str(RUN / "student"))
    ap.add_argument("--out", default=str(HERE / "encoder"))
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--resume", action="store_true")
    ap.add_argument("--rebase", nargs=2, metavar=("OLD_STUDENT", "CHECKPOINT"),
                    help="start from a checkpoint that was tuned from an older student: its weights plus what distillation has changed since")
    ap.add_argument("--all", action="store_true", help="train on our own validation lines too, for the last run")
    ap.add_argument("--seed", type=int, default=3)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    rng = random.Random(a.seed)
    tok = BertTokenizerFast.from_pretrained(a.student)
    conv = D.conversations()
    val = [c for c in conv if D.held_back(c[0])]
    train = conv if a.all else [c for c in conv if not D.held_back(c[0])]
    messages = D.messages(train)
    print(len(messages), "messages to train on", Counter(m["intent"] for m in messages).most_common(3))
    news = [(n, [D.half_width(x) for x in w] if rng.random() < 0.8 else w, t) for n, w, t in D.news()]
    counts = Counter(t for _, _, ts in news for t in ts)
    used = [t for t, n in counts.most_common() if n >= 30 and len(t) <= 2]
    tags = [f"{p}-{t}" for t in used for p in "BI"]
    fix = lambda ts: [t if t in used else t[0].lower() if t[0].lower() in used else "n" for t in ts]
    gold = words_items([(w, fix(t)) for n, w, t in news if n % 20], tok, tags, 1.0)
    gold_val = words_items([(w, fix(t)) for n, w, t in news if n % 20 == 0][:600], tok, tags, 1.0)
    cuts = [(w, fix(t)) for w, t in D.silver(train)]
    silver = words_items(cuts, tok, tags, 1.0)
    print(len(gold), "gold and", len(silver), "silver word sequences;", len(used), "tags")
    task = MessageTask(messages, tok, rng, cuts={"".join(w): (w, t) for w, t in cuts}, tags=tags)
    val_items = MessageTask(D.messages(val), tok, rng, change=False).epoch()
    model = BertModel.from_pretrained(a.student, add_pooling_layer=False, attn_implementation="eager", hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.05)
    heads = Heads(model.config.hidden_size, tags)
    if a.rebase:
        old = BertModel.from_pretrained(a.rebase[0], add_pooling_layer=False).state_dict()
        tuned = torch.load(a.rebase[1])
        model.load_state_dict({k: tuned["model"][k] + v - old[k] if v.is_floating_point() else v for k, v in model.state_dict().items()})
        had = tuned.get("tags") or json.loads((HERE / "encoder" / "heads" / "words.json").read_text(encoding="utf-8"))["labels"]
        for k in ("words.weight", "words.bias"):  # the labels may stand in another order now
            rows = heads.state_dict()[k].clone()
            for i, l in enumerate(tags):
                if l in had:
                    rows[i] = tuned["heads"][k][had.index(l)]
            tuned["heads"][k] = rows
        heads.load_state_dict(tuned["heads"])
    groups = [dict(params=list(model.parameters()), lr=a.lr, base=a.lr, weight_decay=0.01), dict(params=list(heads.parameters()), lr=1e-3, base=1e-3, weight_decay=0.01)]
    opt = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
    spent, step = 0.0, 0
    ck = RUN / "finetune.pt"
    if a.resume and ck.exists():
        s = torch.load(ck)
        model.load_state_dict(s["model"]), heads.load_state_dict(s["heads"]), opt.load_state_dict(s["opt"])
        spent, step = s["spent"], s["step"]
    model.train(), heads.train()

    def forever(make):
        while True:
            yield from make()
    it_m = forever(lambda: batches(task.epoch(), a.tokens, rng))
    it_g = forever(lambda: batches(gold, a.tokens, rng))
    it_s = forever(lambda: batches(silver, a.tokens, rng))
    if a.rebase:
        print("     at the start", {k: round(v, 4) for k, v in validate(model, heads, val_items, gold_val[:200]).items()}, flush=True)
    start, log, last_eval, n_msg = time.time() - spent * 60, Counter(), time.time(), 0
    rare = torch.tensor([1.5, 1.0, 1.5])  # most messages are neutral
    while True:
        at = (time.time() - start) / 60
        if at > a.minutes:
            break
        f = at / a.minutes
        for g in opt.param_groups:
            g["lr"] = g["base"] * min(1, (step + 1) / 60) * max(0.02, 1 - f)
        if rng.random() < a.messages:
            b = next(it_m)
            n_msg += len(b)
            h, mask = trunk(model, b)
            li, ls = heads.sequence(h, mask)
            y = torch.stack([x["intent"] for x in b]) * 0.95 + 0.05 / len(INTENTS)
            w = torch.tensor([0.5 if x["later"] else 1.0 for x in b])
            l1 = (-(y * F.log_softmax(li, -1)).sum(-1) * w).mean()
            l2 = F.cross_entropy(ls, torch.tensor([x["sentiment"] for x in b]), weight=rare, label_smoothing=0.05)
            l3 = F.cross_entropy(heads.entities(heads.drop(h)).transpose(1, 2), pad([x["entities"] for x in b], -100), ignore_index=-100)
            loss = l1 + 0.7 * l2 + 2.0 * l3
            lab = pad([x["labels"] for x in b], -100)
            if (lab >= 0).any():
                loss = loss + 0.5 * F.cross_entropy(heads.words(h).transpose(1, 2), lab, ignore_index=-100)
            log.update(intent=float(l1.detach()), sent=float(l2.detach()), ent=float(l3.detach()), m=1)
        else:
            b = next(it_s if silver and rng.random() < a.silver else it_g)
            h, _ = trunk(model, b)
            loss = F.cross_entropy(heads.words(heads.drop(h)).transpose(1, 2), pad([x["labels"] for x in b], -100), ignore_index=-100)
            log.update(words=float(loss.detach()), w=1)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(model.parameters()) + list(heads.parameters()), 1.0)
        opt.step()
        step += 1
        if step % 50 == 0:
            print(f"{at:6.2f} min step {step} epochs {n_msg / len(messages):.1f} " + " ".join(f"{k} {log[k] / max(1, log['w' if k == 'words' else 'm']):.3f}" for k in ("intent", "sent", "ent", "words")), flush=True)
            log = Counter()
        if time.time() - last_eval > 600:
            last_eval = time.time()
            print("     validation", {k: round(v, 4) for k, v in validate(model, heads, val_items, gold_val).items()}, flush=True)
            torch.save(dict(tags=tags, model=model.state_dict(), heads=heads.state_dict(), opt=opt.state_dict(), spent=(time.time() - start) / 60, step=step), ck)
    v = validate(model, heads, val_items, gold_val)
    print("validation", {k: round(x, 4) for k, x in v.items()})
    export(model, heads, tags, tok, a.out, v["temperature"] if not a.all else 1.0)


if __name__ == "__main__":
    main()
