//! HTML and SVG as balanced tags around escaped text.
//!
//! What goes in is never taken for markup: names, messages and values come from data and from files that
//! anybody may have written. Elements take a closure for what is inside, so no tag stays open.

/// One attribute.
pub type Attr = (&'static str, String);

/// Markup in the making.
#[derive(Debug, Default)]
pub struct Markup {
    out: String,
}

impl Markup {
    /// An element and what is inside.
    pub fn el(&mut self, tag: &str, attrs: &[Attr], inside: impl FnOnce(&mut Markup)) {
        self.start(tag, attrs, ">");
        inside(self);
        self.out += &format!("</{tag}>");
    }

    /// An element with a text inside.
    pub fn leaf(&mut self, tag: &str, attrs: &[Attr], text: &str) {
        self.el(tag, attrs, |m| m.text(text));
    }

    /// An element with nothing inside (`<rect …/>`, `<meta …/>`).
    pub fn void(&mut self, tag: &str, attrs: &[Attr]) {
        self.start(tag, attrs, "/>");
    }

    /// A text.
    pub fn text(&mut self, text: &str) {
        self.out += &escape(text);
    }

    /// A style sheet of ours, which holds nothing to escape.
    pub fn style(&mut self, css: &'static str) {
        self.out += &format!("<style>{css}</style>");
    }

    /// What was made.
    pub fn finish(self) -> String {
        self.out
    }

    fn start(&mut self, tag: &str, attrs: &[Attr], end: &str) {
        self.out += &format!("<{tag}");
        for (name, value) in attrs {
            self.out += &format!(" {name}=\"{}\"", escape(value));
        }
        self.out += end;
        // One element a line keeps two reports comparable.
        if matches!(tag, "section" | "tr" | "svg" | "table" | "p" | "div" | "figure" | "details") {
            self.out.push('\n');
        }
    }
}

/// An attribute.
pub fn attr(name: &'static str, value: impl ToString) -> Attr {
    (name, value.to_string())
}

/// The `class` attribute.
pub fn class(value: &str) -> Attr {
    ("class", value.to_owned())
}

/// A text that means itself inside an element or an attribute. Characters that no document may hold
/// (controls) become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            '\t' | '\n' | '\r' => out.push(character),
            control if control.is_control() => out.push('\u{fffd}'),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_never_becomes_markup() {
        let mut markup = Markup::default();
        markup.el("p", &[attr("title", "\" onload='x'")], |m| m.text("</p><script>a && b</script>\u{0}\u{1b}"));
        assert_eq!(
            markup.finish(),
            "<p title=\"&quot; onload=&#39;x&#39;\">\n&lt;/p&gt;&lt;script&gt;a &amp;&amp; b&lt;/script&gt;\u{fffd}\u{fffd}</p>"
        );
    }
}
