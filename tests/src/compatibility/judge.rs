//! Findings and decisions together: one line of text for each field and place.

use std::collections::{BTreeMap, BTreeSet};

use super::decisions::Decisions;
use super::probe::Verdict;
use super::walk::FieldFindings;

/// What `At::unsupported` says, which needs no saying here.
const UNSUPPORTED: &str = "is not supported by this version of Pillion; remove the field";

/// Which kind of line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The field does what Envoy says.
    Yes,
    /// It is taken without effect.
    NoEffect,
    /// It is refused.
    Refused,
}

/// Turns verdicts into text, and keeps what is open.
pub struct Judge<'a> {
    decisions: &'a Decisions,
    used: BTreeSet<&'a str>,
    open: Vec<String>,
}

impl<'a> Judge<'a> {
    /// With these decisions.
    pub fn new(decisions: &'a Decisions) -> Self {
        Self { decisions, used: BTreeSet::new(), open: Vec::new() }
    }

    /// What becomes of a field: by text, the places where it holds.
    pub fn lines(&mut self, field: &FieldFindings) -> BTreeMap<(Kind, String), Vec<String>> {
        let mut lines: BTreeMap<(Kind, String), Vec<String>> = BTreeMap::new();
        for (edge, verdict) in &field.verdicts {
            lines.entry(self.line(field, edge, verdict)).or_default().push(edge.clone());
        }
        lines
    }

    fn line(&mut self, field: &FieldFindings, edge: &str, verdict: &Verdict) -> (Kind, String) {
        match verdict {
            Verdict::Effect { refused, warning } => {
                (Kind::Yes, effect(refused, warning.as_deref()))
            }
            Verdict::NoEffect(why) => (Kind::NoEffect, format!("no effect, warned: {why}")),
            Verdict::Rejected(why) if why.ends_with(UNSUPPORTED) => {
                (Kind::Refused, "refused".into())
            }
            Verdict::Rejected(why) => (Kind::Refused, format!("refused: {why}")),
            Verdict::Silent => {
                if let Some(what) = self.decided(&self.decisions.seen_elsewhere, field, edge) {
                    return (Kind::Yes, format!("yes: {what}"));
                }
                match self.decided(&self.decisions.without_effect, field, edge) {
                    Some(why) => (Kind::NoEffect, format!("no effect: {why}")),
                    None => {
                        self.undecided(field, edge, "taken without effect and without a warning")
                    }
                }
            }
            Verdict::Undecided(why) => match self.decided(&self.decisions.by_hand, field, edge) {
                Some(what) if what.starts_with("refused") => (Kind::Refused, what.to_owned()),
                Some(what) => (Kind::Yes, format!("yes: {what}")),
                None => self.undecided(field, edge, why),
            },
        }
    }

    fn decided(
        &mut self,
        by: &'a BTreeMap<String, String>,
        field: &FieldFindings,
        edge: &str,
    ) -> Option<&'a str> {
        let (key, text) = by.get_key_value(&field.full_name).or_else(|| by.get_key_value(edge))?;
        self.used.insert(key);
        Some(text)
    }

    fn undecided(&mut self, field: &FieldFindings, edge: &str, why: &str) -> (Kind, String) {
        self.open.push(format!("{} in {edge:?}: {why}", field.full_name));
        (Kind::NoEffect, "undecided".into())
    }

    /// Fields that nobody has decided about, and decisions that nothing needs.
    pub fn open_questions(self) -> Vec<String> {
        let Decisions { without_effect, seen_elsewhere, by_hand, .. } = self.decisions;
        let decided =
            [without_effect, seen_elsewhere, by_hand].into_iter().flat_map(BTreeMap::keys);
        let unused = decided.filter(|key| !self.used.contains(key.as_str()));
        let unused = unused.map(|key| format!("{key}: this decision is not needed"));
        self.open.iter().cloned().chain(unused).collect()
    }
}

fn effect(refused: &BTreeMap<String, String>, warning: Option<&str>) -> String {
    let mut text = "yes".to_owned();
    if !refused.is_empty() {
        let names: Vec<&str> = refused.keys().map(String::as_str).collect();
        text.push_str(&format!("; refused: {}", names.join(", ")));
    }
    if let Some(warning) = warning {
        text.push_str(&format!("; warned: {warning}"));
    }
    text
}
