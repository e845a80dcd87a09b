use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// The data that `tests/data/make_tokenizers.py` wrote: tiny tokenizers, texts, and the reference's tokens.
fn tokenizers() -> Vec<Value> {
    serde_json::from_str(include_str!("../../../tests/data/tokenizers.json")).unwrap()
}

fn described(name: &str) -> Value {
    tokenizers().into_iter().find(|tokenizer| tokenizer["name"] == name).unwrap()["tokenizer"].take()
}

fn frozen(json: &Value) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    Tokenizer::from_json(json.to_string().as_bytes())?.freeze(&mut bytes);
    Ok(bytes)
}

fn encode(json: &Value, text: &str, max_tokens: usize) -> Vec<u32> {
    FrozenTokenizer::open(&frozen(json).unwrap()).unwrap().encode(text, max_tokens)
}

#[test]
fn tokens_equal_the_reference() {
    let mut cases = 0;
    for described in tokenizers() {
        let bytes = frozen(&described["tokenizer"]).unwrap();
        let tokenizer = FrozenTokenizer::open(&bytes).unwrap();
        for (field, max_tokens) in [("cases", usize::MAX), ("cut", 7)] {
            for case in described[field].as_array().unwrap() {
                let text = case[0].as_str().unwrap();
                let expected: Vec<u32> = serde_json::from_value(case[1].clone()).unwrap();
                assert_eq!(tokenizer.encode(text, max_tokens), expected, "{} {text:?}", described["name"]);
                cases += 1;
            }
        }
    }
    assert!(cases > 700);
}

#[test]
fn a_frozen_tokenizer_may_lie_at_any_offset() {
    let bytes = frozen(&described("xlm-r")).unwrap();
    let expected = FrozenTokenizer::open(&bytes).unwrap().encode("hello world", 100);
    for offset in 1..9 {
        let moved = [vec![7; offset], bytes.clone(), vec![7; offset]].concat();
        assert_eq!(FrozenTokenizer::open(&moved[offset..]).unwrap().encode("hello world", 100), expected);
    }
}

#[test]
fn special_tokens_outlive_truncation() {
    let bert = described("bert");
    assert_eq!(encode(&bert, "hello world", 4), [2, 32, 33, 3]);
    assert_eq!(encode(&bert, "hello world", 3), [2, 32, 3]);
    assert_eq!(encode(&bert, "hello world", 2), [2, 3]);
    assert_eq!(encode(&bert, "hello world", 1), [2]);
    assert_eq!(encode(&bert, "hello world", 0), [0u32; 0]);
}

#[test]
fn every_token_has_a_row() {
    let mut bert = described("bert");
    bert["model"]["vocab"]["zz"] = json!(9999);
    let bytes = frozen(&bert).unwrap();
    let tokenizer = FrozenTokenizer::open(&bytes).unwrap();
    assert_eq!(tokenizer.vocabulary_size(), 10_000);
    assert_eq!(tokenizer.encode("zz", 100), [2, 9999, 3]);
}

/// Linear: with quadratic time these would not end.
#[test]
fn a_megabyte_of_anything_is_encoded() {
    for name in ["bert", "nfc", "xlm-r", "metaspace, one word", "bpe, one word"] {
        let bytes = frozen(&described(name)).unwrap();
        let tokenizer = FrozenTokenizer::open(&bytes).unwrap();
        for unit in ["a", "\u{301}", "a\u{316}\u{301}", " ", "漢", "[MASK]", "<mask> ", "👩‍", "🇩", "<"] {
            let text = unit.repeat((1 << 20) / unit.len());
            assert!(tokenizer.encode(&text, usize::MAX).len() <= 2 * text.len() + 2);
        }
    }
}

#[test]
fn added_tokens_that_strip_take_linear_time() {
    let mut bert = described("no steps");
    let next = bert["model"]["vocab"].as_object().unwrap().len();
    bert["added_tokens"] = json!([{"id": next, "content": " ", "single_word": false, "lstrip": true, "rstrip": true, "normalized": false, "special": true}]);
    assert_eq!(encode(&bert, &" ".repeat(1 << 20), usize::MAX).len(), 1 << 20);
}

#[test]
fn what_is_not_supported_is_named() {
    let refusal = |name: &str, pointer: &str, value: Value| {
        let mut json = described(name);
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let parent = json.pointer_mut(parent).unwrap();
        match field.parse::<usize>() {
            Ok(at) => parent[at] = value,
            Err(_) => parent[field] = value,
        }
        frozen(&json).unwrap_err()
    };
    let cases = [
        ("bert", "/normalizer", json!({"type": "Nmt"}), "Nmt"),
        ("bert", "/normalizer", json!({"type": "ByteLevel"}), "ByteLevel"),
        ("bert", "/normalizer/mood", json!(1), "mood"),
        (
            "bert",
            "/normalizer",
            json!({"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""}),
            "Replace with the regular expression \"a+\"",
        ),
        (
            "bert",
            "/normalizer",
            json!({"type": "Replace", "pattern": {"String": ""}, "content": ""}),
            "Replace with an empty pattern",
        ),
        (
            "xlm-r",
            "/normalizer/normalizers/1",
            described("xlm-r")["normalizer"]["normalizers"][0].clone(),
            "more than one Precompiled",
        ),
        ("xlm-r", "/normalizer/normalizers/0/precompiled_charsmap", json!("////"), "Precompiled"),
        ("xlm-r", "/normalizer/normalizers/0/precompiled_charsmap", json!("!"), "base64"),
        (
            "bert",
            "/pre_tokenizer",
            json!({"type": "Split", "pattern": {"String": "a"}, "behavior": "Isolated", "invert": false}),
            "Split",
        ),
        ("bert", "/pre_tokenizer", json!({"type": "UnicodeScripts"}), "UnicodeScripts"),
        ("bert", "/pre_tokenizer", json!({"type": "CharDelimiterSplit", "delimiter": "a"}), "CharDelimiterSplit"),
        ("bert", "/pre_tokenizer", json!({"type": "Punctuation", "behavior": "Odd"}), "Odd"),
        ("xlm-r", "/pre_tokenizer/add_prefix_space", json!(false), "add_prefix_space"),
        ("xlm-r", "/pre_tokenizer/prepend_scheme", json!("sometimes"), "sometimes"),
        ("bert", "/post_processor/type", json!("Other"), "Other"),
        (
            "bert",
            "/post_processor/single",
            json!([{"SpecialToken": {"id": "[SEP]", "type_id": 0}}]),
            "TemplateProcessing without the text",
        ),
        ("bert", "/post_processor/single", json!([{"Sequence": {"id": "B", "type_id": 0}}]), "more than one sequence"),
        ("bert", "/post_processor/special_tokens", json!({}), "no token \"[CLS]\""),
        ("bert", "/model/type", json!("WordLevel"), "WordLevel"),
        ("bert", "/model/type", json!("BPE"), "BPE without the pre-tokenizer ByteLevel"),
        ("roberta", "/model/dropout", json!(0.1), "BPE with dropout"),
        ("roberta", "/model/ignore_merges", json!(true), "BPE with ignore_merges"),
        ("roberta", "/model/end_of_word_suffix", json!("</w>"), "BPE with end_of_word_suffix"),
        ("roberta", "/model/continuing_subword_prefix", json!("##"), "BPE with a continuing_subword_prefix"),
        ("roberta", "/model/merges", json!([["a", "b", "c"]]), "MergeFile"),
        ("roberta", "/model/merges", json!(["a bc"]), "\"bc\", which is no piece"),
        ("roberta", "/model/vocab", json!({"a": 0}), "without a piece for the byte 0"),
        ("bert", "/model/mood", json!(0.1), "mood"),
        ("bert", "/model/unk_token", json!("[NONE]"), "[NONE]"),
        ("bert", "/model/vocab/x", json!(1 << 24), "ids of"),
        ("xlm-r", "/model/byte_fallback", json!(true), "byte_fallback"),
        ("xlm-r", "/model/unk_id", json!(null), "without an unk_id"),
        ("xlm-r", "/model/unk_id", json!(1000), "unk_id"),
        ("bert", "/added_tokens/0/id", json!(7), "\"[PAD]\" with the id 7 instead of 0"),
        ("bert", "/added_tokens/0/lstrip", json!("yes"), "yes"),
        (
            "bert",
            "/truncation",
            json!({"direction": "Left", "max_length": 1, "strategy": "LongestFirst", "stride": 0}),
            "truncation from the left",
        ),
        ("bert", "/version", json!("2.0"), "2.0"),
        ("bert", "/extra", json!(1), "extra"),
    ];
    for (name, pointer, value, expected) in cases {
        let error = refusal(name, pointer, value);
        assert!(error.starts_with("tokenizer.json: ") && error.contains(expected), "{pointer}: {error}");
    }
}

#[test]
fn steps_that_multiply_a_text_are_refused() {
    let mut bert = described("bert");
    let doubles = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
    bert["normalizer"] = json!({"type": "Sequence", "normalizers": vec![doubles.clone(); 6]});
    assert_eq!(encode(&bert, "a", 100).len(), 66);
    bert["normalizer"] = json!({"type": "Sequence", "normalizers": vec![doubles; 7]});
    assert!(frozen(&bert).unwrap_err().contains("64 times as long"));
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": true});
    let mut roberta = described("roberta");
    roberta["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": vec![byte_level; 2]});
    assert!(frozen(&roberta).unwrap_err().contains("ByteLevel before another pre-tokenizer"));
}

#[test]
fn padding_and_truncation_of_the_file_do_not_count() {
    let mut bert = described("bert");
    bert["truncation"] = json!({"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
    bert["padding"] = json!({"strategy": {"Fixed": 128}, "direction": "Right", "pad_id": 0});
    bert["decoder"] = json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
    assert_eq!(encode(&bert, "hello world", 100), [2, 32, 33, 3]);
}

/// Puts `odd` in the place of the value that is `at` in the order of reading.
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

fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0u32..300).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,3}".prop_map(Value::from),
        prop::sample::select(vec!["", " ", "BertNormalizer", "Metaspace", "NFD", "Removed", "first", "####"])
            .prop_map(Value::from),
        Just(json!({})),
        Just(json!([[["a", 1.0]]])),
    ]
}

fn text() -> impl Strategy<Value = String> {
    let unit = prop_oneof![
        3 => "[a-zA-Z]{1,12}[ .,!?'-]?",
        1 => "[\0-\u{a0}\u{fffd}]{1,4}",
        1 => "[\u{300}-\u{36f}]{1,20}",
        1 => "\\[(MASK|CLS|LEFT|RIGHT|ALONE)\\]|<(s|mask|unk)>| {1,3}",
        2 => any::<char>().prop_map(String::from),
        1 => "\\PC{0,20}",
    ];
    prop::collection::vec(unit, 0..20).prop_map(|units| units.concat())
}

proptest! {
    #[test]
    fn any_json_is_read_or_refused(
        tokenizer in prop::sample::select(tokenizers()), changes in prop::collection::vec((0usize..400, odd()), 0..4),
        text in text(), max_tokens in 0usize..40
    ) {
        let mut json = tokenizer["tokenizer"].clone();
        changes.into_iter().for_each(|(mut at, odd)| replace(&mut json, &mut at, &odd));
        if let Ok(bytes) = frozen(&json) {
            let tokenizer = FrozenTokenizer::open(&bytes).unwrap();
            let tokens = tokenizer.encode(&text, max_tokens);
            prop_assert!(tokens.len() <= max_tokens);
            prop_assert!(tokens.iter().all(|&token| (token as usize) < tokenizer.vocabulary_size()));
        }
    }

    #[test]
    fn any_bytes_are_refused_or_encode_within_the_vocabulary(
        tokenizer in prop::sample::select(tokenizers()), text in text(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..200), cut in prop::option::of(any::<prop::sample::Index>())
    ) {
        let mut bytes = frozen(&tokenizer["tokenizer"]).unwrap();
        let length = bytes.len();
        // The header and the pipeline stay mostly whole, or nothing would be opened.
        changes.iter().for_each(|(at, byte)| bytes[at.index(length - 2048) + 2048] = *byte);
        if let Some(cut) = cut {
            bytes.truncate(cut.index(length));
        }
        if let Ok(tokenizer) = FrozenTokenizer::open(&bytes) {
            let tokens = tokenizer.encode(&text, usize::MAX);
            prop_assert!(tokens.iter().all(|&token| (token as usize) < tokenizer.vocabulary_size()));
        }
    }

    #[test]
    fn fewer_tokens_are_a_prefix(tokenizer in prop::sample::select(tokenizers()), text in text(), max_tokens in 0usize..40) {
        let bytes = frozen(&tokenizer["tokenizer"]).unwrap();
        let tokenizer = FrozenTokenizer::open(&bytes).unwrap();
        let (all, none) = (tokenizer.encode(&text, usize::MAX), tokenizer.encode("", usize::MAX));
        let cut = tokenizer.encode(&text, max_tokens);
        prop_assert_eq!(cut.len(), all.len().min(max_tokens));
        let after = tokenizer.pipeline.after.len();
        if max_tokens >= none.len() {
            prop_assert_eq!(&cut[..cut.len() - after], &all[..cut.len() - after]);
            prop_assert!(cut.ends_with(&tokenizer.pipeline.after));
        }
    }
}
