//! The shape of a `tokenizer.json`, and a frozen tokenizer made of one. A part, a field or a value that is not known here
//! is refused by its name: a guess would give other tokens than the model was trained with.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::added_tokens::AddedToken;
use super::charsmap::{self, Charsmap};
use super::double_array::MAX_NUMBERS;
use super::double_array_builder::build;
use super::frozen::{self, SECTIONS, Section};
use super::model_file::ModelFile;
use super::normalizer::Normalizer;
use super::post_processor::PostProcessor;
use super::pre_tokenizer::PreTokenizer;
use super::{Pipeline, normalize};

/// A chain of replacements that each double a text would take all memory.
const MAX_GROWTH: f64 = 64.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: Option<String>,
    truncation: Option<Truncation>,
    /// Batches are not padded here.
    #[serde(rename = "padding", default)]
    _padding: IgnoredAny,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: Option<Normalizer>,
    pre_tokenizer: Option<PreTokenizer>,
    post_processor: Option<PostProcessor>,
    /// Back from tokens to text.
    #[serde(rename = "decoder", default)]
    _decoder: IgnoredAny,
    model: ModelFile,
}

/// Its length is not used: the caller says how many tokens a text may have.
#[derive(Deserialize)]
struct Truncation {
    direction: Option<String>,
}

/// Reads a `tokenizer.json` and writes the frozen tokenizer.
pub fn freeze(json: &[u8]) -> Result<Vec<u8>, String> {
    let file: File = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if let Some(version) = file.version.filter(|version| version != "1.0") {
        return Err(format!("version {version:?} is not supported"));
    }
    if file.truncation.is_some_and(|truncation| truncation.direction.is_some_and(|direction| direction != "Right")) {
        return Err("truncation from the left is not supported".into());
    }
    let mut sections: [Vec<u8>; SECTIONS] = Default::default();
    let mut normalizer = file.normalizer;
    if let Some(normalizer) = &mut normalizer {
        normalizer.check()?;
        if normalizer.growth() > MAX_GROWTH {
            return Err(format!(
                "replacements that make a text more than {MAX_GROWTH} times as long are not supported"
            ));
        }
        freeze_charsmap(normalizer, &mut sections)?;
    }
    file.pre_tokenizer.as_ref().map_or(Ok(()), PreTokenizer::check)?;
    let around = file.post_processor.as_ref().map(PostProcessor::around).transpose()?.unwrap_or_default();
    let is_byte_level = file.pre_tokenizer.as_ref().is_some_and(PreTokenizer::ends_byte_level);
    let (model, highest_id) = file.model.freeze(&file.added_tokens, is_byte_level, &mut sections)?;

    let charsmap = Charsmap::new(&sections[Section::Charsmap as usize], &sections[Section::CharsmapStrings as usize]);
    let added = freeze_added_tokens(&file.added_tokens, |text| {
        normalize(normalizer.as_ref(), &charsmap, text, true).text.into_owned()
    })?;
    for (section, bytes) in
        [Section::RawAddedTokens, Section::NormalizedAddedTokens, Section::AddedTokens].into_iter().zip(added)
    {
        sections[section as usize] = bytes;
    }
    let highest_id = around.before.iter().chain(&around.after).copied().fold(highest_id, u32::max);
    if highest_id >= MAX_NUMBERS {
        return Err(format!("ids of {MAX_NUMBERS} or more are not supported"));
    }
    let pipeline = Pipeline {
        normalizer,
        pre_tokenizer: file.pre_tokenizer,
        before: around.before,
        after: around.after,
        model,
        vocabulary_size: highest_id + 1,
    };
    sections[Section::Pipeline as usize] = serde_json::to_vec(&pipeline).map_err(|error| error.to_string())?;
    Ok(frozen::write(&sections))
}

/// Moves the charsmap out of a normalizer.
fn freeze_charsmap(normalizer: &mut Normalizer, sections: &mut [Vec<u8>; SECTIONS]) -> Result<(), String> {
    let mut charsmaps = Vec::new();
    normalizer.take_charsmaps(&mut charsmaps);
    let [charsmap] = charsmaps.as_slice() else {
        return if charsmaps.is_empty() { Ok(()) } else { Err("more than one Precompiled is not supported".into()) };
    };
    let charsmap =
        STANDARD.decode(charsmap).map_err(|error| format!("Precompiled: the charsmap is not base64: {error}"))?;
    let (slots, strings) = charsmap::sections(&charsmap)?;
    sections[Section::Charsmap as usize] = slots.to_vec();
    sections[Section::CharsmapStrings as usize] = strings.to_vec();
    Ok(())
}

/// The tries of those that are looked for as they are and of those that are normalised, and the table.
fn freeze_added_tokens(tokens: &[AddedToken], normalize: impl Fn(&str) -> String) -> Result<[Vec<u8>; 3], String> {
    // A token without content is ignored, and of two with the same content the last one counts.
    let by_content: HashMap<&str, &AddedToken> = tokens.iter().map(|token| (token.content.as_str(), token)).collect();
    let mut table = Vec::new();
    let mut patterns = [Vec::new(), Vec::new()];
    for token in tokens.iter().filter(|token| !token.content.is_empty()) {
        if !std::ptr::eq(by_content[token.content.as_str()], token) {
            continue;
        }
        let number = u32::try_from(table.len() / 8).map_err(|_| "too many added tokens")?;
        token.freeze(&mut table);
        patterns[usize::from(token.normalized)].push((token.pattern(&normalize)?, number));
    }
    let [raw, normalized] = patterns.map(|mut patterns| {
        patterns.sort();
        if let Some(two) = patterns.windows(2).find(|two| two[0].0 == two[1].0) {
            return Err(format!("two added tokens that are both {:?} once normalised are not supported", two[0].0));
        }
        let strings: Vec<(&[u8], u32)> =
            patterns.iter().map(|(pattern, number)| (pattern.as_bytes(), *number)).collect();
        let mut trie = Vec::new();
        if !strings.is_empty() {
            build(&strings, &mut trie);
        }
        Ok(trie)
    });
    Ok([raw?, normalized?, table])
}
