//! The sweep: news can be lost, so somebody has to look.
//!
//! Every minute: a request whose time is over, and whose last timer has not answered it, is answered from its item alone; an
//! answer that was stored and never sent is sent. Repairing rows that missed an event comes later.

use jiff::Timestamp;
use tracing::{error, info};

use super::drive::drive;
use super::error::HandlerError;
use super::metrics::{self, Unit};
use crate::aws::Aws;
use crate::domain::plan;
use crate::domain::policy::Policy;
use crate::domain::protocol::deploy::Home;
use crate::domain::protocol::wake::{By, Wake};

pub async fn on_sweep(aws: &Aws, home: &Home) -> Result<(), HandlerError> {
    let open = aws.requests.open().await.map_err(HandlerError::TryAgain)?;
    let now = Timestamp::now();
    let (waiting, mut overdue, mut failed) = (open.len(), 0, 0);
    for request in open {
        if !plan::is_for_sweep(request.due, request.lease_until, now) {
            continue;
        }
        overdue += 1;
        let wake = Wake::new(request.request_id.clone(), By::Sweep, home.clone(), Policy::default());
        match drive(wake, aws).await {
            Ok(what) => info!(request_id = request.request_id, stack = request.stack, logical_id = request.logical_id, "{what}"),
            // The next minute comes anyway; the others do not wait for this one.
            Err(why) => {
                failed += 1;
                error!(request_id = request.request_id, stack = request.stack, logical_id = request.logical_id, "{}", why.chain());
            }
        }
    }
    if overdue > 0 {
        metrics::count(&aws.settings.pipeline, "OverdueRequests", overdue, Unit::Count);
    }
    info!(waiting, overdue, failed, "swept");
    Ok(())
}
