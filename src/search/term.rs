//! A word of a query, as the lexemes that stand for it in the index.

/// A lexeme that stands for a word of a query.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term {
    /// The lexeme, or what lexemes begin with.
    pub text: String,
    /// Whether it stands for all lexemes that begin with it.
    pub is_prefix: bool,
}

impl Term {
    /// A lexeme.
    pub fn lexeme(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_prefix: false }
    }

    /// All lexemes that begin with this.
    pub fn prefix(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_prefix: true }
    }

    /// Returns the term as a `tsquery` has it.
    #[must_use]
    pub fn to_query(&self) -> String {
        let text = self.text.replace('\\', "\\\\").replace('\'', "''");
        format!("'{text}'{}", if self.is_prefix { ":*" } else { "" })
    }
}

/// A word of a query, or one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What it may be in the index.
    pub terms: Vec<Term>,
    /// Which form it is.
    pub form: Form,
}

/// Which form of a word of a query stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The only one.
    Only,
    /// The one with its tones. The next word of the query is the same one without them.
    WithTones,
    /// The one without tones of the word before it.
    WithoutTones,
}

impl From<Vec<Term>> for Word {
    fn from(terms: Vec<Term>) -> Self {
        Self { terms, form: Form::Only }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_is_quoted_for_tsquery() {
        assert_eq!(Term::lexeme(r"o'b\c").to_query(), r"'o''b\\c'");
        assert_eq!(Term::prefix("水").to_query(), "'水':*");
    }
}
