#!/usr/bin/env python3
"""Makes published.json: texts, and the vectors that published models have for them in onnxruntime.

    pip install numpy onnx onnxruntime safetensors tokenizers
    python3 tests/data/make_published.py MODELS > tests/data/published.json

MODELS has the folders that `make model` installs. The graph has only ONNX' own operators, each text alone.
"""
import json, pathlib, sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
from reference import Reference

TEXTS = [
    "", "a", "How do I create a partial index?", "Refunds are paid within ten days after the goods have come back.",
    "¿Cómo se devuelve un pedido? Élève, naïve, Straße.", "退货需要多长时间？我想知道运费。", "كيف أعيد الطلب؟", "คืนสินค้าอย่างไร",
    "e\u0301 \ufb01 \u200b🙂🙂 x\u00a0y", "[CLS] a [SEP] [MASK] <s> b </s> <mask>", "PostgreSQL's jsonb_path_query_array(target, '$.a[*] ? (@ > 1)')",
    "The quick brown fox jumps over the lazy dog. " * 60,
]
MODELS = {"all-MiniLM-L6-v2": (256, ""), "multilingual-e5-small": (512, "query: ")}

models = []
for name, (max_tokens, prefix) in MODELS.items():
    vectors = Reference(pathlib.Path(sys.argv[1]) / name, contrib=False, max_tokens=max_tokens).embed([prefix + t for t in TEXTS], 1)
    models.append({"name": name, "prefix": prefix, "vectors": [[float(f"{x:.7g}") for x in vector] for vector in vectors]})
print(json.dumps({"texts": TEXTS, "models": models}, ensure_ascii=False, separators=(",", ":")))
