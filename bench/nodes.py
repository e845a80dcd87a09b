#!/usr/bin/env python3
"""Measures what distribution costs small statements: the same calls on one node and on the nodes of Citus, medians of
one run.

    python3 bench/nodes.py "host=127.0.0.1 port=5432 user=postgres dbname=mydb" [SHARDS]

The first argument is a libpq connection string of a superuser, for a coordinator with nodes and the extension, whose
tables are not distributed yet. Everything that it has about chatbots 1 to 41 is DELETED. The model is the built-in
one.
"""
import statistics, sys
import psycopg
from common import timed

SHARDS = int(sys.argv[2]) if len(sys.argv) > 2 else 32
CHATBOTS = range(1, 41)
# So many chunks that a search of this chatbot uses an index.
LARGE, SOURCES = 41, 400
TIMES = 100
TEXT = "Sentence {0} of chatbot {1} says something about parcels, refunds and number {2}. "


def document(chatbot, number, sentences):
    return "".join(TEXT.format(i, chatbot, i * number) for i in range(sentences))


def median(db, sql, args):
    return statistics.median(timed(lambda: db.execute(sql, a, prepare=True).fetchall()) for a in args) * 1000


def calls(db, large):
    ids = [(CHATBOTS[k % len(CHATBOTS)], 1000 + k) for k in range(TIMES)]
    embed = "SELECT status FROM chatbot_embed_source(%s, 'document', %s, %s)"
    found = {
        "a new source of 1 chunk": median(db, embed, [(c, n, document(c, n, 5)) for c, n in ids]),
        "the same again": median(db, embed, [(c, n, document(c, n, 5)) for c, n in ids]),
        "another text": median(db, embed, [(c, n, document(c, n + 1, 5)) for c, n in ids]),
        "a new source of 50 chunks": median(db, embed, [(c, n + TIMES, document(c, n, 600)) for c, n in ids[:20]]),
        "a search": median(db, "SELECT * FROM chatbot_search(%s, %s)", [(c, f"refund number {n}") for c, n in ids]),
        "a source deleted": median(db, "SELECT * FROM chatbot_delete_source(%s, 'document', %s)", ids),
    }
    median(db, "SELECT * FROM chatbot_delete_source(%s, 'document', %s)", [(c, n + TIMES) for c, n in ids])
    for name, limit in (("a search of {} chunks, all read", 1_000_000), ("by the index", 5_000)):
        db.execute(f"SET chatbot_sync.exact_search_limit = {limit}")
        search = "SELECT * FROM chatbot_search(%s, %s, mode => 'vector')"
        found[name.format(large)] = median(db, search, [(LARGE, f"refund number {n}") for _, n in ids])
    return found


def main():
    db = psycopg.connect(sys.argv[1], autocommit=True)
    db.execute("SET client_min_messages = warning")
    clean = lambda: [db.execute("SELECT chatbot_cleanup(%s)", [c]) for c in [*CHATBOTS, LARGE]]
    clean()
    fill = "SELECT chatbot_embed_source(%s, 'document', d, %s || d) FROM generate_series(1, 20) AS d"
    for chatbot in CHATBOTS:
        db.execute(fill, (chatbot, document(chatbot, 7, 60)))
    db.execute("SELECT chatbot_embed_source(%s, 'document', d, %s || d) FROM generate_series(1, %s) AS d", (LARGE, document(LARGE, 3, 300), SOURCES))
    large = db.execute("SELECT sum(chunk_count) FROM chatbot_sync.source WHERE chatbot_id = %s", [LARGE]).fetchone()[0]
    db.execute("CALL chatbot_create_index()")
    db.execute("ANALYZE chatbot_sync.embedding, chatbot_sync.source")
    calls(db, large)
    alone = calls(db, large)
    chunks = db.execute("SELECT count(*) FROM chatbot_sync.embedding").fetchone()[0]
    there = timed(lambda: db.execute("SELECT chatbot_distribute(%s)", [SHARDS]))
    calls(db, large)
    spread = calls(db, large)
    back = timed(lambda: db.execute("SELECT chatbot_undistribute()"))
    print(f"{chunks} chunks, {SHARDS} shards: chatbot_distribute() {there:.1f} s, chatbot_undistribute() {back:.1f} s")
    print(f"{'':<28}{'one node':>10}{'nodes':>10}{'ratio':>8}")
    for name in alone:
        print(f"{name:<28}{alone[name]:>8.2f}ms{spread[name]:>8.2f}ms{spread[name] / alone[name]:>8.1f}")
    clean()


main()
