//! What alerts say: a subject and a text for people, the same for a chat, and attributes to filter by.
//!
//! First what happened and to which image, then the findings, then where it runs, then what to do.

use std::borrow::Cow;
use std::fmt::Write;

use serde_json::{Value, json};

use super::alert::{NoticeKind, Scene};
use super::finding::{Counts, Finding, Rating};
use super::head::{Child, Head, Kind};
use super::judge::Judgement;
use super::message::finding_line;
use super::outputs::Message;
use super::policy::{Exemption, Policy};
use super::request::{OnUnscanned, Record, Request};
use super::scan::ScanState;
use super::signature::say;

/// A mail shows so many lines of a list; what is left is counted.
const LINES: usize = 20;
/// SNS takes a subject of fewer than 100 ASCII characters.
const SUBJECT: usize = 99;

/// What an alert is about.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    pub scene: &'a Scene<'a>,
    /// By which its audience judges.
    pub policy: &'a Policy,
    /// The indexes that hold the image.
    pub part_of: &'a [Head],
}

impl About<'_> {
    fn head(&self) -> &Head {
        self.scene.head
    }

    /// As people call it: by its newest tag, or that of its index.
    fn label(&self) -> String {
        let tag = self.head().tags.first().or_else(|| self.part_of.iter().find_map(|index| index.tags.first()));
        let deployed = self.scene.lives.iter().map(|live| &live.image).find(|image| !image.starts_with("sha256:"));
        match deployed.or(tag) {
            Some(tag) => format!("{}:{tag}", self.head().repository.name),
            None => format!("{}@{:.19}", self.head().repository.name, self.head().digest.as_str()),
        }
    }

    fn child_of<'a>(&self, index: &'a Head) -> Option<&'a Child> {
        let Kind::Index(children) = &index.kind else { return None };
        children.iter().find(|child| child.digest == self.head().digest)
    }

    /// The image, the index that it is part of, its tags, where it runs and when it was scanned, in a line each.
    fn place(&self) -> String {
        let head = self.head();
        let mut text = format!("Image:     {}@{}", head.repository.name, head.digest);
        for index in self.part_of {
            let platform = self.child_of(index).map(|child| child.platform.as_str()).filter(|platform| !platform.is_empty());
            let _ = write!(text, "\nPart of:   {}@{}, for {}", head.repository.name, index.digest, platform.unwrap_or("no platform that it names"));
            if !index.tags.is_empty() {
                let _ = write!(text, " (tags {})", index.tags.join(", "));
            }
        }
        if !head.tags.is_empty() {
            let _ = write!(text, "\nTags:      {}", head.tags.join(", "));
        }
        for live in self.scene.lives.iter().take(LINES) {
            let _ = write!(text, "\nDeployed:  {} ({}), since {}", live.stack_name(), live.logical_id, to_the_second(&live.since));
        }
        if self.scene.lives.len() > LINES {
            let _ = write!(text, "\n           and {} more", self.scene.lives.len() - LINES);
        }
        if let Some(result) = head.valid_result() {
            let _ = write!(text, "\nScanned:   {} by {}", to_the_second(&result.completed_at.to_string()), result.source);
        }
        text
    }

    fn by_policy(&self) -> String {
        format!(" (the pipeline's policy: {})", self.policy.severity)
    }

    fn everything(&self) -> String {
        format!("Everything: ecr-scan-verifier explain {}@{}", self.head().repository.name, self.head().digest)
    }

    fn stacks(&self) -> Vec<String> {
        let mut stacks: Vec<String> = self.scene.lives.iter().map(|live| live.stack_name().to_owned()).collect();
        stacks.sort_unstable();
        stacks.dedup();
        stacks
    }

    fn message(&self, kind: NoticeKind, severity: Option<&Rating>, verdict: &str, subject: &str, text: &str, next: &[String]) -> Message {
        let head = self.head();
        let attributes = [("severity", severity.map(|severity| severity.word().to_owned())), ("verdict", Some(verdict.to_owned()))];
        let attributes = attributes.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let image = [("repository", head.repository.name.clone()), ("digest", head.digest.to_string())];
        let thread = head.digest.to_string();
        message(kind, attributes.chain(image), self.stacks(), subject, text, next, &thread)
    }
}

/// New objections: the image is blocked now, or it was and there are more.
pub fn findings(about: &About<'_>, kind: NoticeKind, fresh: &[&Finding], judgement: &Judgement<'_>) -> Message {
    let (label, counts) = (about.label(), Counts::of(fresh.iter().copied()));
    let (how_many, policy) = (many(fresh.len(), "finding"), about.by_policy());
    let (subject, opening) = match kind {
        NoticeKind::BlockedNow => {
            let verb = if fresh.len() == 1 { "blocks" } else { "block" };
            (format!("{label} is blocked now: {counts}"), format!("{label} is deployed, and {how_many} {verb} it now{policy}:"))
        }
        _ => {
            let runs = if about.scene.lives.is_empty() { "" } else { ", which is deployed" };
            (format!("{label} has {}: {counts}", many(fresh.len(), "new finding")), format!("{} on {label}{runs}{policy}:", many(fresh.len(), "new finding")))
        }
    };
    let all = judgement.blocking.len();
    let before = if all > fresh.len() { format!("\nIn all {all} block.\n") } else { String::new() };
    let text = format!("{opening}\n\n{}\n{before}\n{}", list(fresh), about.place());
    let mut next = Vec::new();
    if !about.scene.lives.is_empty() {
        next.push("What runs goes on running. A gate of this policy refuses its next deployment, and no rollback to it.".to_owned());
    }
    next.push("Rebuild with the fix and deploy that, or add an exemption with a reason and a last day.".to_owned());
    next.push(about.everything());
    let worst = fresh.iter().map(|finding| &finding.severity).max();
    about.message(kind, worst, "BLOCK", &subject, &text, &next)
}

/// To a gate's own topic: the envelope in which the original construct tells of a deployment's findings.
pub fn in_the_originals_form(about: &About<'_>, fresh: &[&Finding], judgement: &Judgement<'_>) -> Message {
    let label = about.label();
    let is = if fresh.len() == 1 { "is" } else { "are" };
    let opening = format!("{} {is} new since this image was deployed, or since the last message about it:\n", many(fresh.len(), "finding"));
    let more = if judgement.blocking.len() > fresh.len() { format!("\n\nIn all {} block.", judgement.blocking.len()) } else { String::new() };
    let text = format!("{opening}\n{}{more}\n\n{}\n\n{}", list(fresh), about.place(), about.everything());
    let plain = format!("Ecr Scan Verifier detected vulnerabilities in {label}\n\n{text}");
    let https = json!({
        "version": "1.0",
        "source": "custom",
        "content": { "title": "Ecr Scan Verifier - Vulnerability Alert", "description": format!("## Scanned Image\n{label}\n\n## Details\n{text}") },
    });
    let worst = fresh.iter().map(|finding| &finding.severity).max().map(|severity| severity.word().to_owned());
    let head = about.head();
    let attributes = [
        ("kind", Some(NoticeKind::NewFindings.word().to_owned())),
        ("severity", worst),
        ("verdict", Some("BLOCK".to_owned())),
        ("repository", Some(head.repository.name.clone())),
        ("digest", Some(head.digest.to_string())),
    ];
    Message {
        subject: None,
        body: json!({ "default": plain, "email": plain, "https": https.to_string() }).to_string(),
        attributes: attributes.into_iter().filter_map(|(name, value)| Some((Cow::Borrowed(name), value?))).collect(),
        stacks: about.stacks(),
    }
}

/// Nothing is objected to any more.
pub fn cleared(about: &About<'_>) -> Message {
    let label = about.label();
    let text = format!("Nothing blocks {label} any more{}.\n\n{}", about.by_policy(), about.place());
    about.message(NoticeKind::Cleared, None, "PASS", &format!("{label} is cleared"), &text, &[about.everything()])
}

/// What is deployed is not scanned any more, or could not be.
pub fn scan_failed(about: &About<'_>, state: &ScanState) -> Message {
    let label = about.label();
    let (why, next) = match state {
        ScanState::Failed(why) => (format!("its scan failed ({why:.300})"), "Start its scan again, or push the image again."),
        ScanState::EligibilityExpired => (
            "Amazon Inspector does not watch it any more (its re-scan duration has ended)".to_owned(),
            "Pull or push the image, or lengthen Inspector's re-scan duration.",
        ),
        ScanState::Unsupported => ("no scanner can scan it".to_owned(), "Build it on a base image that the scanner supports."),
        other => (format!("it is not scanned ({})", other.word()), "Scan the image again."),
    };
    let text = format!("{label} is deployed, and {why}: new findings on it will not be noticed.\n\n{}", about.place());
    let subject = format!("{label} is deployed and not scanned: {}", state.word());
    about.message(NoticeKind::ScanFailed, None, "UNSCANNED", &subject, &text, &[next.to_owned(), about.everything()])
}

/// What an exemption excuses will block soon.
pub fn exemption_ending(about: &About<'_>, ending: &[(&Finding, &Exemption)]) -> Message {
    let label = about.label();
    let first = ending.iter().map(|(_, exemption)| exemption.until).min().map(|day| day.to_string()).unwrap_or_default();
    let line =
        |(finding, exemption): &(&Finding, &Exemption)| format!("{}\n      exempt until {}: {:.200}", finding_line(finding), exemption.until, exemption.reason);
    let shown: Vec<String> = ending.iter().take(LINES).map(line).collect();
    let more = if ending.len() > LINES { format!("\n  and {} more", ending.len() - LINES) } else { String::new() };
    let text = format!(
        "{} on {label} will block after {first}, when the exemption ends.\n\n{}{more}\n\n{}",
        many(ending.len(), "finding"),
        shown.join("\n"),
        about.place()
    );
    let next = ["Rebuild with the fix and deploy that before then, or give the exemption a later day.".to_owned(), about.everything()];
    let worst = ending.iter().map(|(finding, _)| &finding.severity).max();
    about.message(NoticeKind::ExemptionEnding, worst, "PASS", &format!("An exemption ends on {first}: {label}"), &text, &next)
}

/// The event `Image Verdict Changed`, as its detail; docs/verdict-event.md says what each member means.
pub fn verdict_changed(about: &About<'_>, previous: Option<&str>, verdict: &str, judgement: Option<&Judgement<'_>>) -> Message {
    let head = about.head();
    let result = head.valid_result();
    let detail = json!({
        "schema-version": "1",
        "repository-name": head.repository.name,
        "image-digest": head.digest,
        "image-tags": head.tags,
        "verdict": verdict,
        "previous-verdict": previous,
        "policy-hash": about.policy.hash(),
        "blocking": judgement.map(|judgement| judgement.blocking.len()),
        "finding-severity-counts": judgement.map(|judgement| judgement.counts.iter().map(|(word, count)| (word.to_owned(), json!(count))).collect::<serde_json::Map<_, _>>()),
        "scan-type": head.source().map(|source| source.word()),
        "scan-state": head.state().word(),
        "scanned-at": result.map(|result| result.completed_at.to_string()),
        "indexes": head.parents,
        "stacks": about.stacks(),
    });
    let arn = head.repository.image_arn(&head.digest);
    Message { subject: None, body: detail.to_string(), attributes: vec![(Cow::Borrowed("resource"), arn)], stacks: Vec::new() }
}

/// What a decision is told of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Decided {
    pub kind: NoticeKind,
    pub verdict: String,
    /// What CloudFormation's user reads, or the reason that somebody has given.
    pub text: String,
    pub digest: Option<String>,
}

impl Decided {
    /// What people hear of a decision besides those who wait for it; nothing of what was to be expected.
    pub fn of(request: &Request, record: &Record) -> Option<Self> {
        let warns = request.gate.as_ref().is_ok_and(|gate| gate.on_unscanned == OnUnscanned::Warn);
        let kind = match (record.verdict.as_str(), record.admitted.is_some()) {
            ("BLOCK" | "UNSCANNED" | "TIMED_OUT" | "GIVEN_UP", false) => NoticeKind::DeploymentBlocked,
            ("SIGNATURE_FAILED", false) => NoticeKind::SignatureFailed,
            ("BREAK_GLASS", true) => NoticeKind::BreakGlassUsed,
            ("ROLLBACK_UNVERIFIED", true) => NoticeKind::RollbackUnverified,
            // Let through by `failOnUnsigned: false`; what its scan says besides is told of the image.
            (_, true) if record.signed.as_ref().is_some_and(|signed| !signed.verified) => NoticeKind::SignatureFailed,
            ("UNSCANNED", true) if warns => NoticeKind::ScanFailed,
            _ => return None,
        };
        let text = match (&record.admitted, &record.signed) {
            (None, _) => record.answer.reason().unwrap_or_default(),
            (Some(_), Some(signed)) if kind == NoticeKind::SignatureFailed => {
                let label = format!("{}:{}", request.named.repository, request.named.image);
                signed.images.iter().map(|image| say::verdict(&label, &image.verdict)).collect::<Vec<_>>().join("\n")
            }
            (Some(_), _) => record.why.clone(),
        };
        Some(Self { kind, verdict: record.verdict.clone(), text, digest: record.digest.as_ref().map(ToString::to_string) })
    }
}

/// A gate has refused a deployment, or let one through that it would have refused.
pub fn decided(request: &Request, decided: &Decided) -> Message {
    let (stack, repository) = (request.stack_name(), &request.named.repository);
    // Digests in full are below.
    let label = match request.named.image.as_str() {
        digest if digest.starts_with("sha256:") => format!("{repository:.256}@{digest:.19}"),
        tag => format!("{repository:.256}:{tag:.128}"),
    };
    let text = format!("{:.8000}", decided.text);
    let (subject, text, next) = match decided.kind {
        NoticeKind::BreakGlassUsed => (
            format!("The glass was broken: {label} was let into {stack}"),
            format!("{label} was let into the stack {stack} on somebody's word, whatever its scan says.\n\nReason given: {text}"),
            "Find out who, by the trail of the account (PutItem on the table of deployments), and rebuild the image.",
        ),
        NoticeKind::RollbackUnverified => (
            format!("A rollback of {stack} to {label} was not verified"),
            format!("{label} was let into the stack {stack} as a rollback, known by what it takes back: whether the stack is rolling back could not be asked."),
            "Allow the function on-deploy cloudformation:DescribeStacks on this stack.",
        ),
        NoticeKind::ScanFailed => (
            format!("{label} was deployed into {stack} without a scan"),
            format!("{label} was let into the stack {stack} by `onUnscanned: warn`: no scanner can scan it, so nobody knows what is in it."),
            "Build it on a base image that the scanner supports.",
        ),
        NoticeKind::SignatureFailed if decided.verdict == "SIGNATURE_FAILED" => (
            format!("A deployment of {stack} was blocked: {label} is not verified"),
            format!("{label} was kept out of the stack {stack}: its signature was not verified.\n\n{text}"),
            "The stack stays, or goes back to, what it was.",
        ),
        NoticeKind::SignatureFailed => (
            format!("{label} was deployed into {stack} without a signature that counts"),
            format!("{label} was let into the stack {stack} by `failOnUnsigned: false`.\n\n{text}"),
            "Sign what is deployed, and set `failOnUnsigned` back to true.",
        ),
        _ => (
            format!("A deployment of {stack} was blocked: {label} ({})", decided.verdict),
            format!("{label} was kept out of the stack {stack} ({}).\n\n{text}", decided.verdict),
            "The stack stays, or goes back to, what it was.",
        ),
    };
    let place = format!("{text}\n\nStack:     {}\nResource:  {}\nRequest:   {}", request.stack_id, request.logical_id, request.request_id);
    let attributes = [("verdict", decided.verdict.clone()), ("repository", request.named.repository.clone())];
    let digest = decided.digest.clone();
    let thread = digest.clone().unwrap_or_else(|| request.stack_key());
    let attributes = attributes.into_iter().chain(digest.map(|digest| ("digest", digest)));
    message(decided.kind, attributes, vec![stack.to_owned()], &subject, &place, &[next.to_owned()], &thread)
}

/// A message to the pipeline's topic: plain text for mail, the chat's custom notification for https.
fn message(
    kind: NoticeKind,
    attributes: impl IntoIterator<Item = (&'static str, String)>,
    stacks: Vec<String>,
    subject: &str,
    text: &str,
    next: &[String],
    thread: &str,
) -> Message {
    let plain = format!("{text}\n\n{}", next.join("\n"));
    let keywords: Vec<&str> = std::iter::once(kind.word()).chain(stacks.iter().map(String::as_str)).collect();
    let chat: Value = json!({
        "version": "1.0",
        "source": "custom",
        "content": { "textType": "client-markdown", "title": subject, "description": format!("```\n{text}\n```"), "nextSteps": next, "keywords": keywords },
        "metadata": { "threadId": thread, "summary": subject, "eventType": kind.word() },
    });
    let attributes =
        std::iter::once((Cow::Borrowed("kind"), kind.word().to_owned())).chain(attributes.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)));
    Message {
        subject: Some(in_ascii(&format!("[ecr-scan-verifier] {subject}"))),
        body: json!({ "default": plain, "email": plain, "https": chat.to_string() }).to_string(),
        attributes: attributes.collect(),
        stacks,
    }
}

fn many(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn in_ascii(text: &str) -> String {
    let plain = |char: char| if char.is_ascii() && !char.is_ascii_control() { char } else { '?' };
    if text.chars().count() <= SUBJECT { text.chars().map(plain).collect() } else { text.chars().take(SUBJECT - 3).map(plain).chain("...".chars()).collect() }
}

fn list(findings: &[&Finding]) -> String {
    let mut lines: Vec<String> = findings.iter().take(LINES).map(|finding| finding_line(finding)).collect();
    if findings.len() > LINES {
        lines.push(format!("  and {} more", findings.len() - LINES));
    }
    lines.join("\n")
}

/// A moment as people read it.
fn to_the_second(moment: &str) -> String {
    moment.parse::<jiff::Timestamp>().map_or_else(|_| moment.to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}
