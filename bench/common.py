"""Shared by the benchmarks in Python: timing, ratios, and the mock provider of bench/http."""
import json, pathlib, statistics, subprocess, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parents[1]


def timed(work, *args):
    start = time.perf_counter()
    work(*args)
    return time.perf_counter() - start


def heading():
    print(f"{'':<58}{'median':>9} {'':<3}{'least':>9} .. most")


def row(name, values, unit="x", target=""):
    digits = 0 if unit == "/s" else 3
    low, middle, high = (f"{v:.{digits}f}" for v in (min(values), statistics.median(values), max(values)))
    print(f"{name:<58}{middle:>9} {unit:<3}{low:>9} .. {high:<9}{target}".rstrip(), flush=True)


def ratios(these, those):
    return [a / b for a, b in zip(these, those)]


class Provider:
    """A process with the mock provider and the bare client of bench/http. It ends with this one. Port 0 is any free
    port."""

    def __init__(self, port=0):
        manifest = ROOT / "bench/http/Cargo.toml"
        command = ["cargo", "run", "-q", "--release", "--manifest-path", manifest, "--", "provider", str(port)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        assert self.url, "no provider"

    def ask(self, **question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def latency(self, milliseconds):
        self.ask(latency_ms=milliseconds)

    def inputs(self):
        """Returns the number of texts that were sent since the last call."""
        return self.ask(stats=True)["inputs"]

    def send_bare(self, texts, batch=100, parallel=4):
        """Returns the seconds that the bare client takes to send lists of texts, one list after the other."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(texts, file)
            file.flush()
            return self.ask(push=file.name, batch=batch, parallel=parallel)["seconds"]


def documents(db):
    """Returns a thousand pages with ids from 1, each with its chunks."""
    sql = """SELECT row_number() OVER (ORDER BY id), content, ARRAY(
            SELECT c.content FROM chatbot_chunk(page.content) AS c ORDER BY c.chunk_index)
        FROM page ORDER BY id LIMIT 1000"""
    return db.execute(sql).fetchall()


def use_provider(db, provider):
    """Makes the mock the provider of the server, and its model that of the database."""
    db.execute("LOAD 'chatbot_sync'")
    db.execute(f"ALTER SYSTEM SET chatbot_sync.openai_compatible_url = '{provider.url}'")
    db.execute("SELECT pg_reload_conf()")
    db.execute(f"SET chatbot_sync.openai_compatible_url = '{provider.url}'")
    for chatbot, in db.execute("SELECT DISTINCT chatbot_id FROM chatbot_sync.source").fetchall():
        db.execute("SELECT chatbot_cleanup(%s)", [chatbot])
    options = '{"encoding_format": "base64"}'
    db.execute("SELECT chatbot_set_model('openai_compatible', 'mock', 384, options => %s)", [options])


def reset_provider(db):
    db.execute("SELECT chatbot_set_model('local', 'multilingual-static-256')")
    db.execute("ALTER SYSTEM RESET chatbot_sync.openai_compatible_url")
    db.execute("SELECT pg_reload_conf()")


def missing_and_extra(db, chatbots, hosts):
    """Returns the number of chunks that the rows of the tables should have and do not have, and of chunks that are
    too many."""
    rows = " UNION ALL ".join(f"SELECT chatbot_id, id, content FROM {host}" for host in hosts)
    should = f"""SELECT h.chatbot_id, h.id, c.chunk_index, c.content FROM ({rows}) AS h, chatbot_chunk(h.content) AS c
        WHERE h.chatbot_id = ANY(%(chatbots)s)"""
    stored = """SELECT chatbot_id, source_id, chunk_index, content FROM chatbot_sync.embedding
        WHERE chatbot_id = ANY(%(chatbots)s)"""
    sql = f"SELECT (SELECT count(*) FROM ({should} EXCEPT ALL {stored}) AS m), (SELECT count(*) FROM ({stored} EXCEPT ALL {should}) AS e)"
    return db.execute(sql, {"chatbots": list(chatbots)}).fetchone()
