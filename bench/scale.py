#!/usr/bin/env python3
"""Computes what many chunks take from what one takes, without a server.

    python3 bench/scale.py

The bytes are those that bench/sizes.py printed, the rate of the built-in model is that of bench/store.py. A provider
gets as many requests at a time as chatbot_sync.max_parallel_requests allows, with a hundred texts each, and serves
nothing else.
"""
# By dimensions: bytes of a row and its key with vectors and with halves; bytes in HNSW over vectors, halves and bits.
BYTES = {256: (2820 + 63, 2245 + 63, 1369, 836, 338), 768: (4882 + 63, 3443 + 63, 4098, 2050, 401), 1536: (8276 + 63, 4882 + 63, 8194, 4098, 505)}
LOCAL = 10_900                       # chunks per second with the built-in model in one session
REQUEST, TEXTS, PARALLEL = 0.3, 100, 4
TOKENS, A_MINUTE = 250, 5_000_000    # tokens of a chunk; tokens per minute that a provider allows


def size(n):
    return f"{n / 1e12:.1f} TB" if n >= 1e12 else f"{n / 1e9:.0f} GB" if n >= 1e10 else f"{n / 1e9:.1f} GB"


def time(s):
    return f"{s / 86400:.1f} days" if s > 2 * 86400 else f"{s / 3600:.1f} h" if s > 7200 else f"{s / 60:.0f} min"


def main():
    chunks = (10**6, 10**7, 10**8, 10**10)
    print("chunks".ljust(44) + "".join(f"{n:>16,}" for n in chunks))
    line = lambda name, of: print(name.ljust(44) + "".join(f"{of(n):>16}" for n in chunks))
    for dimensions, (row, row_of_half, *hnsw) in BYTES.items():
        line(f"{dimensions} dimensions: rows and keys", lambda n: size(n * row))
        line(f"{dimensions} dimensions: the same as halves", lambda n: size(n * row_of_half))
        for name, bytes_of_chunk in zip(("vectors", "halves", "bits"), hnsw):
            line(f"{dimensions} dimensions: HNSW over {name}, in memory", lambda n: size(n * bytes_of_chunk))
            line(f"{dimensions} dimensions: nodes of 256 GB, 70 % HNSW", lambda n: str(max(1, -(-n * bytes_of_chunk // int(256e9 * 0.7)))))
    line("embedded by the built-in model, one session", lambda n: time(n / LOCAL))
    line("by a provider, one session, 300 ms a request", lambda n: time(n * REQUEST / TEXTS / PARALLEL))
    line("by a provider that allows 5 million tokens/min", lambda n: time(n * TOKENS / A_MINUTE * 60))


main()
