//! The layers of `src/`: a module uses only what stands below it, and no modules form a circle. See docs/ARCHITECTURE.md.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The layers from the ground up. A module belongs to the layer with the longest prefix of its path. Modules of one
/// layer may use each other, but not in a circle.
const LAYERS: [&[&str]; 18] = [
    &["error", "ids", "version", "session_id"],
    &["text", "threads"],
    &["source", "host"],
    &["embedding"],
    &["search"],
    &["sync"],
    &["pg::runtime"],
    &["pg::store"],
    &["pg::source_types"],
    &["pg::model"],
    &["pg::sync"],
    &["pg::host"],
    &["pg::queue"],
    &["pg::search", "pg::session"],
    &["pg::maintenance"],
    &["pg::worker"],
    &["pg::api", "pg::internal_api"],
    &["pg", "fuzz", ""],
];

/// Returns the modules of the crate by path, each with its file. The path of the crate's root is "".
fn modules() -> BTreeMap<String, PathBuf> {
    fn visit(folder: &Path, path: &str, found: &mut BTreeMap<String, PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            let name = file.file_stem().unwrap().to_str().unwrap();
            let inner = if path.is_empty() { name.to_owned() } else { format!("{path}::{name}") };
            if file.is_dir() && name != "tests" {
                visit(&file, &inner, found);
            } else if file.extension().is_some_and(|extension| extension == "rs") && name != "tests" {
                let module = if matches!(name, "mod" | "lib") { path.to_owned() } else { inner };
                found.insert(module, file);
            }
        }
    }
    let mut found = BTreeMap::new();
    visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut found);
    found
}

/// Returns the code of a file without comments and without the test module at its end.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Returns the paths in a use tree: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn leaves(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((prefix, rest)) = tree.split_once('{') else { return vec![tree.to_owned()] };
    let inner = &rest[..rest.rfind('}').unwrap_or(rest.len())];
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    parts
        .iter()
        .filter(|part| !part.trim().is_empty())
        .flat_map(|part| leaves(&format!("{prefix}{}", part.trim())))
        .collect()
}

/// Returns every path that a file names: in `use` declarations, and in code where it begins with `crate::` or
/// `super::`.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for statement in code.split(';') {
        if let Some(at) = statement.rfind("use ")
            && statement[..at].chars().next_back().is_none_or(char::is_whitespace)
        {
            found.extend(leaves(&statement[at + 4..].replace('\n', " ")));
        }
    }
    for start in ["crate::", "super::"] {
        found.extend(code.match_indices(start).filter_map(|(at, _)| {
            let end = code[at..].find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
            let path = &code[at..end.map_or(code.len(), |end| at + end)];
            // A stem before `::{` is not a path of its own; its leaves were found above.
            (!path.ends_with(':')).then(|| path.to_owned())
        }));
    }
    found
}

/// Returns the module that a path leads to when it is used in `from`; `None` for paths of other crates.
fn target(path: &str, from: &str, modules: &BTreeMap<String, PathBuf>) -> Option<String> {
    let path = path.split(" as ").next().unwrap().trim().trim_start_matches("::");
    let mut parts: Vec<&str> = path.split("::").collect();
    let mut base: Vec<&str> = if from.is_empty() { Vec::new() } else { from.split("::").collect() };
    match parts[0] {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            while parts.first() == Some(&"super") {
                base.pop();
                parts.remove(0);
            }
            parts.insert(0, "super");
        }
        // A child of this module, or another crate.
        _ => {
            let child = base.iter().chain([&parts[0]]).copied().collect::<Vec<_>>().join("::");
            if !modules.contains_key(&child) {
                return None;
            }
            parts.insert(0, "self");
        }
    }
    base.extend(&parts[1..]);
    while !modules.contains_key(&base.join("::")) {
        base.pop()?;
    }
    Some(base.join("::"))
}

fn uses() -> BTreeMap<String, BTreeSet<String>> {
    let modules = modules();
    let of = |(module, file): (&String, &PathBuf)| {
        let targets =
            paths(&code(file)).iter().filter_map(|path| target(path, module, &modules)).collect::<BTreeSet<_>>();
        (module.clone(), targets.into_iter().filter(|target| target != module && !target.is_empty()).collect())
    };
    modules.iter().map(of).collect()
}

fn layer(module: &str) -> usize {
    let is_in = |prefix: &str| prefix.is_empty() || module == prefix || module.starts_with(&format!("{prefix}::"));
    let length =
        |layer: usize| LAYERS[layer].iter().filter(|prefix| is_in(prefix)).map(|prefix| prefix.len() + 1).max();
    (0..LAYERS.len()).max_by_key(|&at| length(at).unwrap_or(0)).unwrap()
}

#[test]
fn a_module_uses_only_what_stands_below_it() {
    let mut upward = Vec::new();
    let mut checked = 0;
    for (module, targets) in uses() {
        for target in targets {
            checked += 1;
            if layer(&target) > layer(&module) {
                upward.push(format!("{module} uses {target}"));
            }
        }
    }
    assert!(checked > 200, "only {checked} uses were found");
    assert!(upward.is_empty(), "{upward:#?}");
}

#[test]
fn no_modules_form_a_circle() {
    let mut left = uses();
    // A module that uses nothing is in no circle, nor is one that nothing uses, so such modules are removed again and again.
    loop {
        let used: BTreeSet<String> = left.values().flatten().cloned().collect();
        let in_no_circle = |(module, targets): (&String, &BTreeSet<String>)| {
            (targets.is_empty() || !used.contains(module)).then(|| module.clone())
        };
        let removed: Vec<String> = left.iter().filter_map(in_no_circle).collect();
        if removed.is_empty() {
            break;
        }
        left.retain(|module, _| !removed.contains(module));
        for targets in left.values_mut() {
            targets.retain(|target| !removed.contains(target));
        }
    }
    assert!(left.is_empty(), "these modules use each other in a circle: {left:#?}");
}

#[test]
fn every_module_has_a_layer_of_its_own() {
    let lost: Vec<String> = modules()
        .into_keys()
        .filter(|module| !module.is_empty() && layer(module) == LAYERS.len() - 1)
        .filter(|module| !matches!(module.as_str(), "pg" | "fuzz"))
        .collect();
    assert!(lost.is_empty(), "{lost:?}: name them in LAYERS");
}
