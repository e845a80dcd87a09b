//! Property tests over generated input: no text and no response of a provider causes a panic or a wrong result.
//!
//! `PROPTEST_CASES` sets the number of cases; `make fuzz` runs many. Seeds of failures are kept in
//! `proptest-regressions/`.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::embedding::batch::{Batcher, ResponseChecks, RetryPolicy, Usage};
use crate::embedding::local::{self, WordCache};
use crate::embedding::provider::{self, Limits, refused};
use crate::error::{Fault, FaultKind};
use crate::search::term::{Term, Word};
use crate::search::tsvector::counts;
use crate::sync::diff::diff_chunks;
use crate::text::chunk::{Params, chunk};
use crate::text::content::{Content, Format};

/// Generates text that tokenizers and HTML parsers find difficult.
fn text() -> impl Strategy<Value = String> {
    let unit = prop_oneof![
        3 => "[a-zA-Z]{1,12}[ .,!?'-]?",
        1 => "[a-z0-9]{90,110}",
        1 => "[\0-\u{1f}\u{7f}-\u{a0}\u{fffd}\u{feff}]{1,4}",
        1 => "[\u{300}-\u{36f}\u{483}-\u{489}]{1,20}",
        1 => "[\u{4e00}-\u{4e20}\u{3400}-\u{3410}\u{20000}-\u{20010}\u{f900}-\u{f910}]{1,8}",
        1 => "[\u{130}\u{df}\u{1e9e}\u{3a3}\u{fb00}-\u{fb06}\u{ac00}-\u{ac20}\u{1100}-\u{1120}]{1,8}",
        1 => "[\u{2000}-\u{206f}\u{3000}-\u{303f}\u{e0000}-\u{e007f}]{1,8}",
        1 => "</?[a-z!-]{0,8}[ a-z=\"']{0,12}/?>?",
        1 => "&#?[x0-9a-zA-Z]{0,9};?",
        1 => "<(script|style|textarea|title|table|p|br|!--)>?",
        1 => "</?(b|a|td|li|svg|math|pre|template|noscript|select|h1)( hidden| style='display:(none|flex);?')?/?>",
        1 => any::<char>().prop_map(String::from),
        1 => "\\PC{0,20}",
    ];
    prop::collection::vec(unit, 0..40).prop_map(|units| units.concat())
}

/// Responses in the shape of each API, for two texts and vectors of two numbers.
fn valid_responses() -> Vec<Value> {
    vec![
        json!({"object": "list", "data": [{"embedding": [0.5, -1], "index": 1}, {"embedding": "AAAAPwAAgL8=", "index": 0}],
            "usage": {"prompt_tokens": 8, "total_tokens": 8}}),
        json!({"model": "m", "embeddings": [[0.5, -1], [2, 0]], "prompt_eval_count": 5}),
        json!({"id": "x", "embeddings": {"float": [[0.5, -1], [2, 0]]}, "meta": {"billed_units": {"input_tokens": 2.0}}}),
        json!({"embeddings": [{"values": [0.5, -1]}, {"values": [2, 0]}], "usageMetadata": {"promptTokenCount": 10}}),
        json!({"error": {"message": "no", "type": "insufficient_quota", "code": 1, "details": [{"retryDelay": "8.5s"}]}}),
    ]
}

/// Generates values that may replace any value of a response.
fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![1e39, -1e39, 1e308, 1e-320, 18446744073709551615.0]).prop_map(Value::from),
        text().prop_map(Value::from),
        "[A-Za-z0-9+/]{0,24}={0,2}".prop_map(Value::from),
        "-?[0-9.e+-]{0,20}s?".prop_map(Value::from),
        prop::collection::vec(any::<f32>(), 0..4).prop_map(Value::from),
        Just(json!({})),
        Just(json!([[[]]])),
    ]
}

/// Replaces the value at position `at`, counted in reading order, by `odd`.
fn replace(value: &mut Value, at: &mut usize, odd: &Value) {
    if *at == 0 {
        *value = odd.clone();
    }
    *at = at.wrapping_sub(1);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, at, odd)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, at, odd)),
        _ => {}
    }
}

/// Generates a provider's response: arbitrary bytes, or a valid one with replaced values, changed bytes or its
/// end cut off.
fn response_body() -> impl Strategy<Value = Vec<u8>> {
    let good = (prop::sample::select(valid_responses()), prop::collection::vec((0usize..24, odd_value()), 0..3))
        .prop_map(|(mut answer, changes)| {
            changes.into_iter().for_each(|(mut at, odd)| replace(&mut answer, &mut at, &odd));
            answer.to_string().into_bytes()
        });
    let broken = (good, prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), any::<bool>())
        .prop_map(|(mut body, bytes, cut)| {
            let first = bytes.first().map(|(at, _)| at.index(body.len()));
            let length = body.len();
            bytes.iter().skip(1).for_each(|(at, byte)| body[at.index(length)] = *byte);
            if let (true, Some(at)) = (cut, first) {
                body.truncate(at);
            }
            body
        });
    prop_oneof![9 => broken, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #[test]
    fn any_response_is_decoded_right_or_refused(
        body in response_body(), dimensions in 0usize..4, unit in any::<bool>(), normalise in any::<bool>()
    ) {
        for provider in provider::http_providers() {
            let now = Instant::now();
            let retry_policy = RetryPolicy { max_attempts: 2, deadline: now + Duration::from_secs(9) };
            let mut batch = Batcher::new(Limits { inputs: 2, bytes: 99 }, ResponseChecks { dimensions, unit, normalise }, retry_policy);
            batch.push(1, now);
            batch.push(1, now);
            let work = batch.next(now).unwrap();
            let outcome = provider.decode(&body).map_err(|m| Fault::new(FaultKind::BadAnswer, "", "", m));
            let Ok((vectors, usage)) = batch.done(work, outcome, now, 0.5) else { continue };
            // A statement may send a million requests, whose sum of tokens is stored as a bigint.
            let mut all = Usage::default();
            all += usage;
            all.tokens = all.tokens.checked_mul(1 << 20).unwrap().checked_mul(1 << 10).unwrap();
            i64::try_from(all.tokens).unwrap();
            // Each text either has its result, or is asked for again.
            let again = std::iter::from_fn(|| batch.next(now + Duration::from_secs(9))).flat_map(|work| work.range);
            let mut numbers: Vec<usize> = vectors.iter().map(|(number, _)| *number).chain(again).collect();
            numbers.sort_unstable();
            prop_assert_eq!(numbers, [0, 1]);
            for vector in vectors.into_iter().filter_map(|(_, vector)| vector.ok()) {
                prop_assert!(!vector.is_empty() && (dimensions == 0 || vector.len() == dimensions));
                prop_assert!(vector.iter().all(|x| x.is_finite()));
            }
        }
    }

    #[test]
    fn any_refusal_is_read(status in any::<u16>(), retry_after in prop::option::of("\\PC{0,30}|-?[0-9.e]{0,25}"), body in response_body()) {
        let (_, _, wait) = refused(status, &retry_after.map(|value| ("retry-after", value)).into_iter().collect::<Vec<_>>(), &body);
        let _later = wait.map(|wait| Instant::now() + wait);
    }

    #[test]
    fn any_text_has_a_vector_of_the_built_in_models(text in text(), other in text()) {
        for model in local::MODELS {
            let mut words = WordCache::default();
            let vector = model.embed(&text, &mut words);
            prop_assert_eq!(vector.len(), model.dimensions());
            let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            prop_assert!(length == 0.0 || (length - 1.0).abs() < 1e-4, "{}", length);
            let tokens = model.count_tokens(&text, &mut words);
            prop_assert!(tokens <= model.max_tokens());
            // Words are tokenized independently: a word before a text does not change the text's own tokens.
            prop_assert_eq!(model.count_tokens(&format!("a {text}"), &mut words), (tokens + 1).min(model.max_tokens()));
            // What a call has met before changes nothing.
            model.embed(&other, &mut words);
            prop_assert_eq!(model.embed(&text, &mut words), vector);
        }
    }

    #[test]
    fn any_content_keeps_its_offsets(text in text(), html in any::<bool>(), translated in any::<bool>(), size in 1usize..80) {
        let format = if html { Format::Html } else { Format::Text };
        let value = if translated { json!({"en_US": text, "x": null, "de": 1}).to_string() } else { text };
        let params = Params { size, overlap: size / 2, max_chunks: 50 };
        let content = Content::new(value, format, translated);
        if let Ok(cut) = content.chunk(&params) {
            prop_assert_eq!(cut.texts().len(), cut.len());
            for (start, end) in cut.places() {
                prop_assert!(start < end);
            }
        }
    }

    #[test]
    fn any_jsonb_is_read_as_translations_or_refused(odd in odd_value(), lang in "[a-z_A-Z]{0,5}") {
        for value in [odd.to_string(), json!({lang: odd}).to_string()] {
            let _any = Content::new(value, Format::Html, true).chunk(&Params::default());
        }
    }

    #[test]
    fn any_edit_keeps_only_equal_texts(before in text(), after in text(), size in 1usize..60) {
        let params = Params { size, overlap: size / 4, max_chunks: 100 };
        let texts = |text: &str| -> Vec<String> {
            chunk(text, &params).chunks.iter().map(|c| text[c.start..c.end].to_owned()).collect()
        };
        let (old, new) = (texts(&before), texts(&after));
        let old: Vec<&str> = old.iter().map(String::as_str).collect();
        let new: Vec<&str> = new.iter().map(String::as_str).collect();
        let diff = diff_chunks(&old, &new);
        prop_assert_eq!(diff.kept.len(), new.len());
        for (text, kept) in new.iter().zip(&diff.kept) {
            prop_assert!(kept.is_none_or(|at| old[at] == *text));
        }
        // Each old chunk is used once: a new one keeps it, or it is dropped.
        let mut used: Vec<usize> = diff.kept.iter().flatten().chain(&diff.dropped).copied().collect();
        used.sort_unstable();
        prop_assert_eq!(used, (0..old.len()).collect::<Vec<_>>());
    }

    #[test]
    fn any_bytes_are_read_as_a_tsvector_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64), size in 0u32..6) {
        let words = [Word::from(vec![Term::lexeme("a")]), vec![Term::prefix("b")].into()];
        let _any = counts(&bytes, &words);
        let _sized = counts(&[&size.to_le_bytes()[..], &bytes].concat(), &words);
    }
}
