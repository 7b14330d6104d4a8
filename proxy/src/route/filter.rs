//! What a route says to HTTP filters.

use super::action::choose_weighted;
use super::request::RouteRequest;
use super::table::RouteEntry;
use crate::config::http_filter::{RouteFilter, RouteFilters};
use crate::config::route::{Action, ClusterSpecifier, WeightedClusters};

impl<S> RouteEntry<S> {
    /// Which entry of `weighted_clusters` the request goes to; none where no entry says anything to filters.
    pub fn speaking_entry(&self, request: &RouteRequest<'_>) -> Option<usize> {
        let clusters = self.weighted_clusters()?;
        let speaks = clusters.clusters.iter().any(|entry| !entry.filters.is_empty());
        speaks.then(|| choose_weighted(clusters, request))
    }

    /// What the route says to the filter of this name: the most specific level that says anything. `entry` is the one
    /// of [`RouteEntry::speaking_entry`].
    pub fn filter(&self, name: &str, entry: Option<usize>) -> Option<&RouteFilter> {
        self.filter_levels(entry).find_map(|level| level.get(name))
    }

    /// Everything that the route says to filters, most specific level first.
    pub fn filter_levels(&self, entry: Option<usize>) -> impl Iterator<Item = &RouteFilters> {
        let entry = entry.and_then(|entry| self.weighted_clusters()?.clusters.get(entry));
        let levels =
            [&self.config.filters, &self.virtual_host.filters, &self.configuration.filters];
        entry.map(|entry| &entry.filters).into_iter().chain(levels)
    }

    fn weighted_clusters(&self) -> Option<&WeightedClusters> {
        match &self.config.action {
            Action::Forward(action) => match &action.cluster {
                ClusterSpecifier::Weighted(clusters) => Some(clusters),
                _ => None,
            },
            _ => None,
        }
    }
}
