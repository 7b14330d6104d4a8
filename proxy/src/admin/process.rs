//! Commands to the process: `/healthcheck/*`, `/quitquitquit`, `/reopen_logs`.

use super::Context;
use super::query::Query;
use super::reply::{Answer, Reply};

pub(super) fn fail(context: &Context, _query: &Query) -> Answer {
    context.process.fail_health_check(true);
    Reply::ok().into()
}

pub(super) fn pass(context: &Context, _query: &Query) -> Answer {
    context.process.fail_health_check(false);
    Reply::ok().into()
}

pub(super) fn quit(context: &Context, _query: &Query) -> Answer {
    context.process.quit();
    Reply::ok().into()
}

pub(super) fn reopen_logs(context: &Context, _query: &Query) -> Answer {
    context.logs.reopen();
    Reply::ok().into()
}
