//! `ecr-scan-verifier judge`: judges a saved answer of a scanner, offline, as the gate would.
//!
//! Two answers are understood: DescribeImageScanFindings (basic or enhanced) and Inspector's ListFindings, as the AWS CLI
//! prints them. The second proves no scan, so it can block and never pass. Anything else, also these two inside something
//! else, is unreadable: a wrapper that we guess at might have left findings out.
//!
//! Exit 0 pass, 2 blocked, 3 no verdict (incomplete, and nothing blocks), 1 unreadable.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Format, Outcome};
use crate::domain::finding::{Counts, Epss, Finding, FindingStatus, Fix, Package, Rating, yes_or_no};
use crate::domain::judge::{Judgement, judge};
use crate::domain::message::finding_line;
use crate::domain::policy::{Exemption, Policy};
use crate::domain::scan::{Answer, Answered, Report, ScanSource, ScanState, Standing, Status, understand};

const PASS: u8 = 0;
const BLOCKED: u8 = 2;
const NO_VERDICT: u8 = 3;

/// Why a file is not an answer that can be judged. Names the member and the reason; the way out is the same for all.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("this is not JSON: {0}")]
    NotJson(String),
    #[error("this is neither an answer of `aws ecr describe-image-scan-findings` nor one of `aws inspector2 list-findings`{0}")]
    OtherShape(&'static str),
    #[error("`{0}` is missing")]
    Missing(String),
    #[error("`{0}` is not {1}")]
    Wrong(String, &'static str),
}

/// Judges the bytes of a saved answer.
/// `repository` and `now` matter to exemptions and graces alone.
pub fn judge_file(input: &[u8], policy: &Policy, repository: &str, now: Timestamp, format: Format) -> Outcome {
    match read(input) {
        Ok(saved) if saved.source == Some(ScanSource::Basic) && !policy.needs_inspector().is_empty() => Outcome::failed(format!(
            "judge: the policy's `{}` needs what basic scanning does not say. Judge the answer of an enhanced scan, or take it out.\n",
            policy.needs_inspector().join("`, `")
        )),
        Ok(saved) => saved.judged(policy, repository, now, format),
        Err(error) => Outcome::failed(format!("judge: {error}. Save the answer as the AWS CLI prints it (`--output json`), whole, and judge that file.\n")),
    }
}

/// A saved answer: what was listed, and how far it proves a scan.
struct Saved {
    findings: Vec<Finding>,
    state: ScanState,
    source: Option<ScanSource>,
    status: Option<String>,
    completed_at: Option<String>,
    stated_counts: Option<Counts>,
    /// What keeps it from being complete, where the state alone does not say it.
    note: Option<&'static str>,
}

fn read(input: &[u8]) -> Result<Saved, Unreadable> {
    // Windows saves files with a mark in front that is no part of the JSON.
    let input = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    let value: Value = serde_json::from_slice(input).map_err(|error| Unreadable::NotJson(error.to_string()))?;
    let Value::Object(members) = value else { return Err(Unreadable::OtherShape("")) };
    let has = |member: &str| members.contains_key(member);
    if has("imageScanStatus") || has("imageScanFindings") {
        described(&members)
    } else if members.get("findings").is_some_and(Value::is_array)
        && members.keys().all(|key| ["findings", "nextToken", "NextToken", "ResponseMetadata"].contains(&key.as_str()))
    {
        listed(&members)
    } else if has("data") || has("body") || has("Findings") {
        Err(Unreadable::OtherShape(": it looks like such an answer inside something else"))
    } else {
        Err(Unreadable::OtherShape(""))
    }
}

/// DescribeImageScanFindings.
fn described(members: &Map<String, Value>) -> Result<Saved, Unreadable> {
    let status = optional_object(members, "imageScanStatus", "imageScanStatus")?;
    let word = status.map(|status| optional_text(status, "status", "imageScanStatus.status")).transpose()?.flatten();
    let description = status.map(|status| optional_text(status, "description", "imageScanStatus.description")).transpose()?.flatten();
    let body = optional_object(members, "imageScanFindings", "imageScanFindings")?;
    let finished = matches!(Status::parse(word), Status::Complete | Status::Active);
    if body.is_none() && (finished || word.is_none()) {
        return Err(Unreadable::Missing(if finished { "imageScanFindings" } else { "imageScanStatus.status" }.to_owned()));
    }
    let empty = Map::new();
    let body = body.unwrap_or(&empty);
    let basic = optional_list(body, "findings", "imageScanFindings.findings")?;
    let enhanced = optional_list(body, "enhancedFindings", "imageScanFindings.enhancedFindings")?;
    if finished && basic.is_none() && enhanced.is_none() {
        // A list that is missing is not a list without findings.
        return Err(Unreadable::Missing("imageScanFindings.findings` or `imageScanFindings.enhancedFindings".to_owned()));
    }
    let completed = body.get("imageScanCompletedAt").filter(|at| !at.is_null());
    let completed_at = completed.map(|at| time(at).ok_or(Unreadable::Wrong("imageScanFindings.imageScanCompletedAt".into(), "a time"))).transpose()?;
    let stated_counts = optional_object(body, "findingSeverityCounts", "imageScanFindings.findingSeverityCounts")?.map(counts).transpose()?;
    let mut findings = Vec::new();
    for (n, finding) in basic.into_iter().flatten().enumerate() {
        findings.push(basic_finding(finding, &format!("imageScanFindings.findings[{n}]"))?);
    }
    for (n, finding) in enhanced.into_iter().flatten().enumerate() {
        findings.push(inspectors_finding(finding, &format!("imageScanFindings.enhancedFindings[{n}]"))?);
    }
    // The registry cannot be asked here, so the file has to tell: only Inspector has that list, and that status.
    let source = match (basic, enhanced, Status::parse(word)) {
        (_, Some(_), _) | (_, _, Status::Active) => Some(ScanSource::Enhanced),
        (Some(_), None, _) => Some(ScanSource::Basic),
        (None, None, _) => None,
    };
    let more = next_token(members);
    let report = Report {
        status: word.map(str::to_owned),
        description: description.map(str::to_owned),
        completed_at,
        stated_counts: stated_counts.clone(),
        listed: basic.is_some() || enhanced.is_some(),
        has_enhanced_findings: enhanced.is_some_and(|list| !list.is_empty()),
        has_basic_findings: basic.is_some_and(|list| !list.is_empty()),
        findings: findings.clone(),
        more,
        says_epss: false,
    };
    let answer = Answer {
        source: source.unwrap_or(ScanSource::Basic),
        what: Answered::Findings(report),
        coverage: None,
        pushed_at: None,
        // When the file was saved is not known: after everything that it says.
        read_at: Timestamp::MAX,
    };
    let reading = understand(answer);
    let note = match (&reading.state, more) {
        (_, true) => Some("the file is one page of several (nextToken): save all of them together"),
        (ScanState::Running, false) if finished && completed_at.is_none() => Some("the answer has no completed time"),
        _ => None,
    };
    Ok(Saved {
        findings,
        state: reading.state,
        source,
        status: word.map(str::to_owned),
        completed_at: completed_at.map(|at| at.to_string()),
        stated_counts,
        note,
    })
}

/// Inspector's ListFindings: findings of images among those of other things. It says nothing of images without findings.
fn listed(members: &Map<String, Value>) -> Result<Saved, Unreadable> {
    let mut findings = Vec::new();
    for (n, finding) in optional_list(members, "findings", "findings")?.into_iter().flatten().enumerate() {
        let place = format!("findings[{n}]");
        let object = finding.as_object().ok_or_else(|| Unreadable::Wrong(place.clone(), "an object"))?;
        let resources = optional_list(object, "resources", &format!("{place}.resources"))?.ok_or_else(|| Unreadable::Missing(format!("{place}.resources")))?;
        let is_image = |resource: &Value| resource.get("type").and_then(Value::as_str) == Some("AWS_ECR_CONTAINER_IMAGE");
        if resources.iter().any(is_image) {
            findings.push(inspectors_finding(finding, &place)?);
        }
    }
    let note = Some("a list of findings does not prove that an image was scanned: judge the answer of describe-image-scan-findings");
    Ok(Saved { findings, state: ScanState::NotFound, source: Some(ScanSource::Enhanced), status: None, completed_at: None, stated_counts: None, note })
}

fn next_token(members: &Map<String, Value>) -> bool {
    // The CLI writes its own token with a capital, where `--max-items` has cut the list.
    ["nextToken", "NextToken"].iter().any(|name| members.get(*name).is_some_and(|token| !token.is_null() && token.as_str() != Some("")))
}

fn basic_finding(value: &Value, place: &str) -> Result<Finding, Unreadable> {
    let object = value.as_object().ok_or_else(|| Unreadable::Wrong(place.to_owned(), "an object"))?;
    let id = optional_text(object, "name", &format!("{place}.name"))?.ok_or_else(|| Unreadable::Missing(format!("{place}.name")))?;
    let attributes = optional_list(object, "attributes", &format!("{place}.attributes"))?.map(Vec::as_slice).unwrap_or_default();
    let attribute = |key: &str| {
        let found = attributes.iter().find(|attribute| attribute.get("key").and_then(Value::as_str) == Some(key));
        found.and_then(|attribute| attribute.get("value")).and_then(Value::as_str).map(str::to_owned)
    };
    let version = attribute("package_version");
    let severity = Rating::parse(optional_text(object, "severity", &format!("{place}.severity"))?);
    let packages = attribute("package_name").map(|name| Package { name, version, fixed_in: None }).into_iter().collect();
    Ok(Finding { packages, ..Finding::new(id, severity) })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InspectorsPackage {
    #[serde(default)]
    name: String,
    version: Option<String>,
    fixed_in_version: Option<String>,
}

fn inspectors_finding(value: &Value, place: &str) -> Result<Finding, Unreadable> {
    let object = value.as_object().ok_or_else(|| Unreadable::Wrong(place.to_owned(), "an object"))?;
    let details = optional_object(object, "packageVulnerabilityDetails", &format!("{place}.packageVulnerabilityDetails"))?;
    let vulnerability = details
        .map(|details| optional_text(details, "vulnerabilityId", &format!("{place}.packageVulnerabilityDetails.vulnerabilityId")))
        .transpose()?
        .flatten();
    let title = optional_text(object, "title", &format!("{place}.title"))?;
    let arn = optional_text(object, "findingArn", &format!("{place}.findingArn"))?;
    let id = vulnerability.or(title).or(arn).ok_or_else(|| Unreadable::Missing(format!("{place}.packageVulnerabilityDetails.vulnerabilityId")))?;
    let packages = details.and_then(|details| details.get("vulnerablePackages")).filter(|packages| !packages.is_null());
    let packages: Vec<InspectorsPackage> = match packages {
        Some(packages) => serde_json::from_value(packages.clone())
            .map_err(|_| Unreadable::Wrong(format!("{place}.packageVulnerabilityDetails.vulnerablePackages"), "a list of packages"))?,
        None => Vec::new(),
    };
    Ok(Finding {
        id: id.to_owned(),
        severity: Rating::parse(optional_text(object, "severity", &format!("{place}.severity"))?),
        arn: arn.map(str::to_owned),
        status: FindingStatus::parse(optional_text(object, "status", &format!("{place}.status"))?),
        fix: Fix::parse(object.get("fixAvailable").and_then(Value::as_str)),
        exploit: yes_or_no(object.get("exploitAvailable").and_then(Value::as_str)),
        // Its dates come in several styles; one that cannot be read is one that is not known.
        first_seen: object.get("firstObservedAt").and_then(time),
        epss: object.get("epss").and_then(|epss| epss.get("score")).and_then(Value::as_f64).and_then(Epss::of),
        packages: packages
            .into_iter()
            .map(|package| Package { name: package.name, version: package.version, fixed_in: package.fixed_in_version.filter(|fixed| fixed != "NotAvailable") })
            .collect(),
    })
}

fn optional_object<'a>(members: &'a Map<String, Value>, member: &str, place: &str) -> Result<Option<&'a Map<String, Value>>, Unreadable> {
    match members.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(Unreadable::Wrong(place.to_owned(), "an object")),
    }
}

fn optional_list<'a>(members: &'a Map<String, Value>, member: &str, place: &str) -> Result<Option<&'a Vec<Value>>, Unreadable> {
    match members.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list)),
        Some(_) => Err(Unreadable::Wrong(place.to_owned(), "a list")),
    }
}

fn optional_text<'a>(members: &'a Map<String, Value>, member: &str, place: &str) -> Result<Option<&'a str>, Unreadable> {
    match members.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(Unreadable::Wrong(place.to_owned(), "a text")),
    }
}

fn counts(members: &Map<String, Value>) -> Result<Counts, Unreadable> {
    let mut stated = Vec::with_capacity(members.len());
    for (word, count) in members {
        let wrong = || Unreadable::Wrong(format!("imageScanFindings.findingSeverityCounts.{word}"), "a whole number");
        stated.push((word.as_str(), count.as_u64().ok_or_else(wrong)?));
    }
    Ok(Counts::stated(stated))
}

/// A time as the AWS CLI prints it: ISO 8601, or, in its first version, seconds since 1970.
fn time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => text.parse().ok().or_else(|| utc(text)),
        Value::Number(seconds) => seconds.as_f64().and_then(|seconds| Timestamp::from_millisecond((seconds * 1000.0) as i64).ok()),
        _ => None,
    }
}

/// A time without an offset is taken as UTC, which is what AWS means.
fn utc(text: &str) -> Option<Timestamp> {
    let time: jiff::civil::DateTime = text.parse().ok()?;
    jiff::tz::TimeZone::UTC.to_timestamp(time).ok()
}

impl Saved {
    fn judged(&self, policy: &Policy, repository: &str, now: Timestamp, format: Format) -> Outcome {
        let mut findings = self.findings.clone();
        crate::domain::finding::sort(&mut findings);
        let judgement = judge(&findings, policy, repository, now);
        // Incomplete facts can refuse, and never let through.
        let (verdict, exit) = match (judgement.blocks(), self.state.standing()) {
            (true, _) => ("BLOCK", BLOCKED),
            (false, Standing::Complete) => ("PASS", PASS),
            (false, Standing::Pending) => ("PENDING", NO_VERDICT),
            (false, Standing::Unscanned) => ("UNSCANNED", NO_VERDICT),
        };
        let stdout = match format {
            Format::Json => self.report(verdict, &judgement),
            Format::Text => self.in_words(verdict, policy, &judgement),
        };
        Outcome::said(stdout, exit)
    }

    fn report(&self, verdict: &str, judgement: &Judgement<'_>) -> String {
        let report = JudgeReport {
            schema_version: 1,
            verdict,
            scan_state: self.state.word(),
            counts: &judgement.counts,
            blocking: judgement.blocking.iter().map(|finding| Listed::of(finding)).collect(),
            ignored: judgement.ignored.iter().map(|ignored| Listed { ignored_by: Some(ignored.by), ..Listed::of(ignored.finding) }).collect(),
            exempt: judgement.exempt.iter().map(|(finding, by)| Listed { exempt_by: Some(Waiver::of(by)), ..Listed::of(finding) }).collect(),
            ended_exemptions: judgement.ended_exemptions.iter().map(|exemption| Waiver::of(exemption)).collect(),
            unused_exemptions: judgement.unused_exemptions.iter().map(|exemption| Waiver::of(exemption)).collect(),
            in_grace: judgement.in_grace.iter().map(|(finding, until)| Listed { blocks_from: Some(until.to_string()), ..Listed::of(finding) }).collect(),
            too_many: judgement.too_many.iter().map(|(severity, (found, most))| (severity.word(), TooMany { found: *found, most: *most })).collect(),
            unused_ignores: &judgement.unused_ignores,
            unrated: judgement.unrated().map(Listed::of).collect(),
            suppressed: judgement.suppressed.iter().map(|finding| Listed { status: Some(finding.status), ..Listed::of(finding) }).collect(),
            evidence: Evidence {
                source: self.source,
                status: self.status.as_deref(),
                completed_at: self.completed_at.as_deref(),
                stated_counts: self.stated_counts.as_ref(),
                reads: 1,
            },
        };
        serde_json::to_string_pretty(&report).expect("texts and numbers are JSON") + "\n"
    }

    fn in_words(&self, verdict: &str, policy: &Policy, judgement: &Judgement<'_>) -> String {
        let counts = if judgement.counts.is_empty() { "none".to_owned() } else { judgement.counts.to_string() };
        let mut lines = vec![format!("{verdict} ({})", policy.severity), format!("Scan: {}", self.scan()), format!("Findings: {counts}")];
        lines.extend(self.note.map(|note| format!("Note: {note}")));
        if policy.needs_epss() && !self.findings.is_empty() && self.findings.iter().all(|finding| finding.epss.is_none()) {
            lines.push("Note: nothing here has an EPSS score, as only list-findings gives it: every finding counts as likely to be exploited".to_owned());
        }
        let mut list = |title: &str, findings: Vec<String>| {
            if !findings.is_empty() {
                lines.push(format!("{title} ({}):", findings.len()));
                lines.extend(findings);
            }
        };
        list("Blocking", judgement.blocking.iter().map(|finding| finding_line(finding)).collect());
        list("Ignored", judgement.ignored.iter().map(|ignored| format!("{} [by {}]", finding_line(ignored.finding), ignored.by)).collect());
        let exempt = |exemption: &Exemption| format!("{} until {}: {}", exemption.id, exemption.until, exemption.reason);
        list("Exempt", judgement.exempt.iter().map(|(finding, by)| format!("{} [until {}: {}]", finding_line(finding), by.until, by.reason)).collect());
        list("Exemptions that have ended", judgement.ended_exemptions.iter().map(|exemption| format!("  {}", exempt(exemption))).collect());
        list("Exemptions that nothing matches", judgement.unused_exemptions.iter().map(|exemption| format!("  {}", exempt(exemption))).collect());
        list("In grace", judgement.in_grace.iter().map(|(finding, until)| format!("{} [blocks from {until} on]", finding_line(finding))).collect());
        let too_many = judgement.too_many.iter().map(|(severity, (found, most))| format!("  {}: {found}, at most {most}", severity.word()));
        list("More than the policy allows", too_many.collect());
        list("Ignores that nothing matches", judgement.unused_ignores.iter().map(|entry| format!("  {entry}")).collect());
        list("Without a rating", judgement.unrated().map(finding_line).collect());
        list("Suppressed or closed", judgement.suppressed.iter().map(|finding| finding_line(finding)).collect());
        lines.join("\n") + "\n"
    }

    fn scan(&self) -> String {
        let source = self.source.map_or("unknown source", ScanSource::word);
        let completed = self.completed_at.as_ref().map_or_else(|| "no completed time".to_owned(), |at| format!("completed {at}"));
        format!("{source}, {}, {completed}", self.state.word())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JudgeReport<'a> {
    schema_version: u32,
    verdict: &'a str,
    scan_state: &'a str,
    counts: &'a Counts,
    blocking: Vec<Listed<'a>>,
    ignored: Vec<Listed<'a>>,
    // What only a policy beyond severities brings forth is there only where there is some.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exempt: Vec<Listed<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ended_exemptions: Vec<Waiver<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unused_exemptions: Vec<Waiver<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    in_grace: Vec<Listed<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    too_many: BTreeMap<&'static str, TooMany>,
    unused_ignores: &'a [&'a str],
    unrated: Vec<Listed<'a>>,
    suppressed: Vec<Listed<'a>>,
    evidence: Evidence<'a>,
}

/// A finding in a report. A member that the scanner does not say is null.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    id: &'a str,
    severity: &'a str,
    package: Option<&'a str>,
    installed_version: Option<&'a str>,
    fixed_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ignored_by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<FindingStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exempt_by: Option<Waiver<'a>>,
    /// The moment from which it blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocks_from: Option<String>,
}

#[derive(Serialize)]
struct TooMany {
    found: u64,
    most: u64,
}

/// An exemption in a report.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Waiver<'a> {
    id: &'a str,
    reason: &'a str,
    until: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    package: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<&'a str>,
}

impl<'a> Waiver<'a> {
    fn of(exemption: &'a Exemption) -> Self {
        Self {
            id: &exemption.id,
            reason: &exemption.reason,
            until: exemption.until.to_string(),
            package: exemption.package.as_deref(),
            repository: exemption.repository.as_deref(),
        }
    }
}

impl<'a> Listed<'a> {
    fn of(finding: &'a Finding) -> Self {
        let package = finding.packages.first();
        Self {
            id: &finding.id,
            severity: finding.severity.word(),
            package: package.map(|package| package.name.as_str()),
            installed_version: package.and_then(|package| package.version.as_deref()),
            fixed_version: package.and_then(|package| package.fixed_in.as_deref()),
            epss: finding.epss.map(|epss| epss.to_string()),
            ignored_by: None,
            status: None,
            exempt_by: None,
            blocks_from: None,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Evidence<'a> {
    source: Option<ScanSource>,
    status: Option<&'a str>,
    completed_at: Option<&'a str>,
    stated_counts: Option<&'a Counts>,
    /// A gate reads enhanced findings twice; a file can be read only once.
    reads: u32,
}
