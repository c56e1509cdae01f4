#!/usr/bin/env python3
"""Makes the expected token ids and offsets of tests/golden/test_golden_tokenizer.c with Hugging Face's own tokenizers.

    python3 -m venv venv && venv/bin/pip install tokenizers==0.21.0
    venv/bin/python tests/golden/make_tokenizer_golden.py          # writes tests/golden/tokenizers/

Needed only when the corpus changes: the files it writes are committed.

    corpus.jsonl      one JSON string a line: texts written by hand, and samples of every kind of character
    NAME.expected     for each of them: n, then n times id, start - previous start, end - start
                      (all as LEB128, the difference zigzag); no special tokens added
    random.json       how test and script make a million more characters (see Random), and for each tokenizer one
                      64-bit FNV-1a hash a block of 500 texts over n, ids, starts and ends as little-endian int32;
                      under "every" the same for each 8,192 code points, each in a text of its own (see around)
    small/*.json      small tokenizers trained on the corpus, byte-level BPE and SentencePiece's
    variants.json     changes to them, one for each thing that tokenizer.json can state, each with a hash over the
                      corpus and the first 2,000 random texts, and one over what decoding the ids of the corpus gives

Special tokens written in a text are text: the added tokens are taken out of the tokenizers before they are used.
"""
import argparse
import json
import lzma
import pathlib
import tarfile

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).resolve().parent / "tokenizers"
BLOCK, N_TEXTS, SEED = 500, 24000, 20261124

# ---- the corpus ----

SHOPPERS = """我想要一件红色的羽绒服
亲，这款羽绒服还有L码吗？急！！
请问一下 这个 多少钱？能便宜点不，学生党😭😭
我昨天下午3点15分下的单，订单号是202611240001，怎么还没发货？？？
地址改成：上海市浦东新区张江路88弄12号楼3单元501室，电话13800138000，谢谢～
退货退款！质量太差了，穿一次就起球，差评差评
「七天无理由」到底算不算数啊…………
满300减50的券为啥用不了?提示“不满足条件”
有木有同款的裤纸，要黑色XXL的哈
在吗在吗在吗，转人工！！！！！
这个是100%纯棉的么？会不会缩水呀（我皮肤敏感）
500ml×2瓶装，保质期到2027/03/15，对吧
iPhone 15 Pro Max 256G 原色钛金属 有现货没
给我发顺丰 别发中通 上次中通给我弄丢了
发票抬头：北京某某科技有限公司 税号：91110108MA01ABCD2X
蓝牙耳机左耳没声音了，买了才半个月，咋整
羽绒服（白鸭绒≥90％，充绒量150g）洗后会不会跑绒？
好的好的 谢谢亲 么么哒(づ￣3￣)づ╭❤～
ＡＢＣ１２３　全角空格　！＃＄％
価格はいくらですか？　在庫ありますか？カタカナ ひらがな ｶﾀｶﾅ
안녕하세요, 이 패딩 재고 있나요? 빨간색으로 부탁드려요.
Здравствуйте! Сколько стоит красный пуховик? Ёлка, йод.
مرحبا، كم سعر هذه السترة؟ أريد اللون الأحمر ١٢٣٤
שלום, כמה עולה המעיל האדום? בְּרֵאשִׁית
नमस्ते, यह जैकेट कितने की है? हिन्दी
สวัสดีครับ เสื้อตัวนี้ราคาเท่าไหร่
Tiếng Việt: Tôi muốn mua một chiếc áo khoác màu đỏ, cảm ơn!
Ça coûte combien, le manteau d'hiver à 99,90 € ? Où est ma commande n° 4711 ?
Größe XL, Straße, ẞ, ß, Fußgänger-Übergang; naïve café résumé Zürich Ångström
İstanbul'da ışık IĞDIR ı İ i I; ŒUVRE œuvre Æther ĳ Ǆ ǅ ǆ
I'd like the red one, please - it's $129.99, isn't it? We've ordered 2; they'll come, you're sure, I'm not.
Don't SHOUT at me!!! I'D LIKE IT, WE'LL SEE, THEY'VE GONE, YOU'RE, 'S 'T
The quick brown fox jumps over the lazy dog. Pneumonoultramicroscopicsilicovolcanoconiosis antidisestablishmentarianism
def f(x):\\n    return {k: v**2 for k, v in x.items() if v >= 0x1F and k != "a_b"}  # comment\\n\\n\\treturn\\n
#include <stdio.h>\\nint main(void) { printf("%d\\\\n", 1<<20); return 0; }
SELECT * FROM orders WHERE id='202611240001' AND total>=99.5;-- drop
https://item.example.com/p/12345.html?sku=A_1&from=wx#detail user.name+tag@example.co.uk
{"id": 1, "items": [{"sku": "A-1", "qty": 2}], "ok": true, "x": null}
<html><body class="a">&nbsp;&amp;</body></html>
1 12 123 1234 12345 1,234.56 -7 +8 3.14e-10 ½ ² ³ ① ⑳ Ⅻ ⅷ 一二三 壹贰叁 ٣٤ ४५
[CLS] 你好 [SEP] [MASK] [UNK] [PAD] [unused1] ##ing ## 【SEP】
<|endoftext|> <|im_start|>system<|im_end|> <|end|> </s> <s> <unk> <tool_call></tool_call> <think> <|fim_prefix|>
👨‍👩‍👧‍👦 👩🏽‍🚀 🏳️‍🌈 🇨🇳🇺🇸 ☺️ ✌🏿 1️⃣ #️⃣ ❤️‍🔥 🧑‍💻 🫠 🪿 🫨
é vs é; ñ ñ; Å Å Å; ḍ̇ ḍ̇; ệ ệ ệ ệ; Å̧
각 각 각 한글 ᄒᆞᆫ글 ㄱㄴㄷ ﾡ
ﬁ ﬂ ﬀ ﬆ ㎏ ㏄ ㌔ ™ ℃ Ω Ω K K ſ ſs 's ſ'ſ
Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!͖̬̰̙̗̿̋ͥͥ̂ͣ̐́́͜͞
𠀀𠮷𪚥𫝀𫠠𬺰𠂇 㐀㐁䶵 龥龦鿕鿿 豈更車賈滑 﨎﨏 丽丸 ⺀⼀ 〇々〆〡 ㄅㄆㄇ ㊀㊗
𝓗𝓮𝓵𝓵𝓸 𝟙𝟚𝟛 𝔸 ｈｅｌｌｏ Ⓗⓔⓛⓛⓞ 𐐀𐐨 𞤀 ⴰⵣⵓⵍ ᏣᎳᎩ ꭰ
“双引号” ‘单引号’ —— …… 《书名》〈〉〔〕『』〖〗·•‧・ ﹏﹋ ～〜 ‐‑‒–—―‖ ‹› «» ¿¡ § ¶ † ‡ ※ ⁂
$ ¥ ￥ € £ ₩ ₽ ₿ ¢ + < = > | ~ ^ ` ¬ ¨ ¯ ´ ¸ ± × ÷ ∑ √ ∞ ≠ ≤ ≥ → ⇒ ★ ☆ ◆ ■ ░ ♂ ♀ ♥ ✓ ✗"""


def handwritten():
    texts = [line.replace("\\\\", "\0").replace("\\n", "\n").replace("\\t", "\t").replace("\0", "\\")
             for line in SHOPPERS.split("\n")]
    texts += [
        "", " ", "  ", "\n", "\t", "a", " a", "a ", "  a  b   c    ", "\n\n\na\n\n", " \n \n ", "a\r\nb\rc\n\r\nd",
        "\u3000你\u3000 好\u00a0吗\u2003\u2009\u200a\u202f\u205f\u1680x", "a\u0085b\u2028c\u2029d\u000be\u000cf",
        "\u180e a\u180eb \u180e", "\ufeff你好\ufeff", "\u200b零\u200c宽\u200d字\u2060符\u00ad软\u061c",
        "\u202e反转\u202c \u2066x\u2069", "\ufffd坏\ufffd\ufffd字", "a\ufffdb", "\u0001\u0002你\u001f好\u007f\u0080\u009f",
        "a\0b\0\0", "\ue000私\uf8ff用\U000f0000区\U0010fffd", "\ufdd0\uffff\U0001fffe\U0010ffff", "\u0378\u0380 \U000e0001",
        "x" * 99, "x" * 100, "x" * 101, "y" * 300, "é" * 100, "é" * 101, "e\u0301" * 100, "e\u0301" * 101, "中" * 130,
        "a" * 99 + "中" + "b" * 101, "！" * 20, "!" * 50, "=" * 70, "-" * 33 + ">", " " * 40 + "x", "\n" * 17, "\t" * 9 + "x",
        "0" * 25, "哈" * 40, "哈哈哈" * 7 + "！！！", "ha" * 30, "😂" * 9, "👍🏽" * 4, "\u0301", "\u0301\u0302a", "a" + "\u0301" * 70,
        "a\u0323\u0301\u0327\u031b b\u0301\u0323", "\u302e한\u302f\u0301", "\u1100\u1161\u11a8\u1100\u1161", "가\u11a8",
        "\U0001d15e\U0001d15f\U0001d1bb", "\u0344a\u0344", "\u0958\u095e\u09dc", "\u0f73\u0f75\u0f81", "\u2126\u212a\u212b",
        "ﷺ ﷲ", "ŉ ǰ ΐ", "ΑΣ ΌΣΟΣ ς σ Σ", "\u0130\u0049\u0307\u0069\u0307", "ǅ ǈ ǋ ǲ ᾳ ᾼ", "\u1734\u166d\U000111c9\U00011938",
        "a's b'S c'T d'll e'LL f've g're h'd i'm j'x 'sk ''s", "we'ſe 'ſ 'K",
        "你好,世界.Hello,世界!123号", "A股B股C股", "T恤t恤", "3D打印5G手机", "C++和C#", "a中b国c", "①中②国", "中 国", "中  国",
        "_你_好_", "a_b-c.d/e\\f", "...。。。", "?!？！", "@@##￥￥", "(a)[b]{c}<d>", "\"'`´", "１２３元／件", "ＸＬ码",
    ]
    return texts


# Runs of code points: what a language, a block or a trap is made of.
RANGES = [
    (0x61, 0x7A), (0x61, 0x7A), (0x41, 0x5A), (0x30, 0x39), (0x21, 0x7E), (0x20, 0x20), (0x20, 0x20), (0x09, 0x0D),
    (0x01, 0x1F), (0x7F, 0xA0), (0xA0, 0xFF), (0x100, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x300, 0x36F), (0x370, 0x3FF),
    (0x400, 0x4FF), (0x531, 0x58A), (0x591, 0x5F4), (0x600, 0x6FF), (0x900, 0x97F), (0x980, 0x9FE), (0xB80, 0xBFA), (0xE01, 0xE5B),
    (0xF00, 0xFDA), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x139F), (0x13A0, 0x13FD), (0x1780, 0x17F9), (0x1E00, 0x1EFF),
    (0x1F00, 0x1FFE), (0x2000, 0x206F), (0x2070, 0x20C0), (0x2100, 0x218B), (0x2190, 0x23FF), (0x2460, 0x24FF), (0x2500, 0x27BF), (0x2E80, 0x2FD5),
    (0x3000, 0x303F), (0x3040, 0x309F), (0x30A0, 0x30FF), (0x3105, 0x312F), (0x3200, 0x33FF), (0x3400, 0x4DBF), (0x4E00, 0x9FA5), (0x4E00, 0x9FA5),
    (0x4E00, 0x9FA5), (0xA000, 0xA4C6), (0xAC00, 0xD7A3), (0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xF900, 0xFAD9), (0xFB00, 0xFB4F), (0xFB50, 0xFDFF),
    (0xFE00, 0xFE6B), (0xFE70, 0xFEFF), (0xFF01, 0xFFEE), (0xFFF9, 0xFFFF), (0x10000, 0x100FA), (0x10400, 0x1049D), (0x1D100, 0x1D1E8), (0x1D400, 0x1D7FF),
    (0x1F1E6, 0x1F1FF), (0x1F300, 0x1F5FF), (0x1F600, 0x1F64F), (0x1F680, 0x1F6FC), (0x1F900, 0x1FAF8), (0x1F3FB, 0x1F3FF), (0x200D, 0x200D), (0xFE0F, 0xFE0F),
    (0x1AB0, 0x1ACE), (0x1DC0, 0x1DFF), (0x20000, 0x2A6DD), (0x2A700, 0x2CEA1), (0x2F800, 0x2FA1D), (0xE0100, 0xE01EF), (0xF0000, 0xF00FF),
]


class Random:
    """The generator of test_golden_tokenizer.c, step by step: xorshift64*, texts of 1 to 12 runs, each either a slice
    of a text of the corpus or 1 to 6 code points of one range."""

    def __init__(self, seed, corpus):
        self.x, self.corpus = seed, corpus

    def below(self, n):
        self.x ^= self.x >> 12
        self.x = (self.x ^ self.x << 25) & (2**64 - 1)
        self.x ^= self.x >> 27
        return ((self.x * 0x2545F4914F6CDD1D & (2**64 - 1)) >> 33) % n

    def text(self):
        out = []
        for _ in range(1 + self.below(12)):
            if self.below(4) < 3:
                of = self.corpus[self.below(len(self.corpus))]
                start, n = self.below(len(of) + 1), self.below(24)
                out.append(of[start:start + n])
            else:
                first, last = RANGES[self.below(len(RANGES))]
                out.append("".join(chr(first + self.below(last - first + 1)) for _ in range(1 + self.below(6))))
        return "".join(out)


def make_corpus():
    texts = handwritten()
    random = Random(7, texts)
    for first, last in RANGES:  # each range alone, and between letters
        cps = [chr(first + random.below(last - first + 1)) for _ in range(24)]
        texts += ["".join(cps), "".join("a" + c + " " for c in cps[:8])]
    texts += [random.text() for _ in range(420)]
    return texts


def around(cp):
    """What shows the class of a code point: is it dropped, space, letter, digit, mark or punctuation?"""
    return "a" + chr(cp) + "b " + chr(cp) + "1"


def every():
    for first in range(0, 0x110000, 0x2000):
        yield [around(cp) for cp in range(first, first + 0x2000) if not 0xD800 <= cp < 0xE000]


# ---- the tokenizers ----

def bert(vocab):
    pieces = (HERE / vocab).read_text(encoding="utf-8").split("\n")
    tok = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces[:-1])}, unk_token="[UNK]", max_input_chars_per_word=100))
    tok.normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tok


def cased(vocab):
    tok = bert(vocab)
    tok.normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=False)
    return tok


def packed(name):
    with tarfile.open(fileobj=lzma.open(HERE / f"{name}.tar.xz")) as tar:
        state = json.load(tar.extractfile("./tokenizer.json"))
    state["added_tokens"] = []
    state["post_processor"] = None
    return Tokenizer.from_str(json.dumps(state))


TOKENIZERS = {
    "cn-clip": lambda: bert("cn-clip/vocab.txt"),
    "cn-clip-cased": lambda: cased("cn-clip/vocab.txt"),
    "minilm": lambda: bert("minilm/vocab.txt"),
    "gpt2": lambda: packed("gpt2"),
    "qwen2_5": lambda: packed("qwen2_5"),
}


# ---- small tokenizers, and what tokenizer.json can state ----

SPACE = "\u2581"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = [r"\p{N}{1,3}", "[一-龥\u0800-\u4e00가-\ud7ff]+",
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]


def byte_level(prefix=False, regex=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(*steps):
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(steps)}}


def trimmed(keeps):
    return {"post_processor": {"type": "ByteLevel", "add_prefix_space": keeps, "trim_offsets": True, "use_regex": True}}


def metaspace(scheme, splits):
    return {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": splits}


def variants():
    yield "byte_level", {}
    yield "byte_level", {"normalizer": None}
    yield "byte_level", {"model": {"ignore_merges": True}}
    yield "byte_level", {"pre_tokenizer": byte_level(prefix=True, regex=True), **trimmed(True)}
    yield "byte_level", {"pre_tokenizer": byte_level(prefix=True, regex=True), **trimmed(False)}
    yield "byte_level", {"pre_tokenizer": byte_level(prefix=True), "normalizer": None}
    yield "byte_level", {"pre_tokenizer": byte_level(regex=True), **trimmed(True)}
    yield "byte_level", {"pre_tokenizer": byte_level()}
    for pattern in (LLAMA3, O200K):
        yield "byte_level", sequence(split(pattern), byte_level())
    yield "byte_level", sequence(*map(split, DEEPSEEK), byte_level())
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            yield "byte_level", sequence(split(r"[\s\p{P}]", behavior, invert), byte_level())
        yield "byte_level", sequence({"type": "Punctuation", "behavior": behavior}, byte_level())
    for individual in (False, True):
        yield "byte_level", sequence({"type": "Digits", "individual_digits": individual}, byte_level(regex=True))
    yield "byte_level", sequence({"type": "WhitespaceSplit"}, byte_level())
    yield "byte_level", sequence(split(".", kind="String", behavior="MergedWithNext"), byte_level())
    yield "byte_level", sequence(split(r"[\w\h]+|\W|[^\S\n]"), byte_level())
    yield "byte_level", sequence(split(r"\p{Han}+|\p{^Latin}|^\w|\d$"), byte_level())
    yield "sentencepiece", {}
    yield "sentencepiece", {"model": {"byte_fallback": False}}
    yield "sentencepiece", {"model": {"byte_fallback": False, "fuse_unk": False}}
    yield "sentencepiece", {"model": {"ignore_merges": True}}
    yield "sentencepiece", {"normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
                            "pre_tokenizer": split(" ", "MergedWithPrevious", kind="String")}
    for scheme in ("always", "first", "never"):
        for splits in (True, False):
            yield "sentencepiece", {"normalizer": None, "pre_tokenizer": metaspace(scheme, splits)}


def train_small(corpus):
    """Written once and kept: training breaks ties by chance."""
    (HERE / "small").mkdir(exist_ok=True)
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<|bos|>", "<|end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tok.add_tokens(["    ", "\n\n\n"])
    tok.save(str(HERE / "small" / "byte_level.json"), pretty=False)
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tok.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    special = ["<unk>", "<s>", "</s>"]
    tok.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=900, limit_alphabet=300, special_tokens=special + [f"<0x{b:02X}>" for b in range(256)], show_progress=False))
    state = json.loads(tok.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] in special]
    (HERE / "small" / "sentencepiece.json").write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")


def changed(base, change):
    state = json.loads((HERE / "small" / f"{base}.json").read_text(encoding="utf-8"))
    for key, value in change.items():
        state[key] = {**state[key], **value} if key == "model" else value
    return state


def make_variants(corpus, texts):
    out = []
    for base, change in variants():
        tok = Tokenizer.from_str(json.dumps(changed(base, change)))
        tok.encode_special_tokens = True
        encodings = tok.encode_batch(corpus + texts, add_special_tokens=False)
        decoded = [tok.decode(e.ids) for e in encodings[:len(corpus)]]
        h = 0xCBF29CE484222325
        for byte in "\0".join(decoded).encode():
            h = (h ^ byte) * 0x100000001B3 & (2**64 - 1)
        out.append({"base": base, "change": change, "hash": fnv(encodings), "decoded": f"{h:016x}"})
    with open(HERE / "variants.json", "w", encoding="utf-8") as f:
        json.dump(out, f, ensure_ascii=False, indent=1)
        f.write("\n")
    print(len(out), "variants")


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def expected(encodings):
    out = bytearray()
    for e in encodings:
        out += varint(len(e.ids))
        previous = 0
        for i, (start, end) in zip(e.ids, e.offsets):
            d = start - previous
            out += varint(i) + varint(d * 2 if d >= 0 else -d * 2 - 1) + varint(end - start)
            previous = start
    return bytes(out)


def fnv(encodings):
    h = 0xCBF29CE484222325
    for e in encodings:
        flat = [len(e.ids)] + e.ids + [s for s, _ in e.offsets] + [t for _, t in e.offsets]
        for n in flat:
            for byte in n.to_bytes(4, "little"):
                h = (h ^ byte) * 0x100000001B3 & (2**64 - 1)
    return f"{h:016x}"


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    corpus = make_corpus()
    with open(HERE / "corpus.jsonl", "w", encoding="utf-8") as f:
        for text in corpus:
            f.write(json.dumps(text, ensure_ascii=False) + "\n")
    print(f"corpus: {len(corpus)} texts, {sum(map(len, corpus))} characters")
    random = Random(SEED, corpus)
    texts = [random.text() for _ in range(N_TEXTS)]
    print(f"random: {len(texts)} texts, {sum(map(len, texts))} characters")
    if not (HERE / "small").exists():
        train_small([t for t in handwritten() if "\0" not in t])
    make_variants(corpus, texts[:2000])
    hashes, every_hashes = {}, {}
    for name, make in TOKENIZERS.items():
        tok = make()
        (HERE / f"{name}.expected").write_bytes(expected(tok.encode_batch(corpus, add_special_tokens=False)))
        encodings = tok.encode_batch(texts, add_special_tokens=False)
        hashes[name] = [fnv(encodings[i:i + BLOCK]) for i in range(0, N_TEXTS, BLOCK)]
        every_hashes[name] = [fnv(tok.encode_batch(block, add_special_tokens=False)) for block in every()]
        print(name, sum(len(e.ids) for e in encodings), "tokens")
    with open(HERE / "random.json", "w") as f:
        json.dump({"seed": SEED, "n_texts": N_TEXTS, "block": BLOCK, "ranges": RANGES, "hashes": hashes, "every": every_hashes}, f)
        f.write("\n")


if __name__ == "__main__":
    main()
