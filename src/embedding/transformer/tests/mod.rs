//! Whole ways from a published folder to vectors, with tiny models whose vectors tests/data/make_models.py computed.

mod files;
mod fuzz;
mod published;

use std::collections::BTreeMap;
use std::io::{PipeReader, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::embed;
use super::folder::Folder;
use super::frozen::{Frozen, Precision};
use super::import::Plan;
use super::kernels::Kernels;
use super::store::{ModelFile, Store};
use super::threads::Caller;
use crate::error::local_model::{Problem, Result};

/// A folder of models that is removed with the value.
pub(crate) struct Models(pub PathBuf);

impl Models {
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("chatbot_sync_models_{}_{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a model's folder.
    pub fn publish(&self, model: &Value) -> String {
        let name = model["name"].as_str().unwrap();
        for (file, content) in model["files"].as_object().unwrap() {
            self.write(name, file, content.to_string().as_bytes());
        }
        self.write(name, "model.safetensors", &safetensors(&model["tensors"]));
        name.to_owned()
    }

    pub fn write(&self, name: &str, file: &str, content: &[u8]) {
        let path = self.0.join(name).join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn store(&self) -> Store {
        Store::new(self.0.join("imported"))
    }

    fn import(&self, name: &str, precision: Precision) -> Result<ModelFile> {
        let plan = Plan::new(Folder::open(&self.0, name)?, name, &|| false)?;
        let file = ModelFile { name: name.to_owned(), digest: plan.digest.clone(), precision };
        self.store().import(&file, &plan, &|| false)?;
        Ok(file)
    }

    fn embed(&self, file: &ModelFile, kernels: Kernels, texts: &[String], threads: usize) -> Result<Vec<Vec<f32>>> {
        let mapped = self.store().open(file)?.unwrap();
        embed(&Frozen::open(&mapped)?, kernels, texts, threads, &Patient)
    }
}

impl Drop for Models {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A caller that never stops.
struct Patient;

impl Caller for Patient {
    fn stops(&self) -> bool {
        false
    }

    fn wait(&self, mut pipe: &PipeReader) {
        let _ = pipe.read(&mut [0; 64]);
    }
}

/// Texts, and the models with the vectors that each should have for them.
pub(crate) fn known() -> (Vec<String>, Vec<Value>) {
    let data: Value = serde_json::from_str(include_str!("../../../../tests/data/models.json")).unwrap();
    let texts = data["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect();
    (texts, data["models"].as_array().unwrap().clone())
}

/// One of the models.
pub(crate) fn model(name: &str) -> Value {
    known().1.into_iter().find(|model| model["name"] == name).unwrap()
}

/// Numbers that follow from a tensor's name, as tests/data/make_models.py says.
fn numbers(name: &str, count: usize) -> impl Iterator<Item = f32> {
    let is_gain = name.ends_with("LayerNorm.weight");
    let seed = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (0..count as u64).map(move |at| {
        let z = seed.wrapping_add(at).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let value = (((z ^ (z >> 31)) >> 57) as f32 - 64.0) / 128.0;
        if is_gain { 1.0 + value / 2.0 } else { value }
    })
}

/// A float whose fraction is short enough, in half precision.
fn half(x: f32) -> u16 {
    let bits = x.to_bits();
    if x == 0.0 {
        return 0;
    }
    let exponent = (bits >> 23 & 255) + 15 - 127;
    (bits >> 16 & 0x8000) as u16 | (exponent << 10) as u16 | (bits >> 13 & 1023) as u16
}

fn safetensors(tensors: &Value) -> Vec<u8> {
    let (mut header, mut data) = (BTreeMap::new(), Vec::new());
    for (name, tensor) in tensors.as_object().unwrap() {
        let count = tensor["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).product();
        let from = data.len();
        match tensor["dtype"].as_str().unwrap() {
            "F32" => numbers(name, count).for_each(|x| data.extend(x.to_le_bytes())),
            "F64" => numbers(name, count).for_each(|x| data.extend(f64::from(x).to_le_bytes())),
            "F16" => numbers(name, count).for_each(|x| data.extend(half(x).to_le_bytes())),
            "BF16" => numbers(name, count).for_each(|x| data.extend(((x.to_bits() >> 16) as u16).to_le_bytes())),
            "I64" => {
                let modulo = tensor["modulo"].as_u64().unwrap_or(u64::MAX);
                (0..count as u64).for_each(|at| data.extend((at % modulo).to_le_bytes()));
            }
            other => panic!("{other}"),
        }
        header.insert(
            name.clone(),
            json!({"dtype": tensor["dtype"], "shape": tensor["shape"], "data_offsets": [from, data.len()]}),
        );
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    file
}

/// 0 for the same direction, 1 for none in common.
pub(crate) fn cosine_distance(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum() };
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths == 0.0 { dot(a, a) + dot(b, b) } else { 1.0 - dot(a, b) / lengths }
}

#[test]
fn vectors_equal_the_reference_on_every_instruction_set() {
    let models = Models::new();
    let (texts, known) = known();
    for model in known {
        let file = models.import(&models.publish(&model), Precision::Float).unwrap();
        let expected: Vec<Vec<f32>> = serde_json::from_value(model["vectors"].clone()).unwrap();
        for kernels in Kernels::all() {
            let vectors = models.embed(&file, kernels, &texts, 1).unwrap();
            for ((text, vector), expected) in texts.iter().zip(&vectors).zip(&expected) {
                let distance = cosine_distance(vector, expected);
                assert!(distance < 1e-5, "{} {} {text:?}: {distance}", model["name"], kernels.name());
                let norms = [vector, expected].map(|v| v.iter().map(|x| x * x).sum::<f32>().sqrt());
                assert!((norms[0] - norms[1]).abs() < 1e-4, "{} {text:?}: lengths {norms:?}", model["name"]);
            }
        }
    }
}

#[test]
fn int8_vectors_are_near_the_float_ones_and_equal_on_every_instruction_set() {
    let models = Models::new();
    let (texts, _) = known();
    let name = models.publish(&model("bert-mean"));
    let float = models.import(&name, Precision::Float).unwrap();
    let int8 = models.import(&name, Precision::Int8).unwrap();
    let exact = models.embed(&float, Kernels::best(), &texts, 1).unwrap();
    let plain = models.embed(&int8, Kernels::all()[Kernels::all().len() - 1], &texts, 1).unwrap();
    for (exact, rounded) in exact.iter().zip(&plain) {
        let distance = cosine_distance(exact, rounded);
        assert!(distance > 0.0 && distance < 0.05, "{distance}");
    }
    for kernels in Kernels::all() {
        for (vector, plain) in models.embed(&int8, kernels, &texts, 1).unwrap().iter().zip(&plain) {
            let distance = cosine_distance(vector, plain);
            assert!(distance < 1e-5, "{}: {distance}", kernels.name());
        }
    }
}

#[test]
fn a_vector_does_not_depend_on_the_texts_beside_it_or_on_threads() {
    let models = Models::new();
    let file = models.import(&models.publish(&model("xlm-roberta-mean")), Precision::Float).unwrap();
    let texts: Vec<String> = (0..200).map(|n| "the newest ".repeat(n % 13) + "lower").collect();
    let alone: Vec<Vec<f32>> = texts
        .iter()
        .map(|text| models.embed(&file, Kernels::best(), std::slice::from_ref(text), 1).unwrap().remove(0))
        .collect();
    for threads in [1, 2, 5] {
        let together = models.embed(&file, Kernels::best(), &texts, threads).unwrap();
        for (alone, together) in alone.iter().zip(&together) {
            assert!(cosine_distance(alone, together) < 1e-6);
        }
    }
}

/// Stops when it is asked for the nth time.
struct StopsAfter(AtomicUsize);

impl Caller for StopsAfter {
    fn stops(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_err()
    }

    fn wait(&self, mut pipe: &PipeReader) {
        let _ = pipe.read(&mut [0; 1]);
    }
}

#[test]
fn it_stops_whenever_it_is_asked_to() {
    let models = Models::new();
    let file = models.import(&models.publish(&model("bert-mean")), Precision::Float).unwrap();
    let mapped = models.store().open(&file).unwrap().unwrap();
    let frozen = Frozen::open(&mapped).unwrap();
    let texts = vec!["the newest".to_owned(); 100];
    for threads in [1, 2] {
        let asked = StopsAfter(AtomicUsize::new(usize::MAX / 2));
        assert!(embed(&frozen, Kernels::best(), &texts, threads, &asked).is_ok());
        let times = usize::MAX / 2 - asked.0.into_inner();
        // With threads of its own the caller is asked once in each wait.
        for after in (0..times.min(110)).step_by(if threads == 1 { 7 } else { 1 }) {
            let caller = StopsAfter(AtomicUsize::new(after));
            assert_eq!(embed(&frozen, Kernels::best(), &texts, threads, &caller), Err(Problem::Stopped), "{after}");
        }
    }
}

/// The vectors are those of onnxruntime: tests/data/make_published.py.
#[test]
#[ignore = "needs the folders that `make model` installs: MODELS=folder"]
fn vectors_of_published_models_equal_the_reference() {
    let folder = PathBuf::from(std::env::var("MODELS").unwrap());
    let data: Value = serde_json::from_str(include_str!("../../../../tests/data/published.json")).unwrap();
    let texts: Vec<String> = serde_json::from_value(data["texts"].clone()).unwrap();
    let imported = Models::new();
    for model in data["models"].as_array().unwrap() {
        let (name, prefix) = (model["name"].as_str().unwrap(), model["prefix"].as_str().unwrap());
        let plan = Plan::new(Folder::open(&folder, name).unwrap(), name, &|| false).unwrap();
        assert_eq!(plan.description().query_prefix, prefix);
        let file = ModelFile { name: name.to_owned(), digest: plan.digest.clone(), precision: Precision::Float };
        imported.store().import(&file, &plan, &|| false).unwrap();
        let texts: Vec<String> = texts.iter().map(|text| format!("{prefix}{text}")).collect();
        let expected: Vec<Vec<f32>> = serde_json::from_value(model["vectors"].clone()).unwrap();
        for kernels in Kernels::all() {
            let vectors = imported.embed(&file, kernels, &texts, 1).unwrap();
            for ((text, vector), expected) in texts.iter().zip(&vectors).zip(&expected) {
                let distance = cosine_distance(vector, expected);
                assert!(distance < 1e-5, "{name} {} {text:?}: {distance}", kernels.name());
            }
        }
    }
}
