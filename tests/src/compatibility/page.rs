//! `tests/COMPATIBILITY.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::judge::{Judge, Kind};
use super::walk::Findings;
use crate::differential::Tally;

const HEAD: &str = "\
# Pillion beside Envoy 1.40, field by field

This page is generated; `cargo run -p pillion-tests --bin compatibility` writes it anew, and a test compares it. The program
tries every field of every message that a control plane may send and that Pillion looks into: it puts the field into a good
resource, translates the resource as the process does, and looks at what comes of it.

* **yes**: what the resource becomes depends on the field. That it does what Envoy does is shown by the cases below.
* **no effect, warned**: taken, and a warning in the log says why nothing comes of it.
* **no effect**: taken without a warning, for the reason given.
* **refused**: an error in a static bootstrap and a NACK over xDS, with the path of the field. What stands inside a field that is
  refused, or that has no effect as a whole, is not listed.

`ScopedRouteConfiguration`, `Runtime` and `VirtualHost` as resources of their own (SRDS, RTDS, VHDS) are not subscribed to:
`scoped_routes` and `vhds` are refused, an `rtds_layer` is warned of.
";

/// The whole page.
pub fn page(findings: &Findings, judge: &mut Judge<'_>, cases: &BTreeMap<String, Tally>) -> String {
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    let mut fields = String::new();
    for (message, of_message) in &findings.messages {
        let _ = writeln!(fields, "\n### {message}\n\n| field | |\n|---|---|");
        for field in of_message.values() {
            let lines = judge.lines(field);
            if let Some((kind, _)) = lines.keys().next() {
                *kinds.entry(*kind).or_default() += 1;
            }
            let _ = writeln!(fields, "| `{}` | {} |", field.name, cell(&lines));
        }
    }
    let count = |kind: Kind| kinds.get(&kind).copied().unwrap_or_default();
    let mut page = HEAD.to_owned();
    let _ = writeln!(
        page,
        "\n{} fields of {} messages: {} yes, {} without effect, {} refused (each counted where it does most).",
        kinds.values().sum::<usize>(),
        findings.messages.len(),
        count(Kind::Yes),
        count(Kind::NoEffect),
        count(Kind::Refused)
    );
    page.push_str(&cases_table(cases));
    page.push_str(&extensions_table(findings));
    page.push_str("\n## Fields\n");
    page.push_str(&fields);
    page
}

/// One text where it is the same everywhere, else each with its places.
fn cell(lines: &BTreeMap<(Kind, String), Vec<String>>) -> String {
    let escaped = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    if lines.len() == 1 {
        return lines.keys().map(|(_, text)| escaped(text)).collect();
    }
    let line = |((_, text), edges): (&(Kind, String), &Vec<String>)| {
        let edges: Vec<String> = edges.iter().map(|edge| short(edge)).collect();
        format!("{} (in {})", escaped(text), edges.join(", "))
    };
    lines.iter().map(line).collect::<Vec<_>>().join("<br>")
}

/// `Cluster.transport_socket` for `envoy.config.cluster.v3.Cluster.transport_socket`.
fn short(edge: &str) -> String {
    if edge.is_empty() {
        return "the resource".into();
    }
    let of_one = |name: &str| {
        let mut parts: Vec<&str> = name.split('.').collect();
        let start = parts.iter().position(|part| part.starts_with(char::is_uppercase)).unwrap_or(0);
        format!("`{}`", parts.split_off(start).join("."))
    };
    edge.split(" > ").map(of_one).collect::<Vec<_>>().join(" > ")
}

fn cases_table(cases: &BTreeMap<String, Tally>) -> String {
    let mut table = "\n## Cases\n\nEach case is given to Envoy and to Pillion, and everything that both did is compared \
        (`tests/cases`). Stricter: Pillion differs where it should, and the case says why. Missing: Pillion does not have it yet, and \
        refuses it by name, or the case calls the difference a gap.\n\n\
        | area | cases | as Envoy | stricter | missing |\n|---|--:|--:|--:|--:|\n"
        .to_owned();
    let mut row = |area: &str, tally: &Tally| {
        let Tally { alike, stricter, missing } = tally;
        let all = alike + stricter + missing;
        let _ = writeln!(table, "| {area} | {all} | {alike} | {stricter} | {missing} |");
    };
    let mut sum = Tally::default();
    for (area, tally) in cases {
        row(area, tally);
        sum.alike += tally.alike;
        sum.stricter += tally.stricter;
        sum.missing += tally.missing;
    }
    row("**all**", &sum);
    table
}

fn extensions_table(findings: &Findings) -> String {
    let mut table = "\n## Extensions\n\nEvery kind of extension is tried in every place that takes one; others than these are refused.\n\n\
        | in | extensions |\n|---|---|\n"
        .to_owned();
    for (place, extensions) in &findings.extensions {
        let names: Vec<String> = extensions.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(table, "| {} | {} |", short(place), names.join("<br>"));
    }
    table
}
