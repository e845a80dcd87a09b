#!/usr/bin/env python3
"""Measures what a chunk takes: bytes of its row, of its key and in an HNSW index of each quantization, what an exact search
reads, and what storing costs with and without an index; for vectors and for halves.

    python3 bench/sizes.py "host=/run/postgresql user=postgres dbname=mydb" [ROWS [DIMENSIONS...]]

The first argument is a libpq connection string for a database with the extension, and with a table page (id bigint, title
text, content text) of some hundred pages (tools/pages.py makes one). Texts and words are those of chunks of these pages,
which the extension stores once and deletes again; vectors are random, which is the worst case for an index. "Before" is the
layout of rows before 0.3.0, in the same run: vectors, words with positions, texts compressed by pglz. Sizes are absolute;
times are for comparison within one run.
"""
import json, statistics, sys
import psycopg
from common import timed

ROWS = int(sys.argv[2]) if len(sys.argv) > 2 else 4_000
DIMENSIONS = [int(n) for n in sys.argv[3:]] or [256, 384, 768, 1024, 1536]
MORE = 100
ROUNDS = 7
QUERIES = 21
CHATBOT = 2**40
PAGE = 8_168


def row_bytes(dimensions, number):
    """Returns the length that rows may have, as src/pg/store/vectors.rs computes it."""
    rows = max(1, PAGE // (8 + number * dimensions + 760))
    return max(2_032, (PAGE // rows - 4) // 8 * 8)


def main():
    db = psycopg.connect(sys.argv[1], autocommit=True)
    db.execute("SET maintenance_work_mem = '1GB'")
    db.execute("SET jit = off; SET max_parallel_workers_per_gather = 0; SET temp_buffers = '1GB'")
    one = lambda sql, *args: db.execute(sql, *args).fetchone()[0]
    db.execute("SET chatbot_sync.max_chunks = 1000")
    db.execute(f"SELECT chatbot_embed_source({CHATBOT}, 'document', id, content, jsonb_build_object('title', title)) FROM page").fetchall()
    db.execute(f"""CREATE TEMP TABLE cut AS SELECT row_number() OVER () AS i, content, words, metadata,
            to_tsvector('english', content) AS words_before
        FROM chatbot_sync.embedding WHERE chatbot_id = {CHATBOT} LIMIT {ROWS + 2 * MORE * ROUNDS}""")
    db.execute("SELECT chatbot_cleanup(%s)", [CHATBOT])
    rows = min(ROWS, one("SELECT count(*) FROM cut") - 2 * MORE * ROUNDS)
    print(f"{rows} chunks, texts of {one('SELECT avg(octet_length(content)) FROM cut'):.0f} bytes, compressed by "
          f"{one('SHOW default_toast_compression')} by default\n"
          f"{'':<18}{'row':>6}{'key':>5}{'exact: buffers':>16}{'÷ before':>10}{'writes ÷':>10}{'rows/s':>8}{'with hnsw':>10} | hnsw bytes: none, half, binary")
    for dimensions in DIMENSIONS:
        made = f"ARRAY(SELECT random() - 0.5 FROM generate_series(1, {dimensions}) WHERE i = i)::real[]::vector"
        db.execute("DROP TABLE IF EXISTS pg_temp.made")
        db.execute(f"CREATE TEMP TABLE made AS SELECT cut.*, {made} AS vector FROM cut")
        db.execute("CREATE INDEX ON pg_temp.made (i)")
        asked = [v for v, in db.execute(f"SELECT {made.replace('i = i', 'k = k')}::text FROM generate_series(1, {QUERIES}) AS k").fetchall()]
        layouts = [Layout(db, one, rows, dimensions, name) for name in ("before", "full", "half")]
        # In turns, so that what else the machine does is the same for all.
        searches = [[timed(layout.search, query) for layout in layouts] for query in asked]
        writes = [[timed(layout.write) for layout in layouts] for _ in range(ROUNDS)]
        middle = lambda turns, at, of: statistics.median(turn[at] / turn[of] for turn in turns)
        for at, layout in enumerate(layouts):
            sizes, with_index = layout.indexes()
            without = MORE / statistics.median(turn[at] for turn in writes)
            print(f"{dimensions:>6} {layout.name:<11}{layout.row:>6.0f}{layout.key:>5.0f}{layout.buffers():>16}{middle(searches, at, 0):>10.2f}"
                  f"{middle(writes, at, 0):>10.2f}{without:>8.0f}{with_index:>10.0f} | " + ", ".join(f"{size:.0f}" for size in sizes), flush=True)
            layout.drop()


class Layout:
    """A table with rows laid out in one way."""

    def __init__(self, db, one, rows, dimensions, name):
        self.db, self.one, self.rows, self.dimensions, self.name, self.table = db, one, rows, dimensions, name, f"pg_temp.chunk_{name}"
        self.column, self.type = ("embedding_half", "halfvec") if name == "half" else ("embedding", "vector")
        words = "words_before" if name == "before" else "words"
        db.execute(f"CREATE TEMP TABLE chunk_{name} (LIKE chatbot_sync.embedding INCLUDING ALL)")
        if name == "before":
            db.execute(f"ALTER TABLE {self.table} ALTER content SET COMPRESSION pglz, ALTER words SET COMPRESSION pglz")
        else:
            db.execute(f"ALTER TABLE {self.table} SET (toast_tuple_target = {row_bytes(dimensions, 2 if name == 'half' else 4)})")
        self.insert = f"""INSERT INTO {self.table} (chatbot_id, source_type, source_id, model_id, chunk_id, chunk_index, start_offset, end_offset,
                metadata, content, words, {self.column})
            SELECT 1, 'document', i, 1, 0, 0, 0, 850, metadata, content, {words}, vector::{self.type} FROM made WHERE i > %s AND i <= %s"""
        db.execute(self.insert, (0, rows))
        self.row, self.key = (one(f"SELECT {size}('{self.table}')") / rows for size in ("pg_table_size", "pg_indexes_size"))
        db.execute(f"VACUUM ANALYZE {self.table}")
        # Texts are fetched of the nearest alone, as a search does.
        self.nearest = f"""SELECT c.content FROM (SELECT ctid AS place, {self.column} <=> (SELECT %s::{self.type}) AS distance FROM {self.table}
                WHERE model_id = 1 AND enabled ORDER BY 2 LIMIT 10) AS n JOIN {self.table} AS c ON c.ctid = n.place"""
        self.search("[" + ",".join(["1"] * dimensions) + "]")
        self.found_buffers = self.buffers()
        self.at = rows

    def search(self, query):
        self.db.execute(self.nearest, [query]).fetchall()

    def buffers(self):
        if not hasattr(self, "found_buffers"):
            plan = self.one("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + self.nearest, ["[" + ",".join(["1"] * self.dimensions) + "]"])
            plan = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
            return sum(plan[kind] for kind in ("Shared Hit Blocks", "Shared Read Blocks", "Local Hit Blocks", "Local Read Blocks"))
        return self.found_buffers

    def write(self):
        self.db.execute(self.insert, (self.at, self.at + MORE))
        self.at += MORE

    def indexes(self):
        """Returns the bytes of an index for each chunk, by quantization, and the rows a second that are stored with the first."""
        type, dimensions = self.type, self.dimensions
        forms = [f"({self.column}::{type}({dimensions})) {type}_cosine_ops"]
        if self.name != "before":
            forms += [f"({self.column}::halfvec({dimensions})) halfvec_cosine_ops",
                      f"(binary_quantize({self.column})::bit({dimensions})) bit_hamming_ops"]
        sizes = []
        for definition in forms:
            count = self.one(f"SELECT count(*) FROM {self.table}")
            self.db.execute(f"CREATE INDEX hnsw ON {self.table} USING hnsw ({definition}) WITH (ef_construction = 128)")
            sizes.append(self.one("SELECT pg_relation_size('pg_temp.hnsw')") / count)
            if len(sizes) == 1:
                with_index = MORE / statistics.median(timed(self.write) for _ in range(ROUNDS))
            self.db.execute("DROP INDEX pg_temp.hnsw")
        return sizes, with_index

    def drop(self):
        self.db.execute(f"DROP TABLE {self.table}")


main()
