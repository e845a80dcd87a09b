//! The models that are built in: static embeddings, one vector a piece of a word, summed and normalised. They need no
//! network, no key and no file, and their tables are the library's own read-only pages, which all backends share.
//!
//! `vector(text) = normalise(Σ weights[t] · embeddings[t])` over the first known pieces of the text, as many as the model
//! takes (Model2Vec; the NOTICE beside each table says where it comes from).
//! - [`wordpiece`], `hash`: the tokenizer of the English model
//! - [`unigram`], `double_array`, [`word_cache`]: the tokenizer of the multilingual model

mod double_array;
#[cfg(test)]
mod double_array_builder;
mod hash;
pub mod unigram;
pub mod word_cache;
pub mod wordpiece;

use crate::embedding::transformer::kernels::Kernels;

pub use word_cache::WordCache;

/// A model that is built in.
pub struct StaticModel {
    /// The model's name, as `chatbot_sync.model` has it.
    pub name: &'static str,
    /// The languages whose texts it was trained on, by their ISO 639-1 codes.
    pub languages: &'static [&'static str],
    tokenizer: Tokenizer,
    /// A safetensors file: `embeddings`, a row of int8 for each piece, and `weights`, each row's scale as f32.
    file: &'static [u8],
    shape: Shape,
    /// Characters of each piece.
    lengths: &'static [u8],
}

/// The shape of a model as its files say, and the offset of the tensors in its safetensors file.
struct Shape {
    dimensions: usize,
    max_tokens: usize,
    embeddings: usize,
    weights: usize,
}

/// The number of characters of a text that are read to compute the share of it that a model knows.
const KNOWN_CHARACTERS: usize = 1000;

#[derive(Clone, Copy)]
enum Tokenizer {
    WordPiece,
    Unigram,
}

/// Starts at a cache line.
#[repr(C, align(64))]
struct Aligned<Bytes>(Bytes);

include!(concat!(env!("OUT_DIR"), "/shapes.rs"));
static MULTILINGUAL_FILE: &Aligned<[u8; MULTILINGUAL_BYTES]> =
    &Aligned(*include_bytes!("data/multilingual-static-256/model.safetensors"));
static ENGLISH_FILE: &Aligned<[u8; ENGLISH_BYTES]> =
    &Aligned(*include_bytes!("data/minilm-static-256/model.safetensors"));

/// Knows 26 languages.
pub static MULTILINGUAL: StaticModel = StaticModel {
    name: "multilingual-static-256",
    languages: &[
        "ar", "cs", "da", "de", "el", "en", "es", "fi", "fr", "he", "hu", "id", "it", "ja", "ko", "nb", "nl", "nn",
        "no", "pl", "pt", "ro", "ru", "sv", "tr", "uk", "vi", "zh",
    ],
    tokenizer: Tokenizer::Unigram,
    file: &MULTILINGUAL_FILE.0,
    shape: MULTILINGUAL_SHAPE,
    lengths: include_bytes!(concat!(env!("OUT_DIR"), "/multilingual_lengths.bin")),
};
/// Knows English.
pub static ENGLISH: StaticModel = StaticModel {
    name: "minilm-static-256",
    languages: &["en"],
    tokenizer: Tokenizer::WordPiece,
    file: &ENGLISH_FILE.0,
    shape: ENGLISH_SHAPE,
    lengths: include_bytes!(concat!(env!("OUT_DIR"), "/english_lengths.bin")),
};

/// All models; the first is that of a new database.
pub static MODELS: [&StaticModel; 2] = [&MULTILINGUAL, &ENGLISH];

/// The model of this name.
pub fn find(name: &str) -> Option<&'static StaticModel> {
    MODELS.into_iter().find(|model| model.name == name)
}

impl StaticModel {
    /// The length of its vectors.
    pub fn dimensions(&self) -> usize {
        self.shape.dimensions
    }

    /// Tokens of a text that count; what comes after them does not.
    pub fn max_tokens(&self) -> usize {
        self.shape.max_tokens
    }

    /// Returns the number of tokens of a text that are embedded: at most [`MAX_TOKENS`].
    pub fn count_tokens(&self, text: &str, words: &mut WordCache) -> usize {
        let mut tokens = 0;
        self.pieces(text, words, |_| tokens += 1);
        tokens
    }

    /// Returns the vector of a text: of length 1, or all zeros where no word of the text is known.
    pub fn embed(&self, text: &str, words: &mut WordCache) -> Vec<f32> {
        let mut sum = vec![0f32; self.shape.dimensions];
        let kernels = Kernels::best();
        self.pieces(text, words, |id| self.add_row(kernels, &mut sum, id));
        let norm = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
        if norm > 0.0 {
            sum.iter_mut().for_each(|x| *x /= norm);
        }
        sum
    }

    /// The share of a text's letters and digits that are in pieces of more than one character, from 0 to 1: what is written
    /// in a language or a script that the model does not know falls into single ones. 1 where there is none.
    pub fn known_share(&self, text: &str) -> f32 {
        let all = text.chars().take(KNOWN_CHARACTERS).filter(|c| c.is_alphanumeric()).count();
        if all == 0 {
            return 1.0;
        }
        let end = text.char_indices().nth(KNOWN_CHARACTERS).map_or(text.len(), |(at, _)| at);
        let mut known = 0;
        self.pieces(&text[..end], &mut WordCache::default(), |id| {
            let length = self.lengths.get(id).copied().unwrap_or(0);
            known += usize::from(if length > 1 { length } else { 0 });
        });
        (known as f32 / all as f32).min(1.0)
    }

    /// Calls `take` with each known piece that counts, in order.
    fn pieces(&self, text: &str, words: &mut WordCache, mut take: impl FnMut(usize)) {
        let mut left = self.shape.max_tokens;
        let mut take = |id: usize| {
            take(id);
            left -= 1;
            left > 0
        };
        match self.tokenizer {
            Tokenizer::WordPiece => wordpiece::pieces(text, |id| take(usize::from(id))),
            Tokenizer::Unigram => {
                unigram::pieces(text, words, |id| id == unigram::UNKNOWN || take(id as usize));
            }
        }
    }

    fn add_row(&self, kernels: Kernels, sum: &mut [f32], id: usize) {
        let at = self.shape.weights + id * 4;
        let weight = f32::from_le_bytes([self.file[at], self.file[at + 1], self.file[at + 2], self.file[at + 3]]);
        let dimensions = self.shape.dimensions;
        kernels.add_bytes(sum, &self.file[self.shape.embeddings + id * dimensions..][..dimensions], weight);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn read(json: &str) -> Vec<Value> {
        serde_json::from_str(json).unwrap()
    }

    fn ids(model: &StaticModel, text: &str) -> Vec<u64> {
        let mut ids = Vec::new();
        model.pieces(text, &mut WordCache::default(), |id| ids.push(id as u64));
        ids
    }

    fn numbers(case: &Value, field: &str) -> Vec<f64> {
        case[field].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    }

    fn vectors_equal(model: &StaticModel, expected: &str) {
        // One cache for all, as a call has it.
        let mut words = WordCache::default();
        for case in read(expected) {
            let text = case["text"].as_str().unwrap();
            for _cached in [false, true] {
                let vector = model.embed(text, &mut words);
                let expected = numbers(&case, "vector");
                assert_eq!(vector.len(), expected.len());
                for (ours, theirs) in vector.iter().zip(&expected) {
                    assert!((f64::from(*ours) - theirs).abs() < 1e-4, "{text:?}: {ours} is not {theirs}");
                }
            }
        }
    }

    #[test]
    fn vectors_equal_those_of_the_reference() {
        vectors_equal(&ENGLISH, include_str!("../../../tests/data/local_expected.json"));
        vectors_equal(&MULTILINGUAL, include_str!("../../../tests/data/multilingual_expected.json"));
    }

    #[test]
    fn pieces_equal_those_of_the_reference() {
        for (model, expected) in [
            (&ENGLISH, include_str!("../../../tests/data/local_tokens.json")),
            (&MULTILINGUAL, include_str!("../../../tests/data/multilingual_tokens.json")),
        ] {
            let cases = read(expected);
            assert!(cases.len() > 300);
            for case in cases {
                let text = case["text"].as_str().unwrap();
                let expected: Vec<u64> = case["ids"].as_array().unwrap().iter().map(|x| x.as_u64().unwrap()).collect();
                assert_eq!(ids(model, text), expected, "{}: {text:?}", model.name);
            }
        }
    }

    #[test]
    fn a_vector_has_length_one_or_zero() {
        for model in MODELS {
            let length = |text: &str| {
                let vector = model.embed(text, &mut WordCache::default());
                vector.iter().map(|x| x * x).sum::<f32>().sqrt()
            };
            assert!((length("Refunds are paid within ten days.") - 1.0).abs() < 1e-6);
            assert_eq!(length(" \n"), 0.0);
        }
    }

    #[test]
    fn a_language_is_known_by_its_pieces() {
        let cases = read(include_str!("../../../tests/data/multilingual_expected.json"));
        let texts: Vec<&str> = cases[..13].iter().map(|case| case["text"].as_str().unwrap()).collect();
        for text in &texts {
            assert!(MULTILINGUAL.known_share(text) > 0.6, "{text}");
        }
        assert!(ENGLISH.known_share(texts[0]) > 0.9);
        // Russian, Ukrainian, Japanese, Chinese, Korean, Arabic, Hebrew, Greek.
        for text in &texts[4..12] {
            assert!(ENGLISH.known_share(text) < 0.3, "{text}: {}", ENGLISH.known_share(text));
        }
        for model in MODELS {
            assert_eq!(model.known_share(" \u{1f389}!"), 1.0);
            assert_eq!(model.known_share("ᚠᚢᚦ"), 0.0);
        }
    }

    #[test]
    fn only_so_many_pieces_of_a_text_count() {
        for model in MODELS {
            let words = |count: usize| "word ".repeat(count);
            let mut cache = WordCache::default();
            assert_eq!(model.count_tokens(&words(10_000), &mut cache), model.max_tokens());
            let (long, longer) = (words(model.max_tokens()), words(model.max_tokens()) + "other");
            assert_eq!(model.embed(&long, &mut cache), model.embed(&longer, &mut cache));
        }
    }
}
