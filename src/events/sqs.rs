//! A queue's batch as a file, for `read-event`: somebody has saved what a function received. The functions themselves take
//! the batch apart with Lambda's own types, because they also need what a failed message is called.

use serde_json::Value;

use super::members::shown;
use super::{Event, UnreadableEvent, read_slice};

/// Each message of a batch, in order; `None` when the input is no batch at all.
///
/// SNS, S3 and CloudTrail also say `Records`. Theirs are refused whole: an event inside would not have come our way.
pub fn read_batch(input: &Value) -> Option<Result<Vec<Result<Event, UnreadableEvent>>, UnreadableEvent>> {
    let members = input.as_object()?;
    if members.contains_key("detail-type") || members.contains_key("RequestType") {
        return None;
    }
    let records = members.get("Records")?.as_array()?;
    let foreign = records.iter().find_map(|record| {
        let source = record.get("eventSource").or_else(|| record.get("EventSource"))?;
        (source != "aws:sqs").then(|| shown(source.as_str().unwrap_or("something that is no text")))
    });
    if let Some(source) = foreign {
        return Some(Err(UnreadableEvent::NotAnEvent { seems: format!("its `Records` come from `{source}`, not from a queue") }));
    }
    Some(Ok(records.iter().map(read_record).collect()))
}

fn read_record(record: &Value) -> Result<Event, UnreadableEvent> {
    match record.get("body") {
        Some(Value::String(body)) => read_slice(body.as_bytes()),
        body => Err(UnreadableEvent::BadMember {
            event: "a queue's message".to_owned(),
            member: "body".to_owned(),
            reason: if body.is_some() { "is no text".to_owned() } else { "is missing".to_owned() },
        }),
    }
}
