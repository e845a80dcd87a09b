#!/usr/bin/env python3
"""Measures models in folders inside a server: how well searches find with them, and what they take of time and memory.

    pip install 'psycopg[binary]'
    python3 bench/models_server.py CONNECTION PAGES.csv FAQ.csv [NAME[/int8]...]

The database has a release build of the extension, with chatbot_sync.local_models set; everything that chatbot_sync has
stored in it is DELETED. PAGES.csv and FAQ.csv are as in bench/search.py. A model is chosen in float32, or with /int8 in
eight bits.
"""
import os, statistics, sys, threading, time
import psycopg
from search import QUESTIONS, clean, connect, questions_of, rank, scores

WEIGHTS = [0, .05, .1, .15, .2, .25, .3, .4, .5]
SESSIONS = 20
QUERY = "How do I create a partial index?"


def choose(db, name):
    model, _, precision = name.partition("/")
    options = '{"precision": "int8"}' if precision else "{}"
    clean(db)
    began = time.perf_counter()
    db.execute("SELECT chatbot_set_model('local', %s, options => %s::jsonb)", [model, options] if "static" not in model else [model, "{}"])
    return time.perf_counter() - began


# Quality

def mean_rank(db, questions, mode):
    sql = "SELECT source_id FROM chatbot_search(1, %s, 200, mode => %s)"
    return scores([rank([s for s, in db.execute(sql, [question, mode])], right) for right, question, _ in questions])


def quality(db, name, path):
    texts, questions = questions_of(path)
    questions = questions[::-(-len(questions) // QUESTIONS)]
    choose(db, name)
    db.execute("SET chatbot_sync.text_search_config = 'english'; SET chatbot_sync.max_chunks = 1000")
    began = time.perf_counter()
    with db.cursor() as cursor:
        cursor.executemany("SELECT chatbot_embed_source(1, 'document', %s, %s)", [(number, text) for number, _, text in texts])
    chunks, = db.execute("SELECT count(*) FROM chatbot_sync.embedding").fetchone()
    rate = chunks / (time.perf_counter() - began)
    stored, = db.execute("SELECT text_weight FROM chatbot_sync.model WHERE active").fetchone()
    vectors, hybrid = mean_rank(db, questions, "vector"), mean_rank(db, questions, "hybrid")
    by_weight = []
    for weight in WEIGHTS:
        db.execute("UPDATE chatbot_sync.model SET text_weight = %s WHERE active", [weight])
        by_weight.append(f"{weight}: {mean_rank(db, questions, 'hybrid')[0]:.3f}")
    db.execute("UPDATE chatbot_sync.model SET text_weight = %s WHERE active", [stored])
    print(f"{name:<34}{path.rsplit('/', 1)[-1]:<12}vectors {vectors[0]:.3f} (R@5 {vectors[1]:.3f})  hybrid at {stored:.2f} {hybrid[0]:.3f} (R@5 {hybrid[1]:.3f})"
        f"  {len(questions)} questions, {chunks} chunks, {rate:.0f}/s  by weight of words: {', '.join(by_weight)}", flush=True)


# Time and memory

def memory(pid, *kinds):
    """Returns megabytes of a process."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        sizes = dict(line.split()[:2] for line in file.readlines()[1:])
    return sum(int(sizes[kind + ":"]) for kind in kinds) / 1024


class Peak(threading.Thread):
    """The most private memory that a process has while this runs."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.most, self.ended = pid, 0, threading.Event()
        self.start()

    def run(self):
        while not self.ended.wait(0.002):
            self.most = max(self.most, memory(self.pid, "Private_Dirty"))

    def stop(self):
        self.ended.set()
        self.join()
        return self.most


def timed_query(db):
    """Returns the milliseconds of a query, by the clock and of the backend's processor."""
    def used():
        with open(f"/proc/{db.info.backend_pid}/schedstat") as file:
            return int(file.read().split()[0]) / 1e6
    before, began = used(), time.perf_counter()
    db.execute("SELECT chatbot_embed(%s, 'query')::text", [QUERY]).fetchone()
    return (time.perf_counter() - began) * 1e3, used() - before


def both(times):
    """Formats medians of milliseconds, by the clock and of the processor."""
    clock, processor = zip(*times)
    return f"{statistics.median(clock):.1f} ms (of CPU {statistics.median(processor):.1f})"


def cost(connection, name):
    admin = connect(connection)
    seconds = choose(admin, name)
    chunk = "A refund is paid within ten days after the goods have come back to our warehouse. " * 12
    sessions, firsts, laters, grown = [], [], [], []
    for _ in range(SESSIONS):
        db = psycopg.connect(connection, autocommit=True)
        # The memory that any session has which uses the extension does not count.
        db.execute("SELECT chatbot_chunk('x'); SELECT count(*) FROM chatbot_sync.model")
        before = memory(db.info.backend_pid, "Private_Dirty")
        firsts.append(timed_query(db))
        grown.append(memory(db.info.backend_pid, "Private_Dirty") - before)
        laters += [timed_query(db) for _ in range(5)]
        sessions.append((db, before))
    one = memory(sessions[0][0].info.backend_pid, "Pss")
    all_of_them = sum(memory(db.info.backend_pid, "Pss") for db, _ in sessions)
    db, before = sessions[0]
    peak = Peak(db.info.backend_pid)
    db.execute("SELECT chatbot_embed(%s)::text FROM generate_series(1, 20)", [chunk])
    most = peak.stop() - before
    kept = memory(db.info.backend_pid, "Private_Dirty") - before
    took = []
    for _ in range(10):
        pid = db.info.backend_pid
        began = []
        def cancel():
            time.sleep(0.3)
            began.append(time.perf_counter())
            admin.execute("SELECT pg_cancel_backend(%s)", [pid])
        canceller = threading.Thread(target=cancel)
        canceller.start()
        try:
            db.execute("SELECT chatbot_embed_source(1, 'document', 1, repeat(%s, 90))", [chunk])
        except psycopg.errors.QueryCanceled:
            took.append((time.perf_counter() - began[0]) * 1e3)
        canceller.join()
    for db, _ in sessions:
        db.close()
    cancelled = f"{statistics.median(took):.0f}, {max(took):.0f}" if took else "it was done before"
    print(f"{name:<34}chosen in {seconds:.1f} s; first query {both(firsts)}, later {both(laters)}; "
        f"private MB after it {statistics.median(grown):.1f}, while 20 chunks are embedded {most:.1f}, after them {kept:.1f}; "
        f"Pss of one of {SESSIONS} sessions {one:.0f} MB, of all {all_of_them:.0f}; cancelled within ms: {cancelled}", flush=True)


if __name__ == "__main__":
    connection, *rest = sys.argv[1:]
    paths, names = rest[:2], rest[2:] or ["minilm-static-256", "all-MiniLM-L6-v2", "all-MiniLM-L6-v2/int8"]
    for name in names:
        if "static" not in name:
            cost(connection, name)
    for path in reversed(paths if os.environ.get("QUALITY") != "no" else []):
        for name in names:
            quality(connect(connection), name, path)
