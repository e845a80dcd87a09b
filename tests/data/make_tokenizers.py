#!/usr/bin/env python3
"""Writes tokenizers.json: tiny tokenizers of every kind that is supported, and what Hugging Face `tokenizers` makes of texts.

    pip install tokenizers && python3 make_tokenizers.py [FOLDER]

Deterministic. With a FOLDER, also writes each tokenizer.json there, for `bench/tokens.py FOLDER/*.json`.
"""
import base64, json, pathlib, random, struct, sys

here = pathlib.Path(__file__).parent
sys.path.insert(0, str(here / "../../bench"))
import tokens as bench
from tokenizers import Tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["the", "hello", "world", "un", "able", "refund", "paid", "días", "dias", "中", "文", "привет", "мир", "ß", "é", "ü", "한국"]


def wordpiece(longest=100, prefix="##", unknown="[UNK]"):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *WORDS, *"!\"#$%&'(),-./:;<=>?@[]_0123456789ABCHRTW"]
    pieces += [prefix + p for p in [*LETTERS, "ing", "s", "able", "рив", "ет", "é", "e\u0301", "ld", "\u0301", "1", "23", "文"]]
    pieces += [unknown, "привет", "½", "1/2", "ΐ", "fi", "ﬁ", "<", "s", "…", "。"]
    return {"type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": prefix,
            "max_input_chars_per_word": longest, "vocab": {p: n for n, p in enumerate(dict.fromkeys(pieces))}}


def unigram():
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "\u2581", *LETTERS, *"ABCHRTW", *"!,.-'\u00bd0123456789", "\u2581the", "\u2581hello", "\u2581world"]
    pieces += ["he", "ll", "el", "lo", "wor", "ld", "\u2581re", "fund", "\u2581un", "able", "s\u2581", "中", "文", "中文", "мир", "\u2581при", "вет"]
    pieces += ["é", "e\u0301", "\u0301", "한국", "어", "👍", "🏽", "\u2581\u2581", "qq", "ǆ", "<mask>", "  "]
    scores = random.Random(1)
    return {"type": "Unigram", "unk_id": 3, "byte_fallback": False,
            "vocab": [[p, 0.0 if n < 4 else -round(scores.uniform(1, 12), 3)] for n, p in enumerate(dict.fromkeys(pieces))]}


def bpe(as_lines=False):
    """Every byte, and merges towards some words."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in seen]
    shown = {b: chr(b) for b in seen} | {b: chr(256 + n) for n, b in enumerate(hidden)}
    words = [" the", " he", "ell", " hello", " world", "wor", "ld", "ing", "  ", "'s", "12", "123", "中", " 中文", " при", "é", "\n\n", "llo", "ll", "!!"]
    merges = {}
    for word in words:
        parts = [shown[b] for b in word.encode()]
        while len(parts) > 1:
            at = min(range(len(parts) - 1), key=lambda n: (merges.get((parts[n], parts[n + 1]), len(merges)), n))
            merges.setdefault((parts[at], parts[at + 1]), len(merges))
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *sorted(shown.values()), *(a + b for a, b in merges), "<mask>"]
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False,
            "vocab": {p: n for n, p in enumerate(dict.fromkeys(pieces))}, "merges": [" ".join(m) if as_lines else list(m) for m in merges]}


def charsmap(strings):
    """The bytes of sentencepiece's precompiled_charsmap: a darts-clone double array, then what its leaves point to."""
    blob, values = b"", {}
    for old, new in sorted(strings.items()):
        values[old.encode()] = len(blob)
        blob += new.encode() + b"\0"
    slots, bases = {0: 0}, {0}
    pending = [(0, b"")]
    while pending:
        at, prefix = pending.pop(0)
        labels = sorted({k[len(prefix)] for k in values if k.startswith(prefix) and len(k) > len(prefix)})
        leaf = [0] if prefix in values else []
        if not labels and not leaf:
            continue
        base = next(b for b in range(1, 1 << 20) if b not in bases and all(b ^ c not in slots for c in labels + leaf))
        bases.add(base)
        slots[at] |= (at ^ base) << 10 | bool(leaf) << 8
        if leaf:
            slots[base] = values[prefix] | 1 << 31
        for label in labels:
            slots[base ^ label] = label
            pending.append((base ^ label, prefix + bytes([label])))
    size = (max(slots) // 256 + 1) * 256
    units = struct.pack(f"<{size}I", *(slots.get(n, 0) for n in range(size)))
    return base64.b64encode(struct.pack("<I", len(units)) + units + blob).decode()


CHARSMAP = {"precompiled_charsmap": charsmap({
    "\t": " ", "\n": " ", "\r": " ", "\u00a0": " ", "\u3000": " ", "\u200b": "", "\x07": "", "ﬁ": "fi", "½": "1\u20442", "ａ": "a", "Ａ": "A",
    "e\u0301": "é", "E\u0301": "É", "\u0301": "\u0301", "①": "1", "㎏": "kg", "가": "가", "ㄱ": "g", "😀": ":)", "\u2028": " "}), "type": "Precompiled"}
BERT = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
SPACES = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
METASPACE = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}


def sequence(*steps, field="normalizers"):
    return {"type": "Sequence", field: list(steps)}


def template(before, after):
    def part(token):
        return {"SpecialToken": {"id": token, "type_id": 0}}
    a, b = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    ids = {"[CLS]": [2], "[SEP]": [3], "[BOTH]": [2, 3], "<s>": [0], "</s>": [2]}
    return {"type": "TemplateProcessing", "single": [*map(part, before), a, *map(part, after)], "pair": [a, b],
            "special_tokens": {t: {"id": t, "ids": ids[t], "tokens": [t] * len(ids[t])} for t in before + after}}


def added(model, *tokens):
    """(content, flags): l, r: strips spaces on the left, right; w: single word; n: normalized."""
    vocabulary = model["vocab"] if isinstance(model["vocab"], dict) else {p: n for n, (p, _) in enumerate(model["vocab"])}
    ids, out = dict(vocabulary), []
    for content, flags in tokens:
        ids.setdefault(content, len(ids))
        out.append({"id": ids[content], "content": content, "single_word": "w" in flags, "lstrip": "l" in flags,
                    "rstrip": "r" in flags, "normalized": "n" in flags, "special": "n" not in flags})
    return out


def tokenizer(model, tokens=(), normalizer=None, pre_tokenizer=None, post_processor=None):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added(model, *tokens),
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post_processor, "decoder": None, "model": model}


def tokenizers():
    specials = [(t, "") for t in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]]
    xlmr = [(t, "") for t in ["<s>", "<pad>", "</s>", "<unk>"]] + [("<mask>", "l")]
    bert, split = {"type": "BertPreTokenizer"}, {"type": "WhitespaceSplit"}
    pre = lambda *steps: sequence(*steps, field="pretokenizers")
    punctuation = lambda behavior: {"type": "Punctuation", "behavior": behavior}
    bert_processing = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    roberta = {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": True, "add_prefix_space": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    strip = lambda left, right: {"type": "Strip", "strip_left": left, "strip_right": right}
    replace = lambda old, new: {"type": "Replace", "pattern": {"String": old}, "content": new}
    first, never = METASPACE | {"prepend_scheme": "first"}, METASPACE | {"prepend_scheme": "never"}
    return {
        "bert": tokenizer(wordpiece(), specials, BERT, bert, template(["[CLS]"], ["[SEP]"])),
        "bert cased": tokenizer(wordpiece(), specials, BERT | {"lowercase": False}, bert, bert_processing),
        "bert as it is": tokenizer(wordpiece(), specials, BERT | {"clean_text": False, "handle_chinese_chars": False, "strip_accents": True, "lowercase": False}, bert),
        "bert with accents": tokenizer(wordpiece(longest=5), specials, BERT | {"strip_accents": False}, bert, template(["[BOTH]", "[CLS]"], ["[SEP]", "[BOTH]"])),
        "bert, added tokens": tokenizer(wordpiece(), specials + [("Hello", "n"), ("[LEFT]", "l"), ("[RIGHT]", "r"), ("[ALONE]", "lrw"), ("é", "w"), ("WORLD", "lrn"), ("the", "wn"), ("hell", "n"), ("[LEFT] x", "")], BERT, bert, template(["[CLS]"], ["[SEP]"])),
        "nfd": tokenizer(wordpiece(prefix="_"), specials, sequence({"type": "NFD"}, {"type": "Lowercase"}, {"type": "StripAccents"}), {"type": "Whitespace"}, roberta),
        "nfkc": tokenizer(wordpiece(prefix=""), specials, sequence({"type": "NFKC"}, strip(True, True), replace("ll", "l")), pre(split, punctuation("MergedWithPrevious"))),
        "nfc": tokenizer(wordpiece(), [], sequence({"type": "NFC"}, SPACES), pre({"type": "Whitespace"}, punctuation("Removed")), sequence(byte_level, template([], ["[SEP]"]), field="processors")),
        "nfkd": tokenizer(wordpiece(unknown="un"), [], {"type": "NFKD"}, pre({"type": "Digits", "individual_digits": True}, split, punctuation("Contiguous"))),
        "no steps": tokenizer(wordpiece()),
        "merged with next": tokenizer(wordpiece(), specials, strip(True, False), pre({"type": "Digits", "individual_digits": False}, split, punctuation("MergedWithNext"))),
        "xlm-r": tokenizer(unigram(), xlmr, sequence(CHARSMAP, SPACES), METASPACE, template(["<s>"], ["</s>"])),
        "xlm-r, spaces split": tokenizer(unigram(), xlmr, CHARSMAP, pre(split, {"type": "Metaspace", "replacement": "\u2581", "str_rep": "\u2581", "add_prefix_space": True}), template(["<s>"], ["</s>"])),
        "xlm-r, spaces stripped": tokenizer(unigram(), xlmr, sequence(CHARSMAP, strip(False, True), SPACES | {"content": "\u2581"}), METASPACE, template(["<s>"], ["</s>"])),
        "metaspace first": tokenizer(unigram(), xlmr, sequence(strip(True, True), replace("he", "b")), first),
        "metaspace first, bert": tokenizer(unigram(), xlmr + [("hello", "rn")], sequence(BERT, {"type": "StripAccents"}), pre(punctuation("Isolated"), first | {"split": False})),
        "metaspace first, charsmap": tokenizer(unigram(), xlmr, CHARSMAP, pre(split, first)),
        "metaspace never": tokenizer(unigram(), xlmr, {"type": "NFKC"}, never | {"add_prefix_space": False}, roberta),
        "metaspace, one word": tokenizer(unigram(), xlmr, None, METASPACE | {"split": False}),
        "roberta": tokenizer(bpe(), xlmr, None, byte_level | {"add_prefix_space": False, "trim_offsets": True}, roberta | {"add_prefix_space": False}),
        "roberta, older file": tokenizer(bpe(as_lines=True), xlmr, {"type": "NFC"}, byte_level, sequence(byte_level, template(["<s>"], ["</s>"]), field="processors")),
        "bpe, one word": tokenizer(bpe(), xlmr, {"type": "Lowercase"}, pre(split, byte_level | {"use_regex": False}), None),
        "prepended": tokenizer(unigram(), xlmr + [("▁Hello", "n"), ("ld", "n")], sequence({"type": "Prepend", "prepend": "\u2581"}, replace(" ", "\u2581"))),
    }


TEXTS = ["", " ", "Hello world", "  the refunds, unaffable!  ", "Días DÍAS di\u0301as", "中文 hello中文", "привет, мир! ПРИВЕТ", "a" * 6 + " " + "b" * 101, "x\x00y\x07z\ufffd w",
         "[CLS] hello[SEP] [MASK]the [MASK] ", "<s>hello </s>  <mask>the<mask> <unk><unk>x", "ﬁ ½ ΐ ㎏ ① 123.45", "\thello\r\nworld\u00a0\u3000the\u2581the", "the  [LEFT] x  [RIGHT]   the",
         "[ALONE] a[ALONE] [ALONE]. [ALONE]b  [ALONE]  c", "HELLO hello World theworld the, the", "e\u0301 éE\u0301 caf\u0301e", "한국어 한국 \u1100\u1161", "👍🏽👍 😀 qqqq qq", "▁▁hello ▁ the", "...?!-- a--b", "?? hello", "\u0301hello"]


def main():
    rng = random.Random(4711)
    out, count = [], 0
    for name, described in tokenizers().items():
        reference = Tokenizer.from_str(json.dumps(described))
        specials = [t["content"] for t in described["added_tokens"]] or ["hello"]
        texts = TEXTS + [bench.text(rng, specials)[:60] for _ in range(6)]
        cases = [[text, reference.encode(text).ids] for text in texts]
        reference.enable_truncation(7)
        cut = [[text, reference.encode(text).ids] for text in TEXTS[2:12]]
        out.append({"name": name, "tokenizer": described, "cases": cases, "cut": cut})
        count += len(cases) + len(cut)
        if len(sys.argv) > 1:
            pathlib.Path(sys.argv[1], name.replace(" ", "-").replace(",", "") + ".json").write_text(json.dumps(described))
    lines = ",\n".join(json.dumps(tokenizer, ensure_ascii=True, separators=(",", ":")) for tokenizer in out)
    (here / "tokenizers.json").write_text(f"[\n{lines}\n]\n")
    print(f"{len(out)} tokenizers, {count} cases")


if __name__ == "__main__":
    main()
