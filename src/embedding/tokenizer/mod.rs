//! Tokenizers as a `tokenizer.json` describes them (Hugging Face `tokenizers`, which this equals token by token), frozen
//! into bytes that are used where they lie, so that all processes share one copy of the vocabulary.
//! - `json`, `model_file`: read a `tokenizer.json`, name what is not supported, and write the frozen form
//! - `frozen`: the layout of the frozen form
//! - `double_array`, `double_array_builder`: tries in it
//! - the steps of encoding: `added_tokens`, `normalizer` (`bert_normalizer`, `charsmap`), `pre_tokenizer` (`byte_level`),
//!   `wordpiece`, `unigram` or `bpe`, `post_processor`
//! - `characters`: which character is a mark, punctuation, part of a word

mod added_tokens;
mod bert_normalizer;
mod bpe;
mod byte_level;
mod characters;
mod charsmap;
mod double_array;
mod double_array_builder;
mod frozen;
mod json;
mod model_file;
mod normalizer;
mod post_processor;
mod pre_tokenizer;
#[cfg(test)]
mod tests;
mod unigram;
mod wordpiece;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use added_tokens::{AddedTokens, Part};
use bpe::Bpe;
use charsmap::Charsmap;
use double_array::DoubleArray;
use frozen::{Section, Sections};
use normalizer::{Normalized, Normalizer};
use pre_tokenizer::{Pieces, PreTokenizer};
use unigram::{Unigram, UnigramSettings};
use wordpiece::{WordPiece, WordPieceSettings};

/// A tokenizer that was read from a `tokenizer.json`. It does nothing but become frozen.
pub struct Tokenizer {
    frozen: Vec<u8>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. The error names what is not supported.
    pub fn from_json(json: &[u8]) -> Result<Tokenizer, String> {
        let frozen = json::freeze(json).map_err(|error| format!("tokenizer.json: {error}"))?;
        Ok(Tokenizer { frozen })
    }

    /// Appends the frozen form. It may begin at any offset, best at a multiple of 64; numbers in it are little endian.
    pub fn freeze(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.frozen);
    }
}

/// All of a frozen tokenizer but its tables.
#[derive(Serialize, Deserialize)]
struct Pipeline {
    normalizer: Option<Normalizer>,
    pre_tokenizer: Option<PreTokenizer>,
    /// The special tokens before and after those of a text.
    before: Vec<u32>,
    after: Vec<u32>,
    model: Model,
    vocabulary_size: u32,
}

#[derive(Serialize, Deserialize)]
enum Model {
    WordPiece(WordPieceSettings),
    Unigram(UnigramSettings),
    /// Byte-level.
    Bpe,
}

impl Model {
    fn unknown(&self) -> u32 {
        match self {
            Model::WordPiece(settings) => settings.unknown,
            Model::Unigram(settings) => settings.unknown,
            // There is none, and no byte needs one.
            Model::Bpe => 0,
        }
    }
}

/// A tokenizer over frozen bytes. What it keeps besides them is a few kilobytes, whatever the vocabulary.
pub struct FrozenTokenizer<'a> {
    pipeline: Pipeline,
    raw_added_tokens: AddedTokens<'a>,
    normalized_added_tokens: AddedTokens<'a>,
    charsmap: Charsmap<'a>,
    pieces: DoubleArray<'a>,
    scores: &'a [u8],
    merges: &'a [u8],
}

impl<'a> FrozenTokenizer<'a> {
    /// Checks the header of what [`Tokenizer::freeze`] wrote. Any bytes are safe: no later call panics or reads beyond
    /// them, and no token is [`Self::vocabulary_size`] or more.
    pub fn open(bytes: &'a [u8]) -> Result<FrozenTokenizer<'a>, String> {
        let sections = Sections::read(bytes)?;
        let pipeline: Pipeline = serde_json::from_slice(sections.get(Section::Pipeline))
            .map_err(|error| format!("the frozen tokenizer is damaged: {error}"))?;
        let mut specials = pipeline.before.iter().chain(&pipeline.after).copied().chain([pipeline.model.unknown()]);
        if specials.any(|token| token >= pipeline.vocabulary_size) {
            return Err("the frozen tokenizer is damaged: a special token is not in its vocabulary".into());
        }
        let trie = |section| DoubleArray::new(sections.get(section));
        let table = sections.get(Section::AddedTokens);
        Ok(FrozenTokenizer {
            raw_added_tokens: AddedTokens::new(trie(Section::RawAddedTokens), table),
            normalized_added_tokens: AddedTokens::new(trie(Section::NormalizedAddedTokens), table),
            charsmap: Charsmap::new(sections.get(Section::Charsmap), sections.get(Section::CharsmapStrings)),
            pieces: trie(Section::Pieces),
            scores: sections.get(Section::Scores),
            merges: sections.get(Section::Merges),
            pipeline,
        })
    }

    /// Every token is less than this: the rows that a table of embeddings must have.
    #[must_use]
    pub fn vocabulary_size(&self) -> usize {
        self.pipeline.vocabulary_size as usize
    }

    /// The tokens of a text, special ones included, at most `max_tokens`: the text's own tokens are cut, not the special
    /// ones that the post-processor adds.
    #[must_use]
    pub fn encode(&self, text: &str, max_tokens: usize) -> Vec<u32> {
        let Pipeline { before, after, vocabulary_size, model, .. } = &self.pipeline;
        let mut tokens = before.clone();
        let limit = max_tokens.saturating_sub(after.len()).max(before.len());
        if limit > before.len() {
            self.append_tokens(text, limit, &mut tokens);
            tokens.truncate(limit);
        }
        tokens.extend(after);
        tokens.truncate(max_tokens);
        for token in &mut tokens {
            if *token >= *vocabulary_size {
                *token = model.unknown();
            }
        }
        tokens
    }

    /// Appends a text's own tokens, at least until there are `limit`.
    fn append_tokens(&self, text: &str, limit: usize, tokens: &mut Vec<u32>) {
        let model = match &self.pipeline.model {
            Model::WordPiece(settings) => Segmenter::WordPiece(WordPiece::new(settings, self.pieces)),
            Model::Bpe => Segmenter::Bpe(Bpe::new(self.pieces, self.merges)),
            Model::Unigram(settings) => {
                Segmenter::Unigram(Unigram::new(settings, self.pieces, self.scores), Vec::new())
            }
        };
        let mut state = Encoding { model, limit, tokens };
        self.raw_added_tokens.split(text, |part| match part {
            Part::Token(token) => state.push(token),
            Part::Text(start, text) => self.append_tokens_of_part(text, start == 0, &mut state),
        });
    }

    /// Answers whether more tokens are wanted. `starts_text`: the part is not after an added token.
    fn append_tokens_of_part(&self, text: &str, starts_text: bool, state: &mut Encoding) -> bool {
        let normalized = normalize(self.pipeline.normalizer.as_ref(), &self.charsmap, text, starts_text);
        self.normalized_added_tokens.split(&normalized.text, |part| match part {
            Part::Token(token) => state.push(token),
            Part::Text(start, text) => {
                let mut pieces = Pieces::new(text, start == 0 && normalized.keeps_start);
                if let Some(pre_tokenizer) = &self.pipeline.pre_tokenizer {
                    pre_tokenizer.split(&mut pieces);
                }
                pieces.ranges.iter().all(|range| state.tokenize(&pieces.text[range.clone()]))
            }
        })
    }
}

/// A part of a text, normalised.
fn normalize<'t>(
    normalizer: Option<&Normalizer>,
    charsmap: &Charsmap,
    text: &'t str,
    starts_text: bool,
) -> Normalized<'t> {
    let text = Normalized { text: Cow::Borrowed(text), keeps_start: starts_text };
    match normalizer {
        Some(normalizer) => normalizer.normalize(text, charsmap),
        None => text,
    }
}

/// A model, and the buffers that it needs.
enum Segmenter<'a> {
    WordPiece(WordPiece<'a>),
    Unigram(Unigram<'a>, Vec<unigram::Best>),
    Bpe(Bpe<'a>),
}

/// The tokens of a text while they are found.
struct Encoding<'a, 't> {
    model: Segmenter<'a>,
    limit: usize,
    tokens: &'t mut Vec<u32>,
}

impl Encoding<'_, '_> {
    fn push(&mut self, token: u32) -> bool {
        self.tokens.push(token);
        self.tokens.len() < self.limit
    }

    fn tokenize(&mut self, piece: &str) -> bool {
        match &mut self.model {
            Segmenter::WordPiece(model) => model.tokenize(piece, self.tokens),
            Segmenter::Unigram(model, best) => model.tokenize(piece, best, self.tokens),
            Segmenter::Bpe(model) => model.tokenize(piece, self.tokens),
        }
        self.tokens.len() < self.limit
    }
}
