//! The description of a model, beside its numbers: the shape of its network, what is done with the network's output, the
//! longest text, and the prompts. Read from the folder's settings; what is not implemented is refused by name.
//!
//! - `network`: `config.json`
//! - `modules`: `modules.json` and the pooling
//! - `prompts`: what is put before a text
//! - `settings`: reads a setting, and checks its kind

mod modules;
mod network;
mod prompts;
mod settings;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::folder::{Folder, SETTINGS, TOKENIZER, WEIGHTS};
use crate::error::local_model::{Result, malformed, unsupported};

use settings::{flag, object};

pub use modules::Pooling;
pub use network::{Network, StaticShape, TransformerShape};

/// Longest text that is embedded whole, in tokens, whatever a model takes.
const MAX_TOKENS: usize = 8192;
/// Tokens of a text for a static model, as Model2Vec has it.
const STATIC_TOKENS: usize = 512;

/// A model, beside its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The shape of its network.
    pub network: Network,
    /// The way in which the vectors of tokens become that of a text.
    pub pooling: Pooling,
    /// Whether vectors are made of length 1.
    pub normalise: bool,
    /// Tokens of a text that count, special ones included.
    pub max_tokens: usize,
    /// Put before a document.
    pub document_prefix: String,
    /// Put before a query.
    pub query_prefix: String,
}

impl Description {
    /// Length of a vector.
    pub fn dimensions(&self) -> usize {
        self.network.dimensions()
    }
}

/// A folder's description, and the files that the model is made of.
#[derive(Debug)]
pub struct Described {
    /// The model, as the folder's files describe it.
    pub description: Description,
    /// All files that were read or will be.
    pub files: Vec<String>,
}

/// Reads a folder's settings. The name is the model's, by which some models that want a prefix are known.
pub fn read(folder: &Folder, name: &str) -> Result<Described> {
    let mut files: Vec<String> = [WEIGHTS, TOKENIZER].iter().chain(&SETTINGS).map(|file| (*file).to_owned()).collect();
    let Some(config) = object(folder, "config.json")? else {
        return malformed(format!("{} is missing", folder.describe("config.json")));
    };
    let network = network::read(&config)?;
    let modules = modules::read(folder, &network, &mut files)?;
    let (document_prefix, query_prefix) = prompts::read(folder, name)?;
    let max_tokens = read_max_tokens(folder, &network)?;
    let normalise = modules.normalise || config.get("normalize").and_then(Value::as_bool).unwrap_or(false);
    let description =
        Description { network, pooling: modules.pooling, normalise, max_tokens, document_prefix, query_prefix };
    Ok(Described { description, files })
}

/// Reads the largest number of tokens of a text: as the folder says, and at most as many as the network has positions for.
fn read_max_tokens(folder: &Folder, network: &Network) -> Result<usize> {
    let settings = object(folder, "sentence_bert_config.json")?.unwrap_or_default();
    if flag(&settings, "do_lower_case")? {
        return unsupported("sentence_bert_config.json asks for do_lower_case, which is not supported");
    }
    let Network::Transformer(shape) = network else { return Ok(STATIC_TOKENS) };
    let mut most = (shape.positions - shape.first_position).min(MAX_TOKENS);
    let of_tokenizer = object(folder, "tokenizer_config.json")?.unwrap_or_default();
    for said in [settings.get("max_seq_length"), of_tokenizer.get("model_max_length")].into_iter().flatten() {
        match said {
            Value::Null => {}
            // Where there is no limit, it is a number like 1e30.
            Value::Number(number) => match number.as_f64() {
                Some(tokens) if tokens >= 3.0 => most = most.min(tokens.min(1e9) as usize),
                _ => return malformed(format!("the longest text has {number} tokens, expected 3 or more")),
            },
            other => return malformed(format!("the longest text has {other} tokens, expected a number")),
        }
    }
    Ok(most)
}
