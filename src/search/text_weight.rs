//! What words count for in hybrid searches, by model. It depends on how much a model knows, and on how far apart its
//! similarities are: those of the e5 family lie between .7 and .9. Measured by bench/models.py: see bench/README.md.

/// Of transformers that were not measured: that of the most common one.
const OF_TRANSFORMERS: f64 = 0.25;
/// Families of models that differ from that: how a name begins, and the weight.
const OF_FAMILIES: [(&str, f64); 3] = [("multilingual-e5-", 0.1), ("e5-", 0.1), ("gte-", 0.1)];

/// The weight of words beside the similarities of a transformer, from 0 to 1.
pub fn text_weight_of_transformer(name: &str) -> f64 {
    let name = name.to_lowercase();
    OF_FAMILIES.iter().find(|(start, _)| name.starts_with(start)).map_or(OF_TRANSFORMERS, |(_, weight)| *weight)
}
