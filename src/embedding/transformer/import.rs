//! A folder to a frozen file. Tensors are read one at a time, tables a block at a time, so that a large model needs
//! little memory to be imported.

use std::fs::File;
use std::os::unix::fs::FileExt;

use serde_json::Value;

use super::description::{self, Described, Network, StaticShape, TransformerShape};
use super::folder::Folder;
use super::frozen::{Header, Precision};
use super::kernels::{Kernels, PANEL, QUAD, ZERO_POINT};
use super::memory::bytes_of;
use super::part_writer::PartWriter;
use super::safetensors::{Dtype, ReadAt, Tensor, Tensors};
use crate::embedding::tokenizer::{FrozenTokenizer, Tokenizer};
use crate::error::local_model::{Problem, Result, malformed, unsupported};

/// The plan of an import, made without reading the weights' numbers.
pub struct Plan {
    folder: Folder,
    described: Described,
    /// The digest of the folder's files.
    pub digest: String,
    stamp: String,
}

impl Plan {
    /// Reads a folder's settings and the digest of its files.
    pub fn new(folder: Folder, name: &str, stop: &dyn Fn() -> bool) -> Result<Self> {
        let mut described = description::read(&folder, name)?;
        let stamp = folder.stamp(&described.files)?;
        let digest = folder.digest(&described.files, stop)?;
        if let Network::Static(shape) = &mut described.description.network {
            let tensors = Tensors::open(folder.weights()?)?;
            *shape = static_shape(&tensors)?;
            shape.unknown = unknown_token(&folder.tokenizer()?)?;
        }
        Ok(Self { folder, described, digest, stamp })
    }

    /// The model that is imported, as its folder describes it.
    pub fn description(&self) -> &description::Description {
        &self.described.description
    }

    /// Writes the frozen file, from its beginning, and forces it to the disk.
    pub fn write(&self, precision: Precision, file: &File, stop: &dyn Fn() -> bool) -> Result<Header> {
        let tensors = Tensors::open(self.folder.weights()?)?;
        let precision = match self.described.description.network {
            Network::Transformer(_) => precision,
            Network::Static(_) if precision == Precision::Float => precision,
            Network::Static(_) => return unsupported("a static model has no linear layers that could be int8"),
        };
        let mut parts = PartWriter::new(file, stop)?;
        let dtype = match &self.described.description.network {
            Network::Transformer(shape) => write_transformer(&tensors, shape, precision, &mut parts)?,
            Network::Static(shape) => write_static(&tensors, shape, &mut parts)?,
        };
        let tokenizer = self.freeze_tokenizer()?;
        parts.put(&tokenizer)?;
        let (length, checksum) = parts.finish()?;
        if self.folder.stamp(&self.described.files)? != self.stamp {
            return malformed("the folder was changed while it was imported");
        }
        let header = Header {
            description: self.described.description.clone(),
            precision,
            dtype,
            digest: self.digest.clone(),
            stamp: self.stamp.clone(),
            tokenizer: tokenizer.len() as u64,
            length,
            checksum,
        };
        let written = file.write_all_at(&header.page()?, 0).and_then(|()| file.sync_all());
        written.map_err(|error| Problem::of_file("the imported file", &error))?;
        Ok(header)
    }

    fn freeze_tokenizer(&self) -> Result<Vec<u8>> {
        let json = self.folder.tokenizer()?;
        let vocabulary = match &self.described.description.network {
            Network::Transformer(shape) => shape.vocabulary,
            Network::Static(shape) => shape.vocabulary,
        };
        let json = match &self.described.description.network {
            Network::Transformer(_) => json,
            Network::Static(_) => without_post_processor(&json)?,
        };
        let tokenizer = Tokenizer::from_json(&json).map_err(Problem::Unsupported)?;
        let mut frozen = Vec::new();
        tokenizer.freeze(&mut frozen);
        let tokens = FrozenTokenizer::open(&frozen).map_err(Problem::Malformed)?.vocabulary_size();
        if tokens > vocabulary {
            return malformed(format!("tokenizer.json has {tokens} tokens, and the model {vocabulary}"));
        }
        Ok(frozen)
    }
}

/// A `tokenizer.json` as JSON.
fn tokenizer_json(json: &[u8]) -> Result<Value> {
    serde_json::from_slice(json).map_err(|error| Problem::Malformed(format!("tokenizer.json is no JSON: {error}")))
}

/// Without what adds special tokens to a text, which a static model does without.
fn without_post_processor(json: &[u8]) -> Result<Vec<u8>> {
    let mut json = tokenizer_json(json)?;
    if let Some(object) = json.as_object_mut() {
        object.insert("post_processor".to_owned(), Value::Null);
    }
    Ok(json.to_string().into_bytes())
}

/// The token of what is not in a vocabulary.
fn unknown_token(json: &[u8]) -> Result<Option<u32>> {
    let json = tokenizer_json(json)?;
    let model = &json["model"];
    let id = match (&model["unk_id"], &model["unk_token"]) {
        (Value::Number(id), _) => id.as_u64(),
        (_, Value::String(token)) => {
            let added = json["added_tokens"].as_array().into_iter().flatten().find(|added| added["content"] == **token);
            model["vocab"][token].as_u64().or_else(|| added?["id"].as_u64())
        }
        _ => None,
    };
    Ok(id.and_then(|id| u32::try_from(id).ok()))
}

/// A tensor of a transformer, whose name some publishers write with the family's before it.
fn find<'t, S: ReadAt>(tensors: &'t Tensors<S>, name: &str) -> Result<&'t Tensor> {
    tensors.find(&[name.to_owned(), format!("bert.{name}"), format!("roberta.{name}")])
}

fn write_transformer<S: ReadAt>(
    tensors: &Tensors<S>,
    shape: &TransformerShape,
    precision: Precision,
    parts: &mut PartWriter,
) -> Result<Dtype> {
    let width = shape.width;
    let dtype = find(tensors, "embeddings.word_embeddings.weight")?.dtype()?;
    let network = TransformerTensors { tensors, dtype, precision };
    network.table("embeddings.word_embeddings.weight", shape.vocabulary, width, parts)?;
    network.table("embeddings.position_embeddings.weight", shape.positions, width, parts)?;
    let token_types = network.floats("embeddings.token_type_embeddings.weight", &[shape.token_types, width])?;
    parts.put(bytes_of(&token_types[..width]))?;
    network.norm("embeddings.LayerNorm", width, parts)?;
    for layer in 0..shape.layers {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        let attention = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
        network.linear(&attention, width, width, parts)?;
        network.linear(&[name("attention.output.dense")], width, width, parts)?;
        network.norm(&name("attention.output.LayerNorm"), width, parts)?;
        network.linear(&[name("intermediate.dense")], shape.intermediate, width, parts)?;
        network.linear(&[name("output.dense")], width, shape.intermediate, parts)?;
        network.norm(&name("output.LayerNorm"), width, parts)?;
    }
    Ok(dtype)
}

/// The tensors of a transformer on their way into a file.
struct TransformerTensors<'t, S> {
    tensors: &'t Tensors<S>,
    dtype: Dtype,
    precision: Precision,
}

impl<S: ReadAt> TransformerTensors<'_, S> {
    /// The numbers of a tensor, in single precision.
    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let tensor = find(self.tensors, name)?;
        tensor.expect_shape(shape)?;
        widen(&self.tensors.read_all(tensor)?, tensor.dtype()?)
    }

    /// The bytes of a tensor that has to be of the same type as the others.
    fn published(&self, name: &str, shape: &[usize]) -> Result<&Tensor> {
        let tensor = find(self.tensors, name)?;
        tensor.expect_shape(shape)?;
        if tensor.dtype()? != self.dtype {
            return unsupported(format!(
                "tensor {name} is {}, and word embeddings are {:?}",
                tensor.dtype_name(),
                self.dtype
            ));
        }
        Ok(tensor)
    }

    fn table(&self, name: &str, rows: usize, width: usize, parts: &mut PartWriter) -> Result<()> {
        let tensor = self.published(name, &[rows, width])?;
        parts.copy(self.tensors, tensor)
    }

    fn norm(&self, name: &str, width: usize, parts: &mut PartWriter) -> Result<()> {
        // Old files have the names of TensorFlow.
        for names in [[".weight", ".gamma"], [".bias", ".beta"]] {
            let found = names.iter().find(|suffix| find(self.tensors, &format!("{name}{suffix}")).is_ok());
            let numbers = self.floats(&format!("{name}{}", found.unwrap_or(&names[0])), &[width])?;
            parts.put(bytes_of(&numbers))?;
        }
        Ok(())
    }

    /// One linear layer from some with the same inputs, whose outputs become neighbours.
    fn linear(&self, names: &[String], outputs: usize, inputs: usize, parts: &mut PartWriter) -> Result<()> {
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            let tensor = self.published(&format!("{name}.weight"), &[outputs, inputs])?;
            weights.extend(self.tensors.read_all(tensor)?);
            bias.extend(self.floats(&format!("{name}.bias"), &[outputs])?);
        }
        match self.precision {
            Precision::Float => parts.put(&lay_panels(&weights, self.dtype.size(), inputs))?,
            Precision::Int8 => {
                let quantised = quantise(&widen(&weights, self.dtype)?, inputs);
                parts.put(&lay_panels(bytes_of(&quantised.values), QUAD, inputs / QUAD))?;
                parts.put(bytes_of(&quantised.scales))?;
                parts.put(bytes_of(&quantised.offsets))?;
            }
        }
        parts.put(bytes_of(&bias))
    }
}

/// Rows of elements of so many bytes to panels: `[rows / 16][elements][16]`.
fn lay_panels(rows: &[u8], element: usize, elements: usize) -> Vec<u8> {
    let mut panels = Vec::with_capacity(rows.len());
    for panel in rows.chunks_exact(PANEL * elements * element) {
        for at in 0..elements {
            for row in panel.chunks_exact(elements * element) {
                panels.extend_from_slice(&row[at * element..][..element]);
            }
        }
    }
    panels
}

/// Weights of eight bits, by rows.
struct Quantised {
    values: Vec<i8>,
    scales: Vec<f32>,
    offsets: Vec<i32>,
}

fn quantise(weights: &[f32], inputs: usize) -> Quantised {
    let mut quantised =
        Quantised { values: Vec::with_capacity(weights.len()), scales: Vec::new(), offsets: Vec::new() };
    for row in weights.chunks_exact(inputs) {
        let most = row.iter().fold(1e-12f32, |most, x| most.max(x.abs()));
        let values = row.iter().map(|x| (x / most * 127.0).round() as i8);
        let from = quantised.values.len();
        quantised.values.extend(values);
        let sum: i32 = quantised.values[from..].iter().map(|value| i32::from(*value)).sum();
        quantised.scales.push(most / 127.0);
        quantised.offsets.push(sum * ZERO_POINT);
    }
    quantised
}

/// Little endian bytes to numbers in single precision.
fn widen(bytes: &[u8], dtype: Dtype) -> Result<Vec<f32>> {
    let kernels = Kernels::best();
    let halves: Vec<u16> = match dtype {
        Dtype::F32 => {
            let numbers = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            return Ok(numbers.collect());
        }
        _ => bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect(),
    };
    let mut numbers = vec![0.0; halves.len()];
    match dtype {
        Dtype::F16 => kernels.widen_f16(&halves, &mut numbers),
        _ => kernels.widen_bf16(&halves, &mut numbers),
    }
    Ok(numbers)
}

/// The names that the table of a static model has: in Model2Vec's files, and in those of sentence-transformers.
const STATIC_TABLES: [&str; 2] = ["embeddings", "embedding.weight"];

fn static_shape<S: ReadAt>(tensors: &Tensors<S>) -> Result<StaticShape> {
    let table = tensors.find(&STATIC_TABLES.map(str::to_owned))?;
    let [rows, width] = *table.shape() else {
        return malformed(format!("the embeddings have the shape {:?}, expected two lengths", table.shape()));
    };
    // A text of one token and the table's row for it: both fit into memory, as the file does.
    let (rows, width) = (rows as usize, width as usize);
    if rows == 0 || width == 0 || width > 16_000 {
        return malformed(format!(
            "the embeddings have the shape {:?}, expected at most 16000 dimensions",
            table.shape()
        ));
    }
    let tokens =
        ["mapping", "weights"].iter().find_map(|name| tensors.get(name)).map(|tensor| tensor.shape()[0] as usize);
    Ok(StaticShape { width, rows, vocabulary: tokens.unwrap_or(rows), unknown: None })
}

fn write_static<S: ReadAt>(tensors: &Tensors<S>, shape: &StaticShape, parts: &mut PartWriter) -> Result<Dtype> {
    let table = tensors.find(&STATIC_TABLES.map(str::to_owned))?;
    let dtype = table.dtype()?;
    table.expect_shape(&[shape.rows, shape.width])?;
    parts.copy(tensors, table)?;
    let weights = match tensors.get("weights") {
        None => vec![1.0; shape.vocabulary],
        Some(weights) => {
            weights.expect_shape(&[shape.vocabulary])?;
            let bytes = tensors.read_all(weights)?;
            match weights.dtype_name() {
                "F64" => bytes.chunks_exact(8).map(|b| double(b) as f32).collect(),
                _ => widen(&bytes, weights.dtype()?)?,
            }
        }
    };
    parts.put(bytes_of(&weights))?;
    let mapping: Vec<i32> = match tensors.get("mapping") {
        None => (0..shape.vocabulary).map(|row| row as i32).collect(),
        Some(mapping) => {
            mapping.expect_shape(&[shape.vocabulary])?;
            let bytes = tensors.read_all(mapping)?;
            match mapping.dtype_name() {
                "I64" => bytes.chunks_exact(8).map(|b| i32::try_from(double(b).to_bits()).unwrap_or(-1)).collect(),
                "I32" => bytes.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
                other => {
                    return unsupported(format!("tensor mapping has numbers of type {other}, expected I64 or I32"));
                }
            }
        }
    };
    if !mapping.iter().all(|row| usize::try_from(*row).is_ok_and(|row| row < shape.rows)) {
        return malformed("tensor mapping names a vector that is not there");
    }
    parts.put(bytes_of(&mapping))?;
    Ok(dtype)
}

/// Eight bytes as the number that they are.
fn double(b: &[u8]) -> f64 {
    f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
}
