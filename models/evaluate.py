"""Scores of the published folders on data that no training saw, with 95 % bootstrap intervals over lines.

    python evaluate.py                 # encoder/ and decoder/; writes data/heldout.jsonl and $KEFU_RUN/scores.json
    python evaluate.py --replies       # and prints the sixty replies
"""
import argparse
import json
import random
import time

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, BertModel

import data as D
from common import DATA, ENTITIES, HERE, INTENTS, RUN, SENTIMENTS, heldout_words, marked, read_folder
from prompt import Prompt


class Encoder:
    """The folder as the worker reads it: config, trunk, heads as data."""

    def __init__(self, folder):
        self.tok = AutoTokenizer.from_pretrained(folder)
        self.model = BertModel.from_pretrained(folder, add_pooling_layer=False, torch_dtype=torch.float32).eval()
        self.heads = {}
        for p in sorted((folder / "heads").glob("*.json")):
            self.heads[p.stem] = (json.loads(p.read_text(encoding="utf-8")), {k: v.float() for k, v in load_file(p.with_suffix(".safetensors")).items()})

    @torch.no_grad()
    def __call__(self, texts, batch=64):
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out = [None] * len(texts)
        for k in range(0, len(order), batch):
            part = order[k:k + batch]
            enc = self.tok([texts[i] for i in part], padding=True, truncation=True, max_length=256, return_offsets_mapping=True, return_tensors="pt")
            mask = enc["attention_mask"].float()
            h = self.model(enc["input_ids"], attention_mask=mask).last_hidden_state
            res = {}
            for name, (spec, w) in self.heads.items():
                x = (h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True) if spec["kind"] == "sequence" else h
                if "dense.weight" in w:
                    x = torch.tanh(x @ w["dense.weight"].T + w["dense.bias"])
                res[name] = x @ w["classifier.weight"].T + w["classifier.bias"]
            for r, i in enumerate(part):
                n = int(mask[r].sum())
                offs = enc["offset_mapping"][r][:n].tolist()
                item = {"intent": res["intent"][r].softmax(-1).numpy(), "sentiment": res["sentiment"][r].softmax(-1).numpy()}
                for name in ("entities", "words"):
                    spec = self.heads[name][0]
                    got = D.decode(res[name][r, 1:n - 1].numpy(), spec["labels"]) if n > 2 else []
                    item[name] = [(t, offs[a + 1][0], offs[b][1]) for t, a, b in got]
                out[i] = item
        return out


def interval(fn, rows, n=1000, seed=0):
    """fn(rows) → score; the 2.5th and 97.5th percentile over resampled rows."""
    rng = np.random.default_rng(seed)
    rows = list(rows)
    vals = [fn([rows[i] for i in rng.integers(0, len(rows), len(rows))]) for _ in range(n)]
    return dict(score=round(fn(rows), 4), low=round(float(np.percentile(vals, 2.5)), 4), high=round(float(np.percentile(vals, 97.5)), 4), n=len(rows))


def f1(rows):
    tp, fp, fn = (sum(r[i] for r in rows) for i in range(3))
    return 2 * tp / max(1, 2 * tp + fp + fn)


def mean(rows):
    return sum(rows) / len(rows)


def macro(rows, k):
    out = []
    for c in range(k):
        tp = sum(g == c and p == c for g, p in rows)
        fp = sum(g != c and p == c for g, p in rows)
        fn = sum(g == c and p != c for g, p in rows)
        if tp + fn:
            out.append(2 * tp / max(1, 2 * tp + fp + fn))
    return sum(out) / max(1, len(out))


def heldout():
    rows = []
    for where, turns in read_folder(DATA / "heldout"):
        t = turns[0]
        rows.append(dict(text=t.message.text, intent=t.intent, also=t.also, sentiment=t.sentiment,
                         entities=[dict(type=k, start=a, end=b) for k, a, b in sorted(t.message.spans, key=lambda x: x[1])]))
    return rows


def segmented():
    """The cut lines of data/heldout/segmented.txt, word/tag with blanks between."""
    rows = []
    for line in (DATA / "heldout" / "segmented.txt").read_text(encoding="utf-8").splitlines():
        pairs = [x.rpartition("/") for x in line.split() if not line.startswith("#")]
        if pairs:
            words, pos = [p[0] for p in pairs], [p[2] for p in pairs]
            rows.append(dict(text="".join(words), words=words, pos=pos))
    with open(DATA / "segmented.jsonl", "w", encoding="utf-8") as f:
        for r in rows:
            f.write(json.dumps(r, ensure_ascii=False) + "\n")
    return rows


def score_encoder(enc):
    rows = heldout()
    with open(DATA / "heldout.jsonl", "w", encoding="utf-8") as f:
        for r in rows:
            f.write(json.dumps(r, ensure_ascii=False) + "\n")
    got = enc([r["text"] for r in rows])
    pred = [INTENTS[int(g["intent"].argmax())] for g in got]
    s = {}
    s["intent accuracy"] = interval(mean, [p == r["intent"] or p in r["also"] for p, r in zip(pred, rows)])
    s["intent accuracy, main label only"] = interval(mean, [p == r["intent"] for p, r in zip(pred, rows)])
    s["intent macro F1, main label only"] = interval(lambda x: macro(x, len(INTENTS)), [(INTENTS.index(r["intent"]), INTENTS.index(p)) for p, r in zip(pred, rows)], 300)
    conf = np.array([g["intent"].max() for g in got])
    right = np.array([p == r["intent"] or p in r["also"] for p, r in zip(pred, rows)])
    ece = 0.0
    for lo in np.arange(0, 1, 0.1):
        m = (conf > lo) & (conf <= lo + 0.1)
        ece += m.mean() * abs(conf[m].mean() - right[m].mean()) if m.any() else 0
    s["intent calibration error (10 bins)"] = round(float(ece), 4)
    s["intent accuracy where the score is over 0.8"] = dict(score=round(float(right[conf > 0.8].mean()), 4), share=round(float((conf > 0.8).mean()), 4))
    gold_s = [SENTIMENTS.index(r["sentiment"]) for r in rows]
    pred_s = [int(g["sentiment"].argmax()) for g in got]
    s["sentiment accuracy"] = interval(mean, [a == b for a, b in zip(gold_s, pred_s)])
    s["sentiment macro F1"] = interval(lambda x: macro(x, 3), list(zip(gold_s, pred_s)), 300)
    triple = []
    by = {t: [] for t in ENTITIES}
    for g, r in zip(got, rows):
        a, b = set(g["entities"]), {(e["type"], e["start"], e["end"]) for e in r["entities"]}
        triple.append((len(a & b), len(a - b), len(b - a)))
        for t in ENTITIES:
            x, y = {e for e in a if e[0] == t}, {e for e in b if e[0] == t}
            by[t].append((len(x & y), len(x - y), len(y - x)))
    s["entities F1, exact spans"] = interval(f1, triple)
    s["entities F1 by type"] = {t: [round(f1(v), 3), sum(x[0] + x[2] for x in v)] for t, v in by.items()}
    wrong = [(r["intent"], p, r["text"]) for r, p in zip(rows, pred) if p != r["intent"] and p not in r["also"]]
    return s, wrong


def same_cut(gold, got):
    """Spans that agree; a gold number and measure that came out as one word count as right, and the other way round."""
    a, b = {x[1:] for x in gold}, {x[1:] for x in got}
    for g in list(zip(gold, gold[1:])):
        if g[0][0] == "m" and g[1][0] == "q" and (g[0][1], g[1][2]) in b:
            a -= {g[0][1:], g[1][1:]}
            a.add((g[0][1], g[1][2]))
    for g in list(zip(got, got[1:])):
        if g[0][0] == "m" and g[1][0] == "q" and (g[0][1], g[1][2]) in a:
            b -= {g[0][1:], g[1][1:]}
            b.add((g[0][1], g[1][2]))
    return len(a & b), len(b - a), len(a - b)


def score_words(enc, sequences):
    got = enc(["".join(w) for w, _ in sequences])
    cut, tag = [], []
    for (w, t), g in zip(sequences, got):
        gold = [x for x in D.word_spans(w, t) if w]
        gold = [(k, a, b) for k, a, b in gold if "".join(w)[a:b].strip()]
        mine = g["words"]
        cut.append(same_cut(gold, mine))
        # a tag counts by its first letter's class: v, vn and vd are one; nr, ns and so on stay
        norm = lambda k: k if k in ("nr", "ns", "nt", "nz") else k[0].lower()
        a, b = {(norm(k), x, y) for k, x, y in gold}, {(norm(k), x, y) for k, x, y in mine}
        tag.append((len(a & b), len(b - a), len(a - b)))
    return interval(f1, cut, 500), interval(f1, tag, 500)


class Decoder:
    def __init__(self, folder):
        import decoder as X
        self.X = X
        self.prompt = Prompt(Tokenizer.from_file(str(folder / "tokenizer.json")))
        self.model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()

    def reply(self, text, intent, sentiment, surfaces, earlier=()):
        return self.X.greedy(self.model, self.prompt, self.prompt.build(list(earlier), text, intent, sentiment, surfaces),
                             self.model.generation_config.max_new_tokens)


def score_replies(enc, dec, show):
    lines = [l.split(" ", 2) for l in heldout_words() if l.strip()]
    msgs = [marked(l[2]) for l in lines]
    got = enc([m.text for m in msgs])
    training = {t.reply.text for _, turns in read_folder(DATA / "understand", complain=False) for t in turns if t.reply}
    named, replies, ents_ok = [], [], 0
    for (intent, _, _), m, g in zip(lines, msgs, got):
        surfaces = [(t, m.text[a:b]) for t, a, b in g["entities"]]
        r = dec.reply(m.text, INTENTS[int(g["intent"].argmax())], SENTIMENTS[int(g["sentiment"].argmax())], surfaces)
        want = [s for t, s in m.surfaces() if t in ("product", "attribute")]
        ok = any(w in r for w in want)
        named.append(ok)
        replies.append(r)
        if show:
            print("+" if ok else "-", INTENTS[int(g["intent"].argmax())], m.text, "→", r)
    return {"names the product or attribute": interval(mean, named), "different replies": len(set(replies)), "of": len(replies),
            "longest reply, characters": max(map(len, replies)), "found word for word in the training data": round(mean([r in training for r in replies]), 4)}


def row(name, v):
    if isinstance(v, dict) and "low" in v:
        return f"| {name} | {100 * v['score']:.1f} % | {100 * v['low']:.1f} – {100 * v['high']:.1f} | {v['n']} |"
    if isinstance(v, dict):
        return f"| {name} | {100 * v['score']:.1f} % | on {100 * v['share']:.0f} % of the lines | |"
    return f"| {name} | {100 * v:.1f} % | | |"


def card(folder, lines, mark="scores"):
    """Puts lines between the two marks of a card."""
    path = HERE / folder / "README.md"
    if not path.exists():
        return
    head, _, rest = path.read_text(encoding="utf-8").partition(f"<!-- {mark} -->")
    _, _, tail = rest.partition(f"<!-- /{mark} -->")
    path.write_text(head + f"<!-- {mark} -->\n" + "\n".join(lines) + f"\n<!-- /{mark} -->" + tail, encoding="utf-8")


def example(dec):
    ids = dec.prompt.build([], "我想要一件红色的羽绒服", "purchase", "neutral", [("attribute", "红色"), ("product", "羽绒服")])
    text = dec.prompt.tok.decode(ids, skip_special_tokens=False)
    reply = dec.reply("我想要一件红色的羽绒服", "purchase", "neutral", [("attribute", "红色"), ("product", "羽绒服")])
    card("decoder", ["", f"    {text}", "", "which is the ids", "", "    " + " ".join(map(str, ids)), "", f"and is answered greedily with “{reply}”.", ""], "example")


def cards(scores):
    by = scores.get("entities F1 by type", {})
    lines = ["| held-out score | value | 95 % interval | lines |", "| --- | --- | --- | --- |"]
    lines += [row(k, v) for k, v in scores.items() if k != "entities F1 by type" and not k.startswith("replies")]
    lines += ["", "Entities by type, F1 (how many there are): " + ", ".join(f"{t} {100 * f:.0f} % ({n})" for t, (f, n) in by.items()) + "."]
    card("encoder", lines)
    r = scores.get("replies to 60 messages on unseen products")
    if r:
        card("decoder", ["| sixty messages on products that training never saw, greedy | |", "| --- | --- |"] + [
            f"| {k} | " + (f"{100 * v['score']:.1f} % (95 % interval {100 * v['low']:.1f} – {100 * v['high']:.1f})" if isinstance(v, dict) else f"{100 * v:.1f} %" if isinstance(v, float) else str(v)) + " |"
            for k, v in r.items()])


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--replies", action="store_true")
    ap.add_argument("--wrong", action="store_true")
    a = ap.parse_args()
    torch.set_num_threads(2)
    enc = Encoder(HERE / "encoder")
    scores, wrong = score_encoder(enc)
    news = [(w, t) for n, w, t in D.news() if n % 20 == 0][-1000:]
    scores["words F1, People's Daily"], scores["words and tags F1, People's Daily"] = score_words(enc, [([D.half_width(x) for x in w], t) for w, t in news])
    rows = segmented()
    scores["words F1, shop messages"], scores["words and tags F1, shop messages"] = score_words(enc, [(r["words"], r["pos"]) for r in rows])
    if a.wrong:
        for w in wrong:
            print(*w)
    seed = "我想要一件红色的羽绒服"
    g = enc([seed])[0]
    print(seed, INTENTS[int(g["intent"].argmax())], round(float(g["intent"].max()), 3), [(t, seed[x:y]) for t, x, y in g["entities"]], "/".join(f"{seed[x:y]}:{t}" for t, x, y in g["words"]))
    if (HERE / "decoder" / "config.json").exists():
        dec = Decoder(HERE / "decoder")
        example(dec)
        scores["replies to 60 messages on unseen products"] = score_replies(enc, dec, a.replies)
        print(dec.reply(seed, INTENTS[int(g["intent"].argmax())], SENTIMENTS[int(g["sentiment"].argmax())], [(t, seed[x:y]) for t, x, y in g["entities"]]))
    print(json.dumps(scores, ensure_ascii=False, indent=1))
    cards(scores)
    (RUN / "scores.json").write_text(json.dumps(scores, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
