//! The stack of open elements at a place in HTML. It follows those rules of the standard's tree construction that
//! decide which element contains which: end tags that may be missing, and end tags in the wrong place. No tree is
//! built.

use std::collections::HashMap;

use html5ever::LocalName;
use html5ever::tokenizer::Tag;

use super::element::{
    ElementStyle, Gap, closes_paragraph, ends_foreign, is_formatting, is_heading, is_scope, is_special,
};

/// How many elements up an end tag is matched. Browsers nest no deeper, and the limit keeps time linear in the length
/// of the text.
const MAX_SEARCH_DEPTH: usize = 512;

/// The largest number of hidden formatting elements that continue in the next paragraph.
const MAX_CONTINUED: usize = 8;

/// The open elements.
#[derive(Default)]
pub struct OpenElements {
    /// The elements, outermost first.
    stack: Vec<Open>,
    /// The number of open elements by name, so that a name that is not open costs no search.
    counts: HashMap<LocalName, usize>,
}

struct Open {
    name: LocalName,
    /// The kind of element, looked up once, since an end tag may have to pass hundreds of elements.
    is_special: bool,
    is_scope: bool,
    look: ElementStyle,
    /// How text in this element is shown, the elements around it included.
    state: TextStyle,
}

/// How text at a place is shown, all open elements included.
#[derive(Debug, Clone, Copy)]
pub struct TextStyle {
    is_removed: bool,
    is_visible: bool,
    /// Whether white space is kept as it is.
    pub is_preformatted: bool,
    /// Whether the place is within `<svg>` or `<math>`.
    pub is_foreign: bool,
    has_boxes: bool,
}

impl TextStyle {
    const ROOT: Self =
        Self { is_removed: false, is_visible: true, is_preformatted: false, is_foreign: false, has_boxes: false };

    /// Whether a reader sees text there.
    pub fn is_seen(&self) -> bool {
        !self.is_removed && self.is_visible
    }

    /// Whether an element there takes up space; one that is only invisible does.
    pub fn takes_space(&self) -> bool {
        !self.is_removed
    }

    fn within(self, name: &str, look: &ElementStyle) -> Self {
        Self {
            is_removed: self.is_removed || look.is_removed,
            is_visible: look.is_visible.unwrap_or(self.is_visible),
            is_preformatted: look.is_preformatted.unwrap_or(self.is_preformatted),
            is_foreign: matches!(name, "svg" | "math") || (self.is_foreign && name != "foreignobject"),
            has_boxes: look.has_boxes,
        }
    }
}

impl OpenElements {
    /// Returns how text at the current place is shown.
    pub fn shown(&self) -> TextStyle {
        self.stack.last().map_or(TextStyle::ROOT, |open| open.state)
    }

    /// Closes the elements that the start tag of `name` closes, because their end tags may be missing. Returns the
    /// largest gap that they leave.
    pub fn close_implied(&mut self, name: &str) -> Gap {
        let mut gap = Gap::None;
        if self.shown().is_foreign {
            if ends_foreign(name) {
                let at = self.stack.iter().rposition(|open| !open.state.is_foreign).map_or(0, |at| at + 1);
                gap = self.pop_to(at);
            } else {
                return gap;
            }
        }
        let end = match name {
            "li" => self.find(&["li"], Open::ends_items),
            "dt" | "dd" => self.find(&["dt", "dd"], Open::ends_items),
            "option" => self.find(&["option"], |open| &*open.name != "option"),
            "optgroup" => self.find(&["optgroup"], |open| !matches!(&*open.name, "option" | "optgroup")),
            "td" | "th" => self.find(&["td", "th", "caption"], Open::is_table),
            "tr" => self.find(&["tr", "caption"], Open::is_table),
            "thead" | "tbody" | "tfoot" => self
                .find(&["thead", "tbody", "tfoot", "caption"], Open::is_table)
                .or_else(|| self.find(&["tr"], Open::is_table)),
            "a" | "nobr" | "button" => self.find(&[name], |open| open.is_scope),
            _ => None,
        };
        if let Some(at) = end {
            gap = gap.max(if is_formatting(name) { self.close_formatting(at) } else { self.pop_to(at) });
        }
        if closes_paragraph(name)
            && let Some(at) = self.find(&["p"], Open::ends_paragraphs)
        {
            gap = gap.max(self.pop_to(at));
        }
        if is_heading(name) && self.stack.last().is_some_and(|open| is_heading(&open.name)) {
            gap = gap.max(self.pop_to(self.stack.len() - 1));
        }
        gap
    }

    /// Returns how an element that begins here is shown, by itself and with those around it, and the gap before it.
    pub fn style_of(&self, tag: &Tag) -> (ElementStyle, TextStyle, Gap) {
        let around = self.shown();
        let look = ElementStyle::of(tag, around.is_foreign || matches!(&*tag.name, "svg" | "math"));
        let shown = around.within(&tag.name, &look);
        let gap = if around.has_boxes { look.gap.max(Gap::Space) } else { look.gap };
        (look, shown, if shown.takes_space() { gap } else { Gap::None })
    }

    /// Pushes an element onto the stack.
    pub fn push(&mut self, name: LocalName, look: ElementStyle, state: TextStyle) {
        let (is_special, is_scope) = (is_special(&name), is_scope(&name));
        *self.counts.entry(name.clone()).or_default() += 1;
        self.stack.push(Open { name, is_special, is_scope, look, state });
    }

    /// Closes the elements that an end tag closes. Returns the gap that they leave; `None` where there is
    /// nothing to close.
    pub fn end(&mut self, name: &str) -> Option<Gap> {
        let at = match name {
            _ if self.shown().is_foreign => self.find(&[name], |_| false),
            "p" => self.find(&[name], Open::ends_paragraphs),
            "li" => self.find(&[name], |open| open.is_scope || matches!(&*open.name, "ol" | "ul")),
            "table" | "tr" | "td" | "th" | "thead" | "tbody" | "tfoot" | "caption" => {
                self.find(&[name], Open::is_table)
            }
            _ if is_heading(name) => self.find(&["h1", "h2", "h3", "h4", "h5", "h6"], |open| open.is_scope),
            _ if is_formatting(name) || is_special(name) => self.find(&[name], |open| open.is_scope),
            _ => self.find(&[name], |open| open.is_special),
        }?;
        Some(if is_formatting(name) { self.close_formatting(at) } else { self.pop_to(at) })
    }

    /// Returns the index of the innermost element with one of these names; `None` where a `boundary` element
    /// is further inside.
    fn find(&self, names: &[&str], boundary: impl Fn(&Open) -> bool) -> Option<usize> {
        let names: Vec<_> = names.iter().map(|name| LocalName::from(*name)).collect();
        if !names.iter().any(|name| self.counts.contains_key(name)) {
            return None;
        }
        for (at, open) in self.stack.iter().enumerate().rev().take(MAX_SEARCH_DEPTH) {
            if names.contains(&open.name) {
                return Some(at);
            }
            if !open.state.is_foreign && boundary(open) {
                return None;
            }
        }
        None
    }

    /// Closes a formatting element. A block element that began within it stays open, without its formatting.
    fn close_formatting(&mut self, at: usize) -> Gap {
        if !self.stack[at + 1..].iter().any(|open| open.is_special) {
            return self.pop_to(at);
        }
        let closed = self.stack.remove(at);
        self.decrement_count(&closed.name);
        for at in at..self.stack.len() {
            let around = if at == 0 { TextStyle::ROOT } else { self.stack[at - 1].state };
            let open = &mut self.stack[at];
            open.state = around.within(&open.name, &open.look);
        }
        Gap::None
    }

    /// Closes an element and all elements in it. Formatting elements that hide text and have no end tag yet are opened
    /// again after it.
    fn pop_to(&mut self, at: usize) -> Gap {
        let gap = |open: &Open| if open.state.takes_space() { open.look.gap } else { Gap::None };
        let largest = self.stack[at..].iter().map(gap).max().unwrap_or_default();
        let is_wall = self.stack[at].is_scope;
        let mut continued = Vec::new();
        for (depth, open) in self.stack.split_off(at).into_iter().enumerate() {
            self.decrement_count(&open.name);
            if depth > 0
                && !is_wall
                && continued.len() < MAX_CONTINUED
                && is_formatting(&open.name)
                && open.look.hides()
            {
                continued.push(open);
            }
        }
        for open in continued {
            let state = self.shown().within(&open.name, &open.look);
            self.push(open.name, open.look, state);
        }
        largest
    }

    fn decrement_count(&mut self, name: &LocalName) {
        if let Some(count) = self.counts.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(name);
            }
        }
    }
}

impl Open {
    fn is_table(&self) -> bool {
        matches!(&*self.name, "table" | "template")
    }

    /// Whether a start tag of a list item within this element does not close an item around it.
    fn ends_items(&self) -> bool {
        self.is_special && !matches!(&*self.name, "address" | "div" | "p")
    }

    /// Whether a start tag within this element does not close a paragraph around it.
    fn ends_paragraphs(&self) -> bool {
        self.is_scope || &*self.name == "button"
    }
}
