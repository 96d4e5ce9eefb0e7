//! What wakes on-sweep: a minute has passed, a day has, or CloudFormation makes a pipeline and wants its registry gone through.

use serde_json::Value;

use super::UnreadableEvent;
use super::deployment::Request;
use super::members::{Members, shown};

/// The type of the custom resource that begins a walk through the registry.
pub const BACKFILL: &str = "Custom::EcrScanVerifierBackfill";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tick {
    Minute,
    Day,
    Backfill(Box<Request>),
}

/// Whatever is not known wakes as a minute does: looking after those who wait is never wrong. A request of CloudFormation is the
/// exception. It wants an answer, and to a resource of another type this one would be a lie: a gate would be open.
pub fn read(event: &Value) -> Result<Tick, UnreadableEvent> {
    if let Some(members) = event.as_object().filter(|members| members.get("RequestType").is_some_and(|kind| !kind.is_null())) {
        let request = Request::read(members)?;
        if request.resource_type != BACKFILL {
            let reason = format!("is `{}`, and this function answers `{BACKFILL}` alone", shown(&request.resource_type));
            return Err(Members::new("CloudFormation request", members).bad("ResourceType", reason));
        }
        return Ok(Tick::Backfill(Box::new(request)));
    }
    let is_daily = event.get("v").is_some_and(|version| version == 1) && event.get("kind").is_some_and(|kind| kind == "daily");
    Ok(if is_daily { Tick::Day } else { Tick::Minute })
}
