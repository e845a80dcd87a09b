//! No bytes make it panic.

use proptest::prelude::*;

use super::{Models, Patient, model};
use crate::embedding::transformer::embed;
use crate::embedding::transformer::frozen::{Frozen, Header, Precision};
use crate::embedding::transformer::kernels::Kernels;
use crate::embedding::transformer::memory::Buffer;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_frozen_bytes_make_it_panic(at in 0usize..1000, byte: u8, cut in 0usize..1000) {
        thread_local!(static FROZEN: Vec<u8> = {
            let models = Models::new();
            let file = models.import(&models.publish(&model("bert-max")), Precision::Float).unwrap();
            std::fs::read(models.store().path(&file).unwrap()).unwrap()
        });
        let mut bytes = FROZEN.with(Clone::clone);
        let at = at * (bytes.len() - 1) / 1000;
        bytes[at] = byte;
        bytes.truncate(if cut < 900 { bytes.len() } else { cut * bytes.len() / 1000 });
        // As a mapped file is: aligned.
        let mut aligned = Buffer::<u8>::new(bytes.len()).unwrap();
        aligned.copy_from_slice(&bytes);
        if let Ok(frozen) = Frozen::open(&aligned) {
            let _ = embed(&frozen, Kernels::best(), &["the newest, lower".to_owned()], 1, &Patient);
        }
        let _ = Header::read(&bytes);
    }

    #[test]
    fn no_published_bytes_make_it_panic(file in 0usize..5, at in 0usize..1000, byte: u8) {
        let names = ["config.json", "modules.json", "1_Pooling/config.json", "tokenizer.json", "model.safetensors"];
        let models = Models::new();
        let name = models.publish(&model("bert-max"));
        let path = models.0.join(&name).join(names[file]);
        let mut content = std::fs::read(&path).unwrap();
        // Of the weights only the header: other numbers are other numbers.
        let length = content.len().min(2000);
        content[at * (length - 1) / 1000] = byte;
        std::fs::write(&path, content).unwrap();
        if let Ok(file) = models.import(&name, Precision::Float) {
            let _ = models.embed(&file, Kernels::best(), &["the newest, lower".to_owned()], 1);
        }
    }
}
