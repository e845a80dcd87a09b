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
    /// Which word of the query it is, stop words counted; `None` where nothing is known of it.
    pub position: Option<usize>,
}

/// A set of words of a query, by their numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WordSet(u128);

impl WordSet {
    /// Adds a word. One beyond the 128th is left out.
    pub fn insert(&mut self, number: usize) {
        self.0 |= u32::try_from(number).ok().and_then(|number| 1u128.checked_shl(number)).unwrap_or(0);
    }

    /// Returns what is in either set.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether a word is in both sets.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns whether no word is in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<usize> for WordSet {
    fn from_iter<Numbers: IntoIterator<Item = usize>>(numbers: Numbers) -> Self {
        let mut set = Self::default();
        numbers.into_iter().for_each(|number| set.insert(number));
        set
    }
}

impl FromIterator<Self> for WordSet {
    fn from_iter<Sets: IntoIterator<Item = Self>>(sets: Sets) -> Self {
        sets.into_iter().fold(Self::default(), Self::union)
    }
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

impl Form {
    /// Returns whether the next one is another form of the same word.
    #[must_use]
    pub fn is_followed_by(self, next: Self) -> bool {
        self == Self::WithTones && next == Self::WithoutTones
    }
}

impl From<Vec<Term>> for Word {
    fn from(terms: Vec<Term>) -> Self {
        Self { terms, form: Form::Only, position: None }
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
