//! The model that is built in: a static embedding, one vector a word piece, summed and normalised. It needs no network,
//! no key and no file, and its tables are the library's own read-only pages, which all backends share.
//!
//! `vector(text) = normalise(Σ weights[t] · embeddings[t])` over the first [`MAX_TOKENS`] known pieces of the text
//! (Model2Vec, `data/NOTICE` says where the tables come from). English above all.

mod hash;
pub mod tokenizer;

include!(concat!(env!("OUT_DIR"), "/model.rs"));

static MODEL: &[u8] = include_bytes!("data/model.safetensors");

/// The model's name, as it stands in `chatbot_sync.model`.
pub const NAME: &str = "minilm-static-256";

/// How many tokens of a text count.
pub fn tokens(text: &str) -> usize {
    let mut tokens = 0;
    tokenizer::pieces(text, |_| {
        tokens += 1;
        tokens < MAX_TOKENS
    });
    tokens
}

/// The vector of a text: of length 1, or all zero where the text has no known word.
pub fn embed(text: &str) -> Vec<f32> {
    let mut sum = vec![0f32; DIMENSIONS];
    let mut left = MAX_TOKENS;
    tokenizer::pieces(text, |id| {
        let id = usize::from(id);
        let at = WEIGHTS + id * 4;
        let weight = f32::from_le_bytes([MODEL[at], MODEL[at + 1], MODEL[at + 2], MODEL[at + 3]]);
        let row = &MODEL[EMBEDDINGS + id * DIMENSIONS..][..DIMENSIONS];
        for (s, &b) in sum.iter_mut().zip(row) {
            *s += weight * f32::from(b.cast_signed());
        }
        left -= 1;
        left > 0
    });
    let norm = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
    if norm > 0.0 {
        sum.iter_mut().for_each(|x| *x /= norm);
    }
    sum
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn read(json: &str) -> Vec<Value> {
        serde_json::from_str(json).unwrap()
    }

    fn ids(text: &str) -> Vec<u64> {
        let mut ids = Vec::new();
        tokenizer::pieces(text, |id| {
            ids.push(u64::from(id));
            true
        });
        ids
    }

    #[test]
    fn vectors_equal_the_reference() {
        let cases = read(include_str!("../../../tests/data/local_expected.json"));
        assert!(cases.len() >= 12);
        for case in cases {
            let text = case["text"].as_str().unwrap();
            let expected: Vec<f64> = case["vector"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            let got = embed(text);
            assert_eq!(got.len(), expected.len());
            for (g, e) in got.iter().zip(&expected) {
                assert!((f64::from(*g) - e).abs() < 1e-4, "{text:?}: {g} is not {e}");
            }
        }
    }

    #[test]
    fn word_pieces_equal_the_reference() {
        let cases = read(include_str!("../../../tests/data/local_tokens.json"));
        assert!(cases.len() > 300);
        for case in cases {
            let text = case["text"].as_str().unwrap();
            let expected: Vec<u64> = case["ids"].as_array().unwrap().iter().map(|x| x.as_u64().unwrap()).collect();
            assert_eq!(ids(text), expected, "{text:?}");
        }
    }

    #[test]
    fn vectors_have_length_one() {
        let length = |text: &str| embed(text).iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!((length("Refunds are paid within ten days.") - 1.0).abs() < 1e-6);
        assert_eq!(length(" \n"), 0.0);
    }
}
