#!/usr/bin/env python3
"""Compares models in folders with onnxruntime, in one run: equal vectors, chunks a second, time of a query, memory.

    pip install numpy onnx onnxruntime safetensors tokenizers
    python3 bench/models.py BINARY MODELS TEXTS.csv [NAME...]

BINARY is bench/models, built. MODELS has a folder for each NAME, by default all of them. TEXTS.csv: id, title, text.
Whatever else the machine does takes from all in turn: the ratios within a run are what counts. Seconds are of CPU.
"""
import csv, json, pathlib, resource, statistics, subprocess, sys
import numpy as np
from common import heading, row
from reference import Reference

CHUNKS, BATCH, TURNS, PROCESSES = 32, 8, 5, 20
PLAIN_TEXTS = ["", "a", "How do I create a partial index?", "¿Cómo se devuelve un pedido?", "退货需要多长时间？", "كيف أعيد الطلب؟",
    "e\u0301 \ufb01 \u200b[CLS] <s> 🙂🙂", "word " * 700]


class Embedder:
    """A process that embeds with a model from a folder."""

    def __init__(self, binary, models, name, precision="float", instructions="best", threads=1):
        self.process = subprocess.Popen([binary, models, name, precision, instructions, str(threads)], stdin=-1, stdout=-1, text=True)
        self.about = json.loads(self.process.stdout.readline())

    def ask(self, texts, vectors=False):
        self.process.stdin.write(json.dumps({"texts": texts, "vectors": vectors}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def vectors(self, texts):
        vectors = np.array(self.ask(texts, True)["vectors"])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def chunks_of(path):
    csv.field_size_limit(1 << 30)
    text = " ".join(" ".join(r[2].split()) for r in csv.reader(open(path, newline="")))
    return [text[at:at + 1000] for at in range(0, 1000 * 4 * CHUNKS, 4000)]


def measure(binary, models, name, chunks):
    folder = pathlib.Path(models) / name
    first = Embedder(binary, models, name)
    print(f"\n{name}: imported in {first.about['import_seconds']:.1f} s, {first.about['bytes'] / 1e6:.0f} MB, opened in {first.about['open_seconds'] * 1e3:.2f} ms")
    first.close()
    reference = Reference(folder, max_tokens=first.about["max_tokens"])
    texts = chunks + PLAIN_TEXTS
    expected = reference.embed(texts, 1)
    known = {i for i in first.about["all"]}
    wanted = [("float", i) for i in ("AVX-512 VNNI", "AVX2", "NEON", "plain") if i in known]
    wanted += [("int8", i) for i in ("AVX-512 VNNI", "AVX-VNNI", "AVX2", "NEON") if i in known]
    embedders = {how: Embedder(binary, models, name, *how) for how in wanted}
    for (precision, instructions), embedder in embedders.items():
        distances = 1 - (embedder.vectors(texts) * expected).sum(1)
        print(f"cosine distance to onnxruntime, {precision} {instructions}: mean {distances.mean():.1e}, most {distances.max():.1e}")
        assert precision == "int8" or distances.max() < 1e-5
    heading()
    of_reference, of_ours = [], {how: [] for how in embedders if how[1] != "plain"}
    for _ in range(TURNS):
        before = cpu()
        reference.embed(chunks, BATCH)
        of_reference.append((cpu() - before) / len(chunks))
        for how, times in of_ours.items():
            times.append(embedders[how].ask(chunks)["cpu"] / len(chunks))
    row("onnxruntime, float32", [1 / t for t in of_reference], "/s")
    for (precision, instructions), times in of_ours.items():
        row(f"{precision} {instructions}", [1 / t for t in times], "/s")
        least = {"int8 AVX-512 VNNI": "2.5", "float AVX-512 VNNI": "1.2"}.get(f"{precision} {instructions}", "1.0")
        row("    to onnxruntime's", [a / b for a, b in zip(of_reference, times)], "x", f"  at least {least}")
    for how, embedder in embedders.items():
        embedder.close()
    for precision in ("float", "int8"):
        fresh = Embedder(binary, models, name, precision)
        query = ["How do I create a partial index?"]
        answer = fresh.ask(query)
        first, later = answer["seconds"] * 1e3, [fresh.ask(query)["seconds"] * 1e3 for _ in range(20)]
        after = fresh.ask(query)["memory"]["private"] - fresh.about["memory"]["private"]
        fresh.ask(chunks)
        back = fresh.ask(query)["memory"]["private"] - fresh.about["memory"]["private"]
        others = [Embedder(binary, models, name, precision) for _ in range(PROCESSES - 1)]
        for other in others:
            other.ask(chunks[:4])
        shares = [process.ask(query)["memory"]["pss"] for process in [fresh, *others]]
        print(f"{precision}: first query {first:.1f} ms, later {statistics.median(later):.1f} ms; private memory {after:.1f} MB after a query, {back:.1f} after {len(chunks)} chunks; "
            f"{PROCESSES} processes together {sum(shares):.0f} MB (Pss)")
        for process in [fresh, *others]:
            process.close()


if __name__ == "__main__":
    binary, models, texts, *names = sys.argv[1:]
    for name in names or sorted(p.name for p in pathlib.Path(models).iterdir() if (p / "config.json").exists()):
        measure(binary, models, name, chunks_of(texts))
