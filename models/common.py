"""Paths, and the reader of the annotated messages in data/understand/*.txt.

Spans are half-open and counted in code points of the plain text.
"""
import importlib.util
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
RUN = Path(os.environ.get("KEFU_RUN", HERE / ".run"))  # checkpoints and caches, never in git
RUN.mkdir(parents=True, exist_ok=True)

INTENTS = [
    "purchase", "product_inquiry", "price_inquiry", "promotion", "recommendation", "stock", "order_status",
    "order_change", "order_cancel", "shipping", "return_refund", "exchange", "after_sales_repair", "complaint",
    "payment", "invoice", "account", "review_feedback", "human_agent", "greeting", "thanks_bye", "out_of_scope",
]
SENTIMENTS = ["positive", "neutral", "negative"]
ENTITIES = ["product", "brand", "attribute", "size", "quantity", "price", "order_id", "phone", "address", "person", "time"]
CODE = dict(p="product", b="brand", a="attribute", s="size", q="quantity", m="price", o="order_id", t="phone",
            d="address", n="person", w="time")
SENT = {"+": "positive", "0": "neutral", "-": "negative"}


def package(name):
    """The folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise SystemExit(f"{name} is not installed: pip install -r requirements.txt")
    return Path(list(spec.submodule_search_locations)[0])


@dataclass
class Marked:
    """A text with its entities: spans of (type, start, end)."""
    text: str
    spans: list = field(default_factory=list)

    def surfaces(self):
        return [(t, self.text[a:b]) for t, a, b in self.spans]


@dataclass
class Turn:
    intent: str
    sentiment: str
    message: Marked
    also: list = field(default_factory=list)
    reply: Marked | None = None


_ENTITY = re.compile(r"\{([^{}]*)/([a-z])\}")


def marked(s):
    out, spans, at = [], [], 0
    n = 0
    for m in _ENTITY.finditer(s):
        if m.group(2) not in CODE:
            raise ValueError(f"entity code {m.group(2)!r}")
        plain = s[at:m.start()]
        out.append(plain)
        n += len(plain)
        out.append(m.group(1))
        spans.append((CODE[m.group(2)], n, n + len(m.group(1))))
        n += len(m.group(1))
        at = m.end()
    out.append(s[at:])
    text = "".join(out)
    if any(c in text for c in "{}|"):
        raise ValueError(f"stray mark in {s!r}")
    lead = len(text) - len(text.lstrip())
    text = text.strip()
    spans = [(t, a - lead, b - lead) for t, a, b in spans]
    if any(a < 0 or b > len(text) or a >= b for _, a, b in spans):
        raise ValueError(f"empty entity in {s!r}")
    return Marked(text, spans)


def _turn(s, intent):
    m = re.match(r"\s*([+0-])\s+(.*)$", s, re.S)
    if not m:
        raise ValueError(f"no sentiment in {s!r}")
    sent, rest = SENT[m.group(1)], m.group(2)
    message, _, reply = rest.partition("=>")
    message, _, also = message.partition("@also:")
    also = [a.strip() for a in also.replace("，", ",").split(",") if a.strip()]
    for a in also:
        if a not in INTENTS:
            raise ValueError(f"label {a!r}")
    return Turn(intent, sent, marked(message), also, marked(reply) if reply.strip() else None)


def parse_line(line, intent):
    """One conversation: a list of turns."""
    parts = re.split(r"\s*>>\s*", line.rstrip("\n"))
    turns = [_turn(parts[0], intent)]
    for p in parts[1:]:
        m = re.match(r"\s*([a-z_]+)\s+(.*)$", p, re.S)
        if not m or m.group(1) not in INTENTS:
            raise ValueError(f"no intent in {p!r}")
        turns.append(_turn(m.group(2), m.group(1)))
    return turns


def read_folder(folder, complain=True):
    """All conversations of a folder's INTENT*.txt files, with 'file:line' of each."""
    out, bad = [], 0
    for path in sorted(Path(folder).glob("*.txt")):
        intent = next((i for i in INTENTS if path.stem == i or re.fullmatch(re.escape(i) + r"[-_.]?\w*", path.stem)), None)
        if intent is None:
            continue
        for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            try:
                turns = parse_line(line, intent)
                if turns[0].message.text:
                    out.append((f"{path.name}:{n}", turns))
            except ValueError as e:
                bad += 1
                if complain:
                    print(f"{path}:{n}: {e}")
    if bad and complain:
        print(f"{folder}: {bad} lines left out")
    return out


def heldout_words():
    """The products of data/heldout/unseen_products.txt: no training line may hold one."""
    path = DATA / "heldout" / "unseen_products.txt"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def write_json(path, value):
    Path(path).write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
