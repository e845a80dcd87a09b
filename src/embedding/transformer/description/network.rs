//! `config.json`: the family and the shape of a network.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::settings::{flag, text};
use crate::embedding::transformer::kernels::PANEL;
use crate::error::local_model::{Result, malformed, unsupported};

/// Largest lengths that are believed. The largest models of these families have 1024, 4096, 24 and 514.
const MAX_WIDTH: usize = 8192;
const MAX_INTERMEDIATE: usize = 32_768;
const MAX_LAYERS: usize = 128;
const MAX_POSITIONS: usize = 65_536;
const MAX_VOCABULARY: usize = 4_000_000;

/// The shape of a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Network {
    /// BERT, RoBERTa or XLM-RoBERTa, which differ in where positions begin.
    Transformer(TransformerShape),
    /// A vector for each token (Model2Vec).
    Static(StaticShape),
}

/// The shape of a transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransformerShape {
    /// Numbers of a token's vector.
    pub width: usize,
    /// Numbers between the two linear layers of a feed-forward part.
    pub intermediate: usize,
    /// The number of encoder layers.
    pub layers: usize,
    /// The number of attention heads of each layer.
    pub heads: usize,
    /// Tokens that have an embedding.
    pub vocabulary: usize,
    /// Positions that have an embedding.
    pub positions: usize,
    /// The position of a text's first token.
    pub first_position: usize,
    /// Rows of the table of token types, of which the first one is used.
    pub token_types: usize,
    /// The number that is added to a variance.
    pub epsilon: f32,
}

/// The shape of a table of vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StaticShape {
    /// Numbers of a vector; 0 until the table was looked at.
    pub width: usize,
    /// Vectors; 0 until the table was looked at.
    pub rows: usize,
    /// Tokens; 0 until the table was looked at.
    pub vocabulary: usize,
    /// The token of what is not in the vocabulary, which counts as nothing.
    pub unknown: Option<u32>,
}

impl Network {
    /// Length of a vector.
    pub fn dimensions(&self) -> usize {
        match self {
            Self::Transformer(shape) => shape.width,
            Self::Static(shape) => shape.width,
        }
    }
}

/// Reads a `config.json`.
pub fn read(config: &Map<String, Value>) -> Result<Network> {
    if config.contains_key("quantization_config") {
        return unsupported("config.json has a quantization_config, which is not supported");
    }
    match text(config, "model_type")? {
        Some("bert") => read_transformer(config, false),
        Some("roberta" | "xlm-roberta") => read_transformer(config, true),
        Some("model2vec") => Ok(Network::Static(StaticShape { width: 0, rows: 0, vocabulary: 0, unknown: None })),
        other => unsupported(format!(
            "config.json has the model_type {}, expected bert, roberta, xlm-roberta or model2vec",
            other.unwrap_or("null")
        )),
    }
}

fn read_transformer(config: &Map<String, Value>, after_padding: bool) -> Result<Network> {
    expect(config, "hidden_act", "gelu")?;
    expect(config, "position_embedding_type", "absolute")?;
    for refused in ["is_decoder", "add_cross_attention", "is_encoder_decoder"] {
        if flag(config, refused)? {
            return unsupported(format!("config.json has {refused}, which is not supported"));
        }
    }
    let width = size(config, "hidden_size", MAX_WIDTH)?;
    let intermediate = size(config, "intermediate_size", MAX_INTERMEDIATE)?;
    let heads = size(config, "num_attention_heads", MAX_WIDTH)?;
    if !width.is_multiple_of(heads) || !(width / heads).is_multiple_of(PANEL) {
        return unsupported(format!(
            "config.json has a hidden_size of {width} and {heads} attention heads, expected a multiple of {PANEL} for each head"
        ));
    }
    if !intermediate.is_multiple_of(PANEL) {
        return unsupported(format!(
            "config.json has an intermediate_size of {intermediate}, expected a multiple of {PANEL}"
        ));
    }
    let positions = size(config, "max_position_embeddings", MAX_POSITIONS)?;
    let padding = config.get("pad_token_id").and_then(Value::as_u64).unwrap_or(1);
    // These families count positions from after the one of padding.
    let first_position =
        if after_padding { usize::try_from(padding).unwrap_or(usize::MAX).saturating_add(1) } else { 0 };
    if first_position.saturating_add(3) > positions {
        return malformed(format!(
            "config.json has {positions} positions, and the first one of a text is {first_position}"
        ));
    }
    let epsilon = config.get("layer_norm_eps").and_then(Value::as_f64).unwrap_or(1e-12);
    if !(0.0..=1.0).contains(&epsilon) {
        return malformed(format!("config.json has a layer_norm_eps of {epsilon}"));
    }
    Ok(Network::Transformer(TransformerShape {
        width,
        intermediate,
        layers: size(config, "num_hidden_layers", MAX_LAYERS)?,
        heads,
        vocabulary: size(config, "vocab_size", MAX_VOCABULARY)?,
        positions,
        first_position,
        token_types: size(config, "type_vocab_size", MAX_VOCABULARY)?,
        epsilon: epsilon as f32,
    }))
}

/// Refuses another value than the one that is implemented, which is also what is meant where there is none.
fn expect(config: &Map<String, Value>, name: &str, implemented: &str) -> Result<()> {
    match text(config, name)? {
        Some(other) if other != implemented => {
            unsupported(format!("config.json has the {name} {other}, expected {implemented}"))
        }
        _ => Ok(()),
    }
}

fn size(config: &Map<String, Value>, name: &str, most: usize) -> Result<usize> {
    let value = config.get(name).unwrap_or(&Value::Null);
    match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
        Some(n) if (1..=most).contains(&n) => Ok(n),
        _ => malformed(format!("config.json has {value} as {name}, expected 1 to {most}")),
    }
}
