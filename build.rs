//! Freezes the vocabularies of the built-in models into tables that are used straight from the library's read-only pages:
//! nothing to parse, to allocate or to copy when a backend first embeds.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_json::Value;

#[path = "src/embedding/local/double_array_builder.rs"]
mod double_array_builder;
#[path = "src/embedding/local/hash.rs"]
mod hash;

const LOCAL: &str = "src/embedding/local";
const ENGLISH: &str = "minilm-static-256";
const MULTILINGUAL: &str = "multilingual-static-256";

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    for path in ["double_array_builder.rs", "hash.rs", "data"] {
        println!("cargo::rerun-if-changed={LOCAL}/{path}");
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let wordpieces = read_json(ENGLISH, "tokenizer.json")?;
    let wordpieces = in_order_of_ids(&wordpieces["model"]["vocab"])?;
    fs::write(out.join("wordpiece.bin"), freeze_wordpieces(&wordpieces)?)?;
    fs::write(out.join("wordpiece.rs"), format!("const WORDPIECES: usize = {};\n", wordpieces.len()))?;
    write_lengths(&out.join("english_lengths.bin"), wordpieces.iter().map(|piece| piece.trim_start_matches("##")))?;
    let unigrams = freeze_unigrams(&out)?;

    let shapes = shape("ENGLISH", ENGLISH, wordpieces.len())? + &shape("MULTILINGUAL", MULTILINGUAL, unigrams)?;
    fs::write(out.join("shapes.rs"), shapes)?;
    Ok(())
}

fn read(model: &str, file: &str) -> Result<Vec<u8>> {
    let path = Path::new(LOCAL).join("data").join(model).join(file);
    fs::read(&path).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn read_json(model: &str, file: &str) -> Result<Value> {
    Ok(serde_json::from_slice(&read(model, file)?)?)
}

/// The constants that say where the tensors of a model are, which must have a row for each piece.
fn shape(constant: &str, model: &str, pieces: usize) -> Result<String> {
    let file = read(model, "model.safetensors")?;
    let header_len = usize::try_from(u64::from_le_bytes(file[..8].try_into()?))?;
    let header: Value = serde_json::from_slice(&file[8..8 + header_len])?;
    let tensor = |name: &str, dtype: &str| -> Result<(usize, Vec<usize>)> {
        let tensor = &header[name];
        if tensor["dtype"] != dtype {
            return Err(format!("{model}: {name} is not {dtype}").into());
        }
        let numbers = |key: &str| -> Option<Vec<usize>> {
            tensor[key].as_array()?.iter().map(|n| usize::try_from(n.as_u64()?).ok()).collect()
        };
        let offsets = numbers("data_offsets").ok_or("no offsets")?;
        Ok((8 + header_len + offsets[0], numbers("shape").ok_or("no shape")?))
    };
    let (embeddings, shape) = tensor("embeddings", "I8")?;
    let (weights, rows) = tensor("weights", "F32")?;
    if shape[0] != pieces || rows[0] != pieces {
        return Err(format!("{model}: the vocabulary and the tables differ in length").into());
    }
    let max_tokens = read_json(model, "config.json")?["max_length"].as_u64().ok_or("config.json has no max_length")?;
    let dimensions = shape[1];
    Ok(format!(
        "const {constant}_BYTES: usize = {};\n\
         const {constant}_SHAPE: Shape = Shape {{ dimensions: {dimensions}, max_tokens: {max_tokens}, embeddings: {embeddings}, weights: {weights} }};\n",
        file.len()
    ))
}

fn in_order_of_ids(vocab: &Value) -> Result<Vec<&str>> {
    let vocab = vocab.as_object().ok_or("tokenizer.json has no vocabulary")?;
    let mut pieces = vec![""; vocab.len()];
    for (piece, id) in vocab {
        let id = usize::try_from(id.as_u64().ok_or("an id is no number")?)?;
        *pieces.get_mut(id).ok_or("the ids have a gap")? = piece;
    }
    Ok(pieces)
}

/// Builds the table: slots (u16 id and u16 fingerprint, placed by hash with linear probing), the offset of each piece
/// (u32), and the pieces. Numbers are little-endian.
fn freeze_wordpieces(pieces: &[&str]) -> Result<Vec<u8>> {
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

/// Characters of each piece, without what says where it stands in a word.
fn write_lengths<'a>(path: &Path, pieces: impl Iterator<Item = &'a str>) -> Result<()> {
    let lengths: Result<Vec<u8>, _> = pieces.map(|piece| u8::try_from(piece.chars().count())).collect();
    Ok(fs::write(path, lengths?)?)
}

/// Writes the pieces of the multilingual model as a double array, and their scores (f64 each, little endian): how many
/// pieces there are.
fn freeze_unigrams(out: &Path) -> Result<usize> {
    let tokenizer = read_json(MULTILINGUAL, "tokenizer.json")?;
    let unknown = tokenizer["model"]["unk_id"].as_u64().ok_or("tokenizer.json has no unk_id")?;
    let vocab = tokenizer["model"]["vocab"].as_array().ok_or("tokenizer.json has no vocabulary")?;
    let (mut pieces, mut scores, mut least): (Vec<(&[u8], u32)>, Vec<u8>, f64) = (Vec::new(), Vec::new(), 0.0);
    for (id, entry) in (0u32..).zip(vocab) {
        let piece = entry[0].as_str().ok_or("a piece is no text")?;
        let score = entry[1].as_f64().ok_or("a score is no number")?;
        if piece.is_empty() || piece.contains('\0') {
            return Err(format!("piece {id} is {piece:?}").into());
        }
        if u64::from(id) != unknown {
            pieces.push((piece.as_bytes(), id));
        }
        scores.extend(score.to_le_bytes());
        least = least.min(score);
    }
    let texts = vocab.iter().map(|entry| entry[0].as_str().unwrap_or_default().trim_start_matches('▁'));
    write_lengths(&out.join("multilingual_lengths.bin"), texts)?;
    pieces.sort_unstable();
    if pieces.windows(2).any(|two| two[0].0 == two[1].0) {
        return Err("a piece is there twice".into());
    }
    fs::write(out.join("unigram_trie.bin"), double_array_builder::build(&pieces))?;
    fs::write(out.join("unigram_scores.bin"), scores)?;
    let constants = format!(
        "/// The id of what is no piece.\npub const UNKNOWN: u32 = {unknown};\n\
         /// The score of the least probable piece.\nconst LEAST_SCORE: f64 = {least:?};\n"
    );
    fs::write(out.join("unigram.rs"), constants)?;
    Ok(vocab.len())
}
