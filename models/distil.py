"""Teaches the six-layer character-level student what the twelve-layer teacher thinks of unlabelled text.

For every teacher piece the mean of the student's characters under it is drawn to the teacher's hidden state (last layer and
two between), and the student's mean over all its tokens to the teacher's sentence vector.

    python distil.py --minutes 12            # continues from $KEFU_RUN/student, writes there; may be repeated
"""
import argparse
import json
import math
import random
import time

import torch
import torch.nn.functional as F
from transformers import BertModel, BertTokenizerFast

import data as D
from common import RUN
from prepare import dictionary, unlabelled
from teacher import E5

PAIRS = [(2, 4), (4, 8), (6, 12)]  # student layer, teacher layer


SHARES = dict(own=0.45, review=0.33, news=0.10, chat=0.02, word=0.10)  # of the lines of a round
ROUND = 12000


class Batches:
    """Rounds of lines from all sources; our own messages and replies come each time with other entities."""

    def __init__(self, e5, tok, tokens):
        self.e5, self.tok, self.tokens = e5, tok, tokens
        self.rng = random.Random(time.time_ns())
        self.surfaces = D.Surfaces(self.rng)
        self.own = [m for _, turns in D.conversations() for t in turns for m in (t.message, t.message, t.reply) if m]
        self.lines = {k: [] for k in SHARES if k != "own"}
        for source, text in unlabelled():
            self.lines[source].append(text)
        self.lines["word"] = [w for w, n, tag in dictionary() if n >= 5 and 2 <= len(w) <= 6 and tag[0] in "nvaijlt"][:80000] + self.surfaces.lex["product"] * 2
        self.at = dict.fromkeys(SHARES, 0)

    def draw(self, source, n):
        out = []
        if source == "own":
            for m in self.rng.sample(self.own, min(n, len(self.own))):
                t, s = D.substitute(m.text, m.spans, self.surfaces, self.rng, 0.6)
                out.append(D.noise(t, s, self.rng)[0])
            return [t for t in out if len(t) > 1]
        for _ in range(n):
            if self.at[source] % len(self.lines[source]) == 0:
                self.rng.shuffle(self.lines[source])
            out.append(self.lines[source][self.at[source] % len(self.lines[source])])
            self.at[source] += 1
        return out

    def __iter__(self):
        while True:
            lines = [t for s, share in SHARES.items() for t in self.draw(s, int(ROUND * share))]
            self.rng.shuffle(lines)
            yield from self.batches(lines)

    def batches(self, lines):
        for k in range(0, len(lines), 4096):
            chunk = sorted(lines[k:k + 4096], key=len)
            enc = self.tok(chunk, truncation=True, max_length=128, return_offsets_mapping=True)
            out, batch = [], []
            for text, ids, offs in zip(chunk, enc["input_ids"], enc["offset_mapping"]):
                if batch and (len(batch) + 1) * max(len(ids), len(batch[-1][0])) > self.tokens:
                    out.append(batch)
                    batch = []
                batch.append((ids, offs, *self.e5.encode(text)))
            out.append(batch)
            self.rng.shuffle(out)
            for b in out:
                yield self.collate(b)

    @staticmethod
    def collate(batch):
        B, S, T = len(batch), max(len(b[0]) for b in batch), max(len(b[2]) for b in batch)
        s, sm = torch.zeros(B, S, dtype=torch.long), torch.zeros(B, S)
        t, tm = torch.ones(B, T, dtype=torch.long), torch.zeros(B, T)
        A = torch.zeros(B, T, S)
        for r, (ids, offs, tids, spans) in enumerate(batch):
            s[r, :len(ids)] = torch.tensor(ids)
            sm[r, :len(ids)] = 1
            t[r, :len(tids)] = torch.tensor(tids)
            tm[r, :len(tids)] = 1
            j = 0
            for i, (a, b) in enumerate(offs):
                if a == b:
                    continue
                while j + 1 < len(spans) and spans[j][1] <= a:
                    j += 1
                if spans[j][0] <= a < spans[j][1]:
                    A[r, j, i] = 1
        return s, sm, t, tm, A / A.sum(-1, keepdim=True).clamp(min=1), A.sum(-1) > 0


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--minutes", type=float, default=10)
    ap.add_argument("--lr", type=float, default=4e-4)
    ap.add_argument("--tokens", type=int, default=4096)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--schedule-minutes", type=float, default=0, help="length of the learning-rate schedule, if longer than this run")
    ap.add_argument("--out", default=str(RUN / "student"))
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    e5 = E5()
    teacher = e5.model().to(torch.bfloat16)
    src = RUN / "student"
    tok = BertTokenizerFast.from_pretrained(src)
    model = BertModel.from_pretrained(src, add_pooling_layer=False, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                                      attn_implementation="eager")  # its backward pass is the faster one here
    source = Batches(e5, tok, a.tokens)
    mean, std = statistics(teacher, source)
    decay = [p for n, p in model.named_parameters() if p.ndim == 2 and "embeddings" not in n]
    rest = [p for n, p in model.named_parameters() if not (p.ndim == 2 and "embeddings" not in n)]
    opt = torch.optim.AdamW([dict(params=decay, weight_decay=0.01), dict(params=rest, weight_decay=0.0)], lr=a.lr, betas=(0.9, 0.98))
    log, start, step, seen = [], time.time(), 0, 0
    for s, sm, t, tm, A, on in source:
        at = (time.time() - start) / 60
        if at > a.minutes:
            break
        lr = a.lr * min(1, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1, at / max(a.minutes, a.schedule_minutes)))))
        for g in opt.param_groups:
            g["lr"] = lr
        with torch.no_grad():
            th = teacher(t, attention_mask=tm, output_hidden_states=True).hidden_states
        with torch.autocast("cpu", dtype=torch.bfloat16):
            sh = model(s, attention_mask=sm, output_hidden_states=True).hidden_states
        parts = []
        for k, (i, j) in enumerate(PAIRS):
            got = (A @ sh[i].float())[on]
            want = th[j].float()[on]
            parts.append((F.mse_loss(got / std[k], want / std[k])) * (1.0 if k == 2 else 0.3))
        tv = (th[-1].float() * tm[..., None]).sum(1) / tm.sum(1, keepdim=True)
        sv = (sh[-1].float() * sm[..., None]).sum(1) / sm.sum(1, keepdim=True)
        cos = F.cosine_similarity(sv - mean, tv - mean, dim=-1)
        parts.append(2 * (1 - cos).mean())
        loss = sum(parts)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        step, seen = step + 1, seen + int(sm.sum())
        log.append([float(p.detach()) for p in parts])
        if step % 50 == 0:
            m = [sum(c) / len(log) for c in zip(*log)]
            print(f"{at:6.2f} min step {step} lr {lr:.1e} mid {m[0]:.3f} {m[1]:.3f} last {m[2]:.3f} cos {1 - m[3] / 2:.4f} {seen / (time.time() - start):.0f} tokens/s", flush=True)
            log = []
        if step % 1000 == 0:
            model.save_pretrained(a.out)
    model.save_pretrained(a.out)
    tok.save_pretrained(a.out)
    print("done", step, "steps")


def statistics(teacher, source):
    """Mean sentence vector, and the spread of each hidden dimension, of the teacher's layers."""
    vs, hs = [], [[] for _ in PAIRS]
    for n, (s, sm, t, tm, A, on) in enumerate(source):
        with torch.no_grad():
            th = teacher(t, attention_mask=tm, output_hidden_states=True).hidden_states
        vs.append((th[-1].float() * tm[..., None]).sum(1) / tm.sum(1, keepdim=True))
        for k, (_, j) in enumerate(PAIRS):
            hs[k].append(th[j].float()[on])
        if n >= 8:
            break
    return torch.cat(vs).mean(0), [torch.cat(h).std(0) for h in hs]


if __name__ == "__main__":
    main()
