//! What a gate wants written once its request has been answered: logs of the scan, an SBOM, a message to a topic of its own.
//!
//! Outputs never decide. Names, texts and forms are those of the original construct, byte for byte, so that whatever reads them
//! there finds them here; what is ours stands behind them, in metadata or in events and members of its own.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::finding::{Counts, Finding};
use super::head::Child;
use super::image::{ImageDigest, ImageRef};
use super::judge::judge;
use super::message::originals;
use super::request::{Gate, Request};
use super::scan::{Facts, FactsHash, ScanSource};
use super::signature::standing::Signed;

/// CloudWatch Logs takes a batch of so many bytes, counting 26 more for each event in it.
const BATCH_BYTES: usize = 1_048_576;
const EVENT_BYTES: usize = 26;
/// Room for `[part 1000/1000] `.
const PART_MARK: usize = 24;

/// What a gate wants written, and by whose leave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Outputs {
    /// The role that may write it, and nothing else.
    pub role_arn: String,
    pub logs: Option<LogsTo>,
    pub layout: Layout,
    /// Where the functions log to, when the user has chosen that.
    #[serde(default)]
    pub function_logs: Option<String>,
    pub sbom: Option<SbomTo>,
    pub topic_arn: Option<String>,
    /// Whether nothing is let through whose logs or SBOM cannot be written, as the original construct had it. Then they are
    /// written before the answer.
    #[serde(default)]
    pub strict: bool,
}

/// The role that writes, and the stack that has made it: it is taken over in the name of that stack alone, so that no gate gets
/// at what another stack's gates may write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Role {
    pub arn: String,
    pub of_stack: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LogsTo {
    CloudWatch { group: String },
    S3 { bucket: String, prefix: String },
}

/// How streams and objects are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Layout {
    /// By tag, as the original construct does: two repositories can share a name.
    #[default]
    Tag,
    /// By digest: no two images share a name.
    Digest,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SbomTo {
    pub format: SbomFormat,
    pub bucket: String,
    pub prefix: String,
    /// A customer managed key: Inspector takes no other.
    pub key_arn: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SbomFormat {
    CycloneDx14,
    Spdx23,
}

impl SbomFormat {
    /// The word of a template, and of Inspector.
    pub fn word(self) -> &'static str {
        match self {
            Self::CycloneDx14 => "CYCLONEDX_1_4",
            Self::Spdx23 => "SPDX_2_3",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        [Self::CycloneDx14, Self::Spdx23].into_iter().find(|format| format.word() == word)
    }

    fn file(self) -> &'static str {
        match self {
            Self::CycloneDx14 => "sbom.cyclonedx.json",
            Self::Spdx23 => "sbom.spdx.json",
        }
    }
}

/// What a decision rested on, kept with the request for whoever writes its outputs: these very findings, not later ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Told {
    /// The digest in the template.
    pub digest: ImageDigest,
    /// The images that were judged, in the order of the index.
    pub images: Vec<Scanned>,
    pub verdict: String,
    pub decided_at: Timestamp,
    /// Whether the request had waited, so that on-scan has decided, and the summary is in its log.
    pub has_waited: bool,
    /// The original construct's lines about what blocks, where something does.
    pub objection: Option<String>,
    /// Who has signed it, where that was asked.
    #[serde(default)]
    pub signature: Option<SignatureTold>,
    /// Whether no scan was judged: for its signature it was refused, or let through.
    #[serde(default)]
    pub by_signature_alone: bool,
}

impl Told {
    pub fn objects_to_the_signature(&self) -> bool {
        self.signature.as_ref().is_some_and(|signature| signature.objection.is_some())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SignatureTold {
    pub signed: Signed,
    /// In a sentence.
    pub message: String,
    /// What the gate's topic is told, where it is not signed as asked.
    pub objection: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scanned {
    pub image: Child,
    pub source: ScanSource,
    pub status: String,
    pub completed_at: Timestamp,
    /// What counts, as far as the decision knew it.
    pub counts: Counts,
    pub facts: FactsHash,
}

/// How far the outputs of a request are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Progress {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<Settled>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sbom: Option<Settled>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Settled>,
    /// The message about a signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature_message: Option<Settled>,
    /// An export that Inspector has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<Export>,
    /// What could not be written at the last try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// An output that nobody works on any more: it is where `what` says, or that is what kept it from being written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settled {
    pub is_written: bool,
    pub what: String,
}

impl Settled {
    pub fn written(what: impl Into<String>) -> Self {
        Self { is_written: true, what: what.into() }
    }

    pub fn not_written(why: impl Into<String>) -> Self {
        Self { is_written: false, what: why.into() }
    }
}

impl Progress {
    /// Whether nothing is left to do.
    pub fn is_settled(&self, wanted: &Outputs, told: &Told) -> bool {
        let is_told = self.message.is_some() && (self.signature_message.is_some() || !told.objects_to_the_signature());
        self.is_settled_for_the_answer(wanted) && (is_told || wanted.topic_arn.is_none())
    }

    /// Whether what a strict gate waits for is settled: a message is for others, and never was a condition.
    pub fn is_settled_for_the_answer(&self, wanted: &Outputs) -> bool {
        self.logs.is_some() && (self.sbom.is_some() || wanted.sbom.is_none())
    }

    /// What was wanted and is not there, and will not come.
    pub fn given_up(&self) -> Option<&str> {
        [&self.logs, &self.sbom, &self.signature_message, &self.message]
            .into_iter()
            .flatten()
            .find(|settled| !settled.is_written)
            .map(|settled| settled.what.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Export {
    pub report_id: String,
    pub since: Timestamp,
}

/// One text to be written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Log {
    /// To a stream: events in their order, each in a batch of its own.
    Stream {
        group: String,
        stream: String,
        events: Vec<String>,
        at: Timestamp,
    },
    Object {
        bucket: String,
        key: String,
        content_type: &'static str,
        body: String,
        digest: ImageDigest,
    },
}

/// Always as many digits, in this form: names that sort by time, and that are the original construct's.
fn in_milliseconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

fn fenced(lines: &[String]) -> String {
    format!("\n\nHow to view logs:\n{}", lines.join("\n"))
}

fn tail(group: &str, stream: Option<String>) -> String {
    let stream = stream.map(|stream| format!(" --log-stream-names {stream}")).unwrap_or_default();
    format!("```\naws logs tail {group}{stream} --since 1h\n```")
}

/// Where the findings of an image are, as they were judged; `None`: they are not stored any more.
pub type Found<'a> = (&'a Scanned, Option<&'a Facts>);

/// One request's outputs, named and worded.
pub struct Writer<'a> {
    pub request: &'a Request,
    pub gate: &'a Gate,
    pub outputs: &'a Outputs,
    pub told: &'a Told,
    /// The pipeline's name, by which the log groups of its functions are called.
    pub pipeline: &'a str,
}

/// The summary of a decision from what it knew, for the log of the function that has decided.
pub fn summary_of(request: &Request, told: &Told) -> Option<String> {
    let gate = request.gate.as_ref().ok()?;
    if told.by_signature_alone {
        return None;
    }
    let found: Vec<Found<'_>> = told.images.iter().map(|scanned| (scanned, None)).collect();
    Some(Writer { request, gate, outputs: &Outputs::default(), told, pipeline: "" }.summary(&found))
}

/// What became of the signature, in the original construct's members, then ours.
pub fn signature_text(told: &Told) -> Option<String> {
    let signature = told.signature.as_ref()?;
    let text = json!({
        "verified": signature.signed.verified,
        "message": signature.message,
        "verificationType": signature.signed.kind,
        "timestamp": in_milliseconds(told.decided_at),
        "imageDigest": told.digest,
        "images": signature.signed.images,
    });
    Some(serde_json::to_string_pretty(&text).expect("texts are JSON"))
}

impl Writer<'_> {
    /// The log of the signature, then those of the scan, the findings first.
    pub fn logs(&self, found: &[Found<'_>]) -> Vec<Log> {
        let Some(to) = &self.outputs.logs else { return Vec::new() };
        let object = |bucket: &String, key: String, content_type, body| Log::Object {
            bucket: bucket.clone(),
            key,
            content_type,
            body,
            digest: self.told.digest.clone(),
        };
        // The digest is an event of its own: the ones behind it stay what the original construct writes.
        let stream = |group: &String, name: &str, text: &str| {
            let events = std::iter::once(format!("{}@{}", self.gate.repository.name, self.told.digest)).chain(parts(text)).collect();
            Log::Stream { group: group.clone(), stream: self.stream(name), events, at: self.told.decided_at }
        };
        let mut logs = Vec::new();
        if let Some(text) = signature_text(self.told) {
            logs.push(match to {
                LogsTo::CloudWatch { group } => {
                    let events = std::iter::once(format!("{}@{}", self.gate.repository.name, self.told.digest)).chain(parts(&text)).collect();
                    Log::Stream { group: group.clone(), stream: self.signature_stream(), events, at: self.told.decided_at }
                }
                LogsTo::S3 { bucket, prefix } => object(bucket, self.signature_key(prefix), "application/json", text),
            });
        }
        if self.told.by_signature_alone {
            return logs;
        }
        let (findings, summary) = (self.findings(found), self.summary(found));
        logs.extend(match to {
            LogsTo::CloudWatch { group } => [stream(group, "findings", &findings), stream(group, "summary", &summary)],
            LogsTo::S3 { bucket, prefix } => [
                object(bucket, self.key(prefix, "findings.json"), "application/json", findings),
                object(bucket, self.key(prefix, "summary.txt"), "text/plain", summary),
            ],
        });
        logs
    }

    /// The original construct puts it elsewhere than the scan's logs, by names of another form.
    fn signature_key(&self, prefix: &str) -> String {
        match self.outputs.layout {
            Layout::Tag => {
                let Gate { repository, image, .. } = self.gate;
                format!("{prefix}signature-verification/{}/{image}/{}.json", repository.name, in_milliseconds(self.told.decided_at))
            }
            Layout::Digest => self.key(prefix, "signature-verification.json"),
        }
    }

    fn signature_stream(&self) -> String {
        match self.outputs.layout {
            Layout::Tag => {
                let label = format!("{}/{}", self.gate.repository.name, self.gate.image).replace(':', ",").replace('/', "_");
                format!("{label}/signature-verification")
            }
            Layout::Digest => self.stream("signature-verification"),
        }
    }

    /// Where the SBOM is put: beside the logs where they are in S3, else into its own bucket.
    pub fn sbom_place(&self, sbom: &SbomTo) -> (String, String) {
        let (bucket, prefix) = match &self.outputs.logs {
            Some(LogsTo::S3 { bucket, prefix }) => (bucket, prefix),
            _ => (&sbom.bucket, &sbom.prefix),
        };
        (bucket.clone(), self.key(prefix, sbom.format.file()))
    }

    /// Where Inspector writes it first: nobody else's export comes there.
    pub fn export_prefix(&self, sbom: &SbomTo) -> String {
        format!("{}sbom-exports/{}/{}", sbom.prefix, self.gate.repository.name, self.request.request_id)
    }

    /// What people read of the scan and what came of it.
    pub fn summary(&self, found: &[Found<'_>]) -> String {
        let tag = &self.gate.image;
        let mut text = String::new();
        if found.is_empty() {
            // Let through by `onUnscanned`.
            let (repository, verdict) = (&self.gate.repository.name, &self.told.verdict);
            return format!(
                "=== ECR Image Scan Results ===\nRepository: {repository}\nImage: {tag}\nNo scan result.\n\n--- Verdict ---\n{verdict}\n{}",
                self.told.digest
            );
        }
        for (scanned, facts) in found {
            let judgement = facts.map(|facts| judge(facts.findings(), &self.gate.policy, &self.gate.repository.name, self.told.decided_at));
            let counts = match originals(judgement.as_ref().map_or(&scanned.counts, |judgement| &judgement.counts)) {
                none if none.is_empty() => "No vulnerabilities found.".to_owned(),
                counts => counts,
            };
            // Without what Inspector's coverage says besides, where that was asked.
            let status = scanned.status.split(',').next().unwrap_or_default();
            let gap = if text.is_empty() { "" } else { "\n\n" };
            let _ = write!(
                text,
                "{gap}=== ECR Image Scan Results ===\nRepository: {}\nImage: {tag}\nScan Type: {}\nScan Status: {}\n\n--- Severity Summary ---\n{counts}\n\n--- Verdict ---\n{}\n{}",
                self.gate.repository.name, scanned.source, status, self.told.verdict, scanned.image,
            );
            let _ = write!(text, "\nScanned: {}\nPolicy: {}", scanned.completed_at, self.gate.policy.severity);
            if let Some(judgement) = &judgement {
                let unused = judgement.unused_ignores.join(", ");
                for (what, count) in [
                    ("Blocking", judgement.blocking.len()),
                    ("Ignored", judgement.ignored.len()),
                    ("Exempt", judgement.exempt.len()),
                    ("Suppressed or closed", judgement.suppressed.len()),
                    ("Without a rating", judgement.unrated().count()),
                ] {
                    if count > 0 {
                        let _ = write!(text, "\n{what}: {count}");
                    }
                }
                if !unused.is_empty() {
                    let _ = write!(text, "\nIgnores that nothing matches: {unused}");
                }
            }
        }
        text
    }

    /// The findings as ECR names their members, ignored ones included, each with what became of it.
    fn findings(&self, found: &[Found<'_>]) -> String {
        let mut list = Vec::new();
        for (scanned, facts) in found {
            let Some(facts) = facts else { continue };
            let judgement = judge(facts.findings(), &self.gate.policy, &self.gate.repository.name, self.told.decided_at);
            // By their places in the list: searching each time would take the square of 20,000 steps.
            let place = |finding: &Finding| std::ptr::from_ref(finding);
            let blocking: HashSet<_> = judgement.blocking.iter().map(|finding| place(finding)).collect();
            let ignored: HashMap<_, _> = judgement.ignored.iter().map(|ignored| (place(ignored.finding), ignored.by)).collect();
            let exempt: HashMap<_, _> = judgement.exempt.iter().map(|(finding, by)| (place(finding), by)).collect();
            for finding in facts.findings() {
                let mut ours = json!({ "imageDigest": scanned.image.digest, "blocks": blocking.contains(&place(finding)) });
                if !scanned.image.platform.is_empty() {
                    ours["platform"] = json!(scanned.image.platform);
                }
                if let Some(by) = ignored.get(&place(finding)) {
                    ours["ignoredBy"] = json!(by);
                }
                if let Some(exemption) = exempt.get(&place(finding)) {
                    ours["exempt"] = json!({ "reason": exemption.reason, "until": exemption.until.to_string() });
                }
                let mut entry = match scanned.source {
                    ScanSource::Basic => basic(finding),
                    ScanSource::Enhanced => enhanced(finding),
                };
                entry["ecrScanVerifier"] = ours;
                list.push(entry);
            }
        }
        serde_json::to_string_pretty(&list).expect("texts are JSON")
    }

    /// The key of an object, under a prefix that ends in `/` or is empty.
    fn key(&self, prefix: &str, name: &str) -> String {
        let folder = match self.outputs.layout {
            Layout::Tag => self.gate.label().replace([':', '/'], "_"),
            Layout::Digest => format!("{}/{}", self.gate.repository.name, hex(&self.told.digest)),
        };
        format!("{prefix}{folder}/{}/{name}", in_milliseconds(self.told.decided_at))
    }

    fn stream(&self, name: &str) -> String {
        match self.outputs.layout {
            Layout::Tag => format!("{}/{name}", self.gate.label().replace(':', ",").replace('/', "_")),
            Layout::Digest => format!("{}/{}/{name}", self.gate.repository.name, hex(&self.told.digest)),
        }
    }

    /// The message to the gate's own topic, if something blocks.
    pub fn message(&self) -> Option<Message> {
        let text = self.told.objection.as_ref()?;
        Some(self.alarm("Vulnerability Alert", text, &self.logs_info(), "vulnerabilities-found", &self.told.verdict))
    }

    /// The same, if it is not signed as asked, let through or not.
    pub fn signature_message(&self) -> Option<Message> {
        let text = self.told.signature.as_ref()?.objection.as_ref()?;
        Some(self.alarm("Signature Alert", text, &self.signature_logs_info(), "signature-failed", "SIGNATURE_FAILED"))
    }

    /// Whatever it is about, it has the original construct's opening.
    fn alarm(&self, title: &str, text: &str, logs: &str, kind: &str, verdict: &str) -> Message {
        let label = self.gate.label();
        let plain = format!("Ecr Scan Verifier detected vulnerabilities in {label}\n\n{logs}\n\n{text}");
        let https = json!({
            "version": "1.0",
            "source": "custom",
            "content": {
                "title": format!("Ecr Scan Verifier - {title}"),
                "description": format!("## Scanned Image\n{label}\n\n## Scan Logs\n{logs}\n\n## Details\n{text}"),
            },
        });
        let body = json!({ "default": plain, "email": plain, "https": https.to_string() }).to_string();
        let tag = match &self.gate.image {
            ImageRef::Tag(tag) => Some(("tag", tag.clone())),
            ImageRef::Digest(_) => None,
        };
        let attributes = [
            ("kind", kind.to_owned()),
            ("verdict", verdict.to_owned()),
            ("repository", self.gate.repository.name.clone()),
            ("digest", self.told.digest.to_string()),
            ("stack", self.request.stack_name().to_owned()),
        ];
        let attributes = attributes.into_iter().chain(tag).map(|(name, value)| (Cow::Borrowed(name), value));
        Message { subject: None, body, attributes: attributes.collect(), stacks: Vec::new() }
    }

    /// Where the log of the signature is, and the command that shows it.
    fn signature_logs_info(&self) -> String {
        match &self.outputs.logs {
            None => self.function_logs_info(),
            Some(LogsTo::CloudWatch { group }) => {
                let stream = self.signature_stream();
                let place = format!("CloudWatch Logs:\n  Log Group: {group}\n  Signature Stream: {stream}");
                place + &fenced(&[format!("- View signature verification:\n{}", tail(group, Some(stream)))])
            }
            Some(LogsTo::S3 { bucket, prefix }) => {
                let key = self.signature_key(prefix);
                let view = format!("- View signature verification:\n```\naws s3 cp s3://{bucket}/{key} -\n```");
                format!("S3:\n  Bucket: {bucket}\n  signature: s3://{bucket}/{key}{}", fenced(&[view]))
            }
        }
    }

    /// Where the function logs that has decided.
    fn function_logs_info(&self) -> String {
        let of = |function: &str| format!("/aws/lambda/ecr-scan-verifier-{}-{function}", self.pipeline);
        // The template names the group of on-deploy, unless the user has chosen one for all.
        let chosen = self.outputs.function_logs.clone().filter(|group| *group != of("on-deploy"));
        let group = chosen.unwrap_or_else(|| of(if self.told.has_waited { "on-scan" } else { "on-deploy" }));
        format!("CloudWatch Logs:\n  Log Group: {group}{}", fenced(&[tail(&group, None)]))
    }

    /// Where the logs are, and the commands that show them.
    fn logs_info(&self) -> String {
        match &self.outputs.logs {
            None => self.function_logs_info(),
            Some(LogsTo::CloudWatch { group }) => {
                let (findings, summary) = (self.stream("findings"), self.stream("summary"));
                let place = format!("CloudWatch Logs:\n  Log Group: {group}\n  Findings Stream: {findings}\n  Summary Stream: {summary}");
                let lines = [format!("- View findings:\n{}", tail(group, Some(findings))), format!("- View summary:\n{}", tail(group, Some(summary)))];
                place + &fenced(&lines)
            }
            Some(LogsTo::S3 { bucket, prefix }) => {
                let mut files = vec![("findings", self.key(prefix, "findings.json")), ("summary", self.key(prefix, "summary.txt"))];
                files.extend(self.outputs.sbom.as_ref().map(|sbom| ("SBOM", self.sbom_place(sbom).1)));
                let places: String = files.iter().map(|(name, key)| format!("\n  {name}: s3://{bucket}/{key}")).collect();
                let view: Vec<String> = files.iter().map(|(name, key)| format!("- View {name}:\n```\naws s3 cp s3://{bucket}/{key} -\n```")).collect();
                format!("S3:\n  Bucket: {bucket}{places}{}", fenced(&view))
            }
        }
    }
}

/// A message for a topic: a body with a text for each protocol, and what subscribers can filter by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    pub subject: Option<String>,
    pub body: String,
    pub attributes: Vec<(Cow<'static, str>, String)>,
    /// Names of stacks, for a filter that looks for one of them.
    #[serde(default)]
    pub stacks: Vec<String>,
}

fn hex(digest: &ImageDigest) -> &str {
    digest.as_str().trim_start_matches("sha256:")
}

fn basic(finding: &Finding) -> Value {
    let attributes = finding.packages.iter().flat_map(|package| {
        let version = package.version.as_ref().map(|version| json!({ "key": "package_version", "value": version }));
        version.into_iter().chain([json!({ "key": "package_name", "value": package.name })])
    });
    json!({ "name": finding.id, "severity": finding.severity.word(), "attributes": attributes.collect::<Vec<_>>() })
}

fn enhanced(finding: &Finding) -> Value {
    let packages = finding.packages.iter().map(|package| {
        let mut entry = json!({ "name": package.name });
        for (name, value) in [("version", &package.version), ("fixedInVersion", &package.fixed_in)] {
            if let Some(value) = value {
                entry[name] = json!(value);
            }
        }
        entry
    });
    let mut entry = json!({
        "severity": finding.severity.word(),
        "status": finding.status,
        "packageVulnerabilityDetails": { "vulnerabilityId": finding.id, "vulnerablePackages": packages.collect::<Vec<_>>() },
    });
    if let Some(arn) = &finding.arn {
        entry["findingArn"] = json!(arn);
    }
    if let Some(fix) = finding.fix {
        entry["fixAvailable"] = json!(fix);
    }
    if let Some(exploit) = finding.exploit {
        entry["exploitAvailable"] = json!(if exploit { "YES" } else { "NO" });
    }
    if let Some(first_seen) = finding.first_seen {
        entry["firstObservedAt"] = json!(first_seen.to_string());
    }
    if let Some(epss) = finding.epss {
        entry["epss"] = json!({ "score": epss.to_string().parse::<f64>().unwrap_or_default() });
    }
    entry
}

/// A text as events that fit into a batch each: whole where it can be, else cut after a line, else between two characters.
pub fn parts(text: &str) -> Vec<String> {
    let most = BATCH_BYTES - EVENT_BYTES;
    if text.len() <= most {
        return vec![text.to_owned()];
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.len().min(most - PART_MARK);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        if end < rest.len() {
            end = rest[..end].rfind('\n').map_or(end, |line| line + 1);
        }
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
    let of = pieces.len();
    pieces.iter().enumerate().map(|(n, piece)| format!("[part {}/{of}] {piece}", n + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_fits_is_one_event() {
        let text = "x".repeat(BATCH_BYTES - EVENT_BYTES);
        assert_eq!(parts(&text), std::slice::from_ref(&text));
    }

    #[test]
    fn a_text_that_does_not_fit_is_cut_and_nothing_of_it_is_lost() {
        let whole = |parts: &[String]| parts.iter().map(|part| part.split_once("] ").unwrap().1).collect::<String>();
        for text in ["x".repeat(3 * BATCH_BYTES), "a line of some length\n".repeat(100_000), "☃🦀".repeat(400_000), "x".repeat(BATCH_BYTES - EVENT_BYTES + 1)]
        {
            let parts = parts(&text);
            assert!(parts.len() > 1 && parts.iter().all(|part| part.len() + EVENT_BYTES <= BATCH_BYTES));
            assert!(parts[0].starts_with(&format!("[part 1/{}] ", parts.len())));
            assert_eq!(whole(&parts), text);
            if text.contains('\n') {
                assert!(parts[0].ends_with('\n'), "cut after a line");
            }
        }
    }
}
