//! `ecr-scan-verifier waiters`: which deployments wait, for what, since when and until when.
//!
//! Read from an index that holds no ResponseURL, so whoever may run this cannot answer for anybody. Exit 0, also when nobody
//! waits; 1: could not look.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Format, Outcome};
use crate::aws::Aws;
use crate::aws::requests::OpenRequest;
use crate::domain::history::stack_name;

pub async fn waiters(aws: &Aws, format: Format) -> Outcome {
    let open = match aws.requests.open().await {
        Ok(open) => open,
        Err(why) => return Outcome::failed(format!("waiters: {}\n", why.text)),
    };
    let now = Timestamp::now();
    match format {
        Format::Json => {
            let report = Report { schema_version: 1, pipeline: &aws.settings.pipeline, waiters: open.iter().map(|request| Waiter::of(request, now)).collect() };
            Outcome::said(serde_json::to_string_pretty(&report).expect("texts and numbers are JSON") + "\n", 0)
        }
        Format::Text if open.is_empty() => Outcome::said(format!("Nobody waits in pipeline {}.\n", aws.settings.pipeline), 0),
        Format::Text => Outcome::said(open.iter().map(|request| in_words(request, now)).collect::<Vec<_>>().join("\n"), 0),
    }
}

/// One waiting request, for a person.
pub fn in_words(request: &OpenRequest, now: Timestamp) -> String {
    let what = match request.state.as_str() {
        "claimed" => "is decided, and its answer on its way".to_owned(),
        _ => match request.due.map(|due| due.duration_since(now)) {
            Some(left) if left > SignedDuration::ZERO => format!("waits, {} s more at most", left.as_secs()),
            Some(over) => format!("is overdue for {} s; the sweep answers it", -over.as_secs()),
            None => "waits".to_owned(),
        },
    };
    let digest = if request.digest.is_empty() { String::new() } else { format!("\n  image        {}", request.digest) };
    let due = request.due.map(|due| format!("\n  until        {due}")).unwrap_or_default();
    format!(
        "{}:{} in {} ({}) {what}{digest}\n  since        {}{due}\n  request      {}\n",
        request.repository,
        request.image,
        stack_name(&request.stack),
        request.logical_id,
        request.since,
        request.request_id
    )
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    schema_version: u32,
    pipeline: &'a str,
    waiters: Vec<Waiter<'a>>,
}

/// As `waiters` and `explain` report it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiter<'a> {
    request_id: &'a str,
    stack: &'a str,
    logical_id: &'a str,
    repository: &'a str,
    image: &'a str,
    digest: &'a str,
    state: &'a str,
    since: &'a str,
    until: Option<String>,
    seconds_left: Option<i64>,
}

impl<'a> Waiter<'a> {
    pub fn of(request: &'a OpenRequest, now: Timestamp) -> Self {
        Self {
            request_id: &request.request_id,
            stack: &request.stack,
            logical_id: &request.logical_id,
            repository: &request.repository,
            image: &request.image,
            digest: &request.digest,
            state: &request.state,
            since: &request.since,
            until: request.due.map(|due| due.to_string()),
            seconds_left: request.due.map(|due| due.duration_since(now).as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn a_waiter_is_told_with_its_place_its_image_and_its_time() {
        let request = OpenRequest {
            request_id: "3a1f8a10".into(),
            stack: "arn:aws:cloudformation:eu-west-1:123456789012:stack/payments/8f9a1c20".into(),
            logical_id: "Gate".into(),
            repository: "payments-api".into(),
            image: "1.4.2".into(),
            digest: "sha256:4f0c".into(),
            state: "open".into(),
            since: "2026-03-14T09:26:53Z".into(),
            due: Some(at(100)),
            lease_until: None,
        };
        for (state, now, says) in [
            ("open", 40, "payments-api:1.4.2 in payments (Gate) waits, 60 s more at most\n  image        sha256:4f0c\n  since        2026-03-14T09:26:53Z\n"),
            ("open", 130, "payments-api:1.4.2 in payments (Gate) is overdue for 30 s; the sweep answers it\n"),
            ("claimed", 40, "payments-api:1.4.2 in payments (Gate) is decided, and its answer on its way\n"),
        ] {
            let text = in_words(&OpenRequest { state: state.into(), ..request.clone() }, at(now));
            assert!(text.starts_with(says), "{text}");
        }
    }
}
