//! The model of a `tokenizer.json`: its fields, and its frozen form.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::added_tokens::AddedToken;
use super::bpe::{self, Merge};
use super::double_array::MAX_NUMBERS;
use super::double_array_builder::build;
use super::frozen::{SECTIONS, Section};
use super::unigram::UnigramSettings;
use super::wordpiece::WordPieceSettings;
use super::{Model, byte_level};

/// The fields of all models.
#[derive(Default)]
pub struct ModelFile {
    kind: Option<String>,
    vocabulary: Vocabulary,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    max_input_chars_per_word: Option<usize>,
    unk_id: Option<u32>,
    byte_fallback: Option<bool>,
    merges: Option<Vec<MergeFile>>,
    /// The options of BPE that change its tokens, unless they are null, false, 0 or empty.
    options: Vec<(String, serde_json::Value)>,
    others: Vec<String>,
}

enum Vocabulary {
    /// The ids of WordPiece by their pieces.
    Ids(HashMap<String, u32>),
    /// The pieces of Unigram with their scores, in the order of their ids.
    Scores(Vec<(String, f64)>),
}

impl Default for Vocabulary {
    fn default() -> Self {
        Vocabulary::Ids(HashMap::new())
    }
}

/// Two pieces, in older files with a space between them.
#[derive(Deserialize)]
#[serde(untagged)]
enum MergeFile {
    Pair(String, String),
    Line(String),
}

/// Pieces and their ids.
type Pieces = Vec<(String, u32)>;

impl ModelFile {
    /// Writes the pieces, and what else the model needs. Also gives the highest id of all.
    pub fn freeze(
        mut self,
        added: &[AddedToken],
        is_byte_level: bool,
        sections: &mut [Vec<u8>; SECTIONS],
    ) -> Result<(Model, u32), String> {
        let (pieces, model) = match (self.kind.as_deref(), std::mem::take(&mut self.vocabulary)) {
            (Some("WordPiece") | None, Vocabulary::Ids(ids)) => self.wordpiece(ids)?,
            (Some("Unigram") | None, Vocabulary::Scores(scores)) => self.unigram(scores, sections)?,
            (Some("BPE"), Vocabulary::Ids(_)) if !is_byte_level => {
                return Err("the model BPE without the pre-tokenizer ByteLevel at the end is not supported".into());
            }
            (Some("BPE"), Vocabulary::Ids(ids)) => self.bpe(ids, sections)?,
            (kind, _) => {
                let kind = kind.unwrap_or("without a type");
                return Err(format!("the model {kind} is not supported: WordPiece, Unigram and byte-level BPE are"));
            }
        };
        if let Some(other) = self.others.first() {
            return Err(format!("the field {other:?} of the model is not supported"));
        }
        // Of two pieces that are the same the last one counts.
        let ids: HashMap<&str, u32> = pieces.iter().map(|(piece, id)| (piece.as_str(), *id)).collect();
        check_added_ids(added, &ids, pieces.len())?;
        let all = pieces.iter().map(|(_, id)| *id).chain(added.iter().map(|token| token.id));
        let highest_id = all.max().unwrap_or(0);
        if highest_id >= MAX_NUMBERS {
            return Err(format!("ids of {MAX_NUMBERS} or more are not supported"));
        }
        let mut strings: Vec<(&[u8], u32)> = ids.iter().map(|(piece, id)| (piece.as_bytes(), *id)).collect();
        strings.sort_unstable();
        build(&strings, &mut sections[Section::Pieces as usize]);
        Ok((model, highest_id))
    }

    fn wordpiece(&mut self, ids: HashMap<String, u32>) -> Result<(Pieces, Model), String> {
        let continuing_prefix =
            self.continuing_subword_prefix.take().ok_or("WordPiece has no continuing_subword_prefix")?;
        let longest_word = self.max_input_chars_per_word.ok_or("WordPiece has no max_input_chars_per_word")?;
        let unknown = self.unk_token.take().ok_or("WordPiece has no unk_token")?;
        let unknown = *ids.get(&unknown).ok_or_else(|| format!("WordPiece does not have its unk_token {unknown:?}"))?;
        let model = Model::WordPiece(WordPieceSettings { unknown, continuing_prefix, longest_word });
        Ok((ids.into_iter().collect(), model))
    }

    fn unigram(
        &self,
        pieces: Vec<(String, f64)>,
        sections: &mut [Vec<u8>; SECTIONS],
    ) -> Result<(Pieces, Model), String> {
        if self.byte_fallback == Some(true) {
            return Err("Unigram with byte_fallback is not supported".into());
        }
        let unknown = self.unk_id.ok_or("Unigram without an unk_id is not supported")?;
        if unknown as usize >= pieces.len() {
            return Err("Unigram does not have its unk_id".into());
        }
        sections[Section::Scores as usize] = pieces.iter().flat_map(|(_, score)| score.to_le_bytes()).collect();
        let least_score = pieces.iter().map(|(_, score)| *score).fold(f64::INFINITY, f64::min);
        let model = Model::Unigram(UnigramSettings { unknown, least_score_bits: least_score.to_bits() });
        Ok((pieces.into_iter().zip(0..).map(|((piece, _), id)| (piece, id)).collect(), model))
    }

    fn bpe(&self, ids: HashMap<String, u32>, sections: &mut [Vec<u8>; SECTIONS]) -> Result<(Pieces, Model), String> {
        use serde_json::Value;
        let prefix = self.continuing_subword_prefix.as_deref().unwrap_or("");
        if !prefix.is_empty() {
            return Err("BPE with a continuing_subword_prefix is not supported".into());
        }
        for (name, value) in &self.options {
            let is_off = matches!(value, Value::Null | Value::Bool(false)) || value.as_f64() == Some(0.0);
            if !is_off && value.as_str() != Some("") {
                return Err(format!("BPE with {name} is not supported"));
            }
        }
        if let Some(byte) =
            (0..=u8::MAX).find(|&byte| !ids.contains_key(byte_level::character(byte).to_string().as_str()))
        {
            return Err(format!("BPE without a piece for the byte {byte} is not supported"));
        }
        let mut ranks = HashMap::new();
        for (merge, rank) in self.merges.as_ref().ok_or("BPE has no merges")?.iter().zip(0..) {
            let (left, right) = match merge {
                MergeFile::Pair(left, right) => (left.as_str(), right.as_str()),
                MergeFile::Line(line) => line
                    .split_once(' ')
                    .filter(|(_, right)| !right.contains(' '))
                    .ok_or_else(|| format!("BPE: the merge {line:?} is not two pieces"))?,
            };
            let id =
                |piece: &str| ids.get(piece).copied().ok_or_else(|| format!("BPE merges {piece:?}, which is no piece"));
            ranks.insert((id(left)?, id(right)?), (rank, id(&format!("{left}{right}"))?));
        }
        let merges = ranks.into_iter().map(|((left, right), (rank, merged))| Merge { left, right, rank, merged });
        sections[Section::Merges as usize] = bpe::freeze(merges);
        Ok((ids.into_iter().collect(), Model::Bpe))
    }
}

/// The reference numbers added tokens itself: as the piece that they are, or after all pieces. A file that says otherwise
/// was written by something else.
fn check_added_ids(added: &[AddedToken], ids: &HashMap<&str, u32>, pieces: usize) -> Result<(), String> {
    let mut seen: HashMap<&str, u32> = HashMap::new();
    let mut next = u32::try_from(pieces).map_err(|_| "too many pieces")?;
    for token in added.iter().filter(|token| !token.content.is_empty()) {
        let known = seen.get(token.content.as_str()).or_else(|| ids.get(token.content.as_str()));
        let id = known.copied().unwrap_or(next);
        next += u32::from(known.is_none());
        if id != token.id {
            return Err(format!(
                "the added token {:?} with the id {} instead of {id} is not supported",
                token.content, token.id
            ));
        }
        seen.insert(&token.content, id);
    }
    Ok(())
}

impl<'de> Deserialize<'de> for ModelFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = ModelFile;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a model")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ModelFile, A::Error> {
                let mut model = ModelFile::default();
                while let Some(field) = map.next_key::<String>()? {
                    match field.as_str() {
                        "type" => model.kind = map.next_value()?,
                        "vocab" => model.vocabulary = map.next_value()?,
                        "unk_token" => model.unk_token = map.next_value()?,
                        "continuing_subword_prefix" => model.continuing_subword_prefix = map.next_value()?,
                        "max_input_chars_per_word" => model.max_input_chars_per_word = map.next_value()?,
                        "unk_id" => model.unk_id = map.next_value()?,
                        "byte_fallback" => model.byte_fallback = map.next_value()?,
                        "merges" => model.merges = map.next_value()?,
                        "dropout" | "end_of_word_suffix" | "ignore_merges" => {
                            model.options.push((field, map.next_value()?));
                        }
                        // Every byte is a piece.
                        "fuse_unk" => drop(map.next_value::<IgnoredAny>()?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            model.others.push(field);
                        }
                    }
                }
                Ok(model)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pieces;
        impl<'de> Visitor<'de> for Pieces {
            type Value = Vocabulary;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a vocabulary")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocabulary, A::Error> {
                let mut ids = HashMap::new();
                while let Some((piece, id)) = map.next_entry()? {
                    ids.insert(piece, id);
                }
                Ok(Vocabulary::Ids(ids))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vocabulary, A::Error> {
                let mut pieces = Vec::new();
                while let Some(piece) = seq.next_element()? {
                    pieces.push(piece);
                }
                Ok(Vocabulary::Scores(pieces))
            }
        }
        deserializer.deserialize_any(Pieces)
    }
}
