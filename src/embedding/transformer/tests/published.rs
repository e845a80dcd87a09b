//! Published folders: which settings are read, and which are refused.

use serde_json::{Value, json};

use super::{Models, model};
use crate::embedding::transformer::description;
use crate::embedding::transformer::folder::Folder;
use crate::embedding::transformer::frozen::Precision;
use crate::error::local_model::Problem;

#[test]
fn long_texts_are_cut_where_the_folder_says() {
    let models = Models::new();
    let mut model = model("bert-mean");
    let description = |model: &Value| {
        let name = models.publish(model);
        description::read(&Folder::open(&models.0, &name).unwrap(), &name).unwrap().description
    };
    assert_eq!(description(&model).max_tokens, 24);
    model["files"]["sentence_bert_config.json"] = json!({"max_seq_length": null});
    assert_eq!(description(&model).max_tokens, 32, "positions");
    model["files"]["tokenizer_config.json"] = json!({"model_max_length": 17});
    assert_eq!(description(&model).max_tokens, 17);
    model["files"]["tokenizer_config.json"] = json!({"model_max_length": 1e30});
    model["files"]["config.json"]["model_type"] = json!("roberta");
    assert_eq!(description(&model).max_tokens, 31, "positions after the one of padding");
}

#[test]
fn prompts_are_those_of_the_folder_or_of_the_card() {
    let models = Models::new();
    let mut model = model("bert-mean");
    let prefixes = |model: &Value| {
        let name = models.publish(model);
        let description = description::read(&Folder::open(&models.0, &name).unwrap(), &name).unwrap().description;
        (description.document_prefix, description.query_prefix)
    };
    let pair = |document: &str, query: &str| (document.to_owned(), query.to_owned());
    assert_eq!(prefixes(&model), pair("", ""));
    model["name"] = json!("multilingual-e5-small");
    assert_eq!(prefixes(&model), pair("passage: ", "query: "));
    model["name"] = json!("bge-small-en-v1.5");
    assert_eq!(prefixes(&model), pair("", "Represent this sentence for searching relevant passages: "));
    model["files"]["config_sentence_transformers.json"] =
        json!({"prompts": {"query": "Q: ", "other": "O: "}, "default_prompt_name": "other"});
    assert_eq!(prefixes(&model), pair("O: ", "Q: "));
}

/// Returns the problem with which a folder is refused after a change.
fn refusal(change: impl Fn(&mut Value)) -> Problem {
    let models = Models::new();
    let mut model = model("bert-mean");
    change(&mut model);
    let name = models.publish(&model);
    models.import(&name, Precision::Float).unwrap_err()
}

#[test]
fn what_is_not_implemented_is_refused_by_name() {
    let refused = |change: &dyn Fn(&mut Value), name: &str| match refusal(change) {
        Problem::Unsupported(message) => assert!(message.contains(name), "{message}"),
        other => panic!("{other:?}"),
    };
    let config =
        |key: &'static str, value: Value| move |model: &mut Value| model["files"]["config.json"][key] = value.clone();
    refused(&config("model_type", json!("mpnet")), "mpnet");
    refused(&config("model_type", json!(null)), "null");
    refused(&config("hidden_act", json!("gelu_new")), "gelu_new");
    refused(&config("position_embedding_type", json!("relative_key")), "relative_key");
    refused(&config("is_decoder", json!(true)), "is_decoder");
    refused(&config("quantization_config", json!({})), "quantization_config");
    refused(&config("num_attention_heads", json!(8)), "8 attention heads");
    refused(&config("intermediate_size", json!(50)), "intermediate_size of 50");
    let module = |kind: &'static str| {
        move |model: &mut Value| {
            let modules = model["files"]["modules.json"].as_array_mut().unwrap();
            modules.push(json!({"idx": 3, "path": "3_X", "type": format!("sentence_transformers.models.{kind}")}));
        }
    };
    refused(&module("Dense"), "Dense");
    refused(&module("CNN"), "CNN");
    let pooling = |pooling: Value| move |model: &mut Value| model["files"]["1_Pooling/config.json"] = pooling.clone();
    refused(&pooling(json!({"pooling_mode_lasttoken": true})), "lasttoken");
    refused(&pooling(json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true})), "mean and cls");
    refused(&pooling(json!({"pooling_mode": "weightedmean"})), "weightedmean");
    refused(&pooling(json!({"pooling_mode_mean_tokens": true, "include_prompt": false})), "include_prompt");
    refused(&|model| model["files"]["sentence_bert_config.json"]["do_lower_case"] = json!(true), "do_lower_case");
    refused(&|model| model["files"]["tokenizer.json"]["model"]["type"] = json!("WordLevel"), "WordLevel");
    refused(&|model| model["files"]["tokenizer.json"]["normalizer"] = json!({"type": "Strange"}), "Strange");
    refused(&|model| model["tensors"]["encoder.layer.0.output.dense.weight"]["dtype"] = json!("F16"), "F16");
}

#[test]
fn a_folder_that_contradicts_itself_is_refused() {
    let refused = |change: &dyn Fn(&mut Value), name: &str| match refusal(change) {
        Problem::Malformed(message) => assert!(message.contains(name), "{message}"),
        other => panic!("{other:?}"),
    };
    refused(&|model| model["files"]["config.json"] = json!([1]), "config.json is no JSON object");
    refused(&|model| model["files"]["config.json"]["hidden_size"] = json!(-3), "hidden_size");
    refused(&|model| model["files"]["config.json"]["num_hidden_layers"] = json!(1e12), "num_hidden_layers");
    refused(&|model| model["files"]["config.json"]["num_hidden_layers"] = json!(3), "encoder.layer.2");
    refused(&|model| model["files"]["config.json"]["vocab_size"] = json!(23), "[24, 32], expected [23, 32]");
    refused(&|model| model["files"]["modules.json"][1]["path"] = json!("../other"), "../other");
    refused(&|model| model["files"]["modules.json"] = json!({}), "modules.json");
    refused(&|model| model["files"]["1_Pooling/config.json"]["word_embedding_dimension"] = json!(33), "33 dimensions");
    refused(&|model| model["files"]["sentence_bert_config.json"]["max_seq_length"] = json!(0), "0 tokens");
    refused(&|model| model["files"]["config_sentence_transformers.json"] = json!({"prompts": 7}), "prompts");
    refused(
        &|model| {
            model["files"]["config.json"]["vocab_size"] = json!(10);
            model["tensors"]["embeddings.word_embeddings.weight"]["shape"] = json!([10, 32]);
        },
        "20 tokens, and the model 10",
    );
}
