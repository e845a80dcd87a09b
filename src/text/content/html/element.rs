//! How HTML elements are shown: by default, and by their own `style`.

use html5ever::tokenizer::Tag;

/// What separates the text before a place from the text after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Gap {
    #[default]
    None,
    Space,
    Line,
    Paragraph,
}

/// Returns what an element's start and end tag separate, by a browser's default style sheet.
pub fn gap(name: &str) -> Gap {
    match name {
        "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "ul" | "ol" | "dl" | "menu" | "dir" | "table" | "pre"
        | "xmp" | "listing" | "blockquote" | "title" | "hr" | "section" | "article" | "figure" => Gap::Paragraph,
        "div" | "li" | "dt" | "dd" | "tr" | "mtr" | "caption" | "header" | "footer" | "nav" | "aside" | "main"
        | "form" | "fieldset" | "legend" | "figcaption" | "address" | "details" | "summary" | "option" | "optgroup"
        | "body" | "head" | "center" | "hgroup" | "search" | "dialog" | "thead" | "tbody" | "tfoot" => Gap::Line,
        "td" | "th" | "mtd" | "label" | "button" | "select" | "input" | "textarea" | "output" | "meter"
        | "progress" | "img" | "svg" | "video" | "audio" | "canvas" | "object" | "embed" | "iframe" => Gap::Space,
        _ => Gap::None,
    }
}

/// Whether an element has no end tag.
pub fn is_void(name: &str) -> bool {
    matches!(
        name,
        "area"
            | "base"
            | "basefont"
            | "bgsound"
            | "br"
            | "col"
            | "embed"
            | "frame"
            | "hr"
            | "image"
            | "img"
            | "input"
            | "keygen"
            | "link"
            | "meta"
            | "param"
            | "source"
            | "track"
            | "wbr"
    )
}

/// Whether the start tag of an element ends an open paragraph.
pub fn closes_paragraph(name: &str) -> bool {
    matches!(
        name,
        "address"
            | "article"
            | "aside"
            | "blockquote"
            | "center"
            | "dd"
            | "details"
            | "dialog"
            | "dir"
            | "div"
            | "dl"
            | "dt"
            | "fieldset"
            | "figcaption"
            | "figure"
            | "footer"
            | "form"
            | "header"
            | "hgroup"
            | "hr"
            | "li"
            | "listing"
            | "main"
            | "menu"
            | "nav"
            | "ol"
            | "p"
            | "plaintext"
            | "pre"
            | "search"
            | "section"
            | "summary"
            | "table"
            | "ul"
            | "xmp"
    ) || is_heading(name)
}

/// Whether an element is a heading.
pub fn is_heading(name: &str) -> bool {
    matches!(name, "h1" | "h2" | "h3" | "h4" | "h5" | "h6")
}

/// Whether an element only formats text. Without its end tag it continues in the next paragraph.
pub fn is_formatting(name: &str) -> bool {
    matches!(
        name,
        "a" | "b" | "big" | "code" | "em" | "font" | "i" | "nobr" | "s" | "small" | "strike" | "strong" | "tt" | "u"
    )
}

/// Whether an element stays open when an end tag of another name comes: the standard's "special" elements.
pub fn is_special(name: &str) -> bool {
    closes_paragraph(name)
        || is_scope(name)
        || matches!(
            name,
            "button"
                | "colgroup"
                | "iframe"
                | "noembed"
                | "noframes"
                | "noscript"
                | "script"
                | "select"
                | "style"
                | "tbody"
                | "textarea"
                | "tfoot"
                | "thead"
                | "title"
                | "tr"
        )
}

/// Whether an element is a scope boundary: end tags within it do not close elements around it.
pub fn is_scope(name: &str) -> bool {
    matches!(name, "applet" | "caption" | "marquee" | "object" | "table" | "td" | "template" | "th")
}

/// Whether the start tag of an element ends the `<svg>` or `<math>` that it is in.
pub fn ends_foreign(name: &str) -> bool {
    matches!(
        name,
        "b" | "big"
            | "blockquote"
            | "body"
            | "br"
            | "center"
            | "code"
            | "dd"
            | "div"
            | "dl"
            | "dt"
            | "em"
            | "embed"
            | "head"
            | "hr"
            | "i"
            | "img"
            | "li"
            | "listing"
            | "menu"
            | "meta"
            | "nobr"
            | "ol"
            | "p"
            | "pre"
            | "ruby"
            | "s"
            | "small"
            | "span"
            | "strong"
            | "strike"
            | "sub"
            | "sup"
            | "table"
            | "tt"
            | "u"
            | "ul"
            | "var"
    ) || is_heading(name)
}

/// Whether the text of an element is never shown. `foreign`: the element is within `<svg>` or `<math>`.
fn is_never_shown(name: &str, foreign: bool) -> bool {
    if foreign {
        return matches!(
            name,
            "annotation"
                | "annotation-xml"
                | "clippath"
                | "defs"
                | "desc"
                | "filter"
                | "lineargradient"
                | "marker"
                | "mask"
                | "metadata"
                | "pattern"
                | "radialgradient"
                | "script"
                | "style"
                | "symbol"
                | "title"
        );
    }
    matches!(name, "datalist" | "noembed" | "noframes" | "noscript" | "script" | "style" | "template")
}

/// How an element itself is shown, without the elements around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElementStyle {
    /// Whether the element and everything in it is left out, as with `display: none`.
    pub is_removed: bool,
    /// The value of `visibility`; `None` where it is inherited. Elements within may set another value.
    pub is_visible: Option<bool>,
    /// Whether white space is kept as it is; `None` where that is inherited.
    pub is_preformatted: Option<bool>,
    /// Whether its child elements are boxes side by side, as with `display: flex`.
    pub has_boxes: bool,
    pub gap: Gap,
}

impl ElementStyle {
    /// Determines how an element is shown, from its name, attributes and `style`. `foreign`: the element is within
    /// `<svg>` or `<math>`.
    pub fn of(tag: &Tag, foreign: bool) -> Self {
        let name = &*tag.name;
        let hidden = attribute(tag, "hidden").is_some_and(|value| !value.trim().eq_ignore_ascii_case("until-found"));
        let mut look = Self {
            is_removed: hidden || (name == "dialog" && attribute(tag, "open").is_none()),
            is_visible: None,
            is_preformatted: matches!(name, "pre" | "textarea" | "listing" | "xmp" | "plaintext").then_some(true),
            has_boxes: false,
            gap: gap(name),
        };
        if let Some(style) = attribute(tag, "style") {
            look.apply(style);
        }
        look.is_removed |= is_never_shown(name, foreign);
        // Browsers play the video or draw the canvas, and do not show the text that is meant for those that cannot.
        if matches!(name, "audio" | "canvas" | "iframe" | "video") {
            look.is_visible = Some(false);
        }
        look
    }

    /// Whether the element hides its own text.
    pub fn hides(&self) -> bool {
        self.is_removed || self.is_visible == Some(false)
    }

    fn apply(&mut self, style: &str) {
        let style = without_comments(style);
        let declarations = Declarations { style: &style };
        if let Some(display) = declarations.last("display", |value| {
            DISPLAYS.iter().find(|(name, ..)| *name == value).map(|&(_, gap, has_boxes)| (gap, has_boxes))
        }) {
            (self.is_removed, self.has_boxes) = (display.0.is_none(), display.1);
            self.gap = match display.0 {
                // A list item, a table or a heading keeps the larger gap that it has by default.
                Some(Gap::Line) => self.gap.max(Gap::Line),
                Some(gap) => gap,
                None => self.gap,
            };
        }
        self.is_removed |= declarations.last("content-visibility", |value| match value {
            "hidden" => Some(true),
            "visible" | "auto" => Some(false),
            _ => None,
        }) == Some(true);
        self.is_visible = declarations.last("visibility", |value| match value {
            "visible" => Some(true),
            "hidden" | "collapse" => Some(false),
            _ => None,
        });
        self.is_preformatted = declarations
            .last("white-space", |value| match value {
                "pre" | "pre-wrap" | "pre-line" | "break-spaces" => Some(true),
                "normal" | "nowrap" => Some(false),
                _ => None,
            })
            .or(self.is_preformatted);
    }
}

/// The values of `display`: the gap that each makes (`None`: nothing is shown), and whether child elements are boxes
/// side by side.
const DISPLAYS: [(&str, Option<Gap>, bool); 24] = [
    ("none", None, false),
    ("inline", Some(Gap::None), false),
    ("contents", Some(Gap::None), false),
    ("inline-block", Some(Gap::Space), false),
    ("inline-flex", Some(Gap::Space), true),
    ("inline-grid", Some(Gap::Space), true),
    ("inline-table", Some(Gap::Space), false),
    ("table-cell", Some(Gap::Space), false),
    ("table-column", None, false),
    ("table-column-group", None, false),
    ("block", Some(Gap::Line), false),
    ("flow-root", Some(Gap::Line), false),
    ("flex", Some(Gap::Line), true),
    ("grid", Some(Gap::Line), true),
    ("list-item", Some(Gap::Line), false),
    ("table", Some(Gap::Line), false),
    ("table-row", Some(Gap::Line), false),
    ("table-row-group", Some(Gap::Line), false),
    ("table-header-group", Some(Gap::Line), false),
    ("table-footer-group", Some(Gap::Line), false),
    ("table-caption", Some(Gap::Line), false),
    ("-webkit-box", Some(Gap::Line), true),
    ("-webkit-flex", Some(Gap::Line), true),
    ("-ms-flexbox", Some(Gap::Line), true),
];

/// Returns the value of an attribute; `None` where the element does not have it.
pub fn attribute<'a>(tag: &'a Tag, name: &str) -> Option<&'a str> {
    tag.attrs.iter().find(|a| &*a.name.local == name).map(|a| &*a.value)
}

fn without_comments(style: &str) -> String {
    let mut rest = style;
    let mut kept = String::with_capacity(style.len());
    while let Some((before, comment)) = rest.split_once("/*") {
        kept.push_str(before);
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    kept + rest
}

/// The declarations of a `style` attribute.
struct Declarations<'a> {
    style: &'a str,
}

impl Declarations<'_> {
    /// Returns the value of a property that applies: the last one that `read` accepts, or the last one marked
    /// `!important`.
    fn last<T>(&self, property: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let mut found = None;
        for declaration in self.declarations() {
            let Some((name, value)) = declaration.split_once(':') else { continue };
            if !name.trim().eq_ignore_ascii_case(property) {
                continue;
            }
            let value = value.trim().to_ascii_lowercase();
            let marked = value.rsplit_once('!').filter(|(_, mark)| mark.trim() == "important");
            let (value, important) = marked.map_or((&*value, false), |(value, _)| (value.trim_end(), true));
            if let Some(value) = read(value)
                && (important || !matches!(found, Some((_, true))))
            {
                found = Some((value, important));
            }
        }
        found.map(|(value, _)| value)
    }

    /// Splits the attribute at semicolons outside quotes and parentheses.
    fn declarations(&self) -> impl Iterator<Item = &str> {
        let (mut quote, mut depth) = (None, 0_usize);
        self.style.split(move |c| {
            match (c, quote) {
                (c, Some(open)) if c == open => quote = None,
                (_, Some(_)) => {}
                ('"' | '\'', None) => quote = Some(c),
                ('(', None) => depth += 1,
                (')', None) => depth = depth.saturating_sub(1),
                (';', None) => return depth == 0,
                _ => {}
            }
            false
        })
    }
}
