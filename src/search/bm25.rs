//! The full-text half of a search: BM25 over word counts, and its fusion with similarities.

use std::cmp::Ordering;

/// Of a chunk: how often each word of the query is in it, and how many words it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// In the order of the query's words.
    pub of_words: Vec<u32>,
    /// The number of terms in the chunk.
    pub length: u32,
}

/// How fast a word's repetition stops counting, and how much a long chunk is discounted: Robertson's usual values.
const K1: f64 = 1.2;
const B: f64 = 0.75;
/// The share of full text in a fused score. Measured on manuals: see bench/README.md.
const TEXT_SHARE: f64 = 0.4;

/// BM25 (Robertson and Zaragoza 2009, with Lucene's idf, which is never negative) of chunks that match, of `all` that there
/// are. A word that was not looked up is in this share of all.
pub fn bm25(matching: &[Counts], shares: &[Option<f64>], all: f64) -> Vec<f64> {
    let Some(first) = matching.first() else { return Vec::new() };
    let all = all.max(matching.len() as f64);
    let idf: Vec<f64> = (0..first.of_words.len())
        .map(|word| {
            let with = match shares.get(word).copied().flatten() {
                Some(share) => share * all,
                None => matching.iter().filter(|counts| counts.of_words[word] > 0).count() as f64,
            };
            (1.0 + (all - with + 0.5) / (with + 0.5)).ln()
        })
        .collect();
    let mean = matching.iter().map(|counts| f64::from(counts.length)).sum::<f64>() / matching.len() as f64;
    let score = |counts: &Counts| {
        let length = 1.0 - B + B * f64::from(counts.length) / mean.max(1.0);
        let of = |(&count, idf): (&u32, &f64)| {
            let count = f64::from(count);
            idf * count * (K1 + 1.0) / (count + K1 * length)
        };
        counts.of_words.iter().zip(&idf).map(of).sum()
    };
    matching.iter().map(score).collect()
}

/// One score of a similarity and a BM25 score, which is a share of the best one. Weighted scores find more than ranks that
/// are fused: a rank forgets how much better the first is.
pub fn fused(similarity: f64, bm25: f64, best: f64) -> f64 {
    let text = if best > 0.0 { bm25 / best } else { 0.0 };
    (1.0 - TEXT_SHARE) * similarity + TEXT_SHARE * text
}

/// The counts of words in a `tsvector` as Postgres has it in memory, after its length word: the number of lexemes,
/// an entry of four bytes for each (from the lowest bit: 1 whether it has positions, 11 length, 20 place), then their
/// bytes, each followed by its positions (two bytes how many, two bytes each, at even places). None where it is not so.
pub fn counts(vector: &[u8], words: &[&[u8]]) -> Option<Counts> {
    let number = |at: usize| Some(u32::from_le_bytes(vector.get(at..at + 4)?.try_into().ok()?));
    let size = usize::try_from(number(0)?).ok()?;
    let texts = vector.get(4 + 4 * size..)?;
    let entry = |at: usize| -> Option<(&[u8], u32)> {
        let entry = number(4 + 4 * at)?;
        let (length, place) = ((entry >> 1 & 0x7ff) as usize, (entry >> 12) as usize);
        let end = place + length;
        let count = if entry & 1 == 1 {
            let at = end + end % 2;
            u32::from(u16::from_le_bytes(texts.get(at..at + 2)?.try_into().ok()?))
        } else {
            1
        };
        Some((texts.get(place..end)?, count))
    };
    let mut counts = Counts { of_words: vec![0; words.len()], length: 0 };
    for at in 0..size {
        counts.length += entry(at)?.1;
    }
    // Lexemes are sorted by their bytes.
    for (count, word) in counts.of_words.iter_mut().zip(words) {
        let (mut from, mut to) = (0, size);
        while from < to {
            let middle = usize::midpoint(from, to);
            let (lexeme, found) = entry(middle)?;
            match lexeme.cmp(word) {
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
                Ordering::Equal => {
                    *count = found;
                    break;
                }
            }
        }
    }
    Some(counts)
}

/// The text search configuration that Postgres has for a language, by its ISO 639-1 code, with or without a country, as in
/// `fr`, `fr_FR` and `fr-CA`.
pub fn configuration(language: &str) -> Option<&'static str> {
    let code = language.split(['_', '-', '@', '.']).next().unwrap_or_default();
    Some(match code.to_ascii_lowercase().as_str() {
        "ar" => "arabic",
        "ca" => "catalan",
        "da" => "danish",
        "de" => "german",
        "el" => "greek",
        "en" => "english",
        "es" => "spanish",
        "eu" => "basque",
        "fi" => "finnish",
        "fr" => "french",
        "ga" => "irish",
        "hi" => "hindi",
        "hu" => "hungarian",
        "hy" => "armenian",
        "id" => "indonesian",
        "it" => "italian",
        "lt" => "lithuanian",
        "nb" | "nn" | "no" => "norwegian",
        "ne" => "nepali",
        "nl" => "dutch",
        "pt" => "portuguese",
        "ro" => "romanian",
        "ru" => "russian",
        "sr" => "serbian",
        "sv" => "swedish",
        "ta" => "tamil",
        "tr" => "turkish",
        "yi" => "yiddish",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts_of(of_words: &[u32], length: u32) -> Counts {
        Counts { of_words: of_words.to_vec(), length }
    }

    #[test]
    fn a_rare_word_counts_more_than_a_frequent_one() {
        // "the" in all, "voucher" in one.
        let scores = bm25(&[counts_of(&[3, 0], 100), counts_of(&[1, 1], 100), counts_of(&[5, 0], 100)], &[], 100.0);
        assert!(scores[1] > scores[0] && scores[1] > scores[2] && scores[2] > scores[0]);
        // By hand: idf = ln(1 + (100 - 1 + 0.5) / 1.5), of a chunk of mean length and one occurrence.
        let idf = (1.0f64 + 99.5 / 1.5).ln();
        assert!((bm25(&[counts_of(&[1], 7)], &[], 100.0)[0] - idf).abs() < 1e-12);
        assert_eq!(bm25(&[], &[], 100.0), [0.0; 0]);
        let (short, long) = (counts_of(&[1], 50), counts_of(&[1], 150));
        let scores = bm25(&[short, long], &[], 10.0);
        assert!(scores[0] > scores[1]);
        // As if it had been looked up, and found in 40 of 100.
        let idf = (1.0f64 + 60.5 / 40.5).ln();
        assert!((bm25(&[counts_of(&[1], 7)], &[Some(0.4)], 100.0)[0] - idf).abs() < 1e-12);
    }

    #[test]
    fn a_tsvector_is_read() {
        // 'ab':1,3 'b' 'c':2
        let mut vector = 3u32.to_le_bytes().to_vec();
        for (positions, length, place) in [(1u32, 2u32, 0u32), (0, 1, 8), (1, 1, 9)] {
            vector.extend((positions | length << 1 | place << 12).to_le_bytes());
        }
        vector.extend(b"ab\x02\x00\x01\x00\x03\x00bc\x01\x00\x02\x00");
        let words: [&[u8]; 3] = [b"a", b"ab", b"c"];
        assert_eq!(counts(&vector, &words), Some(counts_of(&[0, 2, 1], 4)));
        assert_eq!(counts(&0u32.to_le_bytes(), &words), Some(counts_of(&[0, 0, 0], 0)));
        assert_eq!(counts(&vector[..vector.len() - 5], &words), None);
        assert_eq!(counts(&[9], &words), None);
    }

    #[test]
    fn languages_map_to_configurations() {
        for (language, name) in [
            ("fr_FR", Some("french")),
            ("EN", Some("english")),
            ("pt-BR", Some("portuguese")),
            ("sr@latin", Some("serbian")),
            ("zh_CN", None),
            ("", None),
        ] {
            assert_eq!(configuration(language), name);
        }
    }
}
