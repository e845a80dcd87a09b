#!/usr/bin/env python3
"""Measures what halves and bits find of the ten nearest chunks: recall@10 against vectors in full precision, computed here
and not by an index.

    pip install numpy 'psycopg[binary]'
    python3 bench/recall.py "host=/run/postgresql user=postgres dbname=mydb" [MODEL...]

The first argument is a libpq connection string for a database with the extension and a table page (tools/pages.py makes
one); further models are folders on the server (make model), with which 2,000 chunks are embedded. Chunks are those of the
pages; queries are their titles, and chunks themselves. Vectors are those of the models; those projected by a random Gaussian
matrix, which keeps angles, to as many dimensions as providers' models have; and hashed words and pairs of words (each adds 1
or -1 to four of the dimensions), which are sparse. The columns 50 to 400 are for bits: the ten best by the vectors among so
many candidates by Hamming distance. "By the rule" is what chatbot_sync.measure_recall_of_bits() would return.
"""
import hashlib, re, sys
import numpy, psycopg

QUERIES = 300
CANDIDATES = (50, 100, 200, 400)
BUILT_IN = ["minilm-static-256", "multilingual-static-256"]
# Chunks of which vectors are made with a model in a folder, which is slow.
CHUNKS_OF_FOLDER_MODEL = 2000


def normalised(vectors):
    return vectors / numpy.maximum(numpy.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def hashed(texts, dimensions):
    """Returns vectors of hashed words and pairs of words."""
    vectors = numpy.zeros((len(texts), dimensions), dtype=numpy.float32)
    for vector, text in zip(vectors, texts):
        words = re.findall(r"\w+", text.lower())
        for feature in words + [f"{a} {b}" for a, b in zip(words, words[1:])]:
            digest = hashlib.blake2b(feature.encode(), digest_size=16).digest()
            for at in range(0, 16, 4):
                number = int.from_bytes(digest[at:at + 4], "little")
                vector[number % dimensions] += 1 if number >> 31 else -1
    return normalised(vectors)


def most_similar(similarity, count):
    """Returns the numbers of the most similar chunks for each query, in no order."""
    return numpy.argpartition(-similarity, count, axis=1)[:, :count]


def recall(found, right):
    return numpy.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, right)])


def same_bits(queries, chunks):
    """Returns the number of dimensions with the same sign, minus those with another one."""
    signs = lambda vectors: numpy.where(vectors > 0, 1, -1).astype(numpy.float32)
    return signs(queries) @ signs(chunks).T


def halves(vectors):
    return normalised(vectors.astype(numpy.float16).astype(float))


def recall_by_rule(chunks):
    """Returns what chatbot_sync.measure_recall_of_bits() computes of these chunks."""
    sample = chunks[:2000]
    queries = sample[numpy.argsort(numpy.arange(1, len(sample) + 1) % 97, kind="stable")[:20]]
    return recall(most_similar(same_bits(queries, sample), 40), most_similar(queries @ sample.T, 10))


def report(name, chunks, queries):
    chunks, queries = (v[numpy.linalg.norm(v, axis=1) > 0.5].astype(numpy.float64) for v in (chunks, queries))
    similarity = queries @ chunks.T
    right = most_similar(similarity, 10)
    of_halves = recall(most_similar(halves(queries) @ halves(chunks).T, 10), right)
    bits, of_bits = same_bits(queries, chunks), []
    for count in CANDIDATES:
        candidates = most_similar(bits, count)
        of_bits.append(recall([c[numpy.argsort(-s[c])[:10]] for c, s in zip(candidates, similarity)], right))
    figures = f"{of_halves:>9.4f}" + "".join(f"{f:>7.3f}" for f in of_bits)
    print(f"{name:<46}{len(chunks):>7}{figures}{recall_by_rule(chunks):>12.3f}", flush=True)


def embed(db, texts, input_type):
    sql = "SELECT chatbot_embed(t, %s)::real[] FROM unnest(%s::text[]) AS t"
    return numpy.array([v for v, in db.execute(sql, [input_type, texts])], dtype=numpy.float32)


def main(connection, *folder_models):
    db = psycopg.connect(connection, autocommit=True)
    texts = [t for t, in db.execute("SELECT c.content FROM page, chatbot_chunk(page.content, max_chunks => 1000) AS c")]
    titles = [t for t, in db.execute(f"SELECT title FROM page WHERE title LIKE '% %' ORDER BY hashint8(id) LIMIT {QUERIES}")]
    random = numpy.random.default_rng(1)
    print(f"{'':<46}{'chunks':>7}{'halves':>9}" + "".join(f"{c:>7}" for c in CANDIDATES) + f"{'by the rule':>12}")
    for model in [*BUILT_IN, *folder_models]:
        # Rolled back: the database keeps its model and its sources.
        db.execute("BEGIN")
        db.execute("SELECT chatbot_cleanup(chatbot_id) FROM (SELECT DISTINCT chatbot_id FROM chatbot_sync.source) AS s")
        db.execute("SELECT chatbot_set_model('local', %s)", [model])
        chunks = embed(db, texts if model in BUILT_IN else texts[:CHUNKS_OF_FOLDER_MODEL], "document")
        queries = embed(db, titles, "query")
        db.execute("ROLLBACK")
        report(model, chunks, queries)
        report(f"{model}, chunks as queries", chunks, chunks[random.integers(len(chunks), size=QUERIES)])
        for dimensions in (768, 1536):
            matrix = random.normal(size=(chunks.shape[1], dimensions)).astype(numpy.float32)
            report(f"{model}, projected to {dimensions}", normalised(chunks @ matrix), normalised(queries @ matrix))
    for dimensions in (384, 1536):
        report(f"hashed words, {dimensions}", hashed(texts, dimensions), hashed(titles, dimensions))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
