//! The text of HTML, as a reader sees it: html5ever's tokenizer, and where a line or a paragraph ends. One pass, without a
//! tree: elements that are nested a hundred thousand deep take no longer than others.

use std::cell::RefCell;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer};

/// The text of HTML: paragraphs stay paragraphs; tags, scripts and addresses of links go; nothing is wrapped.
pub fn text(html: &str) -> String {
    let input = BufferQueue::default();
    input.push_back(StrTendril::from_slice(html));
    let tokenizer = Tokenizer::new(Text::default(), Default::default());
    // The sink never stops for a script, so that one call takes all.
    let _ = tokenizer.feed(&input);
    tokenizer.end();
    tokenizer.sink.0.into_inner().text
}

/// What comes between the text before and the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Gap {
    #[default]
    None,
    Space,
    Line,
    Paragraph,
}

#[derive(Default)]
struct Text(RefCell<State>);

#[derive(Default)]
struct State {
    text: String,
    gap: Gap,
    /// Elements in which white space counts.
    preformatted: usize,
    /// The element whose text nobody sees, which only its own end tag ends.
    hidden: Option<String>,
}

impl TokenSink for Text {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut state = self.0.borrow_mut();
        match token {
            Token::CharacterTokens(text) => state.add(&text),
            Token::TagToken(tag) => return state.tag(&tag),
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

impl State {
    fn tag(&mut self, tag: &Tag) -> TokenSinkResult<()> {
        let start = tag.kind == TagKind::StartTag;
        self.gap = match &*tag.name {
            "br" if self.gap >= Gap::Line => Gap::Paragraph,
            "br" => Gap::Line,
            name => self.gap.max(gap(name)),
        };
        match &*tag.name {
            "pre" | "textarea" if start => self.preformatted += 1,
            "pre" | "textarea" => self.preformatted = self.preformatted.saturating_sub(1),
            name if !start && self.hidden.as_deref() == Some(name) => self.hidden = None,
            _ => {}
        }
        if !start {
            return TokenSinkResult::Continue;
        }
        match &*tag.name {
            "title" | "textarea" => TokenSinkResult::RawData(RawKind::Rcdata),
            name @ ("script" | "style" | "iframe" | "noembed" | "noframes") => {
                self.hidden = Some(name.to_owned());
                let script = name == "script";
                TokenSinkResult::RawData(if script { RawKind::ScriptData } else { RawKind::Rawtext })
            }
            _ => TokenSinkResult::Continue,
        }
    }

    fn add(&mut self, text: &str) {
        if self.hidden.is_some() {
            return;
        }
        if self.preformatted > 0 {
            if !text.is_empty() {
                self.close_gap();
                self.text.push_str(text);
            }
            return;
        }
        for c in text.chars() {
            if c.is_ascii_whitespace() {
                self.gap = self.gap.max(Gap::Space);
            } else {
                self.close_gap();
                self.text.push(c);
            }
        }
    }

    fn close_gap(&mut self) {
        let gap = std::mem::take(&mut self.gap);
        if !self.text.is_empty() {
            self.text.push_str(match gap {
                Gap::None => "",
                Gap::Space => " ",
                Gap::Line => "\n",
                Gap::Paragraph => "\n\n",
            });
        }
    }
}

/// What a tag puts between what is before and after it.
fn gap(name: &str) -> Gap {
    match name {
        "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "ul" | "ol" | "dl" | "table" | "pre" | "blockquote"
        | "title" | "hr" | "section" | "article" | "figure" => Gap::Paragraph,
        "div" | "li" | "dt" | "dd" | "tr" | "caption" | "header" | "footer" | "nav" | "aside" | "main" | "form"
        | "fieldset" | "legend" | "figcaption" | "address" | "details" | "summary" | "option" | "body" | "head" => {
            Gap::Line
        }
        "td" | "th" => Gap::Space,
        _ => Gap::None,
    }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn tags_are_removed_and_paragraphs_stay_apart() {
        for (html, seen) in [
            (
                "<h1>Shipping</h1><p>Parcels leave <b>at</b> <i>once</i>.<br>Always.</p>Bye",
                "Shipping\n\nParcels leave at once.\nAlways.\n\nBye",
            ),
            ("<ul>\n<li>One\n<li>Two</ul>", "One\nTwo"),
            ("<table><tr><td>a</td><td>b</td></tr><tr><td>c<td>d</table>", "a b\nc d"),
            ("x<script>if (a < b) { alert('<p>') }</script>y<style>p { }</style>z", "xyz"),
            (
                "<a href='http://x/' title='no'>here</a> &amp; &eacute;&#8364;&nbsp;there<!-- no -->",
                "here & é€\u{a0}there",
            ),
            ("<pre>a  b\n  c</pre>", "a  b\n  c"),
            ("<div>one</div><div>two</div>one<br><br>two", "one\ntwo\none\n\ntwo"),
            ("<title>A &lt;b&gt; title</title><body>Text", "A <b> title\n\nText"),
            // What is no HTML, or broken.
            ("no tag", "no tag"),
            ("a < b & c > d", "a < b & c > d"),
            ("<p>open <b>and", "open and"),
            ("open <b", "open"),
            (" <br> \n", ""),
            ("", ""),
        ] {
            assert_eq!(text(html), seen, "{html}");
        }
    }

    #[test]
    fn deep_html_does_not_overflow_the_stack() {
        assert_eq!(text(&("<div><b>".repeat(100_000) + "x")), "x");
    }
}
