//! The heads of a connection's requests, as they come.

use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::head::{Head, read};
use super::rules::{Refusal, Rules};
use crate::http::connection::Connection;
use crate::io::deadline::Deadline;
use crate::io::h1::fields::{Search, search};
use crate::io::h1::{Error, Wire};

/// Reads heads.
pub struct Heads {
    rules: Rules,
    /// How much of what was read holds no end of a head.
    searched: usize,
    /// Since when a head has been there in part.
    since: Option<Instant>,
    deadline: Deadline,
}

impl Heads {
    /// Reads heads by these rules.
    pub fn new(rules: Rules) -> Self {
        Heads { rules, searched: 0, since: None, deadline: Deadline::default() }
    }

    /// The next head, good or refused; none once the client or we want no more.
    ///
    /// # Errors
    /// Reading failed.
    pub fn poll_next(
        &mut self,
        wire: &mut Wire,
        connection: &Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Head>, Error>> {
        loop {
            if let Some(head) = self.next(wire) {
                (self.searched, self.since) = (0, None);
                return Poll::Ready(Ok(Some(head)));
            }
            if connection.is_ending() {
                return Poll::Ready(Ok(None));
            }
            match wire.poll_read(cx, 0) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    let limit = self.since.zip(self.rules.head_timeout);
                    let at = limit.map(|(since, timeout)| since + timeout);
                    ready!(self.deadline.poll(cx, at));
                    return Poll::Ready(Ok(Some(Head::refused(Refusal::LATE))));
                }
            }
        }
    }

    /// The head that has been read, if it is there in whole or will never be a good one.
    fn next(&mut self, wire: &mut Wire) -> Option<Head> {
        if wire.ahead.is_empty() {
            return None;
        }
        match search(&wire.ahead, self.searched) {
            Search::End(length) => Some(read(&wire.ahead.split_to(length).freeze(), &self.rules)),
            Search::More if wire.ahead.len() <= self.rules.most_bytes() => {
                self.searched = wire.ahead.len();
                self.since.get_or_insert_with(Instant::now);
                None
            }
            Search::More => Some(Head::refused(Refusal::TOO_LARGE)),
            Search::BareLineFeed => Some(Head::refused(Refusal::SYNTAX)),
        }
    }
}
