#!/usr/bin/env python3
"""Makes the expected prompts of tests/golden/test_golden_template.c with transformers' own apply_chat_template.

    python3 -m venv venv && venv/bin/pip install transformers==4.53.3 jinja2==3.1.6 tokenizers==0.21.0
    venv/bin/python tests/golden/make_template_golden.py            # writes tests/golden/chat/expected.json
    venv/bin/python tests/golden/make_template_golden.py DIR        # the same for the *.jinja of another folder

Needed only when the templates, the conversations or the snippets change: what it writes is committed.

    chat/*.jinja             templates, written for this test: each has the structure and the constructs of a family's
                             own (the file's name says which) with words of ours; reasoner is DeepSeek-R1's kind,
                             macros is no model's and has what the others leave out
    chat/conversations.json  lists of messages
    chat/snippets.json       small templates, one for each rule of the language
    chat/expected.json       {"templates": {name: [[a prompt, or null where the template raises an exception, for each
                             of VARIANTS] for each conversation]}, "snippets": [the same for MESSAGES],
                             "added_tokens": {a tokenizer of tokenizers/small/: its control tokens}, "ids": {tokenizer:
                             {template: [[conversation, its first variant's ids], …]}}}; conversations whose contents
                             spell a control token are left out there, as transformers takes it for one

The clock stands at NOW (UTC) while they are made. bos_token and eos_token are SPECIAL.
"""
import datetime
import json
import pathlib
import sys

from tokenizers import Tokenizer
from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).resolve().parent / "chat"
NOW = datetime.datetime(2026, 11, 24, 12, 0, 0)
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
VARIANTS = [
    {"add_generation_prompt": True, "enable_thinking": False},
    {"add_generation_prompt": True},
    {"add_generation_prompt": False, "enable_thinking": True},
]
MESSAGES = [
    {"role": "system", "content": "Be  brief."},
    {"role": "user", "content": " 你好, I want {{ a }} <|im_end|> coat\n"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nWhich size?"},
    {"role": "user", "content": "L\u3000"},
]


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def render(template, messages, variant):
    """What apply_chat_template(tokenize=False) gives; None where the template refuses the conversation."""
    compiled = chat_template_utils._compile_jinja_template(template)
    try:
        return compiled.render(messages=messages, tools=None, documents=None, **SPECIAL, **variant)
    except Exception:
        return None


def added_tokens(vocab):
    """Control tokens, one of which takes the white space after it (as Phi-3's do) and one that before it."""
    strips = {"<|assistant|>": "rstrip", "<|end|>": "lstrip"}
    known = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|system|>", "<|assistant|>", "<|end|>", "[INST]"]
    new = [n for n in known if n not in vocab]  # numbered on without a gap
    ids = vocab | {n: len(vocab) + i for i, n in enumerate(new)}
    return [{"id": ids[n], "content": n, "single_word": False, "lstrip": strips.get(n) == "lstrip",
             "rstrip": strips.get(n) == "rstrip", "normalized": False, "special": True} for n in known]


def small(name):
    return json.loads((HERE.parent / "tokenizers" / "small" / f"{name}.json").read_text())


def ids_of(name, conversations, templates):
    root = small(name)
    root["added_tokens"] = added_tokens(root["model"]["vocab"])
    tokenizer = Tokenizer.from_str(json.dumps(root))
    plain = [i for i, c in enumerate(conversations)
             if not any(t["content"] in m["content"] for t in root["added_tokens"] for m in c)]
    return {t: [[i, tokenizer.encode(templates[t][i][0], add_special_tokens=False).ids]
                for i in plain if templates[t][i][0] is not None and len(templates[t][i][0]) < 600]
            for t in ("chatml", "zephyr", "llama2", "phi")}


def main():
    chat_template_utils.datetime = Clock
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    conversations = json.loads((HERE / "conversations.json").read_text())
    templates = {}
    for path in sorted(folder.glob("*.jinja")):
        text = path.read_text()
        try:
            chat_template_utils._compile_jinja_template(text)
        except Exception as e:
            print(f"{path.name}: {e}", file=sys.stderr)
            continue
        templates[path.stem] = [[render(text, c, v) for v in VARIANTS] for c in conversations]
    snippets = json.loads((HERE / "snippets.json").read_text())
    expected = {"templates": templates, "snippets": [render(s, MESSAGES, VARIANTS[0]) for s in snippets]}
    if folder == HERE:
        names = ("byte_level", "sentencepiece")
        expected["ids"] = {n: ids_of(n, conversations, templates) for n in names}
        expected["added_tokens"] = {n: added_tokens(small(n)["model"]["vocab"]) for n in names}
    out = json.dumps(expected, ensure_ascii=False, separators=(",", ":"))
    (folder / "expected.json").write_text(out + "\n")
    n_null = sum(p is None for t in templates.values() for c in t for p in c)
    print(f"{len(templates)} templates, {len(conversations)} conversations, {n_null} refused; "
          f"{len(snippets)} snippets, {sum(s is None for s in expected['snippets'])} refused")


if __name__ == "__main__":
    main()
