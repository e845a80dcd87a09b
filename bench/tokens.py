#!/usr/bin/env python3
"""Compares tokens and speed with Hugging Face `tokenizers`, on texts made by seed.

    pip install tokenizers && python3 bench/tokens.py TOKENIZER.JSON... [--texts 20000] [--seed 4711]

Fails where one text has other tokens. The ratio is of one run: one thread each, rounds in turn, the best round of each.
"""
import argparse, json, pathlib, random, subprocess, sys, time
from pydoc_data import topics
from tokenizers import Tokenizer

here = pathlib.Path(__file__).parent
WORDS = """Refunds are paid within ten days. How do I reset my password? naïve café déjà-vu İstanbul ΑΣΟΣ ßẞ Größe über
don't can't 3.14159 1,234.56€ user@example.com https://example.com/a?b=c&d=1 #hashtag $PATH C++ ... — “quotes” «guillemets»
Привет мир, как дела? Ελληνικά γράμματα مرحبا بالعالم שלום עולם नमस्ते दुनिया สวัสดีชาวโลก 你好，世界 こんにちは 안녕하세요
ﬁ ﬂ ﬀ Ⅷ ½ ² ™ ㎏ ｆｕｌｌｗｉｄｔｈ 豈更 👩‍👩‍👧‍👦 🇩🇪🇫🇷 👍🏽 Ǆ ǅ ŉ ẚ e\u0301 A\u030a \u1100\u1161\u11a8""".split()
RANGES = [
    (0x20, 0x7F), (0x20, 0x7F), (0x00, 0x20), (0x7F, 0xA1), (0xA0, 0x250), (0x250, 0x370), (0x300, 0x370), (0x370, 0x530),
    (0x530, 0x700), (0x700, 0x900), (0x900, 0xE00), (0xE00, 0x1000), (0x1000, 0x1200), (0x1200, 0x1E00), (0x1AB0, 0x1B00),
    (0x1DC0, 0x1E00), (0x1E00, 0x2000), (0x2000, 0x2070), (0x2070, 0x2C00), (0x2C00, 0x3000), (0x3000, 0x3200),
    (0x3200, 0x4E00), (0x4E00, 0xA000), (0xA000, 0xAC00), (0xAC00, 0xD7A4), (0xE000, 0xF900), (0xF900, 0xFB00),
    (0xFB00, 0x10000), (0x10000, 0x11000), (0x11000, 0x12000), (0x12000, 0x1D000), (0x1D000, 0x1E000), (0x1E000, 0x1F000),
    (0x1F000, 0x1FB00), (0x20000, 0x30000), (0x30000, 0x40000), (0xE0000, 0xE0200), (0xF0000, 0x110000), (0x80, 0x110000),
]
SPACES = [" ", " ", " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u200b", "\u2581", "\u0085", "\u2028"]


def character(rng, low, high):
    while True:
        code = rng.randrange(low, high)
        # Postgres' text holds neither.
        if code and not 0xD800 <= code < 0xE000:
            return chr(code)


def text(rng, specials):
    ranges = rng.sample(RANGES, rng.randint(1, 4))
    parts = []
    for _ in range(rng.randint(0, 24)):
        kind = rng.random()
        if kind < 0.35:
            parts.append(rng.choice(WORDS))
        elif kind < 0.42:
            parts.append(rng.choice(specials))
        elif kind < 0.44:
            parts.append(rng.choice(specials)[: rng.randint(1, 4)])
        elif kind < 0.45:
            parts.append(character(rng, *rng.choice(RANGES)) * rng.randint(2, 120))
        elif kind < 0.47:
            parts.append("".join(character(rng, *rng.choice(RANGES)) for _ in range(rng.randint(1, 8))))
        else:
            parts.append("".join(character(rng, *rng.choice(ranges)) for _ in range(rng.randint(1, 12))))
        if rng.random() < 0.6:
            parts.append(rng.choice(SPACES))
    return "".join(parts)


def prose():
    """Chunks of 1000 characters of English: the manual that comes with Python."""
    text = "\n".join(topics.topics.values())
    return [text[at : at + 1000] for at in range(0, len(text), 1000)][:400]


def scripts(rng):
    """Chunks of 1000 characters in other scripts."""
    words = [word for word in WORDS if not word.isascii()]
    return [" ".join(rng.choices(words, k=400))[:1000] for _ in range(400)]


class Ours:
    def __init__(self, path, *args):
        command = ["cargo", "build", "-q", "--release", "--manifest-path", here / "tokenizer/Cargo.toml"]
        subprocess.run(command, check=True)
        binary = here / "tokenizer/target/release/bench-tokenizer"
        self.process = subprocess.Popen([binary, path, *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def encode(self, texts):
        self.process.stdin.write(json.dumps(texts) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def compare(path, texts, ours, theirs):
    tokens = ours.encode(texts)[1]
    wrong = [(t, o, r) for t, o in zip(texts, tokens) if o != (r := theirs.encode(t).ids)]
    for t, o, r in sorted(wrong, key=lambda case: len(case[0]))[:5]:
        print(f"  {t!a}\n    ours      {o}\n    reference {r}")
    print(f"{path}: {len(texts) - len(wrong)} of {len(texts)} texts have the reference's tokens")
    return not wrong


def measure(path, chunks, ours, theirs, rounds=5):
    best_ours = best_theirs = float("inf")
    for _ in range(rounds):
        seconds, tokens = ours.encode(chunks)
        best_ours = min(best_ours, seconds)
        start = time.perf_counter()
        for chunk in chunks:
            theirs.encode(chunk)
        best_theirs = min(best_theirs, time.perf_counter() - start)
    count = sum(map(len, tokens))
    print(f"{path}: {count / best_ours / 1e6:.2f} million tokens a second, {best_theirs / best_ours:.1f} times the reference "
          f"({1e6 * best_ours / len(chunks):.0f} and {1e6 * best_theirs / len(chunks):.0f} us a chunk)")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("paths", nargs="+")
    arguments.add_argument("--texts", type=int, default=20_000)
    arguments.add_argument("--seed", type=int, default=4711)
    arguments = arguments.parse_args()
    equal = True
    for path in arguments.paths:
        rng = random.Random(arguments.seed)
        specials = [token["content"] for token in json.load(open(path))["added_tokens"]] + ["<unk>", "##a", "\u2581the"]
        ours, theirs = Ours(path), Tokenizer.from_file(path)
        theirs.no_truncation()
        theirs.no_padding()
        equal &= compare(path, [text(rng, specials) for _ in range(arguments.texts)], ours, theirs)
        cut = Ours(path, 16)
        theirs.enable_truncation(16)
        equal &= compare(f"{path}, at most 16 tokens", [text(rng, specials) for _ in range(arguments.texts // 10)], cut, theirs)
        theirs.no_truncation()
        measure(f"{path}, English", prose(), ours, theirs)
        measure(f"{path}, other scripts", scripts(rng), ours, theirs)
    sys.exit(not equal)


if __name__ == "__main__":
    main()
