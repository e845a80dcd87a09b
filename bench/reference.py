"""The reference for models in folders: a graph for onnxruntime, made by hand of what is published, and its vectors.

The graph has onnxruntime's own operators for attention and layer normalisation, which are the fastest that it has for
these networks on a CPU, or only the plain ones of ONNX (contrib=False), which say the same by the definitions.
"""
import json, pathlib
import numpy as np
import onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

MICROSOFT = "com.microsoft"


class Graph:
    """Nodes and numbers of a graph that is being made."""

    def __init__(self):
        self.nodes, self.numbers = [], []

    def constant(self, name, array):
        self.numbers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, operator, inputs, output, domain="", **attributes):
        self.nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output


def read_folder(folder):
    """The configuration, and the tensors by their names without the family's prefix."""
    folder = pathlib.Path(folder)
    config = json.loads((folder / "config.json").read_text())
    tensors = {}
    for name, array in load_file(folder / "model.safetensors").items():
        for prefix in ("bert.", "roberta."):
            name = name.removeprefix(prefix)
        tensors[name] = array.astype(np.float32) if array.dtype != np.int64 else array
    return config, tensors


def first_position(config):
    return config["pad_token_id"] + 1 if config["model_type"] in ("roberta", "xlm-roberta") else 0


def build(folder, contrib=True):
    """The graph: token ids, positions, a mask and lengths to the tokens' vectors."""
    config, tensors = read_folder(folder)
    width, heads, epsilon = config["hidden_size"], config["num_attention_heads"], config["layer_norm_eps"]
    head = width // heads
    graph = Graph()
    graph.constant("words", tensors["embeddings.word_embeddings.weight"])
    types = tensors["embeddings.token_type_embeddings.weight"][0]
    graph.constant("places", tensors["embeddings.position_embeddings.weight"] + types[None])
    graph.node("Gather", ["words", "tokens"], "word", axis=0)
    graph.node("Gather", ["places", "positions"], "place", axis=0)
    graph.node("Add", ["word", "place"], "embedded")

    def norm(x, name, output):
        numbers = [graph.constant(output + p, tensors[f"{name}.{p}"]) for p in ("weight", "bias")]
        return graph.node("LayerNormalization", [x, *numbers], output, axis=-1, epsilon=epsilon)

    x = norm("embedded", "embeddings.LayerNorm", "x")
    if not contrib:
        for name, array in (("axes2", [1, 2]), ("split", [0, 0, heads, head]), ("join", [0, 0, width])):
            graph.constant(name, np.array(array, np.int64))
        for name, number in (("one", 1), ("far", -1e9), ("scale", head ** -0.5), ("half", 0.5), ("root", 2 ** -0.5)):
            graph.constant(name, np.array(number, np.float32))
        graph.node("Sub", ["one", "mask"], "absent")
        graph.node("Mul", ["absent", "far"], "far_absent")
        graph.node("Unsqueeze", ["far_absent", "axes2"], "masking")

    for layer in range(config["num_hidden_layers"]):
        base = f"encoder.layer.{layer}."
        weight = lambda name: tensors[f"{base}{name}.weight"].T
        bias = lambda name: tensors[f"{base}{name}.bias"]
        at = lambda name: f"{name}_{layer}"

        def linear(x, name, output):
            graph.node("MatMul", [x, graph.constant(output + "_weight", weight(name))], output + "_product")
            return graph.node("Add", [output + "_product", graph.constant(output + "_bias", bias(name))], output)

        def skip(product, x, dense, layer_norm, output):
            numbers = [tensors[f"{base}{layer_norm}.weight"], tensors[f"{base}{layer_norm}.bias"], bias(dense)]
            numbers = [graph.constant(f"{output}_{n}", array) for n, array in enumerate(numbers)]
            return graph.node("SkipLayerNormalization", [product, x, *numbers], output, MICROSOFT, epsilon=epsilon)

        attention = ["attention.self." + name for name in ("query", "key", "value")]
        if contrib:
            weights = graph.constant(at("qkv"), np.concatenate([weight(n) for n in attention], 1))
            biases = graph.constant(at("qkv_bias"), np.concatenate([bias(n) for n in attention]))
            attended = graph.node("Attention", [x, weights, biases, "lengths"], at("attended"), MICROSOFT, num_heads=heads)
            dense = graph.constant(at("dense"), weight("attention.output.dense"))
            product = graph.node("MatMul", [attended, dense], at("attention_product"))
            x = skip(product, x, "attention.output.dense", "attention.output.LayerNorm", at("attention"))
            product = graph.node("MatMul", [x, graph.constant(at("in"), weight("intermediate.dense"))], at("in_product"))
            between = graph.node("BiasGelu", [product, graph.constant(at("in_bias"), bias("intermediate.dense"))], at("gelu"), MICROSOFT)
            product = graph.node("MatMul", [between, graph.constant(at("out"), weight("output.dense"))], at("out_product"))
            x = skip(product, x, "output.dense", "output.LayerNorm", at("out_norm"))
        else:
            parts = {}
            for name, order in zip(attention, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])):
                part = linear(x, name, at(name))
                graph.node("Reshape", [part, "split"], part + "_split")
                parts[name[15:]] = graph.node("Transpose", [part + "_split"], part + "_heads", perm=order)
            graph.node("MatMul", [parts["query"], parts["key"]], at("scores"))
            graph.node("Mul", [at("scores"), "scale"], at("scaled"))
            graph.node("Add", [at("scaled"), "masking"], at("masked"))
            graph.node("Softmax", [at("masked")], at("weights"), axis=-1)
            graph.node("MatMul", [at("weights"), parts["value"]], at("attended_heads"))
            graph.node("Transpose", [at("attended_heads")], at("attended_rows"), perm=[0, 2, 1, 3])
            graph.node("Reshape", [at("attended_rows"), "join"], at("attended"))
            graph.node("Add", [linear(at("attended"), "attention.output.dense", at("dense")), x], at("attention_sum"))
            x = norm(at("attention_sum"), base + "attention.output.LayerNorm", at("attention"))
            between = linear(x, "intermediate.dense", at("in"))
            graph.node("Mul", [between, "root"], at("in_root"))
            graph.node("Erf", [at("in_root")], at("in_erf"))
            graph.node("Add", [at("in_erf"), "one"], at("in_one"))
            graph.node("Mul", [between, at("in_one")], at("in_twice"))
            gelu = graph.node("Mul", [at("in_twice"), "half"], at("gelu"))
            graph.node("Add", [linear(gelu, "output.dense", at("out")), x], at("out_sum"))
            x = norm(at("out_sum"), base + "output.LayerNorm", at("out_norm"))

    value = helper.make_tensor_value_info
    inputs = [value("tokens", TensorProto.INT64, ["B", "S"]), value("positions", TensorProto.INT64, ["S"])]
    inputs += [value("mask", TensorProto.FLOAT, ["B", "S"])] * (not contrib) + [value("lengths", TensorProto.INT32, ["B"])] * contrib
    outputs = [value(x, TensorProto.FLOAT, ["B", "S", width])]
    opsets = [helper.make_opsetid("", 17)] + [helper.make_opsetid(MICROSOFT, 1)] * contrib
    made = helper.make_graph(graph.nodes, "encoder", inputs, outputs, graph.numbers)
    return helper.make_model(made, opset_imports=opsets, ir_version=8).SerializeToString()


def pooled(rows, mode):
    if mode == "cls":
        return rows[0]
    return rows.max(0) if mode == "max" else rows.mean(0)


def pooling_of(folder):
    path = pathlib.Path(folder) / "1_Pooling/config.json"
    config = json.loads(path.read_text()) if path.exists() else {}
    names = {"pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max"}
    return next((mode for name, mode in names.items() if config.get(name)), "mean")


class Reference:
    """A model in a folder, in onnxruntime."""

    def __init__(self, folder, threads=1, contrib=True, max_tokens=512):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(build(folder, contrib), options, providers=["CPUExecutionProvider"])
        self.names = {i.name for i in self.session.get_inputs()}
        self.first = first_position(json.loads((pathlib.Path(folder) / "config.json").read_text()))
        self.mode = pooling_of(folder)
        tokenizer = pathlib.Path(folder) / "tokenizer.json"
        if tokenizer.exists():
            self.tokenizer = Tokenizer.from_file(str(tokenizer))
            self.tokenizer.no_padding()
            self.tokenizer.enable_truncation(max_tokens)

    def tokens(self, texts):
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]

    def embed(self, texts, batch=8):
        return self.embed_tokens(self.tokens(texts), batch)

    def embed_tokens(self, tokens, batch=8):
        """Vectors of length 1, from batches of texts of about the same length."""
        order = np.argsort([len(t) for t in tokens], kind="stable")
        vectors = [None] * len(tokens)
        for start in range(0, len(order), batch):
            numbers = order[start:start + batch]
            lengths = np.array([len(tokens[n]) for n in numbers], np.int32)
            size = int(lengths.max())
            ids, mask = np.ones((len(numbers), size), np.int64), np.zeros((len(numbers), size), np.float32)
            for row, n in enumerate(numbers):
                ids[row, :lengths[row]], mask[row, :lengths[row]] = tokens[n], 1
            fed = {"tokens": ids, "positions": np.arange(size) + self.first, "mask": mask, "lengths": lengths}
            rows = self.session.run(None, {name: fed[name] for name in self.names})[0]
            for row, n in enumerate(numbers):
                vector = pooled(rows[row, :lengths[row]].astype(np.float64), self.mode)
                vectors[n] = vector / np.linalg.norm(vector)
        return np.array(vectors)
