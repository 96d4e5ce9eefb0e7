//! `ecr-scan-verifier history`: what was decided about one image, or in one stack, newest first: the verdict, why, by which policy,
//! and what was known of the image then.
//!
//! Read from two indexes of the Deployments table (`dynamodb:Query` on `decisions-by-digest` and `decisions-by-stack`) and from the
//! rows that keep the policies' texts (`dynamodb:GetItem` on the table). Of an index, its own digest has the history, and not that
//! of one of its images. Exit 0: there is some; 3: there is none; 1: a usage error, or could not look.

use serde::Serialize;

use super::Format;
#[cfg(feature = "aws")]
use super::Outcome;
use super::named::Named;
#[cfg(feature = "aws")]
use crate::aws::Aws;
use crate::domain::finding::Counts;
use crate::domain::history::{Decision, Subject};
use crate::domain::image::ImageRef;
use crate::domain::outputs::{Progress, Scanned, Settled};
use crate::domain::policy::Policy;
use crate::domain::signature::say;
use crate::domain::signature::standing::{Signed, SignedImage};

#[cfg(feature = "aws")]
const NOTHING_DECIDED: u8 = 3;

/// A digest, or a stack by its name or ARN.
pub fn subject(text: &str) -> Result<Subject, String> {
    let bad = |why: &str| format!("`{text}` {why}; give sha256:..., REPOSITORY@sha256:..., a stack's name or a stack's ARN");
    if text.starts_with("sha256:") || text.contains("@sha256:") {
        let named = Named::parse(text)?;
        return match named.image {
            ImageRef::Digest(digest) => Ok(Subject::Image { digest, repository: named.repository }),
            ImageRef::Tag(_) => Err(bad("is no digest")),
        };
    }
    if text.starts_with("arn:") {
        let is_stack = matches!(text.split(':').collect::<Vec<_>>().as_slice(), ["arn", _, "cloudformation", _, _, stack] if stack.starts_with("stack/") && stack.split('/').count() == 3);
        return if is_stack { Ok(Subject::Stack(text.to_owned())) } else { Err(bad("is not the ARN of a stack")) };
    }
    if text.contains([':', '/', '@']) {
        return Err(bad("names an image by its tag, which can have named others before"));
    }
    let is_name = text.len() <= 128 && text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if is_name { Ok(Subject::StackName(text.to_owned())) } else { Err(bad("is no name of a stack")) }
}

#[cfg(feature = "aws")]
pub async fn history(aws: &Aws, subject: &Subject, limit: usize, format: Format) -> Outcome {
    let pipeline = &aws.settings.pipeline;
    match aws.deployments.decisions(subject, limit).await {
        Err(why) => Outcome::failed(format!("history: {}\n", why.text)),
        Ok(decisions) if decisions.is_empty() => Outcome {
            stdout: if format == Format::Json { shown(pipeline, &[], format) } else { String::new() },
            stderr: format!("history: nothing is recorded of it in pipeline {pipeline}. (Of an image in an index, ask for the index.)\n"),
            exit: NOTHING_DECIDED,
        },
        Ok(decisions) => Outcome::said(shown(pipeline, &decisions, format), 0),
    }
}

/// As it is printed.
pub fn shown(pipeline: &str, decisions: &[Decision], format: Format) -> String {
    match format {
        Format::Text => decisions.iter().map(in_words).collect::<Vec<_>>().join("\n"),
        Format::Json => {
            let report = Report { schema_version: 1, pipeline, decisions: decisions.iter().map(DecisionReport::of).collect() };
            serde_json::to_string_pretty(&report).expect("texts and numbers are JSON") + "\n"
        }
    }
}

fn in_words(decision: &Decision) -> String {
    let at = decision.at.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_else(|| "at an unknown time".to_owned());
    let mut lines = vec![format!("{at}  {}  {}:{}", decision.verdict, decision.repository, decision.image)];
    let mut say = |what: &str, text: String| lines.push(format!("  {what:<12} {text}"));
    say("stack", format!("{} ({})", decision.stack_name(), decision.logical_id));
    if let Some(digest) = &decision.digest {
        say("digest", digest.clone());
    }
    if !decision.why.is_empty() {
        say("why", decision.why.clone());
    }
    if let Some(hash) = &decision.policy_hash {
        let severity = decision.policy.as_ref().and_then(|policy| Policy::parse(policy).ok()).map(|policy| format!("{}, ", policy.severity));
        say("policy", format!("{}{hash}", severity.unwrap_or_default()));
    }
    for scanned in &decision.known {
        let counts = if scanned.counts.is_empty() { "none".to_owned() } else { scanned.counts.to_string() };
        let Scanned { image, source, completed_at, .. } = scanned;
        // Of an index it matters which of its images.
        let which = if decision.known.len() > 1 || !image.platform.is_empty() { format!("{image}: ") } else { String::new() };
        say("known", format!("{which}scanned by {source} at {completed_at}, findings: {counts}"));
    }
    for SignedImage { digest, verdict } in decision.signed.iter().flat_map(|signed| &signed.images) {
        let image = format!("{}@{:.19}", decision.repository, digest.as_str());
        say("signature", say::verdict(&image, verdict).replace('\n', " "));
    }
    for output in decision.outputs.iter().flat_map(outputs) {
        say(output.output, format!("{}{}", if output.written { "" } else { "not written: " }, output.what));
    }
    lines.join("\n") + "\n"
}

fn outputs<'a>(progress: &'a Progress) -> Vec<OutputReport<'a>> {
    let all = [("logs", &progress.logs), ("sbom", &progress.sbom), ("message", &progress.message), ("signature message", &progress.signature_message)];
    let report = |(output, settled): (&'static str, &'a Settled)| OutputReport { output, written: settled.is_written, what: &settled.what };
    all.into_iter().filter_map(|(output, settled)| settled.as_ref().map(|settled| (output, settled))).map(report).collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    schema_version: u32,
    pipeline: &'a str,
    decisions: Vec<DecisionReport<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DecisionReport<'a> {
    at: Option<String>,
    stack: &'a str,
    stack_name: &'a str,
    logical_id: &'a str,
    request_id: &'a str,
    repository: &'a str,
    image: &'a str,
    digest: Option<&'a str>,
    verdict: &'a str,
    why: &'a str,
    policy_hash: Option<&'a str>,
    policy: Option<&'a str>,
    known: Vec<KnownReport<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed: Option<&'a Signed>,
    outputs: Vec<OutputReport<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KnownReport<'a> {
    digest: &'a str,
    platform: &'a str,
    source: &'static str,
    completed_at: String,
    counts: &'a Counts,
    facts: &'a str,
}

#[derive(Serialize)]
struct OutputReport<'a> {
    output: &'static str,
    written: bool,
    what: &'a str,
}

impl<'a> DecisionReport<'a> {
    fn of(decision: &'a Decision) -> Self {
        let known = |scanned: &'a Scanned| KnownReport {
            digest: scanned.image.digest.as_str(),
            platform: &scanned.image.platform,
            source: scanned.source.word(),
            completed_at: scanned.completed_at.to_string(),
            counts: &scanned.counts,
            facts: scanned.facts.as_str(),
        };
        Self {
            at: decision.at.map(|at| at.to_string()),
            stack: &decision.stack,
            stack_name: decision.stack_name(),
            logical_id: &decision.logical_id,
            request_id: &decision.request_id,
            repository: &decision.repository,
            image: &decision.image,
            digest: decision.digest.as_deref(),
            verdict: &decision.verdict,
            why: &decision.why,
            policy_hash: decision.policy_hash.as_deref(),
            policy: decision.policy.as_deref(),
            known: decision.known.iter().map(known).collect(),
            signed: decision.signed.as_ref(),
            outputs: decision.outputs.iter().flat_map(outputs).collect(),
        }
    }
}
