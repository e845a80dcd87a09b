#!/usr/bin/env python3
"""Measures what halves and bits find of the ten nearest chunks: recall@10 against vectors in full precision, computed here
and not by an index.

    pip install numpy 'psycopg[binary]'
    python3 bench/recall.py "host=/run/postgresql user=postgres dbname=mydb" [MODEL...]

The first argument is a libpq connection string for a database with the extension and a table page (tools/pages.py makes
one); further models are folders on the server (make model), of which each 2,000 chunks are taken. Chunks are those of the pages, queries their titles, and chunks themselves. Vectors are those of the built-in models;
those projected by a random Gaussian matrix, which keeps angles, to as many dimensions as providers' models have; and hashed
words and pairs of words (each adds 1 or -1 to four of the dimensions), which are sparse. "Bits, so many": the ten best by the
vectors among so many candidates by Hamming distance. "By the rule" is what chatbot_sync.measure_recall_of_bits() would say.
"""
import hashlib, re, sys
import numpy, psycopg

QUERIES = 300
CANDIDATES = (50, 100, 200, 400)


def normalised(vectors):
    return vectors / numpy.maximum(numpy.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def hashed(texts, dimensions):
    made = numpy.zeros((len(texts), dimensions), dtype=numpy.float32)
    for row, text in zip(made, texts):
        words = re.findall(r"\w+", text.lower())
        for feature in words + [f"{a} {b}" for a, b in zip(words, words[1:])]:
            digest = hashlib.blake2b(feature.encode(), digest_size=16).digest()
            for at in range(0, 16, 4):
                number = int.from_bytes(digest[at:at + 4], "little")
                row[number % dimensions] += 1 if number >> 31 else -1
    return normalised(made)


def nearest(similarity, count):
    return numpy.argpartition(-similarity, count, axis=1)[:, :count]


def share(some, right):
    return numpy.mean([len(set(a) & set(b)) / len(b) for a, b in zip(some, right)])


def agreement(queries, chunks):
    return numpy.sign((queries > 0) - 0.5).astype(numpy.float32) @ numpy.sign((chunks > 0) - 0.5).astype(numpy.float32).T


def report(name, chunks, queries):
    chunks, queries = (v[numpy.linalg.norm(v, axis=1) > 0.5].astype(numpy.float64) for v in (chunks, queries))
    similarity = queries @ chunks.T
    right = nearest(similarity, 10)
    of_halves = nearest(normalised(queries.astype(numpy.float16).astype(float)) @ normalised(chunks.astype(numpy.float16).astype(float)).T, 10)
    bits = agreement(queries, chunks)
    found = []
    for count in CANDIDATES:
        candidates = nearest(bits, count)
        found.append(share([c[numpy.argsort(-s[c])[:10]] for c, s in zip(candidates, similarity)], right))
    sample = chunks[:2000]
    of_sample = sample[numpy.argsort(numpy.arange(1, len(sample) + 1) % 97, kind="stable")[:20]]
    rule = share(nearest(agreement(of_sample, sample), 40), nearest(of_sample @ sample.T, 10))
    print(f"{name:<46}{len(chunks):>7}{share(of_halves, right):>9.4f}" + "".join(f"{f:>7.3f}" for f in found) + f"{rule:>9.3f}", flush=True)


def main():
    db = psycopg.connect(sys.argv[1], autocommit=True)
    texts = [t for t, in db.execute("SELECT c.content FROM page, chatbot_chunk(page.content, max_chunks => 1000) AS c")]
    titles = [t for t, in db.execute(f"SELECT title FROM page WHERE title LIKE '% %' ORDER BY hashint8(id) LIMIT {QUERIES}")]
    random = numpy.random.default_rng(1)
    print(f"{'':<46}{'chunks':>7}{'halves':>9}" + "".join(f"{c:>7}" for c in CANDIDATES) + f"{'by the rule':>12}")
    for model in ["minilm-static-256", "multilingual-static-256"] + sys.argv[2:]:
        db.execute("BEGIN; SELECT chatbot_cleanup(chatbot_id) FROM (SELECT DISTINCT chatbot_id FROM chatbot_sync.source) AS s")
        db.execute("SELECT chatbot_set_model('local', %s)", [model])
        made = [numpy.array([v for v, in db.execute(f"SELECT chatbot_embed(t, %s)::real[] FROM unnest(%s::text[]) AS t", [kind, some])],
                            dtype=numpy.float32) for kind, some in (("document", texts[:2000] if model in sys.argv else texts), ("query", titles))]
        db.execute("ROLLBACK")
        chunks, queries = made
        report(model, chunks, queries)
        report(f"{model}, chunks as queries", chunks, chunks[random.integers(len(chunks), size=QUERIES)])
        for dimensions in (768, 1536):
            matrix = random.normal(size=(chunks.shape[1], dimensions)).astype(numpy.float32)
            report(f"{model}, projected to {dimensions}", normalised(chunks @ matrix), normalised(queries @ matrix))
    for dimensions in (384, 1536):
        report(f"hashed words, {dimensions}", hashed(texts, dimensions), hashed(titles, dimensions))


main()
