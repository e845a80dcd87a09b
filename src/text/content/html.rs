//! The text of HTML as a reader of the page sees it: html5ever's tokenizer, what is open at each place, and where a line or
//! a paragraph ends. One pass, without a tree: elements that are nested a hundred thousand deep take no longer than others.
//!
//! - `element`: what elements look like by themselves and by their `style`
//! - `open`: which elements a text is in

mod element;
mod open;

use std::cell::RefCell;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer};

use element::{Gap, attribute, gap, is_void};
use open::OpenElements;

/// Changes when HTML is read differently, so that HTML sources are read anew when they are next synced. Plain text is not.
pub const VERSION: i32 = 1;

/// Returns the text of HTML: paragraphs stay paragraphs, what is hidden goes, words of neighbouring boxes do not run
/// together, nothing is wrapped.
pub fn text(html: &str) -> String {
    let input = BufferQueue::default();
    input.push_back(StrTendril::from_slice(html));
    let tokenizer = Tokenizer::new(Reader::default(), Default::default());
    // The sink never stops for a script, so that one call takes all.
    let _ = tokenizer.feed(&input);
    tokenizer.end();
    tokenizer.sink.0.into_inner().text
}

#[derive(Default)]
struct Reader(RefCell<State>);

#[derive(Default)]
struct State {
    text: String,
    /// What comes between the text before and the next.
    gap: Gap,
    open: OpenElements,
    /// Whether the last token was the start of an element whose first line break does not count.
    skips_newline: bool,
    /// Whether the last token was the end of a link.
    after_link: bool,
}

impl TokenSink for Reader {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut state = self.0.borrow_mut();
        match token {
            Token::CharacterTokens(text) => state.characters(&text),
            Token::TagToken(tag) if tag.kind == TagKind::StartTag => return state.start(&tag),
            Token::TagToken(tag) => state.end(&tag),
            _ => {}
        }
        TokenSinkResult::Continue
    }

    fn adjusted_current_node_present_but_not_in_html_namespace(&self) -> bool {
        self.0.borrow().open.shown().is_foreign
    }
}

impl State {
    fn start(&mut self, tag: &Tag) -> TokenSinkResult<()> {
        let name = &*tag.name;
        self.skips_newline = false;
        let ended = self.open.before(name);
        self.widen(ended);
        // A page that is hidden as a whole is shown by a script.
        if matches!(name, "html" | "head" | "body") {
            self.widen(gap(name));
            return TokenSinkResult::Continue;
        }
        let (look, shown, gap) = self.open.look(tag);
        if name == "br" {
            self.line_break();
            return TokenSinkResult::Continue;
        }
        self.widen(gap);
        if std::mem::take(&mut self.after_link) && name == "a" {
            self.widen(Gap::Space); // of a menu: each of the links is a thing of its own
        }
        let is_foreign = shown.is_foreign && !matches!(name, "svg" | "math");
        if shown.is_seen()
            && let Some(label) = label(tag)
        {
            self.label(label, gap);
        }
        if (!is_foreign && is_void(name)) || (shown.is_foreign && tag.self_closing) {
            return TokenSinkResult::Continue;
        }
        self.open.push(tag.name.clone(), look, shown);
        if is_foreign {
            return TokenSinkResult::Continue;
        }
        self.skips_newline = matches!(name, "pre" | "textarea" | "listing");
        match name {
            "title" | "textarea" => TokenSinkResult::RawData(RawKind::Rcdata),
            "script" => TokenSinkResult::RawData(RawKind::ScriptData),
            "style" | "iframe" | "noembed" | "noframes" | "noscript" | "xmp" => {
                TokenSinkResult::RawData(RawKind::Rawtext)
            }
            "plaintext" => TokenSinkResult::Plaintext,
            _ => TokenSinkResult::Continue,
        }
    }

    fn end(&mut self, tag: &Tag) {
        (self.skips_newline, self.after_link) = (false, false);
        if &*tag.name == "br" {
            return self.line_break();
        }
        let seen = self.open.shown().takes_space();
        match self.open.end(&tag.name) {
            Some(gap) => self.widen(gap),
            // Part of a page may begin in the middle of an element.
            None if seen => self.widen(gap(&tag.name)),
            None => {}
        }
        self.after_link = &*tag.name == "a";
    }

    fn characters(&mut self, text: &str) {
        let text = if std::mem::take(&mut self.skips_newline) { text.strip_prefix('\n').unwrap_or(text) } else { text };
        let shown = self.open.shown();
        if !shown.is_seen() {
            return;
        }
        self.after_link &= text.is_empty();
        self.add(text, shown.is_preformatted);
    }

    fn add(&mut self, text: &str, preformatted: bool) {
        for c in text.chars() {
            match c {
                // Where a word may be broken at the end of a line.
                '\u{ad}' => {}
                '\u{a0}' if preformatted => self.push(' '),
                _ if preformatted => self.push(c),
                '\u{a0}' => self.widen(Gap::Space),
                c if c.is_ascii_whitespace() => self.widen(Gap::Space),
                c => self.push(c),
            }
        }
    }

    /// Adds a text that stands in an attribute, apart from what is around it.
    fn label(&mut self, text: &str, gap: Gap) {
        let gap = gap.max(Gap::Space);
        self.widen(gap);
        self.add(text, false);
        self.widen(gap);
    }

    fn line_break(&mut self) {
        (self.skips_newline, self.after_link) = (false, false);
        if self.open.shown().takes_space() {
            self.gap = if self.gap >= Gap::Line { Gap::Paragraph } else { Gap::Line };
        }
    }

    fn widen(&mut self, gap: Gap) {
        self.gap = self.gap.max(gap);
    }

    fn push(&mut self, c: char) {
        let gap = std::mem::take(&mut self.gap);
        if !self.text.is_empty() {
            self.text.push_str(match gap {
                Gap::None => "",
                Gap::Space => " ",
                Gap::Line => "\n",
                Gap::Paragraph => "\n\n",
            });
        }
        self.text.push(c);
    }
}

/// Returns the words of an attribute that a reader sees: what is in a field or on a button, what a picture shows.
fn label(tag: &Tag) -> Option<&str> {
    let of = |name| attribute(tag, name).filter(|value| !value.trim().is_empty());
    match &*tag.name {
        "img" => of("alt"),
        "optgroup" => of("label"),
        "input" => {
            let kind = attribute(tag, "type").unwrap_or_default().trim().to_ascii_lowercase();
            match &*kind {
                "hidden" | "password" | "checkbox" | "radio" | "file" | "color" | "range" => None,
                "image" => of("alt"),
                _ => of("value").or_else(|| of("placeholder")),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::text;

    /// What HTML says, for this reader and for that of the Odoo module.
    const CASES: &str = include_str!("../../../odoo/chatbot_sync/tests/html_cases.json");

    #[derive(Deserialize)]
    struct Case {
        promise: String,
        html: String,
        text: String,
    }

    #[test]
    fn html_is_read_as_a_person_sees_it() {
        let cases: Vec<Case> = serde_json::from_str(CASES).unwrap();
        let wrong: Vec<_> = cases.iter().filter(|case| text(&case.html) != case.text).collect();
        for case in &wrong {
            eprintln!("{}: {}\n  read {:?}, not {:?}", case.promise, case.html, text(&case.html), case.text);
        }
        assert!(wrong.is_empty() && cases.len() > 50, "{} of {}", wrong.len(), cases.len());
    }

    #[test]
    fn misplaced_tags_hide_what_they_hide_in_a_browser() {
        for (html, seen) in [
            ("<b><div hidden></b>a</div>b", "b"),
            ("<span><div hidden></span>a</div>b", "b"),
            ("<p><b hidden>a</p><p>b</b>c</p>", "c"),
            ("<a hidden>a<a>b", "b"),
            ("<div><table><tr><td hidden></div>a<td>b</table>", "b"),
            ("<p hidden>a</div>b</p>c", "c"),
            ("<li hidden><div>a<li>b", "b"),
            ("<li hidden><ul><li>a</ul>b<li>c", "c"),
            ("<svg hidden><g>a<p>b", "b"),
            ("<svg><![CDATA[a]]></svg><![CDATA[b]]>c", "a c"),
            ("<svg><title/><text>a</text></svg>", "a"),
            ("<div hidden>a<noscript></div>b</noscript></div>c", "c"),
            ("a</div>b", "a\nb"),
            ("open <b", "open"),
            ("<div hidden", ""),
            ("<div hidden>a", ""),
        ] {
            assert_eq!(text(html), seen, "{html}");
        }
    }

    #[test]
    fn nesting_has_no_limit() {
        assert_eq!(text(&("<div><b>".repeat(100_000) + "x")), "x");
        assert_eq!(text(&("<p><b hidden>".repeat(100_000) + "x")), "");
    }
}
