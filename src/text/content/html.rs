//! Reads the text of HTML as a reader of the page sees it, with html5ever's tokenizer. It keeps track of the open
//! elements and of where a line or a paragraph ends, in one pass and without a tree, so that elements nested a hundred
//! thousand deep take no longer than others.
//!
//! - `element`: how an element is shown, by its name and its `style`
//! - `open`: the stack of open elements

mod element;
mod open;

use std::cell::RefCell;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer};

use element::{Gap, attribute, gap, is_void};
use open::OpenElements;

/// The version of this reader. It is raised when HTML is read differently, so that HTML sources are read again at their
/// next sync; plain text is not.
pub const VERSION: i32 = 1;

/// Returns the text of HTML. Paragraphs stay paragraphs, hidden text is left out, words of neighbouring boxes stay
/// apart, and lines are not wrapped.
pub fn text(html: &str) -> String {
    let input = BufferQueue::default();
    input.push_back(StrTendril::from_slice(html));
    let tokenizer = Tokenizer::new(Reader::default(), Default::default());
    // The sink never pauses for a script, so one call reads all of the input.
    let _ = tokenizer.feed(&input);
    tokenizer.end();
    tokenizer.sink.0.into_inner().text
}

#[derive(Default)]
struct Reader(RefCell<State>);

#[derive(Default)]
struct State {
    text: String,
    /// What separates the text so far from the next character.
    gap: Gap,
    open: OpenElements,
    /// Whether the last token was the start tag of an element whose first line break does not count, such as `<pre>`.
    skips_newline: bool,
    /// Whether the last token was the end tag of a link.
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
        let ended = self.open.close_implied(name);
        self.widen_gap(ended);
        // A page often hides itself until a script shows it, so `hidden` and `style` of these three elements are
        // ignored.
        if matches!(name, "html" | "head" | "body") {
            self.widen_gap(gap(name));
            return TokenSinkResult::Continue;
        }
        let (look, shown, gap) = self.open.style_of(tag);
        if name == "br" {
            self.line_break();
            return TokenSinkResult::Continue;
        }
        self.widen_gap(gap);
        if std::mem::take(&mut self.after_link) && name == "a" {
            self.widen_gap(Gap::Space); // links side by side are items of a menu, whose words would run together
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
            Some(gap) => self.widen_gap(gap),
            // A fragment of a page may begin within an element, and then has its end tag only.
            None if seen => self.widen_gap(gap(&tag.name)),
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
                // A soft hyphen: it only says where a word may be broken.
                '\u{ad}' => {}
                '\u{a0}' if preformatted => self.push(' '),
                _ if preformatted => self.push(c),
                '\u{a0}' => self.widen_gap(Gap::Space),
                c if c.is_ascii_whitespace() => self.widen_gap(Gap::Space),
                c => self.push(c),
            }
        }
    }

    /// Adds the text of an attribute, separated from the text around it.
    fn label(&mut self, text: &str, gap: Gap) {
        let gap = gap.max(Gap::Space);
        self.widen_gap(gap);
        self.add(text, false);
        self.widen_gap(gap);
    }

    fn line_break(&mut self) {
        (self.skips_newline, self.after_link) = (false, false);
        if self.open.shown().takes_space() {
            self.gap = if self.gap >= Gap::Line { Gap::Paragraph } else { Gap::Line };
        }
    }

    fn widen_gap(&mut self, gap: Gap) {
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

/// Returns the text of an attribute that a reader sees: the value of a field or button, the alternative text
/// of a picture.
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

    /// Cases that this reader and the Odoo module's reader both have to pass.
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
