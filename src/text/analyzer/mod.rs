//! From a text to the tokens that a full-text index has, the same for chunks and queries, whatever the server's locale:
//! - [`normalize`]: compatibility forms, case, invisible characters, digits, quotes: what no reader tells apart
//! - [`script`]: which characters make words, and which scripts have no spaces between them
//! - [`tokenize`]: normalized text to tokens: words (UAX #29), the parts of codes, pairs of characters
//! - [`fold`]: a lexeme without accents, so that a query finds a text with them and without; a Vietnamese one has both [`forms`]
//! - [`language`]: which language a text is in, and which text search configuration it has
//!
//! What a token becomes in the index is up to the dictionaries of a text search configuration, which only Postgres has:
//! the shell asks them for the lexemes of the token, and of the token without its accents, and folds what they answer.

mod fold;
pub mod language;
mod normalize;
mod script;
mod tokenize;

pub use fold::{fold, forms, is_vietnamese};
pub use normalize::Casing;
pub use tokenize::{Kind, MAX_TOKEN_CHARS, Token, Tokens};

/// The tokens of a text, in its order.
#[must_use]
pub fn analyze(text: &str, casing: Casing) -> Tokens {
    tokenize::tokenize(normalize::normalize(text, casing))
}

#[cfg(test)]
mod tests;
