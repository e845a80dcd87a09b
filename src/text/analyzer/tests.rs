use std::borrow::Cow;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::normalize::normalize;
use super::*;
use crate::search::term::Term;
use crate::search::words::own_form;

/// What is stored of a text that no dictionary is asked for.
fn stored(text: &str) -> Vec<String> {
    let tokens = analyze(text, Casing::Root);
    let lexemes = tokens.iter().flat_map(|token| match token.kind {
        Kind::Word => forms(token.text).collect(),
        _ => vec![token.lexeme()],
    });
    lexemes.map(Cow::into_owned).collect()
}

/// Whether every word of a query is in a text. The whole of a code and its parts are one word.
fn is_found(query: &str, text: &str) -> bool {
    let stored = stored(text);
    let has = |terms: &[Term]| {
        terms.iter().any(|term| stored.iter().any(|s| *s == term.text || term.is_prefix && s.starts_with(&term.text)))
    };
    let tokens = analyze(query, Casing::Root);
    let mut words: BTreeMap<usize, bool> = BTreeMap::new();
    for (token, terms) in tokens.iter().filter(|token| token.kind != Kind::Last).zip(own_form(query)) {
        *words.entry(token.position).or_default() |= has(&terms);
    }
    !words.is_empty() && words.values().all(|found| *found)
}

/// `\u{..}` as the character.
fn unescaped(line: &str) -> String {
    let mut parts = line.split("\\u{");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_once('}').unwrap();
        out.push(char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap());
        out.push_str(rest);
    }
    out
}

#[test]
fn texts_of_the_table_are_found_as_it_says() {
    let mut text = String::new();
    let (mut cases, mut wrong) = (0, Vec::new());
    for line in include_str!("../../../tests/data/analyzer.txt").lines().filter(|line| !line.starts_with('#')) {
        let line = unescaped(line);
        match line.split_at_checked(2) {
            Some(("+ " | "- ", query)) => {
                cases += 1;
                if is_found(query, &text) != line.starts_with('+') {
                    wrong.push(format!("{line:?} in {text:?}"));
                }
            }
            Some((_, rest)) => text = rest.trim().to_owned(),
            None => {}
        }
    }
    assert!(cases >= 200 && wrong.is_empty(), "{cases}\n{}", wrong.join("\n"));
}

fn tokens(text: &str) -> Vec<String> {
    analyze(text, Casing::Root).iter().map(|token| token.text.to_owned()).collect()
}

#[test]
fn a_code_is_read_as_its_parts_and_as_a_whole() {
    assert_eq!(tokens("E-4711"), ["e", "4711", "e4711"]);
    assert_eq!(tokens("E4711"), ["e4711", "4711"]);
    assert_eq!(tokens("foo_bar.baz"), ["foo", "bar", "baz", "foobarbaz"]);
    assert_eq!(tokens("C++ and C#."), ["c", "c++", "and", "c", "c#"]);
    assert_eq!(tokens("1,234.50"), ["1", "234", "50", "123450", "1234"]);
    assert_eq!(tokens("1\u{202f}234,50"), ["1", "234", "50", "123450", "1234"]);
    assert_eq!(tokens("№ 5, 3½"), ["no", "5", "3", "1", "2", "12"]);
}

#[test]
fn a_run_without_spaces_is_read_in_pairs() {
    let read = |text: &str| -> Vec<(String, Kind)> {
        analyze(text, Casing::Root).iter().map(|token| (token.text.to_owned(), token.kind)).collect()
    };
    let is = |text: &str, kind| (text.to_owned(), kind);
    let pairs = [is("東京", Kind::Pair), is("京都", Kind::Pair), is("都", Kind::Last)];
    assert_eq!(read("東京都"), pairs);
    assert_eq!(read("水 a"), [is("水", Kind::Single), is("a", Kind::Word)]);
    assert_eq!(tokens("LG전자"), ["lg", "전자", "자"]);
    // Vowels and tones belong to their consonants.
    assert_eq!(tokens("ที่นี่"), ["ที่นี่", "นี่"]);
}

#[test]
fn letters_get_small_as_the_language_has_it() {
    let lower = |text, casing| normalize(text, casing);
    assert_eq!(lower("IŞIK İL", Casing::Turkic), "ışık il");
    assert_eq!(lower("IŞIK İL", Casing::Root), "işik il");
    assert_eq!(lower("IL", Casing::Turkic), "ıl");
    // With their accents off they are the same.
    assert_eq!(fold("ışık"), fold("işik"));
}

#[test]
fn a_letter_of_its_own_is_no_letter_with_an_accent() {
    for (text, folded) in [
        ("étude", "etude"),
        ("łódź", "lodz"),
        ("smørrebrød", "smorrebrod"),
        ("œuvre", "oeuvre"),
        ("đà nẵng", "da nang"),
        ("ᾠδή", "ωδη"),
        ("мой", "мой"),
        ("їжак", "їжак"),
        ("ガス", "ガス"),
        ("की", "की"),
        ("أحمد", "احمد"),
    ] {
        assert_eq!(fold(text), folded);
    }
}

/// Text with what an analyzer stumbles over.
fn text() -> impl Strategy<Value = String> {
    let unit = prop_oneof![
        3 => "[a-zA-Z0-9]{1,8}[ .,'_:/@#+-]{0,2}",
        2 => "[\u{c0}-\u{24f}\u{1e00}-\u{1eff}\u{370}-\u{3ff}\u{400}-\u{4ff}]{1,8}",
        1 => "[\u{300}-\u{36f}\u{483}-\u{489}\u{e31}-\u{e3a}\u{591}-\u{5bd}\u{64b}-\u{65f}]{1,40}",
        1 => "[\u{4e00}-\u{4e20}\u{3041}-\u{30ff}\u{ac00}-\u{ac20}\u{1100}-\u{1120}\u{ff66}-\u{ff9f}]{1,8}",
        1 => "[\u{e00}-\u{eff}\u{1000}-\u{109f}\u{1780}-\u{17ff}\u{900}-\u{97f}]{1,8}",
        1 => "[\u{ad}\u{200b}-\u{200f}\u{2010}-\u{2015}\u{2018}-\u{201f}\u{feff}\u{a0}\u{202f}\u{34f}]{1,3}",
        1 => "[½¾№™ﬁ²Ⅳ㎏㈱\u{130}\u{131}ßẞ\u{212a}ſ]{1,3}",
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(unit, 0..24).prop_map(|units| units.concat())
}

proptest! {
    #[test]
    fn reading_again_changes_nothing(text in text()) {
        for casing in [Casing::Root, Casing::Turkic] {
            let once = normalize(&text, casing);
            prop_assert_eq!(&normalize(&once, casing), &once);
        }
        for token in analyze(&text, Casing::Root).iter() {
            let folded = fold(token.text).into_owned();
            prop_assert_eq!(&fold(&folded), &folded);
        }
    }

    #[test]
    fn every_word_of_a_text_is_found_in_it(text in text()) {
        let stored = stored(&text);
        for term in own_form(&text).into_iter().flatten() {
            let found = stored.iter().any(|s| *s == term.text || term.is_prefix && s.starts_with(&term.text));
            prop_assert!(found, "{:?} in {:?}", term, stored);
        }
    }

    #[test]
    fn a_text_is_read_alike_whatever_stands_beside_it(text in text()) {
        let alone = tokens(&text);
        let among = tokens(&format!("before; {text} ; after"));
        prop_assert_eq!(&among[1..among.len() - 1], &alone[..]);
    }

    #[test]
    fn words_without_separators_are_those_of_uax_29(text in "([a-z]{1,8}|[\u{e0}-\u{f6}]{1,5}|[\u{430}-\u{44f}]{1,8}|[0-9]{1,5})( [a-z\u{e0}-\u{f6}]{1,9}[;!?]?){0,9}") {
        use unicode_segmentation::UnicodeSegmentation;
        let words: Vec<String> = text.unicode_words().map(str::to_owned).collect();
        prop_assert_eq!(tokens(&text), words);
    }

    #[test]
    fn tokens_are_short_and_in_order(text in text()) {
        let tokens = analyze(&text, Casing::Root);
        let mut last = 0;
        for token in tokens.iter() {
            prop_assert!(token.text.chars().count() <= MAX_TOKEN_CHARS && !token.text.is_empty());
            prop_assert!(token.kind == Kind::Word || token.position >= last);
            last = last.max(token.position);
        }
    }
}

/// Cost is counted in bytes of what is made, which cannot grow faster than the text.
#[test]
fn what_is_made_of_a_text_is_in_proportion_to_it() {
    let walls = [
        "a",
        "\u{301}",
        "e\u{301}",
        "東",
        "ก\u{e48}",
        "a.",
        "1,",
        "-",
        "a1",
        "·",
        "l·",
        "\u{200b}",
        "\u{5b0}",
        "½",
        "c++ ",
    ];
    for unit in walls {
        let made = |repeat: usize| {
            let tokens = analyze(&unit.repeat(repeat), Casing::Root);
            tokens.iter().map(|token| token.text.len()).sum::<usize>()
        };
        let (short, long) = (made(1_000), made(200_000));
        assert!(long <= 220 * short.max(100), "{unit:?}: {short} {long}");
    }
}
