//! The file that a model becomes when it is imported: its numbers in the order and layout in which a forward pass reads
//! them, so that processes map it and have nothing to prepare. Little endian, every part aligned to a cache line.
//!
//! It begins with a page: a magic number, the version of this format, and a description of the model in JSON with its
//! digest. The sizes of all parts follow from the description, so no offset stands in the file that could be wrong.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::description::{Description, Network};
use super::encoder::{AttentionLayer, Encoder, Norm};
use super::folder::hexadecimal;
use super::kernels::{Int8Panels, PANEL};
use super::memory::{Number, view};
use super::safetensors::Dtype;
use super::static_model::StaticModel;
use super::weights::{Linear, Numbers, Panels, Table};
use crate::error::local_model::{Problem, Result};

/// The version of the format. It changes whenever the same folder becomes other bytes.
pub const VERSION: u32 = 1;
/// The first bytes of a file.
const MAGIC: [u8; 8] = *b"chatbot\x1a";
/// Bytes before the parts.
pub const PAGE: usize = 4096;
/// Bytes of the page before its JSON: magic, version, length of the JSON, digest of the JSON.
const PREFIX: usize = 48;
/// The alignment of each part, in bytes.
pub const ALIGNMENT: usize = 64;

/// The precision in which the weights of linear layers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// They are stored as they were published.
    Float,
    /// Rounded to eight bits, as activations are too.
    Int8,
}

/// The first page of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The model, as the folder that it was imported from described it.
    pub description: Description,
    /// The precision in which the weights of linear layers are stored.
    pub precision: Precision,
    /// The type of the numbers of tables, and of linear layers that are not rounded.
    pub dtype: Dtype,
    /// The digest of the folder's files.
    pub digest: String,
    /// A text that changes when a file of the folder is written or replaced.
    pub stamp: String,
    /// Bytes of the frozen tokenizer.
    pub tokenizer: u64,
    /// Bytes of the file.
    pub length: u64,
    /// The SHA-256 of all after the first page.
    pub checksum: String,
}

impl Header {
    /// The first page.
    pub fn page(&self) -> Result<Vec<u8>> {
        let json = serde_json::to_vec(self).map_err(|error| Problem::Unsupported(error.to_string()))?;
        if json.len() > PAGE - PREFIX {
            return Err(Problem::Unsupported("the model's prompts are too long".to_owned()));
        }
        let mut page = Vec::with_capacity(PAGE);
        page.extend(MAGIC);
        page.extend(VERSION.to_le_bytes());
        page.extend((json.len() as u32).to_le_bytes());
        page.extend(Sha256::digest(&json));
        page.extend(json);
        page.resize(PAGE, 0);
        Ok(page)
    }

    /// Reads the first page of a file.
    pub fn read(file: &[u8]) -> Result<Self> {
        if cfg!(target_endian = "big") {
            return Err(Problem::Unsupported("models in folders need a machine with little endian numbers".to_owned()));
        }
        let damaged = |message: &str| Err(Problem::Damaged(message.to_owned()));
        let Some((prefix, rest)) = file.get(..PAGE).and_then(|page| page.split_at_checked(PREFIX)) else {
            return damaged("it is shorter than its first page");
        };
        if prefix[..8] != MAGIC {
            return damaged("it does not begin as such a file does");
        }
        let number = |at: usize| u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]);
        if number(8) != VERSION {
            return damaged("it has another version");
        }
        let Some(json) = rest.get(..number(12) as usize).filter(|json| Sha256::digest(json)[..] == prefix[16..48])
        else {
            return damaged("its first page was changed");
        };
        let header: Self = serde_json::from_slice(json).map_err(|error| Problem::Damaged(error.to_string()))?;
        if header.length != file.len() as u64 {
            return Err(Problem::Damaged(format!("it has {} bytes, expected {}", file.len(), header.length)));
        }
        Ok(header)
    }

    /// Compares all that comes after the first page with what was written. Reads the whole file.
    pub fn verify(&self, file: &[u8]) -> Result<()> {
        if hexadecimal(&Sha256::digest(file.get(PAGE..).unwrap_or_default())) == self.checksum {
            return Ok(());
        }
        Err(Problem::Damaged("its content was changed".to_owned()))
    }
}

/// A network whose numbers are in a mapped file.
pub enum Model<'a> {
    /// A transformer, which is run over the tokens of a text.
    Transformer(Encoder<'a>),
    /// A vector for each token.
    Static(StaticModel<'a>),
}

/// The contents of a file, read in place.
pub struct Frozen<'a> {
    /// The first page.
    pub header: Header,
    /// The network, whose weights lie in the file's mapping.
    pub model: Model<'a>,
    /// The tokenizer's bytes.
    pub tokenizer: &'a [u8],
}

impl<'a> Frozen<'a> {
    /// Looks at a file. It checks the first page and that every part is there; what the numbers are it does not look at.
    pub fn open(file: &'a [u8]) -> Result<Self> {
        let header = Header::read(file)?;
        let mut parts = Parts { file, at: PAGE, dtype: header.dtype, precision: header.precision };
        let model = match &header.description.network {
            Network::Transformer(shape) => {
                let width = shape.width;
                Model::Transformer(Encoder {
                    shape: shape.clone(),
                    pooling: header.description.pooling,
                    words: parts.table(shape.vocabulary, width)?,
                    positions: parts.table(shape.positions, width)?,
                    token_type: parts.numbers(width)?,
                    norm: parts.norm(width)?,
                    layers: (0..shape.layers)
                        .map(|_| {
                            Ok(AttentionLayer {
                                query_key_value: parts.linear(3 * width, width)?,
                                attention: parts.linear(width, width)?,
                                attention_norm: parts.norm(width)?,
                                intermediate: parts.linear(shape.intermediate, width)?,
                                output: parts.linear(width, shape.intermediate)?,
                                output_norm: parts.norm(width)?,
                            })
                        })
                        .collect::<Result<_>>()?,
                })
            }
            Network::Static(shape) => Model::Static(StaticModel {
                vectors: parts.table(shape.rows, shape.width)?,
                weights: parts.numbers(shape.vocabulary)?,
                rows: parts.numbers(shape.vocabulary)?,
                unknown: shape.unknown,
            }),
        };
        let tokenizer = parts.take(usize::try_from(header.tokenizer).unwrap_or(usize::MAX))?;
        if parts.at != file.len() {
            return Err(Problem::Damaged(format!("it has {} bytes, and its parts {}", file.len(), parts.at)));
        }
        Ok(Self { header, model, tokenizer })
    }
}

/// Takes one part after another. [`super::import`] writes them in the same order.
struct Parts<'a> {
    file: &'a [u8],
    at: usize,
    dtype: Dtype,
    precision: Precision,
}

impl<'a> Parts<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let missing = || Problem::Damaged(format!("it has {} bytes, which is too few for its parts", self.file.len()));
        let end = self.at.checked_add(bytes).ok_or_else(missing)?;
        let part = self.file.get(self.at..end).ok_or_else(missing)?;
        self.at = end.next_multiple_of(ALIGNMENT).min(self.file.len());
        Ok(part)
    }

    fn numbers<T: Number>(&mut self, count: usize) -> Result<&'a [T]> {
        let bytes = count.saturating_mul(size_of::<T>());
        view(self.take(bytes)?).ok_or_else(|| Problem::Damaged("a part is not aligned".to_owned()))
    }

    fn published(&mut self, count: usize) -> Result<Numbers<'a>> {
        Ok(match self.dtype {
            Dtype::F32 => Numbers::F32(self.numbers(count)?),
            Dtype::F16 => Numbers::F16(self.numbers(count)?),
            Dtype::Bf16 => Numbers::Bf16(self.numbers(count)?),
        })
    }

    fn table(&mut self, rows: usize, width: usize) -> Result<Table<'a>> {
        let count = rows.saturating_mul(width);
        Ok(Table { numbers: self.published(count)?, width })
    }

    fn norm(&mut self, width: usize) -> Result<Norm<'a>> {
        Ok(Norm { gain: self.numbers(width)?, bias: self.numbers(width)? })
    }

    fn linear(&mut self, outputs: usize, inputs: usize) -> Result<Linear<'a>> {
        if !outputs.is_multiple_of(PANEL) {
            return Err(Problem::Damaged(format!("a layer has {outputs} outputs")));
        }
        let count = outputs.saturating_mul(inputs);
        let weights = match self.precision {
            Precision::Float => Panels::Float(self.published(count)?),
            Precision::Int8 => Panels::Int8(Int8Panels {
                values: self.numbers(count)?,
                scales: self.numbers(outputs)?,
                offsets: self.numbers(outputs)?,
            }),
        };
        Ok(Linear { weights, bias: self.numbers(outputs)?, inputs })
    }
}
