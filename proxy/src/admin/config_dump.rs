//! `/config_dump`: every resource, static and dynamic, with its versions; keys and other secrets are redacted.

use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use proto::Registry;
use regex::Regex;
use serde_json::{Value, json};

use super::Context;
use super::query::Query;
use super::reply::{Answer, Reply};
use crate::config::bootstrap::Bootstrap;
use crate::discovery::Dump;
use crate::upstream::cluster::Cluster;

mod assignment;
mod mask;
mod section;

use mask::Mask;
use section::Section;

/// What is dumped, taken on the control thread and printed on another.
struct Input {
    bootstrap: Arc<Bootstrap>,
    /// When the bootstrap was read.
    started: SystemTime,
    dump: Dump,
    /// `include_eds`: the clusters whose endpoints are dumped too.
    endpoints_of: Option<Vec<Arc<Cluster>>>,
    /// `name_regex`: only resources whose whole name matches.
    names: Option<Regex>,
}

/// The parts that are wanted.
struct Parts {
    /// `resource`: only the elements of this field.
    resource: Option<String>,
    /// `mask`: only these fields, of everything or of each element.
    mask: Option<Mask>,
}

pub(super) fn config_dump(context: &Context, query: &Query) -> Answer {
    let names = match query.full_regex("name_regex") {
        Ok(names) => names,
        Err(reply) => return reply.into(),
    };
    let input = Input {
        bootstrap: Arc::clone(&context.bootstrap),
        started: SystemTime::now() - context.process.uptime(),
        dump: context.discovery.dump(),
        endpoints_of: query.has("include_eds").then(|| context.registry.list()),
        names,
    };
    let wanted = |name| query.get(name).filter(|value| !value.is_empty());
    let parts = Parts {
        resource: wanted("resource").map(str::to_string),
        mask: wanted("mask").map(Mask::parse),
    };
    Answer::later(move || {
        // The descriptors of Envoy's whole API take megabytes; they go with the answer.
        let sections = section::all(&input, &Registry::load());
        parts.print(sections)
    })
}

impl Parts {
    fn print(&self, sections: Vec<Section>) -> Reply {
        let configs = match (&self.resource, &self.mask) {
            (Some(resource), mask) => elements(sections, resource, mask.as_ref()),
            (None, Some(mask)) => masked(sections, mask),
            (None, None) => Ok(sections.into_iter().map(Section::into_json).collect()),
        };
        match configs {
            Ok(configs) if configs.is_empty() => Reply::json(&json!({})),
            Ok(configs) => Reply::json(&json!({ "configs": configs })),
            Err(reply) => reply,
        }
    }
}

/// The elements of one field, wherever it is.
fn elements(
    sections: Vec<Section>,
    resource: &str,
    mask: Option<&Mask>,
) -> Result<Vec<Value>, Reply> {
    for section in sections {
        if section.singles.contains_key(resource) {
            return Err(Reply::bad_request(format!(
                "{resource} is not a repeated field. Use ?mask={resource} to get only this field"
            )));
        }
        let found = section.lists.into_iter().find(|list| list.field == resource);
        if let Some(list) = found {
            let elements = list.into_typed();
            return Ok(match mask {
                None => elements,
                Some(mask) => elements.iter().filter_map(|element| mask.apply(element)).collect(),
            });
        }
    }
    let body = format!("{resource} not found in config dump");
    Err(Reply::error(StatusCode::NOT_FOUND, body))
}

/// Every section that has a field of the mask.
fn masked(sections: Vec<Section>, mask: &Mask) -> Result<Vec<Value>, Reply> {
    let sections = sections.into_iter().map(Section::into_json);
    let configs: Vec<Value> = sections.filter_map(|section| mask.apply(&section)).collect();
    match configs.is_empty() {
        true => Err(Reply::bad_request(format!(
            "FieldMask {mask} could not be successfully applied to any configs."
        ))),
        false => Ok(configs),
    }
}

#[cfg(test)]
mod tests;
