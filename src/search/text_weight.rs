//! What words count for in hybrid searches, by model. It depends on how much a model knows, and on how far apart its
//! similarities are: those of the e5 family lie between .7 and .9, and gte's were trained alike. Measured by
//! bench/models_server.py: see bench/README.md.

/// Of transformers that were not measured: that of the most common one.
const OF_TRANSFORMERS: f32 = 0.15;
/// Families of models that differ from that: how a name begins, and the weight.
const OF_FAMILIES: [(&str, f32); 3] = [("multilingual-e5-", 0.05), ("e5-", 0.05), ("gte-", 0.05)];

/// The weight of words beside the similarities of a transformer, from 0 to 1.
pub fn text_weight_of_transformer(name: &str) -> f32 {
    let name = name.to_lowercase();
    OF_FAMILIES.iter().find(|(start, _)| name.starts_with(start)).map_or(OF_TRANSFORMERS, |(_, weight)| *weight)
}

#[cfg(test)]
mod tests {
    use super::text_weight_of_transformer;

    #[test]
    fn a_family_has_the_weight_that_was_measured_for_it() {
        assert!(text_weight_of_transformer("multilingual-e5-small") < text_weight_of_transformer("all-MiniLM-L6-v2"));
        assert_eq!(text_weight_of_transformer("E5-small-v2"), text_weight_of_transformer("e5-base"));
        assert_eq!(text_weight_of_transformer("another"), text_weight_of_transformer("all-MiniLM-L6-v2"));
    }
}
