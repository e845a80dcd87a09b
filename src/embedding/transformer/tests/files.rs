//! Imported files: made once, kept, replaced, removed.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::{Models, cosine_distance, model};
use crate::embedding::transformer::folder::Folder;
use crate::embedding::transformer::frozen::{Frozen, PAGE, Precision};
use crate::embedding::transformer::import::Plan;
use crate::embedding::transformer::kernels::Kernels;
use crate::embedding::transformer::store::ModelFile;
use crate::error::local_model::Problem;

#[test]
fn a_missing_file_is_said_by_name() {
    for file in ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"] {
        let models = Models::new();
        let name = models.publish(&model("bert-mean"));
        std::fs::remove_file(models.0.join(&name).join(file)).unwrap();
        let message = models.import(&name, Precision::Float).unwrap_err().to_string();
        assert!(message.contains(file), "{message}");
    }
}

#[test]
fn a_file_is_imported_once_and_kept_when_the_folder_goes() {
    let models = Models::new();
    let name = models.publish(&model("bert-mean"));
    let file = models.import(&name, Precision::Float).unwrap();
    let path = models.store().path(&file).unwrap();
    let first = std::fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(models.import(&name, Precision::Float).unwrap(), file);
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), first, "not written again");

    std::fs::write(models.0.join(&name).join("model.safetensors"), "").unwrap();
    assert_eq!(models.embed(&file, Kernels::best(), &["a".to_owned()], 1).unwrap().len(), 1);
    std::fs::remove_dir_all(models.0.join(&name)).unwrap();
    assert_eq!(models.embed(&file, Kernels::best(), &["a".to_owned()], 1).unwrap().len(), 1);

    models.store().remove(&file).unwrap();
    assert!(models.store().open(&file).unwrap().is_none());
}

#[test]
fn a_changed_folder_becomes_another_file() {
    let models = Models::new();
    let mut model = model("bert-mean");
    let before = models.import(&models.publish(&model), Precision::Float).unwrap();
    model["files"]["1_Pooling/config.json"] = json!({"pooling_mode_cls_token": true});
    let after = models.import(&models.publish(&model), Precision::Float).unwrap();
    assert_ne!(before.digest, after.digest);
    let embed = |file| models.embed(file, Kernels::best(), &["the newest".to_owned()], 1).unwrap().remove(0);
    assert!(cosine_distance(&embed(&before), &embed(&after)) > 1e-3);
}

#[test]
fn an_import_that_is_stopped_leaves_nothing_behind() {
    let models = Models::new();
    let name = models.publish(&model("bert-mean"));
    let plan = Plan::new(Folder::open(&models.0, &name).unwrap(), &name, &|| false).unwrap();
    let file = ModelFile { name, digest: plan.digest.clone(), precision: Precision::Float };
    for after in [0, 1, 20] {
        let left = AtomicUsize::new(after);
        let stop = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_err();
        assert_eq!(models.store().import(&file, &plan, &stop), Err(Problem::Stopped));
        let left_over: Vec<_> = std::fs::read_dir(models.0.join("imported")).unwrap().collect();
        assert_eq!(left_over.len(), 1, "only the lock: {left_over:?}");
    }
}

#[test]
fn a_process_that_waits_for_another_import_can_be_stopped() {
    let models = Models::new();
    let name = models.publish(&model("bert-mean"));
    let plan = Plan::new(Folder::open(&models.0, &name).unwrap(), &name, &|| false).unwrap();
    let file = ModelFile { name, digest: plan.digest.clone(), precision: Precision::Float };
    std::fs::create_dir_all(models.0.join("imported")).unwrap();
    let lock = std::fs::File::create(models.0.join("imported/lock")).unwrap();
    lock.lock().unwrap();
    let asked = AtomicUsize::new(0);
    let stop = || asked.fetch_add(1, Ordering::Relaxed) == 2;
    assert_eq!(models.store().import(&file, &plan, &stop), Err(Problem::Stopped));
    lock.unlock().unwrap();
    assert_eq!(models.store().import(&file, &plan, &|| false), Ok(()));
}

#[test]
fn a_damaged_file_is_an_error_and_is_imported_anew() {
    let models = Models::new();
    let name = models.publish(&model("bert-mean"));
    let file = models.import(&name, Precision::Float).unwrap();
    let path = models.store().path(&file).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let refused = |content: &[u8]| {
        std::fs::write(&path, content).unwrap();
        match models.store().open(&file) {
            Err(Problem::Damaged(_)) => true,
            Ok(Some(mapped)) => {
                let frozen = Frozen::open(&mapped);
                frozen.is_err() || frozen.is_ok_and(|frozen| frozen.header.verify(&mapped).is_err())
            }
            _ => false,
        }
    };
    for length in [0, 7, 48, PAGE - 1, PAGE, whole.len() / 2, whole.len() - 1] {
        assert!(refused(&whole[..length]), "{length} bytes");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(refused(&longer));
    for at in [0, 8, 12, 20, 60, PAGE + 5, whole.len() - 70] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        assert!(refused(&changed), "byte {at}");
    }

    models.import(&name, Precision::Float).unwrap();

    assert_eq!(std::fs::read(&path).unwrap(), whole);
}

#[test]
fn a_file_whose_tokenizer_is_of_another_version_is_imported_anew() {
    let models = Models::new();
    let name = models.publish(&model("bert-mean"));
    let file = models.import(&name, Precision::Float).unwrap();
    let path = models.store().path(&file).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mapped = models.store().open(&file).unwrap().unwrap();
    let length = Frozen::open(&mapped).unwrap().tokenizer.len();
    let mut other = whole.clone();
    let begin = (PAGE..whole.len()).rev().find(|at| at % 64 == 0 && whole.len() - at >= length).unwrap();
    other[begin] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &other).unwrap();
    assert!(models.store().open(&file).unwrap().is_none());

    models.import(&name, Precision::Float).unwrap();

    assert_eq!(std::fs::read(&path).unwrap(), whole);
}

#[test]
fn files_of_another_version_and_leftovers_go_when_a_model_is_imported() {
    let models = Models::new();
    let name = models.publish(&model("bert-mean"));
    let file = models.import(&name, Precision::Float).unwrap();
    let path = models.store().path(&file).unwrap();
    let of_version = path.to_str().unwrap().replace(".v1", ".v0");
    std::fs::rename(&path, &of_version).unwrap();
    let leftover = models.0.join("imported/other.tmp");
    std::fs::write(&leftover, "").unwrap();

    models.import(&name, Precision::Float).unwrap();

    assert!(path.exists() && !Path::new(&of_version).exists() && !leftover.exists());
}
