//! `ecr-scan-verifier read-event`: what we understand of an event that somebody has saved, and why if that is nothing.
//!
//! Exit 0: understood, ignored events included. Exit 1: unreadable; then standard error says in one line what, why and what
//! to do, and standard output stays empty, so that nobody takes half an answer for one. A queue's batch is answered record by
//! record, the unreadable ones in their place as kind `unreadable`, and exits 1 when there is one. No ResponseURL is printed.

use serde::Serialize;

use super::Outcome;
use crate::domain::history::stack_name;
use crate::domain::image::ImageDigest;
use crate::events::deployment::{Kind, Request};
use crate::events::ours::Ours;
use crate::events::{About, Counts, Event, Glance, UnreadableEvent, json, read, read_body, shown, sqs};

pub fn read_event(input: &[u8], as_json: bool) -> Outcome {
    // Windows saves files with a mark in front that is no part of the JSON.
    let input = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    let input = match json(input) {
        Ok(input) => input,
        Err(error) => return unreadable(&error),
    };
    match sqs::read_batch(&input) {
        None => one(read(&input), as_json),
        Some(Err(error)) => unreadable(&error),
        Some(Ok(records)) => batch(&records, as_json),
    }
}

/// What lies in a queue, in two words: what it is, and what it is about. A place for answers or a page token is never among them.
pub fn kind_and_subject(body: &[u8]) -> (String, String) {
    let event = match read_body(body) {
        Ok(event) => event,
        Err(error) => return ("unreadable".to_owned(), error.to_string()),
    };
    let image = |repository: &str, digest: &ImageDigest| format!("{}@{digest}", shown(repository));
    let kind = match &event {
        Event::Ours(ours) => ours.kind(),
        _ => event.kind(),
    };
    let subject = match &event {
        Event::Ours(Ours::Timer { request_id, .. } | Ours::Outputs { request_id }) => format!("request {}", shown(request_id)),
        Event::Ours(Ours::LookAgain { digest, repository, .. } | Ours::RestOfRead { digest, repository, .. }) => image(&repository.name, digest),
        Event::DeploymentRequested(request) | Event::DeploymentGivenUp { request, .. } => {
            format!("{} in {}", shown(&request.logical_id), shown(stack_name(&request.stack_id)))
        }
        Event::CheckRequested(check) => format!("{}:{}", shown(&check.glance().repository.unwrap_or_default()), shown(check.image())),
        Event::Ignored { why, .. } => why.clone(),
        _ => event.about().map(|about| image(&about.repository.name, &about.digest)).unwrap_or_default(),
    };
    (kind.to_owned(), subject)
}

fn one(event: Result<Event, UnreadableEvent>, as_json: bool) -> Outcome {
    match event {
        Ok(event) => {
            let report = Report::of(&event);
            Outcome { stdout: if as_json { as_text_of_json(&report) } else { report.to_text("") }, stderr: String::new(), exit: 0 }
        }
        Err(error) => unreadable(&error),
    }
}

fn batch(records: &[Result<Event, UnreadableEvent>], as_json: bool) -> Outcome {
    let reports: Vec<Report> = records.iter().map(|record| record.as_ref().map_or_else(Report::unreadable, Report::of)).collect();
    let complaint = |(i, record): (usize, &Result<Event, UnreadableEvent>)| Some(format!("record {}: {}", i + 1, in_one_line(record.as_ref().err()?)));
    let stderr: String = records.iter().enumerate().filter_map(complaint).collect();
    let stdout = if as_json {
        as_text_of_json(&Batch { records: reports })
    } else if reports.is_empty() {
        "The batch holds no records.\n".to_owned()
    } else {
        reports.iter().enumerate().map(|(i, report)| report.to_text(&format!("record {}: ", i + 1))).collect()
    };
    Outcome { exit: u8::from(!stderr.is_empty()), stdout, stderr }
}

fn unreadable(error: &UnreadableEvent) -> Outcome {
    Outcome { stdout: String::new(), stderr: format!("read-event: {}", in_one_line(error)), exit: 1 }
}

fn in_one_line(error: &UnreadableEvent) -> String {
    format!("{error}. {}\n", error.way_out())
}

fn as_text_of_json(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("texts and lists always make JSON");
    text.push('\n');
    text
}

#[derive(Serialize)]
struct Batch {
    records: Vec<Report>,
}

/// The members of the JSON form, in their order; what is not known is null.
#[derive(Serialize)]
struct Report {
    kind: &'static str,
    digest: Option<String>,
    repository: Option<String>,
    /// The first of `tags`, for those who want one.
    tag: Option<String>,
    tags: Vec<String>,
    account: Option<String>,
    region: Option<String>,
    /// Why nothing comes of it: ignored, unreadable, or a deployment that could only be refused or not be answered.
    why: Option<String>,
    /// What else a person wants to see.
    #[serde(skip)]
    more: Vec<(&'static str, String)>,
}

impl Report {
    fn of(event: &Event) -> Self {
        let (glance, why) = match event {
            Event::Ignored { why, glance } => (glance.clone(), Some(why.clone())),
            // No event of AWS, and no message that anyone but us acts upon: from outside it is of no use.
            Event::Ours(ours) => (ours.glance(), Some(format!("a note of this pipeline to itself (`{}`), not an event of AWS", ours.kind()))),
            Event::DeploymentRequested(request) => (request.glance(), what_hinders(request)),
            Event::CheckRequested(check) => (check.glance(), check.gate().err().map(|error| format!("it would be refused: {error}"))),
            _ => (event.about().map(glance_of).unwrap_or_default(), None),
        };
        let kind = if matches!(event, Event::Ours(_)) { "ignored" } else { event.kind() };
        Self {
            kind,
            digest: glance.digest.map(String::from),
            repository: glance.repository,
            tag: glance.tags.first().cloned(),
            tags: glance.tags,
            account: glance.account,
            region: glance.region,
            why,
            more: more(event),
        }
    }

    fn unreadable(error: &UnreadableEvent) -> Self {
        let why = Some(error.to_string());
        Self { kind: "unreadable", digest: None, repository: None, tag: None, tags: Vec::new(), account: None, region: None, why, more: Vec::new() }
    }

    fn to_text(&self, prefix: &str) -> String {
        let mut text = format!("{prefix}{}\n", self.kind);
        let mut line = |name: &str, value: &str| text.push_str(&format!("  {name:<13} {}\n", shown(value)));
        let tags = self.tags.join(", ");
        let known = [("digest", &self.digest), ("repository", &self.repository), ("tags", &Some(tags).filter(|tags| !tags.is_empty()))];
        for (name, value) in known.into_iter().chain([("account", &self.account), ("region", &self.region)]) {
            if let Some(value) = value {
                line(name, value);
            }
        }
        for (name, value) in &self.more {
            line(name, value);
        }
        if let Some(why) = &self.why {
            // Not cut short: it is our own sentence, and what it quotes has been cut already.
            text.push_str(&format!("  {:<13} {why}\n", "why"));
        }
        text
    }
}

fn glance_of(about: &About) -> Glance {
    Glance {
        account: Some(about.repository.account.clone()),
        region: Some(about.repository.region.clone()),
        repository: Some(about.repository.name.clone()),
        digest: Some(about.digest.clone()),
        tags: about.tags.clone(),
    }
}

/// What can be seen from here of why the gate would refuse a request, or could not answer it.
fn what_hinders(request: &Request) -> Option<String> {
    if let Err(error) = request.answer_to(None) {
        return Some(error.to_string());
    }
    match request.kind {
        Kind::Delete => None,
        Kind::Create | Kind::Update { .. } => request.gate().err().map(|error| format!("it would be refused: {error}")),
    }
}

fn more(event: &Event) -> Vec<(&'static str, String)> {
    let counts = |counts: &Option<Counts>| match counts {
        None => "not stated, which is not the same as none".to_owned(),
        Some(counts) if counts.is_empty() => "none".to_owned(),
        Some(counts) => counts.iter().map(|(severity, n)| format!("{severity} {n}")).collect::<Vec<_>>().join(", "),
    };
    let given = |name: &'static str, value: &Option<String>| value.clone().map(|value| (name, value));
    match event {
        Event::ImagePushed { manifest, .. } => vec![("manifest", format!("{manifest:?}"))],
        Event::ArtifactPushed { subject, media_type, .. } => {
            let subject = subject.as_ref().map(|subject| ("about", subject.to_string()));
            subject.into_iter().chain(given("media type", media_type)).collect()
        }
        Event::BasicScanEnded { status, counts: stated, .. } | Event::EnhancedScanEnded { status, counts: stated, .. } => {
            vec![("status", status.clone()), ("counts", counts(stated))]
        }
        Event::FindingChanged { finding, status, severity, vulnerability, .. } => {
            let mut more = vec![("finding", finding.clone()), ("status", status.clone())];
            more.extend(given("severity", severity).into_iter().chain(given("vulnerability", vulnerability)));
            more
        }
        Event::CoverageChanged { status, reason, .. } => [("status", status.clone())].into_iter().chain(given("reason", reason)).collect(),
        Event::DeploymentRequested(request) => {
            vec![("request", request.kind.name().to_owned()), ("stack", request.stack_id.clone()), ("resource", request.logical_id.clone())]
        }
        Event::ImageDeleted { .. }
        | Event::ImageArchived { .. }
        | Event::ImageRestored { .. }
        | Event::ImageReplicated { .. }
        | Event::DeploymentGivenUp { .. }
        | Event::CheckRequested(_)
        | Event::Ours(_)
        | Event::Ignored { .. } => Vec::new(),
    }
}
