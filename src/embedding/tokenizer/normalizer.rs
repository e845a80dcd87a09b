//! Normalizers: what becomes of a text before it is split into words.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use unicode_normalization_alignments::UnicodeNormalization;
use unicode_normalization_alignments::char::is_combining_mark;

use super::bert_normalizer::BertNormalizer;
use super::charsmap::Charsmap;

/// A normalizer of a `tokenizer.json`.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum Normalizer {
    #[serde(rename = "BertNormalizer")]
    Bert(BertNormalizer),
    #[serde(rename = "NFC")]
    Nfc,
    #[serde(rename = "NFD")]
    Nfd,
    #[serde(rename = "NFKC")]
    Nfkc,
    #[serde(rename = "NFKD")]
    Nfkd,
    Lowercase,
    StripAccents,
    Strip {
        strip_left: bool,
        strip_right: bool,
    },
    Replace {
        pattern: Pattern,
        content: String,
    },
    Prepend {
        prepend: String,
    },
    Precompiled {
        /// The table in base64; empty in a frozen tokenizer, which has it in sections of its own.
        precompiled_charsmap: String,
    },
    Sequence {
        normalizers: Vec<Normalizer>,
    },
}

/// The pattern of a replacement.
#[derive(Serialize, Deserialize)]
pub enum Pattern {
    String(String),
    /// Only [`SPACES`].
    Regex(String),
}

/// The one regular expression that files of sentencepiece models have.
const SPACES: &str = " {2,}";

/// A text, and whether its first character is the first of the text that it was made from.
#[derive(Clone)]
pub struct Normalized<'t> {
    pub text: Cow<'t, str>,
    pub keeps_start: bool,
}

impl Normalizer {
    /// Names what is not supported.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Normalizer::Replace { pattern: Pattern::Regex(regex), .. } if regex != SPACES => {
                Err(format!("Replace with the regular expression {regex:?} is not supported"))
            }
            Normalizer::Replace { pattern: Pattern::String(pattern), .. } if pattern.is_empty() => {
                Err("Replace with an empty pattern is not supported".into())
            }
            Normalizer::Sequence { normalizers } => normalizers.iter().try_for_each(Normalizer::check),
            _ => Ok(()),
        }
    }

    /// Returns the largest factor by which replacements can make a text longer.
    pub fn growth(&self) -> f64 {
        match self {
            #[allow(clippy::cast_precision_loss)]
            Normalizer::Replace { pattern, content } => (content.len() as f64 / pattern.shortest() as f64).max(1.0),
            Normalizer::Sequence { normalizers } => normalizers.iter().map(Normalizer::growth).product(),
            _ => 1.0,
        }
    }

    /// Takes the charsmaps out, in order.
    pub fn take_charsmaps(&mut self, out: &mut Vec<String>) {
        match self {
            Normalizer::Precompiled { precompiled_charsmap } => out.push(std::mem::take(precompiled_charsmap)),
            Normalizer::Sequence { normalizers } => normalizers.iter_mut().for_each(|n| n.take_charsmaps(out)),
            _ => {}
        }
    }

    /// Normalises a text that is not empty.
    pub fn normalize<'t>(&self, input: Normalized<'t>, charsmap: &Charsmap) -> Normalized<'t> {
        let Normalized { text, mut keeps_start } = input;
        let all = |text: &str, map: &dyn Fn(&str) -> String| Cow::Owned(map(text));
        let text = match self {
            Normalizer::Bert(bert) => Cow::Owned(bert.normalize(&text, &mut keeps_start)),
            // None of the four changes ASCII.
            Normalizer::Nfc | Normalizer::Nfd | Normalizer::Nfkc | Normalizer::Nfkd if text.is_ascii() => text,
            Normalizer::Nfc => all(&text, &|text| text.nfc().map(|(c, _)| c).collect()),
            Normalizer::Nfd => all(&text, &|text| text.nfd().map(|(c, _)| c).collect()),
            Normalizer::Nfkc => all(&text, &|text| text.nfkc().map(|(c, _)| c).collect()),
            Normalizer::Nfkd => all(&text, &|text| text.nfkd().map(|(c, _)| c).collect()),
            // One character at a time: a final sigma is a sigma.
            Normalizer::Lowercase => all(&text, &|text| text.chars().flat_map(char::to_lowercase).collect()),
            Normalizer::StripAccents => {
                keeps_start &= !text.starts_with(is_combining_mark);
                all(&text, &|text| text.chars().filter(|&c| !is_combining_mark(c)).collect())
            }
            Normalizer::Strip { strip_left, strip_right } => {
                keeps_start &= !(*strip_left && text.starts_with(char::is_whitespace));
                strip(text, *strip_left, *strip_right)
            }
            Normalizer::Replace { pattern, content } => {
                keeps_start &= !pattern.takes_start(&text, content);
                Cow::Owned(pattern.replace(&text, content))
            }
            Normalizer::Prepend { prepend } if text.is_empty() || prepend.is_empty() => text,
            Normalizer::Prepend { prepend } => Cow::Owned(format!("{prepend}{text}")),
            Normalizer::Precompiled { .. } => Cow::Owned(charsmap.normalize(&text)),
            Normalizer::Sequence { normalizers } => {
                let input = Normalized { text, keeps_start };
                return normalizers.iter().fold(input, |text, normalizer| normalizer.normalize(text, charsmap));
            }
        };
        Normalized { text, keeps_start }
    }
}

fn strip(text: Cow<'_, str>, left: bool, right: bool) -> Cow<'_, str> {
    let kept = if left { text.trim_start() } else { &text };
    let kept = if right { kept.trim_end() } else { kept };
    if kept.len() == text.len() { text } else { Cow::Owned(kept.to_owned()) }
}

impl Pattern {
    /// Bytes of the shortest match.
    fn shortest(&self) -> usize {
        match self {
            Pattern::String(pattern) => pattern.len().max(1),
            Pattern::Regex(_) => 2,
        }
    }

    fn replace(&self, text: &str, content: &str) -> String {
        match self {
            Pattern::String(pattern) => text.replace(pattern, content),
            Pattern::Regex(_) => {
                let mut out = String::with_capacity(text.len());
                let mut rest = text;
                while let Some(at) = rest.find("  ") {
                    out.push_str(&rest[..at]);
                    out.push_str(content);
                    rest = rest[at..].trim_start_matches(' ');
                }
                out.push_str(rest);
                out
            }
        }
    }

    /// Whether what stands at the start of the text comes from a later character once it is replaced.
    fn takes_start(&self, text: &str, content: &str) -> bool {
        match self {
            Pattern::String(pattern) => {
                text.starts_with(pattern.as_str()) && (content.is_empty() || pattern.chars().nth(1).is_some())
            }
            Pattern::Regex(_) => text.starts_with("  "),
        }
    }
}
