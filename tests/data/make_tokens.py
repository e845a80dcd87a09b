#!/usr/bin/env python3
"""Writes local_tokens.json and multilingual_tokens.json: what Hugging Face `tokenizers` answers for awkward texts.

    pip install tokenizers && python3 make_tokens.py

Deterministic. Only characters of Unicode 3.2, whose properties the reference knows, but for some named ones.
"""
import json, pathlib, random, unicodedata
from tokenizers import Tokenizer

here = pathlib.Path(__file__).parent
rng = random.Random(4711)
texts = [
    "E-4711", "naïve café", "ẞ ß ſ", "İstanbul ısı", "Ǆ ǅ ǆ", "x\u0301y\u0323z", "½ ² ™", "a\u200bb\u00adc", "\ufeffbom",
    "tab\tnew\r\nline\x0bvt\x0cff\x85nel", "\u2028\u2029\u00a0\u3000", "知识库kb同步", "カタカナ ひらがな", "한국어 조선말", "กำลัง",
    "don't can't l'été", "a" * 100, "a" * 101, "1,234.56€ £5 $3", "\x00nul\x7fdel", "\ufffdreplacement", "हिन्दी", "ﬁ ﬂ ligature",
    "Ⅷ ⅷ", "𝕬𝖇𝖈", "🇩🇪🇫🇷", "(a)[b]{c}<d>", "a_b-c/d\\e|f", "«quoted» „so“", "…—–‑", "ΑΣ ας", "ẚ ŉ", "豈 更 車", "\u0345\u0313",
]
pools = [
    [chr(c) for c in range(0x20, 0x7F)],
    [chr(c) for c in range(0xA0, 0x250)],
    [chr(c) for c in range(0x300, 0x370)] + list("aeou"),
    [chr(c) for c in range(0x370, 0x530)],
    [chr(c) for c in range(0x5D0, 0x700)],
    [chr(c) for c in range(0x900, 0xE80)],
    [chr(c) for c in range(0x2000, 0x2BFF)],
    [chr(c) for c in range(0x3000, 0x3200)] + [chr(c) for c in range(0x4E00, 0x4F00)],
    [chr(c) for c in range(0xAC00, 0xAD00)],
    [chr(c) for c in range(0xF900, 0x10000)],
    [chr(c) for c in range(0x1F300, 0x1F650)],
]
old = unicodedata.ucd_3_2_0
pools = [[c for c in p if old.category(c) != "Cn" and not 0xD800 <= ord(c) < 0xE000] or list("xyz") for p in pools]
for _ in range(400):
    pool = rng.choice(pools) if rng.random() < 0.7 else sum(rng.sample(pools, 3), [])
    texts.append("".join(" " if rng.random() < 0.12 else rng.choice(pool) for _ in range(rng.randint(1, 40))))
more = [
    "a=\u0338b <\u0338 >\u0338c", "x≠y", "が が ﾊﾞ", "각 각", "Tiếng Việt tiê\u0301ng", "ᚠᚢᚦ test ᚠ", "漢" * 300,
    "Donaudampfschifffahrtsgesellschaftskapitän", "переиндексирование", "يَكْتُبُونَ", "שָׁלוֹם", "ÀÉÎÕÜ", "ΆΣ ΟΔΌΣ", "①②③ ㍿ ㌔",
]
for name, folder, texts in [("local", "minilm-static-256", texts), ("multilingual", "multilingual-static-256", texts + more)]:
    tok = Tokenizer.from_file(str(here / "../../src/embedding/local/data" / folder / "tokenizer.json"))
    unk = tok.token_to_id("[UNK]")
    out = [{"text": t, "ids": [i for i in tok.encode(t, add_special_tokens=False).ids if i != unk]} for t in texts]
    (here / f"{name}_tokens.json").write_text(json.dumps(out, ensure_ascii=True, indent=0) + "\n")
    print(name, len(out), sum(bool(o["ids"]) for o in out))
