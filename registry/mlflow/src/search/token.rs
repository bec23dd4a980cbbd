//! The words of a filter: identifiers with dots and quotes, operators, numbers, texts, parentheses.

use crate::refusal::Refusal;

/// A word of a filter.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// `name`, `metrics.x`, `` tags.`a b` ``, `params."a"`, with its parts; the bare word too.
    Name(Vec<Part>),
    /// `'…'`.
    Text(String),
    /// A number, and whether it is a whole one.
    Number(f64, bool),
    Operator(&'static str),
    Open,
    Close,
    Comma,
}

/// A part of a name, and in which quotes it stood.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub text: String,
    pub quote: Option<char>,
}

const OPERATORS: [&str; 7] = ["!=", "<>", "<=", ">=", "=", "<", ">"];

/// The words of a text.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Refusal> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            '\'' => {
                let (text, length) = quoted(rest, '\'')?;
                (Token::Text(text), length)
            }
            c if c.is_ascii_digit() || c == '-' || c == '+' || c == '.' => number(rest)?,
            c if is_word(c) || c == '`' || c == '"' => name(rest)?,
            _ => match OPERATORS.iter().find(|operator| rest.starts_with(**operator)) {
                Some(operator) => (Token::Operator(operator), operator.len()),
                None => return Err(invalid(rest)),
            },
        };
        found.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(found)
}

pub(super) fn invalid(rest: &str) -> Refusal {
    let shown: String = rest.chars().take(80).collect();
    Refusal::invalid(format!("Invalid clause(s) in filter string: '{shown}'"))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A text in quotes, which stand doubled in it, and how many bytes it takes up.
fn quoted(rest: &str, quote: char) -> Result<(String, usize), Refusal> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((place, c)) = chars.next() {
        if c != quote {
            text.push(c);
        } else if chars.peek().is_some_and(|(_, next)| *next == quote) {
            chars.next();
            // What is doubled is kept so: MLflow's parser only takes the ends off.
            text.push(quote);
            text.push(quote);
        } else {
            return Ok((text, place + quote.len_utf8()));
        }
    }
    Err(invalid(rest))
}

fn number(rest: &str) -> Result<(Token, usize), Refusal> {
    let is_part = |(place, c): (usize, char)| {
        let after_e = place > 0 && matches!(rest.as_bytes()[place - 1], b'e' | b'E');
        c.is_ascii_digit() || c == '.' || matches!(c, 'e' | 'E') || ("+-".contains(c) && (place == 0 || after_e))
    };
    let length = rest.char_indices().find(|at| !is_part(*at)).map_or(rest.len(), |(place, _)| place);
    let text = &rest[..length];
    let value: f64 = text.parse().map_err(|_| invalid(rest))?;
    if rest[length..].starts_with(is_word) {
        return Err(invalid(rest));
    }
    Ok((Token::Number(value, !text.contains(['.', 'e', 'E'])), length))
}

fn name(rest: &str) -> Result<(Token, usize), Refusal> {
    let mut parts = Vec::new();
    let mut length = 0;
    loop {
        let here = &rest[length..];
        match here.chars().next() {
            Some(quote @ ('`' | '"')) => {
                let (text, taken) = quoted(here, quote)?;
                parts.push(Part { text, quote: Some(quote) });
                length += taken;
            }
            _ => {
                let end = here.find(|c| !is_word(c)).unwrap_or(here.len());
                if end == 0 {
                    return Err(invalid(rest));
                }
                parts.push(Part { text: here[..end].to_owned(), quote: None });
                length += end;
            }
        }
        if !rest[length..].starts_with('.') {
            return Ok((Token::Name(parts), length));
        }
        length += 1;
    }
}
