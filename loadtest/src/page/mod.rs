//! The report: a result as one HTML file that needs nothing else: no network, no scripts, no fonts.
//!
//! **Invariant:** the same result gives the same bytes.

mod svg;

use std::collections::BTreeMap;

use self::svg::{Labels, Line};
use crate::compare::{Comparison, Verdict};
use crate::outcome::{Better, Distribution, Figure, Outcome, Series};
use crate::text;
use gristmill_markup::{Markup, attr, class};

/// Figures that stand large at the top.
const TILES: usize = 4;
/// Lines of one chart; more than there are colours can't be told apart.
const LINES_MAX: usize = 6;

/// The report of a result, with the comparison to an earlier one if there is one.
pub fn page(outcome: &Outcome, comparison: Option<&Comparison>) -> String {
    let mut m = Markup::default();
    let title = format!("{} load test: {}", outcome.system, outcome.scenario);
    m.el("html", &[attr("lang", "en")], |m| {
        m.el("head", &[], |m| {
            m.void("meta", &[attr("charset", "utf-8")]);
            m.void("meta", &[attr("name", "viewport"), attr("content", "width=device-width, initial-scale=1")]);
            m.leaf("title", &[], &title);
            m.style(include_str!("style.css"));
        });
        m.el("body", &[], |m| {
            header(m, outcome);
            m.el("main", &[], |m| {
                tiles(m, outcome);
                figures(m, outcome);
                comparison.inspect(|comparison| compared(m, comparison));
                series(m, &outcome.found.series);
                distributions(m, &outcome.found.distributions);
                notes(m, &outcome.found.notes);
                settings(m, outcome);
            });
            m.leaf(
                "footer",
                &[],
                "Latencies count from when work was due. Limits are of the same servers and machine.",
            );
        });
    });
    format!("<!doctype html>\n{}", m.finish())
}

fn header(m: &mut Markup, outcome: &Outcome) {
    m.el("header", &[], |m| {
        m.el("h1", &[], |m| {
            m.text(&outcome.scenario);
            match outcome.found.passed {
                Some(true) => m.leaf("span", &[class("badge good")], "✓ passed"),
                Some(false) => m.leaf("span", &[class("badge bad")], "✕ failed"),
                None => {}
            }
        });
        let version = outcome.versions.get(&outcome.system).map(|version| format!(" {version}")).unwrap_or_default();
        let (when, took) = (text::date(outcome.started_ms), text::clock(outcome.seconds));
        let machine = &outcome.machine;
        let memory = text::bytes(machine.memory_bytes as f64);
        let line = format!("{}{version} · {when} · took {took} · {} cores, {memory}", outcome.system, machine.cores);
        m.leaf("p", &[class("soft")], &line);
    });
}

fn tiles(m: &mut Markup, outcome: &Outcome) {
    let told = outcome.found.figures.iter().filter(|figure| figure.better.is_some()).take(TILES);
    m.el("div", &[class("tiles")], |m| {
        for figure in told {
            m.el("div", &[class("tile")], |m| {
                m.leaf("span", &[class("tile-name")], &text::spoken(&figure.name));
                m.leaf("span", &[class("tile-value")], &text::with_unit(figure.value, &figure.unit));
                if let Some(limit) = &figure.limit {
                    let value = text::with_unit(limit.value, &figure.unit);
                    m.leaf("small", &[], &format!("{}: {value}", limit.name));
                }
            });
        }
    });
}

fn figures(m: &mut Markup, outcome: &Outcome) {
    if outcome.found.figures.is_empty() {
        return;
    }
    section(m, "Figures", |m| {
        table(m, "All figures beside their limits", &["", "value", "better", "limit", "of the limit", ""], |m| {
            for figure in &outcome.found.figures {
                m.el("tr", &[], |m| figure_row(m, figure));
            }
        });
    });
}

fn figure_row(m: &mut Markup, figure: &Figure) {
    m.leaf("th", &[attr("scope", "row")], &text::spoken(&figure.name));
    let spread = figure.noise.map(|noise| format!(" ± {:.1} %", noise * 100.0)).unwrap_or_default();
    m.leaf("td", &[class("number")], &format!("{}{spread}", text::with_unit(figure.value, &figure.unit)));
    let better = match figure.better {
        Some(Better::Higher) => "higher",
        Some(Better::Lower) => "lower",
        None => "",
    };
    m.leaf("td", &[class("soft")], better);
    let Some(limit) = &figure.limit else {
        for _ in 0..3 {
            m.leaf("td", &[], "");
        }
        return;
    };
    m.leaf("td", &[], &format!("{}: {}", limit.name, text::with_unit(limit.value, &figure.unit)));
    let times = figure.value / limit.value;
    m.leaf("td", &[class("number")], &if times.is_finite() { format!("{times:.2} ×") } else { "–".to_owned() });
    // A bar is how near the figure comes to its limit, whichever way is better.
    let share = if figure.better == Some(Better::Lower) { limit.value / figure.value } else { times };
    let width = if share.is_finite() { (share * 100.0).clamp(0.0, 100.0) } else { 0.0 };
    m.el("td", &[class("gauge")], |m| {
        m.el("span", &[attr("aria-hidden", "true")], |m| {
            m.el("i", &[attr("style", format!("width:{width:.0}%"))], |_| {});
        });
    });
}

fn compared(m: &mut Markup, comparison: &Comparison) {
    section(m, "Compared with the earlier result", |m| {
        table(m, "Figures before and after", &["", "before", "after", "change", ""], |m| {
            for change in &comparison.changes {
                m.el("tr", &[], |m| {
                    let value = |value: Option<f64>| value.map_or("–".into(), |v| text::with_unit(v, &change.unit));
                    m.leaf("th", &[attr("scope", "row")], &text::spoken(&change.name));
                    m.leaf("td", &[class("number")], &value(change.before));
                    m.leaf("td", &[class("number")], &value(change.after));
                    let percent = change.percent.map(|percent| format!("{percent:+.1} %")).unwrap_or_default();
                    m.leaf("td", &[class("number")], &percent);
                    let (tone, word) = match change.verdict {
                        Verdict::Better => ("is-good", "▲ better"),
                        Verdict::Worse => ("is-bad", "▼ worse"),
                        other => ("soft", other.as_str()),
                    };
                    m.leaf("td", &[class(tone)], word);
                });
            }
        });
        list(m, &comparison.caveats);
    });
}

/// Series that share their units share a chart.
fn series(m: &mut Markup, series: &[Series]) {
    let mut charts: Vec<((&str, &str), Vec<&Series>)> = Vec::new();
    for one in series {
        let key = (one.x_unit.as_str(), one.unit.as_str());
        match charts.iter_mut().find(|(known, lines)| *known == key && lines.len() < LINES_MAX) {
            Some((_, lines)) => lines.push(one),
            None => charts.push((key, vec![one])),
        }
    }
    if charts.is_empty() {
        return;
    }
    section(m, "Series", |m| {
        m.el("div", &[class("charts")], |m| {
            for ((x_unit, unit), group) in &charts {
                let names: Vec<&str> = group.iter().map(|one| one.name.as_str()).collect();
                let lines: Vec<Line<'_>> =
                    group.iter().map(|one| Line { name: &one.name, points: &one.points }).collect();
                let x = if *x_unit == "s" { "seconds" } else { x_unit };
                let labels = Labels { alt: format!("{} over {x}", names.join(", ")), x, y: unit };
                figure(m, &names, |m| svg::lines(m, &labels, &lines, *unit == "bytes"));
            }
        });
    });
}

fn distributions(m: &mut Markup, distributions: &[Distribution]) {
    if distributions.is_empty() {
        return;
    }
    let mut by_unit: BTreeMap<&str, Vec<&Distribution>> = BTreeMap::new();
    for distribution in distributions {
        by_unit.entry(&distribution.unit).or_default().push(distribution);
    }
    section(m, "Percentiles", |m| {
        m.el("div", &[class("charts")], |m| {
            for (unit, all) in &by_unit {
                for group in all.chunks(LINES_MAX) {
                    let names: Vec<&str> = group.iter().map(|one| one.name.as_str()).collect();
                    let lines: Vec<Line<'_>> =
                        group.iter().map(|one| Line { name: &one.name, points: &one.percentiles }).collect();
                    let alt = format!("percentiles of {}", names.join(", "));
                    let labels = Labels { alt, x: "percentile", y: unit };
                    figure(m, &names, |m| svg::percentiles(m, &labels, &lines));
                }
            }
        });
        const TOLD: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 100.0];
        table(m, "Percentiles", &["", "p50", "p90", "p99", "p99.9", "largest"], |m| {
            for one in distributions {
                m.el("tr", &[], |m| {
                    m.leaf("th", &[attr("scope", "row")], &one.name);
                    for wanted in TOLD {
                        let found = one.percentiles.iter().find(|(p, _)| *p == wanted);
                        let value = found.map_or("–".to_owned(), |(_, value)| text::with_unit(*value, &one.unit));
                        m.leaf("td", &[class("number")], &value);
                    }
                });
            }
        });
    });
}

fn figure(m: &mut Markup, names: &[&str], inside: impl FnOnce(&mut Markup)) {
    m.el("figure", &[], |m| {
        inside(m);
        m.el("figcaption", &[], |m| {
            for (at, name) in names.iter().enumerate() {
                m.el("span", &[class("key")], |m| {
                    m.el("span", &[class(&format!("swatch s{}", at % LINES_MAX))], |_| {});
                    m.text(name);
                });
            }
        });
    });
}

fn notes(m: &mut Markup, notes: &[String]) {
    if !notes.is_empty() {
        section(m, "Notes", |m| list(m, notes));
    }
}

fn settings(m: &mut Markup, outcome: &Outcome) {
    section(m, "Settings and machine", |m| {
        m.el("dl", &[], |m| {
            let mut pair = |name: &str, value: &str| {
                m.el("div", &[], |m| {
                    m.leaf("dt", &[], name);
                    m.leaf("dd", &[], value);
                });
            };
            for (name, value) in &outcome.settings {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                pair(&text::spoken(name), &value);
            }
            for (program, version) in &outcome.versions {
                pair(program, version);
            }
            pair("processor", &outcome.machine.cpu);
            pair("system", &outcome.machine.os);
        });
    });
}

fn list(m: &mut Markup, items: &[String]) {
    if !items.is_empty() {
        m.el("ul", &[], |m| items.iter().for_each(|item| m.leaf("li", &[], item)));
    }
}

fn section(m: &mut Markup, title: &str, inside: impl FnOnce(&mut Markup)) {
    m.el("section", &[], |m| {
        m.leaf("h2", &[], title);
        inside(m);
    });
}

fn table(m: &mut Markup, caption: &str, heads: &[&str], rows: impl FnOnce(&mut Markup)) {
    let attrs = [class("scroll"), attr("tabindex", "0"), attr("role", "region"), attr("aria-label", caption)];
    m.el("div", &attrs, |m| {
        m.el("table", &[], |m| {
            m.leaf("caption", &[], caption);
            m.el("thead", &[], |m| {
                m.el("tr", &[], |m| {
                    for head in heads {
                        let is_number = matches!(*head, "value" | "before" | "after" | "change" | "of the limit")
                            || head.starts_with('p')
                            || *head == "largest";
                        m.leaf("th", &[class(if is_number { "number" } else { "" }), attr("scope", "col")], head);
                    }
                });
            });
            m.el("tbody", &[], rows);
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::compare;
    use crate::outcome::tests_support::outcome;

    /// Tags that are opened and closed in order; attributes that hold nothing that isn't a number.
    fn check_well_formed(html: &str) {
        let mut open: Vec<&str> = Vec::new();
        let body = html.strip_prefix("<!doctype html>\n").expect("a document type");
        for part in body.split('<').skip(1) {
            let (tag, _) = part.split_once('>').expect("a tag that ends");
            let name = tag.split([' ', '/', '\n']).find(|name| !name.is_empty()).expect("a name");
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "in {part}");
            } else if !tag.ends_with('/') {
                open.push(name);
            }
            assert!(!tag.contains("NaN") && !tag.contains("inf\"") && tag.matches('"').count() % 2 == 0, "{tag}");
        }
        assert!(open.is_empty(), "{open:?}");
        assert!(!html.contains("NaN"), "a value isn't a number");
        for outside in ["http://", "https://", "<script", "<link", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
    }

    #[test]
    fn a_report_is_well_formed_and_stands_alone() {
        let mut earlier = outcome("throughput");
        earlier.found.figures[0].value = 12_000.0;
        let outcome = outcome("throughput");
        let comparison = compare(&earlier, &outcome).expect("comparable");
        let html = page(&outcome, Some(&comparison));
        check_well_formed(&html);
        for told in ["9,120/s", "rabbitmq round trips: 21,000/s", "0.43 ×", "▼ worse", "✓ passed", "&lt;markup&gt;"]
        {
            assert!(html.contains(told), "{told}");
        }
        assert_eq!(html, page(&outcome, Some(&comparison)));
    }

    #[test]
    fn a_result_with_nothing_in_it_has_a_report() {
        let mut empty = outcome("soak");
        empty.found = crate::outcome::Found::default();
        empty.found.series("one point", "bytes", "s", [(1.0, 5e6)]);
        empty.found.figures.push(Figure {
            name: "zero".into(),
            value: 0.0,
            unit: String::new(),
            better: Some(Better::Lower),
            limit: Some(crate::outcome::Limit { name: "nothing".into(), value: 0.0 }),
            noise: None,
        });
        check_well_formed(&page(&empty, None));
    }
}
