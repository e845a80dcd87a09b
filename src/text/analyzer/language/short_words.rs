//! Whether a chunk is in a language that the text has been seen to be in, by its short words. Articles, prepositions and
//! pronouns are few, and stand in every chunk of a language: looking them up takes a small part of the time of detecting a
//! language among all, and is wrong less often where a text is in one. bench/README.md has the figures.

use std::collections::HashSet;

use super::script::SAMPLE_CHARS;

/// The longest short word, in characters.
const MAX_CHARS: usize = 4;
/// A chunk with fewer short words says too little.
const MIN_WORDS: usize = 20;
/// The share of a chunk's short words that have to be known.
const MIN_KNOWN_SHARE: f64 = 0.6;

/// Short words of the languages that chunks of a text were detected to be in.
#[derive(Default)]
pub struct ShortWords<'a> {
    by_language: Vec<(&'static str, HashSet<&'a str>)>,
}

impl<'a> ShortWords<'a> {
    /// The language whose words a chunk has, if it has enough of them.
    pub fn language_of(&self, words: &[&str]) -> Option<&'static str> {
        if words.len() < MIN_WORDS {
            return None;
        }
        let counted = self.by_language.iter().map(|(language, known)| {
            let count = words.iter().filter(|word| known.contains(**word)).count();
            (count, *language)
        });
        let (count, language) = counted.max_by_key(|(count, _)| *count)?;
        #[allow(clippy::cast_precision_loss)]
        let share = count as f64 / words.len() as f64;
        (share >= MIN_KNOWN_SHARE).then_some(language)
    }

    /// Adds the short words of a chunk that is in this language for certain.
    pub fn add(&mut self, language: &'static str, words: Vec<&'a str>) {
        match self.by_language.iter_mut().find(|(known, _)| *known == language) {
            Some((_, known)) => known.extend(words),
            None => self.by_language.push((language, words.into_iter().collect())),
        }
    }
}

/// The short words at the beginning of a text, as they are written.
pub fn short_words(text: &str) -> Vec<&str> {
    let end = text.char_indices().nth(SAMPLE_CHARS).map_or(text.len(), |(at, _)| at);
    let words = text[..end].split(|c: char| !c.is_alphabetic());
    words.filter(|word| !word.is_empty() && word.chars().nth(MAX_CHARS).is_none()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GERMAN: &str = "Wer die Ware nicht mehr will, der kann sie in den ersten zehn Tagen an uns zurück geben, und wir \
        zahlen ihm das Geld aus, das er für sie gezahlt hat, wenn an ihr kein Teil fehlt und sie noch so ist, wie sie war.";
    const ALSO_GERMAN: &str = "Wir geben das Geld aus, wenn die Ware an uns geht und kein Teil an ihr fehlt; wer sie mehr als \
        zehn Tage hat, der kann sie nicht zurück geben, und das gilt für die Ware, die noch in der Kiste ist.";
    const ENGLISH: &str = "If you do not want to keep it, you may send it to us in ten days, and you will get the sum that you \
        paid for it, as long as no part of it is gone and it is as it was when it was sent to you by one of us.";

    #[test]
    fn a_chunk_has_the_language_whose_short_words_it_has() {
        let mut known = ShortWords::default();
        assert_eq!(known.language_of(&short_words(GERMAN)), None);
        known.add("de", short_words(GERMAN));
        assert_eq!(known.language_of(&short_words(ALSO_GERMAN)), Some("de"));
        assert_eq!(known.language_of(&short_words(ENGLISH)), None);
        known.add("en", short_words(ENGLISH));
        assert_eq!(known.language_of(&short_words(ENGLISH)), Some("en"));
        assert_eq!(known.language_of(&short_words(ALSO_GERMAN)), Some("de"));
    }

    #[test]
    fn few_short_words_say_nothing() {
        let mut known = ShortWords::default();
        known.add("de", short_words(GERMAN));
        assert_eq!(known.language_of(&short_words("Wer die Ware nicht mehr will")), None);
        assert!(short_words("Rückzahlungen erfolgen innerhalb weniger Arbeitstage. 1234 E-4711!").len() < 2);
        assert!(short_words("").is_empty());
    }
}
