//! The sweep: news can be lost, so somebody has to look.
//!
//! Today it reports requests whose answer was stored and never marked as sent. Answering those, and ending the waits that are
//! over, comes with parking, repairing rows that missed an event later still. No schedule calls it yet.

use jiff::Timestamp;
use tracing::{info, warn};

use super::error::HandlerError;
use crate::aws::Aws;

pub async fn on_sweep(aws: &Aws) -> Result<(), HandlerError> {
    let open = aws.requests.open_since_before(Timestamp::now()).await.map_err(HandlerError::TryAgain)?;
    for request in &open {
        warn!(stack = request.stack, logical_id = request.logical_id, since = request.since, "a decided request is not marked as answered");
    }
    info!(open = open.len(), "swept");
    Ok(())
}
