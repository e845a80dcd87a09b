#!/usr/bin/env python3
"""Makes models.json: tiny models in the published layout, texts, and the vectors that they should have.

    pip install numpy tokenizers
    python3 tests/data/make_models.py > tests/data/models.json

The numbers of a tensor follow from its name, so that they need not be in the file: number i of the tensor NAME is
m / 128 with m from -64 to 63, the top seven bits of splitmix64(fnv1a(NAME) + i) less 64. Such numbers are the same in
F32, F16 and BF16. Those of weights are scaled by a power of two, those of a normalisation's gain are put around 1.
The forward pass is written anew here, in double precision and by the definitions, one text at a time.
"""
import json, math
import numpy as np
from tokenizers import Tokenizer

WORDS = ["un", "##want", "##ed", "runn", "##ing", "the", "low", "##er", "new", "##est", "wide", ",", ".", "a", "b", "c"]
TEXTS = ["the lowest, newest", "a", "", "unwanted running", "c " * 30, "the wider the newer the lower. " * 3, "b, c."]


def numbers(name, shape):
    """Of a tensor, in double precision."""
    seed = 0xcbf29ce484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001b3 & (1 << 64) - 1
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(math.prod(shape), dtype=np.uint64) + np.uint64(0x9e3779b97f4a7c15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xbf58476d1ce4e5b9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94d049bb133111eb)
        z = z ^ z >> np.uint64(31)
    values = ((z >> np.uint64(57)).astype(np.float64) - 64) / 128
    if name.endswith("LayerNorm.weight"):
        values = 1 + values / 2
    return values.reshape(shape)


def word_piece(first=0):
    """A WordPiece tokenizer whose special tokens begin at an id."""
    special = {"[PAD]": first, "[UNK]": first + 1, "[CLS]": first + 2, "[SEP]": first + 3}
    vocabulary = special | {word: first + 4 + n for n, word in enumerate(WORDS)}
    added = [{"id": id, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} for token, id in special.items()]
    return {
        "version": "1.0", "truncation": {"max_length": 5, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": first, "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {t: {"id": t, "ids": [special[t]], "tokens": [t]} for t in ("[CLS]", "[SEP]")},
        },
        "decoder": None,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocabulary},
    }


def unigram():
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [[token, 0.0] for token in special]
    pieces += [[piece, -1.0 - n / 8] for n, piece in enumerate(["▁", "▁the", "▁low", "er", "est", "▁new", "▁un", "want", "ed", "▁a", "▁b", "▁c", ",", ".", "▁runn", "ing", "wid"])]
    added = [{"id": id, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} for id, token in enumerate(special)]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": {"type": "NFKC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {t: {"id": t, "ids": [special.index(t)], "tokens": [t]} for t in ("<s>", "</s>")},
        },
        "decoder": None, "model": {"type": "Unigram", "unk_id": 3, "vocab": pieces},
    }


def transformer(name, family, pooling, dtype, tokenizer, prefix="", width=32, heads=2, layers=2, intermediate=48, normalise=True, max_tokens=24):
    vocabulary, positions, types = 24, 32, 2
    config = {
        "model_type": family, "hidden_act": "gelu", "hidden_size": width, "num_attention_heads": heads,
        "num_hidden_layers": layers, "intermediate_size": intermediate, "vocab_size": vocabulary, "type_vocab_size": types,
        "max_position_embeddings": positions, "layer_norm_eps": 1e-5 if "roberta" in family else 1e-12, "pad_token_id": 1 if "roberta" in family else 0,
        "position_embedding_type": "absolute",
    }
    shapes = {"embeddings.word_embeddings.weight": [vocabulary, width], "embeddings.position_embeddings.weight": [positions, width], "embeddings.token_type_embeddings.weight": [types, width]}

    def norm(name):
        shapes.update({f"{name}.LayerNorm.weight": [width], f"{name}.LayerNorm.bias": [width]})

    def linear(name, outputs, inputs):
        shapes.update({f"{name}.weight": [outputs, inputs], f"{name}.bias": [outputs]})

    norm("embeddings")
    for layer in range(layers):
        base = f"encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            linear(f"{base}attention.self.{part}", width, width)
        linear(f"{base}attention.output.dense", width, width)
        norm(f"{base}attention.output")
        linear(f"{base}intermediate.dense", intermediate, width)
        linear(f"{base}output.dense", width, intermediate)
        norm(f"{base}output")
    tensors = {prefix + name: {"dtype": "F32" if "LayerNorm" in name else dtype, "shape": shape} for name, shape in shapes.items()}
    tensors[prefix + "embeddings.position_ids"] = {"dtype": "I64", "shape": [1, positions]}
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")] + [("2_Normalize", "Normalize")] * normalise
    files = {
        "config.json": config, "tokenizer.json": tokenizer,
        "modules.json": [{"idx": n, "name": str(n), "path": path, "type": "sentence_transformers.models." + kind} for n, (path, kind) in enumerate(modules)],
        "1_Pooling/config.json": {"word_embedding_dimension": width} | {f"pooling_mode_{m}": m.startswith(pooling) for m in ("cls_token", "mean_tokens", "max_tokens")},
        "sentence_bert_config.json": {"max_seq_length": max_tokens, "do_lower_case": False},
    }
    weights = {name: numbers(prefix + name, shape) for name, shape in shapes.items()}
    reader = Tokenizer.from_str(json.dumps(tokenizer))
    reader.no_padding()
    reader.enable_truncation(max_tokens)
    vectors = []
    for text in TEXTS:
        rows = forward(config, weights, reader.encode(text).ids)
        vector = rows[0] if pooling == "cls" else rows.max(0) if pooling == "max" else rows.mean(0)
        vectors.append(vector / np.linalg.norm(vector) if normalise else vector)
    return {"name": name, "files": files, "tensors": tensors, "vectors": rounded(vectors)}


def forward(config, weights, tokens):
    heads, epsilon = config["num_attention_heads"], config["layer_norm_eps"]
    first = config["pad_token_id"] + 1 if "roberta" in config["model_type"] else 0

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred ** 2).mean(-1, keepdims=True) + epsilon) * weights[name + ".LayerNorm.weight"] + weights[name + ".LayerNorm.bias"]

    def linear(x, name):
        return x @ weights[name + ".weight"].T + weights[name + ".bias"]

    places = weights["embeddings.position_embeddings.weight"][first:first + len(tokens)]
    x = norm(weights["embeddings.word_embeddings.weight"][tokens] + places + weights["embeddings.token_type_embeddings.weight"][0], "embeddings")
    for layer in range(config["num_hidden_layers"]):
        base = f"encoder.layer.{layer}."
        query, key, value = (np.split(linear(x, f"{base}attention.self.{part}"), heads, -1) for part in ("query", "key", "value"))
        attended = []
        for q, k, v in zip(query, key, value):
            scores = np.exp(q @ k.T / math.sqrt(q.shape[1]))
            attended.append(scores / scores.sum(-1, keepdims=True) @ v)
        x = norm(x + linear(np.concatenate(attended, -1), base + "attention.output.dense"), base + "attention.output")
        between = linear(x, base + "intermediate.dense")
        between = between * (1 + np.vectorize(math.erf)(between / math.sqrt(2))) / 2
        x = norm(x + linear(between, base + "output.dense"), base + "output")
    return x


def static(name, dtype, width, with_weights, rows=None):
    """In Model2Vec's layout; with rows, tokens share vectors."""
    tokenizer = word_piece()
    size = len(tokenizer["model"]["vocab"])
    tensors = {"embeddings": {"dtype": dtype, "shape": [rows or size, width]}}
    table = numbers("embeddings", [rows or size, width])
    weights, mapping = np.ones(size), np.arange(size)
    if with_weights:
        tensors["weights"] = {"dtype": "F64", "shape": [size]}
        weights = numbers("weights", [size])
    if rows:
        tensors["mapping"] = {"dtype": "I64", "shape": [size], "modulo": rows}
        mapping = np.arange(size) % rows
    files = {
        "config.json": {"model_type": "model2vec", "architectures": ["StaticModel"], "hidden_dim": width, "normalize": True, "seq_length": 1000000},
        "tokenizer.json": tokenizer,
        "modules.json": [{"idx": 0, "name": "0", "path": ".", "type": "sentence_transformers.models.StaticEmbedding"}, {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"}],
    }
    reader = Tokenizer.from_str(json.dumps(tokenizer))
    reader.no_padding()
    reader.no_truncation()
    vectors = []
    for text in TEXTS:
        tokens = [t for t in reader.encode(text, add_special_tokens=False).ids if t != 1]
        vector = (table[mapping[tokens]] * weights[tokens][:, None]).mean(0) if tokens else np.zeros(width)
        vectors.append(vector / (np.linalg.norm(vector) or 1))
    return {"name": name, "files": files, "tensors": tensors, "vectors": rounded(vectors)}


def rounded(vectors):
    return [[float(f"{x:.8g}") for x in vector] for vector in vectors]


models = [
    transformer("bert-mean", "bert", "mean", "F32", word_piece()),
    transformer("bert-cls", "bert", "cls", "F16", word_piece(), prefix="bert.", width=64, heads=1, normalise=False),
    transformer("bert-max", "bert", "max", "BF16", word_piece(), layers=1, intermediate=16),
    transformer("roberta-mean", "roberta", "mean", "F32", word_piece(1), prefix="roberta."),
    transformer("xlm-roberta-cls", "xlm-roberta", "cls", "F32", unigram(), layers=3),
    transformer("xlm-roberta-mean", "xlm-roberta", "mean", "F16", unigram(), width=48, heads=3),
    static("static-weighted", "F32", 20, True),
    static("static-shared", "F16", 8, True, rows=7),
    static("static-plain", "BF16", 16, False),
]
print(json.dumps({"texts": TEXTS, "models": models}, ensure_ascii=False, separators=(",", ":")))
