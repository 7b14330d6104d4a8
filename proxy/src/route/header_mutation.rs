//! Applying header mutations: of the weighted cluster, route, virtual host and route configuration, in Envoy's order.

use http::{HeaderMap, HeaderValue};

use super::table::RouteEntry;
use crate::config::headers::{AppendAction, HeaderAdd, HeaderMutations, HeaderText};
use crate::config::route::WeightedCluster;
use crate::telemetry::log_format::FormatContext;

impl<S> RouteEntry<S> {
    /// Changes the headers that go upstream. Operators read the context, not the headers that change.
    pub fn mutate_request(
        &self,
        weighted: Option<&WeightedCluster>,
        headers: &mut HeaderMap,
        context: &FormatContext<'_>,
    ) {
        let levels = self.levels([
            weighted.map(|weighted| &weighted.request_headers),
            Some(&self.config.request_headers),
            Some(&self.virtual_host.request_headers),
            Some(&self.configuration.request_headers),
        ]);
        for mutations in levels {
            remove(mutations, headers);
            let values = evaluate(mutations, headers, context);
            write(values, headers);
        }
    }

    /// Changes the headers that go downstream. `%RESP(...)%` reads them as each level finds them.
    pub fn mutate_response(
        &self,
        weighted: Option<&WeightedCluster>,
        headers: &mut HeaderMap,
        context: &FormatContext<'_>,
    ) {
        let levels = self.levels([
            weighted.map(|weighted| &weighted.response_headers),
            Some(&self.config.response_headers),
            Some(&self.virtual_host.response_headers),
            Some(&self.configuration.response_headers),
        ]);
        for mutations in levels {
            remove(mutations, headers);
            let context = FormatContext { response: Some(headers), ..*context };
            let values = evaluate(mutations, headers, &context);
            write(values, headers);
        }
    }

    /// The levels in the order in which they are done; they come as weighted cluster, route, virtual host, configuration.
    /// The last one wins, which is the least specific one by default.
    fn levels<'a>(
        &self,
        mut levels: [Option<&'a HeaderMutations>; 4],
    ) -> impl Iterator<Item = &'a HeaderMutations> {
        if self.configuration.most_specific_wins {
            levels[1..].reverse();
        }
        levels.into_iter().flatten().filter(|mutations| !mutations.is_empty())
    }
}

fn remove(mutations: &HeaderMutations, headers: &mut HeaderMap) {
    for name in &mutations.remove {
        headers.remove(name);
    }
}

/// The values to write, all made before any is written, so that none sees another.
fn evaluate<'a>(
    mutations: &'a HeaderMutations,
    headers: &HeaderMap,
    context: &FormatContext<'_>,
) -> Vec<(&'a HeaderAdd, HeaderValue)> {
    let wanted = mutations.add.iter().filter(|add| match add.action {
        AppendAction::Append | AppendAction::Overwrite => true,
        AppendAction::AddIfAbsent => !headers.contains_key(&add.name),
        AppendAction::OverwriteIfExists => headers.contains_key(&add.name),
    });
    let values = wanted.filter_map(|add| Some((add, value(add, context)?)));
    values.collect()
}

/// The value of one header; none if it is empty and must not be, or if it cannot stand in a header.
fn value(add: &HeaderAdd, context: &FormatContext<'_>) -> Option<HeaderValue> {
    let value = match &add.value {
        HeaderText::Literal(value) => value.clone(),
        HeaderText::Format(format) => {
            let mut text = Vec::new();
            format.write(context, &mut text);
            HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()?
        }
    };
    (add.keep_empty || !value.is_empty()).then_some(value)
}

/// Overwrites first, then appends.
fn write(values: Vec<(&HeaderAdd, HeaderValue)>, headers: &mut HeaderMap) {
    let overwrites =
        |action| matches!(action, AppendAction::Overwrite | AppendAction::OverwriteIfExists);
    let (overwriting, appending): (Vec<_>, Vec<_>) =
        values.into_iter().partition(|(add, _)| overwrites(add.action));
    for (add, value) in overwriting {
        headers.insert(&add.name, value);
    }
    for (add, value) in appending {
        headers.append(&add.name, value);
    }
}
