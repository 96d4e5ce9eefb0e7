//! A batch from a queue: every record is read on its own, records about one image are worked on together, and what fails
//! takes nothing else along.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use jiff::Timestamp;
use tracing::{error, info, warn};

use super::error::HandlerError;
use super::metrics::{self, Unit};
use crate::aws::Aws;
use crate::domain::image::{ImageDigest, Repository};
use crate::domain::protocol::deploy::Home;
use crate::events::{self, Event};

/// How soon a message comes again, by how often it has been received. It is asked for eight times in all; then it goes to
/// the dead-letter queue.
const RETRY_S: [u64; 4] = [5, 15, 60, 240];
/// After so many times a queue gives a message to its dead letters; one that comes oftener is of a queue without.
const RECEIVED_AT_MOST: usize = 8;
/// So many images are worked on at once.
const AT_ONCE: usize = 8;

/// What the records of a batch are grouped by: one image in one repository, or one request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Image(ImageDigest, Repository),
    Request(String),
}

impl Subject {
    fn is_at_home(&self, home: &Home) -> bool {
        match self {
            Self::Image(_, repository) => repository.account == home.account && repository.region == home.region,
            Self::Request(_) => true,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(digest, repository) => write!(f, "{}@{digest}", repository.name),
            Self::Request(request_id) => write!(f, "request {request_id}"),
        }
    }
}

/// What a batch says of one subject.
#[derive(Debug, Default)]
pub struct Said {
    pub events: Vec<Event>,
    /// Whether any of it has been worked on before, by somebody who did not come to an end.
    pub is_said_again: bool,
}

/// Works a batch off. `pick` says which image an event is about, and `None` for what is of no use here; `work` does it for one
/// image and all that the batch says about it.
pub async fn work_off<W, F>(batch: SqsEvent, aws: &Arc<Aws>, home: &Home, pick: fn(&Event) -> Option<Subject>, work: W) -> SqsBatchResponse
where
    W: Fn(Arc<Aws>, Subject, Said) -> F,
    F: Future<Output = Result<String, HandlerError>> + Send + 'static,
{
    let mut failures: Vec<&SqsMessage> = Vec::new();
    let mut groups: BTreeMap<Subject, (Vec<&SqsMessage>, Said)> = BTreeMap::new();
    let mut ignored = 0;
    let mut oldest = None;
    for record in &batch.records {
        match events::read_body(record.body.as_deref().unwrap_or_default().as_bytes()) {
            Ok(event) => match pick(&event) {
                Some(subject) if subject.is_at_home(home) => {
                    oldest = oldest.into_iter().chain(event.about().and_then(|about| about.at)).min();
                    let (records, said) = groups.entry(subject).or_default();
                    records.push(record);
                    said.events.push(event);
                    said.is_said_again |= received(record) > 1;
                }
                Some(subject) => {
                    ignored += 1;
                    info!(%subject, "ignored: an image of another account or region");
                }
                None => {
                    ignored += 1;
                    info!(kind = event.kind(), "ignored: {}", why_ignored(&event));
                }
            },
            Err(unreadable) => {
                let error = HandlerError::UnreadableEvent(unreadable);
                // Once is enough: the message comes back at once until it reaches the dead-letter queue.
                if received(record) <= 1 {
                    error!(message_id = record.message_id, "{}; the message comes again until its queue gives it up", error.chain());
                }
                put_back(aws, record, &error).await;
                failures.push(record);
            }
        }
    }
    let subjects = groups.len();
    let mut groups = groups.into_iter();
    loop {
        let started: Vec<_> = groups
            .by_ref()
            .take(AT_ONCE)
            .map(|(subject, (records, said))| {
                let name = subject.to_string();
                (name, records, tokio::spawn(work(Arc::clone(aws), subject, said)))
            })
            .collect();
        if started.is_empty() {
            break;
        }
        for (subject, records, task) in started {
            let outcome = match task.await {
                Ok(outcome) => outcome,
                Err(_) => Err(HandlerError::Panicked(subject.clone())),
            };
            match outcome {
                Ok(what) => info!(subject, records = records.len(), "{what}"),
                Err(error) => {
                    warn!(subject, received = records.first().map_or(0, |record| received(record)), "{}", error.chain());
                    for record in records {
                        put_back(aws, record, &error).await;
                        failures.push(record);
                    }
                }
            }
        }
    }
    let pipeline = &aws.settings.pipeline;
    if ignored > 0 {
        metrics::count(pipeline, "EventsIgnored", ignored, Unit::Count);
    }
    if let Some(oldest) = oldest {
        metrics::count(pipeline, "EventLagSeconds", Timestamp::now().duration_since(oldest).as_secs().max(0), Unit::Seconds);
    }
    info!(records = batch.records.len(), subjects, ignored, failed = failures.len(), "batch worked off");
    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = failures
        .into_iter()
        .map(|record| {
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = record.message_id.clone().unwrap_or_default();
            failure
        })
        .collect();
    response
}

fn why_ignored(event: &Event) -> &str {
    match event {
        Event::Ignored { why, .. } => why,
        _ => "another function's business",
    }
}

fn received(record: &SqsMessage) -> u64 {
    record.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok()).unwrap_or(1)
}

/// Says when a failed message shall come again. Should that fail, it comes when its visibility ends.
async fn put_back(aws: &Aws, record: &SqsMessage, error: &HandlerError) {
    let times = usize::try_from(received(record)).unwrap_or(usize::MAX);
    // What will fail again goes to the dead-letter queue at once, where there is one.
    let wait_s = if error.is_worth_retrying() || times > RECEIVED_AT_MOST { RETRY_S[times.clamp(1, RETRY_S.len()) - 1] } else { 0 };
    let wait = Duration::from_secs(wait_s);
    if let (Some(queue), Some(receipt)) = (record.event_source_arn.as_deref(), record.receipt_handle.as_deref())
        && let Err(why) = aws.queue.retry_in(queue, receipt, wait).await
    {
        warn!("{}", why.text);
    }
}
