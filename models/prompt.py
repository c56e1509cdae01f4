"""The decoder's tokenizer, its prompt, and what it is trained on: conversations, and exercises in copying.

A reply must name what the customer named, also products never seen. So the marked entities of a whole conversation are replaced
together (message, prompt and reply) by thousands of other surfaces, many of them random characters.
"""
import re

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import data as D
from common import ENTITIES, INTENTS, RUN, SENTIMENTS, Marked, Turn

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




def repeats(prompt, rng):
    """Random tokens and then the same again: as a whole, which teaches to copy; or pieces in another order, which teaches to look
    back for what followed last time (a whole can be copied by counting back, and that is of no use in a sentence)."""
    first, last = len(SPECIALS), prompt.tok.get_vocab_size()
    for _ in range(512):
        ids = [rng.randrange(first, last) for _ in range(rng.randint(8, 24))]
        again = ids
        if rng.random() < 0.7:
            again = []
            for _ in range(rng.randint(2, 4)):
                at = rng.randrange(len(ids) - 4)
                again = again + ids[at:at + rng.randint(4, 10)]
        yield [prompt.id[BOS], *ids], again


class Exercises:
    """Prompts made of lines of the corpus, with surfaces put into the message and again into the line that stands for the reply."""

    def __init__(self, prompt, surfaces, rng):
        self.prompt, self.surfaces, self.rng = prompt, surfaces, rng
        self.lines = [x for x in (RUN / "corpus.txt").read_text(encoding="utf-8").splitlines() if 4 <= len(x) <= 72 and "<|" not in x]

    def line(self, most):
        s = self.rng.choice(self.lines)
        parts = re.split(r"(?<=[，。！？；])", s)
        if len(s) > most:
            s = self.rng.choice(parts)
        return s[:most]

    def surface(self, kind):
        r = self.rng
        u = r.random()
        if u < 0.35:
            return "".join(r.choice(self.surfaces.chars) for _ in range(r.randint(1, 5)))
        if u < 0.55:
            s = r.choice(self.lines)
            at = r.randrange(len(s) - 2)
            return s[at:at + r.randint(2, 5)].strip() or "无名"
        return self.surfaces.draw(kind)

    def put(self, text, surfaces):
        for s in surfaces:
            at = self.rng.choice((0, len(text), self.rng.randint(0, len(text))))
            text = text[:at] + s + text[at:]
        return text

    def __call__(self, n):
        r = self.rng
        for _ in range(n):
            kinds = [r.choice(("product", "product", "attribute", "brand", "size", "time")) for _ in range(r.choice((1, 1, 2, 2, 3)))]
            found = [(k, self.surface(k)) for k in kinds]
            message = self.put(self.line(24), [s for _, s in found])
            found.sort(key=lambda x: message.find(x[1]))
            reply = self.put(self.line(30), [s for _, s in r.sample(found, r.randint(1, min(2, len(found))))])
            listed = [] if r.random() < 0.1 else found
            ids = self.prompt.build([], message, r.choice(INTENTS), r.choice(SENTIMENTS), listed)
            yield ids, self.prompt.text(reply) + [self.prompt.id[END]]
