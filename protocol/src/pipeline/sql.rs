//! The SQL in a pipeline: is it a query, which tables does it name, and where.
//!
//! The parser and the dialect are those that DataFusion takes by default, so what passes here parses there.
//! Whether columns exist is known when the data is.

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{ObjectName, Query, SetExpr, Statement, TableFactor, Visit, Visitor};
use sqlparser::dialect::GenericDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, Tokenizer};

use crate::limits::{SQL_OPERATORS_MAX, STEPS_MAX};

/// A table that a query names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// The parts of the name, as the engine reads them: lower case unless they are quoted.
    pub parts: Vec<String>,
    /// Its bytes in the query.
    pub start: usize,
    pub end: usize,
}

/// Why a text is no SQL, and the byte of it where that shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SqlError {
    pub message: String,
    pub at: usize,
}

/// The tables that a query takes from outside, in the order in which it names them first.
pub(super) fn tables(sql: &str) -> Result<Vec<Table>, SqlError> {
    let mut parser = parser(sql)?;
    let statements = parser.parse_statements().map_err(|error| from_parser(sql, &error))?;
    let query = match statements.as_slice() {
        [Statement::Query(query)] if is_select(&query.body) => query,
        [] => return Err(SqlError { message: "expected a `select`, found no statement".to_owned(), at: 0 }),
        [_] => return Err(SqlError { message: "expected a `select`, found another statement".to_owned(), at: 0 }),
        more => {
            return Err(SqlError { message: format!("expected one `select`, found {} statements", more.len()), at: 0 });
        }
    };
    let mut finder = Finder { sql, scopes: Vec::new(), seen: HashSet::new(), tables: Vec::new() };
    match query.visit(&mut finder) {
        ControlFlow::Continue(()) => Ok(finder.tables),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Whether a text is one condition.
pub(super) fn condition(sql: &str) -> Result<(), SqlError> {
    let mut parser = parser(sql)?;
    parser.parse_expr().map_err(|error| from_parser(sql, &error))?;
    let rest = parser.peek_token();
    if rest.token == Token::EOF {
        return Ok(());
    }
    let message = format!("expected the end of the condition, found `{}`", rest.token);
    Err(SqlError { message, at: offset(sql, rest.span.start).unwrap_or(0) })
}

fn parser(sql: &str) -> Result<Parser<'static>, SqlError> {
    static DIALECT: GenericDialect = GenericDialect {};
    let tokens = Tokenizer::new(&DIALECT, sql).tokenize_with_location().map_err(|error| SqlError {
        at: offset(sql, error.location).unwrap_or(0),
        message: lower_first(&error.message),
    })?;
    if let Some(token) = tokens.iter().filter(|token| is_operator(&token.token)).nth(SQL_OPERATORS_MAX) {
        let message = format!("it has more than {SQL_OPERATORS_MAX} operators");
        return Err(SqlError { message, at: offset(sql, token.span.start).unwrap_or(0) });
    }
    Ok(Parser::new(&DIALECT).with_tokens_with_locations(tokens))
}

/// Whether a token can nest a query by one more level. Parentheses are counted by the parser itself.
fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::IS
                | Keyword::IN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::BETWEEN
                | Keyword::COLLATE
                | Keyword::AT
        ),
        Token::EOF
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::Comma
        | Token::Whitespace(_)
        | Token::LParen
        | Token::RParen
        | Token::Period
        | Token::SemiColon => false,
        _ => true,
    }
}

/// The parser writes the place into the message; here they part again.
fn from_parser(sql: &str, error: &ParserError) -> SqlError {
    let text = match error {
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => return SqlError { message: "nested too deep".to_owned(), at: 0 },
    };
    let parted = text.rsplit_once(" at Line: ").and_then(|(message, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((message, Location { line: line.parse().ok()?, column: column.parse().ok()? }))
    });
    match parted {
        Some((message, place)) => SqlError { message: readable(message), at: offset(sql, place).unwrap_or(0) },
        // Without a place it is the end of the text that was not expected.
        None => SqlError { message: readable(text), at: sql.trim_end().len() },
    }
}

/// "Expected: x, found: y" as our messages say it.
fn readable(message: &str) -> String {
    let parted = message.strip_prefix("Expected: ").and_then(|rest| rest.rsplit_once(", found: "));
    match parted {
        Some((expected, "EOF")) => format!("expected {expected}, found the end"),
        Some((expected, found)) => format!("expected {expected}, found `{found}`"),
        None => lower_first(message),
    }
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}

/// The byte at a line and a column, both from 1; none for the empty place.
fn offset(sql: &str, place: Location) -> Option<usize> {
    let line = usize::try_from(place.line).ok()?.checked_sub(1)?;
    let column = usize::try_from(place.column).ok()?.checked_sub(1)?;
    let start = match line {
        0 => 0,
        _ => sql.match_indices('\n').nth(line - 1)?.0 + 1,
    };
    let rest = &sql[start..];
    Some(start + rest.char_indices().nth(column).map_or(rest.len(), |(byte, _)| byte))
}

fn is_select(body: &SetExpr) -> bool {
    matches!(body, SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::SetOperation { .. } | SetExpr::Values(_))
}

/// The names that one query's `with` defines.
struct Scope {
    /// Each name, and the address of the query that defines it.
    names: Vec<(String, *const Query)>,
    is_recursive: bool,
    /// How many of the names can be seen from where the visitor is: a definition sees those before it, and
    /// itself only when it is recursive. `with trips as (select * from trips)` takes the step `trips`.
    visible: usize,
}

struct Finder<'q> {
    sql: &'q str,
    scopes: Vec<Scope>,
    seen: HashSet<Vec<String>>,
    tables: Vec<Table>,
}

impl Finder<'_> {
    fn relation(&mut self, name: &ObjectName) -> ControlFlow<SqlError> {
        let parts: Vec<_> = name.0.iter().filter_map(|part| part.as_ident()).collect();
        let names: Vec<String> = parts
            .iter()
            .map(|ident| if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() })
            .collect();
        if let [single] = names.as_slice() {
            let is_defined = |scope: &Scope| scope.names[..scope.visible].iter().any(|(name, _)| name == single);
            if self.scopes.iter().any(is_defined) {
                return ControlFlow::Continue(());
            }
        }
        if !self.seen.insert(names.clone()) {
            return ControlFlow::Continue(());
        }
        let start = parts.first().and_then(|ident| offset(self.sql, ident.span.start)).unwrap_or(0);
        let end = parts.last().and_then(|ident| offset(self.sql, ident.span.end)).unwrap_or(start);
        if self.tables.len() == STEPS_MAX {
            let message = format!("it names more than {STEPS_MAX} tables");
            return ControlFlow::Break(SqlError { message, at: start });
        }
        self.tables.push(Table { parts: names, start, end: end.max(start) });
        ControlFlow::Continue(())
    }
}

impl Visitor for Finder<'_> {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        if let Some(outer) = self.scopes.last_mut()
            && let Some(index) = outer.names.iter().position(|(_, defined)| std::ptr::eq(*defined, query))
        {
            outer.visible = if outer.is_recursive { index + 1 } else { index };
        }
        let names = query.with.iter().flat_map(|with| &with.cte_tables).map(|cte| {
            let alias = &cte.alias.name;
            let name = if alias.quote_style.is_some() { alias.value.clone() } else { alias.value.to_lowercase() };
            (name, std::ptr::from_ref(&*cte.query))
        });
        let is_recursive = query.with.as_ref().is_some_and(|with| with.recursive);
        self.scopes.push(Scope { names: names.collect(), is_recursive, visible: 0 });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        self.scopes.pop();
        if let Some(outer) = self.scopes.last_mut()
            && let Some(index) = outer.names.iter().position(|(_, defined)| std::ptr::eq(*defined, query))
        {
            outer.visible = index + 1;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        // With arguments it is a function that makes a table (`generate_series(1, 9)`), not a table.
        if let TableFactor::Table { name, args: None, .. } = factor {
            return self.relation(name);
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(sql: &str) -> Vec<String> {
        tables(sql).expect("the query parses").into_iter().map(|table| table.parts.join("|")).collect()
    }

    #[test]
    fn tables_are_found_wherever_they_stand() {
        assert_eq!(named("select * from Trips t join \"parts.train\" p on t.id = p.id"), ["trips", "parts.train"]);
        assert_eq!(named("select (select max(x) from b) from a where a.x in (select y from c)"), ["b", "a", "c"]);
        assert_eq!(named("select 1 union all select x from a; "), ["a"]);
        assert_eq!(named("select * from parts.train"), ["parts|train"]);
        assert_eq!(named("select * from generate_series(1, 3), a"), ["a"]);
        assert_eq!(named("values (1, 2)"), [""; 0]);
    }

    #[test]
    fn names_of_a_with_are_no_tables_where_they_can_be_seen() {
        assert_eq!(named("with a as (select * from x), b as (select * from a) select * from a, b"), ["x"]);
        assert_eq!(named("with trips as (select * from trips) select * from trips"), ["trips"]);
        assert_eq!(named("with recursive n as (select 1 union all select * from n) select * from n"), [""; 0]);
        assert_eq!(named("select * from (with a as (select 1) select * from a) q, a"), ["a"]);
    }

    #[test]
    fn a_mistake_has_a_place() {
        let error = tables("select a\n  form t where x = 1").expect_err("it is wrong");
        assert_eq!((error.at, error.message.as_str()), (16, "expected end of statement, found `t`"));
        assert_eq!(tables("select 'abc").expect_err("it is wrong").at, 7);
        assert!(tables("drop table t").is_err() && tables("").is_err() && tables("select 1; select 2").is_err());
        assert!(condition("a > 1 and b like 'x%'").is_ok());
        assert_eq!(condition("a > 1 b").expect_err("it is wrong").at, 6);
    }
}
