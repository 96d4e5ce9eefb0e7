//! A scan ended, or may have: judge, remember, and answer who waits. Our own messages come here too, and the requests that
//! on-deploy has failed on.

use std::sync::Arc;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};

use super::batch::{Said, Subject, work_off};
use super::deploy::{Here, given_up};
use super::drive::drive;
use super::error::HandlerError;
use crate::aws::Aws;
use crate::domain::head::EventCounts;
use crate::domain::image::{ImageDigest, Repository};
use crate::domain::protocol::PageToken;
use crate::domain::protocol::deploy::Home;
use crate::domain::protocol::notice::Notice;
use crate::domain::protocol::outputs::Outputs;
use crate::domain::protocol::scan::{Hints, Scan};
use crate::domain::protocol::wake::{By, Wake};
use crate::events::ours::Ours;
use crate::events::{Counts, Event};

pub async fn on_scan(batch: SqsEvent, aws: &Arc<Aws>, here: &Here) -> SqsBatchResponse {
    let place = here.clone();
    let work = move |aws: Arc<Aws>, subject, said: Said| {
        let here = place.clone();
        async move {
            match subject {
                Subject::Image(digest, repository) => scan(&aws, digest, repository, &said, here.home).await,
                Subject::Request(request_id) => look_after(&aws, request_id, &said.events, &here).await,
            }
        }
    };
    work_off(batch, aws, &here.home, subject, work).await
}

/// What one batch says of one image, answered by one reading.
async fn scan(aws: &Aws, digest: ImageDigest, repository: Repository, said: &Said, home: Home) -> Result<String, HandlerError> {
    let mut hints = said.events.iter().map(hints).reduce(Hints::and).unwrap_or_default();
    // Whoever had it before may have written the row and died before anybody was told: the row looks as if nothing were left to do.
    hints.must_look |= said.is_said_again && said.events.iter().any(|event| !matches!(event, Event::Ours(Ours::Signed { .. })));
    let scan = Scan::new(repository, digest, hints, aws.settings.policy.clone(), home).telling(aws.settings.alerting.clone());
    drive(scan, aws).await
}

/// A waiting request's timers, and one that on-deploy could not answer.
async fn look_after(aws: &Aws, request_id: String, events: &[Event], here: &Here) -> Result<String, HandlerError> {
    // One that fails does not keep the others from being looked at: the timer that is due may be behind it.
    let mut last = Ok(String::new());
    for event in events {
        let done = match event {
            Event::DeploymentGivenUp { request, why } => given_up(request, why, aws, here).await,
            Event::Ours(Ours::Outputs { .. }) => {
                let pipeline = aws.settings.pipeline.clone();
                drive(Outputs::new(request_id.clone(), pipeline, here.home.clone(), aws.settings.policy.clone()), aws).await
            }
            Event::Ours(Ours::Notice { .. }) => drive(Notice::new(request_id.clone(), aws.settings.alerting.clone()), aws).await,
            Event::Ours(Ours::Timer { n, .. }) => {
                drive(Wake::new(request_id.clone(), By::Timer(*n), here.home.clone(), aws.settings.policy.clone()), aws).await
            }
            _ => continue,
        };
        last = last.and(done);
    }
    last
}

fn subject(event: &Event) -> Option<Subject> {
    match event {
        Event::BasicScanEnded { about, .. }
        | Event::EnhancedScanEnded { about, .. }
        | Event::FindingChanged { about, .. }
        | Event::CoverageChanged { about, .. }
        | Event::ImageDeleted { about }
        | Event::ImageArchived { about }
        | Event::ImageRestored { about } => Some(Subject::Image(about.digest.clone(), about.repository.clone())),
        Event::Ours(
            Ours::LookAgain { digest, repository, .. }
            | Ours::RestOfRead { digest, repository, .. }
            | Ours::Announce { digest, repository }
            | Ours::Signed { digest, repository },
        ) => Some(Subject::Image(digest.clone(), repository.clone())),
        Event::Ours(Ours::Timer { request_id, .. } | Ours::Outputs { request_id } | Ours::Notice { request_id }) => Some(Subject::Request(request_id.clone())),
        Event::DeploymentGivenUp { request, .. } => Some(Subject::Request(request.request_id.clone())),
        _ => None,
    }
}

fn hints(event: &Event) -> Hints {
    let (at, counts) = match event {
        // Of any other status nobody has said what its counts count.
        Event::EnhancedScanEnded { about, counts, status } if status == "INITIAL_SCAN_COMPLETE" => {
            (about.at, about.at.zip(counts.as_ref()).and_then(|(at, counts)| inspectors_counts(at, counts)))
        }
        Event::EnhancedScanEnded { about, .. }
        | Event::BasicScanEnded { about, .. }
        | Event::FindingChanged { about, .. }
        | Event::CoverageChanged { about, .. } => (about.at, None),
        Event::Ours(Ours::LookAgain { n, request_id, .. }) => {
            return Hints { looked_again: *n, must_look: true, for_a_request: request_id.is_some(), ..Hints::default() };
        }
        // It says nothing of the image: with whatever else is said, it changes nothing.
        Event::Ours(Ours::Announce { .. }) => return Hints { announce: true, can_wait: true, looked_again: u32::MAX, ..Hints::default() },
        Event::Ours(Ours::Signed { .. }) => return Hints { signed: true, can_wait: true, looked_again: u32::MAX, ..Hints::default() },
        Event::Ours(Ours::RestOfRead { token, .. }) => return Hints { from: Some(PageToken(token.clone())), must_look: true, ..Hints::default() },
        _ => (None, None),
    };
    let can_wait = matches!(event, Event::FindingChanged { .. } | Event::CoverageChanged { .. });
    Hints { newest: at, counts, must_look: at.is_none(), can_wait, ..Hints::default() }
}

/// Inspector's counts, which prove something only with their total: it stands for the severities that are not counted.
fn inspectors_counts(at: jiff::Timestamp, counts: &Counts) -> Option<EventCounts> {
    let count = |word: &str| counts.get(word).copied();
    let of = |word: &str| count(word).unwrap_or(0);
    Some(EventCounts { at, critical: of("CRITICAL"), high: of("HIGH"), medium: of("MEDIUM"), total: count("TOTAL")? })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_first_scan_that_is_complete_counts_as_evidence() {
        for (status, counts, is_evidence) in [
            ("INITIAL_SCAN_COMPLETE", json!({"CRITICAL": 1, "TOTAL": 3}), true),
            ("INITIAL_SCAN_COMPLETE", json!({"CRITICAL": 1}), false), // without a total the low ones are unknown
            ("INITIAL_SCAN_FAILED", json!({"TOTAL": 0}), false),
        ] {
            let repository = "arn:aws:ecr:eu-west-1:123456789012:repository/payments-api";
            let event = json!({
                "source": "aws.inspector2", "detail-type": "Inspector2 Scan", "account": "123456789012", "region": "eu-west-1",
                "time": "2026-03-14T09:26:53Z", "resources": [repository],
                "detail": {"scan-status": status, "repository-name": repository, "finding-severity-counts": counts,
                           "image-digest": format!("sha256:{}", "5c".repeat(32)), "image-tags": []}
            });
            let hints = hints(&crate::events::read(&event).expect("an event"));
            assert_eq!(hints.counts.is_some(), is_evidence, "{status} {counts}");
            assert!(hints.newest.is_some(), "it is a reason to look all the same");
        }
    }
}
