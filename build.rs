//! Freezes the built-in model's vocabulary into a hash table that is used straight from the library's read-only pages:
//! nothing to parse, to allocate or to copy when a backend first embeds.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use serde_json::Value;

#[path = "src/embedding/local/hash.rs"]
mod hash;

const DATA: &str = "src/embedding/local/data";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/embedding/local/hash.rs");
    println!("cargo::rerun-if-changed={DATA}");
    let out = env::var("OUT_DIR")?;

    let tokenizer: Value = serde_json::from_slice(&fs::read(Path::new(DATA).join("tokenizer.json"))?)?;
    let vocab = tokenizer["model"]["vocab"].as_object().ok_or("tokenizer.json has no vocabulary")?;
    let mut pieces = vec![""; vocab.len()];
    for (piece, id) in vocab {
        let id = usize::try_from(id.as_u64().ok_or("an id is no number")?)?;
        *pieces.get_mut(id).ok_or("the ids have a gap")? = piece;
    }
    fs::write(Path::new(&out).join("vocab.bin"), freeze(&pieces)?)?;

    let model = fs::read(Path::new(DATA).join("model.safetensors"))?;
    let header_len = usize::try_from(u64::from_le_bytes(model[..8].try_into()?))?;
    let header: Value = serde_json::from_slice(&model[8..8 + header_len])?;
    let tensor = |name: &str, dtype: &str| -> Result<(usize, Vec<usize>), Box<dyn Error>> {
        let tensor = &header[name];
        if tensor["dtype"] != dtype {
            return Err(format!("{name} is not {dtype}").into());
        }
        let numbers = |key: &str| -> Option<Vec<usize>> {
            tensor[key].as_array()?.iter().map(|n| usize::try_from(n.as_u64()?).ok()).collect()
        };
        let offsets = numbers("data_offsets").ok_or("no offsets")?;
        Ok((8 + header_len + offsets[0], numbers("shape").ok_or("no shape")?))
    };
    let (embeddings, shape) = tensor("embeddings", "I8")?;
    let (weights, rows) = tensor("weights", "F32")?;
    if shape[0] != pieces.len() || rows[0] != pieces.len() {
        return Err("the vocabulary and the tables differ in length".into());
    }
    let config: Value = serde_json::from_slice(&fs::read(Path::new(DATA).join("config.json"))?)?;
    let max_tokens = config["max_length"].as_u64().ok_or("config.json has no max_length")?;
    let constants = format!(
        "const EMBEDDINGS: usize = {embeddings};\nconst WEIGHTS: usize = {weights};\nconst VOCABULARY: usize = {};\n\
         /// Dimensions of a vector.\npub const DIMENSIONS: usize = {};\n\
         /// Tokens of a text that count; what comes after them does not.\npub const MAX_TOKENS: usize = {max_tokens};\n",
        pieces.len(),
        shape[1],
    );
    fs::write(Path::new(&out).join("model.rs"), constants)?;
    Ok(())
}

/// Slots (an id and a fingerprint, u16 each, by hash, linear probing), where each piece starts (u32 each), the pieces. Little endian.
fn freeze(pieces: &[&str]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut slots = vec![(hash::EMPTY, 0); hash::SLOTS];
    for (id, piece) in pieces.iter().enumerate() {
        let hashed = hash::extend(hash::START, piece.as_bytes());
        let mut slot = hash::slot(hashed);
        while slots[slot].0 != hash::EMPTY {
            slot = (slot + 1) % hash::SLOTS;
        }
        slots[slot] = (u16::try_from(id)?, hash::fingerprint(hashed));
    }
    let mut out: Vec<u8> =
        slots.iter().flat_map(|(id, print)| [id.to_le_bytes(), print.to_le_bytes()].concat()).collect();
    let mut at = 0u32;
    out.extend(at.to_le_bytes());
    for piece in pieces {
        if piece.len() > hash::LONGEST_PIECE {
            return Err(format!("a piece of {} bytes", piece.len()).into());
        }
        at += u32::try_from(piece.len())?;
        out.extend(at.to_le_bytes());
    }
    out.extend(pieces.iter().flat_map(|p| p.bytes()));
    Ok(out)
}
