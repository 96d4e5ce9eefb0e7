//! `ecr-scan-verifier explain`: everything that is recorded of one image, in words or as JSON.
//!
//! Exit 0: recorded; 3: nothing is recorded of it; 1: could not look (no credentials, no table, no such tag).

use jiff::Timestamp;
use serde::Serialize;

use super::named::Named;
use super::waiters::Waiter;
use super::{Format, Outcome};
use crate::aws::Aws;
use crate::aws::deployments::Deployment;
use crate::aws::requests::OpenRequest;
use crate::domain::alert;
use crate::domain::finding::{Counts, Finding};
use crate::domain::head::{Child, Head, Kind};
use crate::domain::image::{ImageDigest, ImageRef, Repository};
use crate::domain::judge::judge;
use crate::domain::message::finding_line;
use crate::domain::policy::Policy;
use crate::domain::protocol::{Resolved, Why};
use crate::domain::scan::Facts;

const NOTHING_RECORDED: u8 = 3;

pub async fn explain(aws: &Aws, named: &Named, format: Format) -> Outcome {
    match gather(aws, named).await {
        Ok(images) if images.is_empty() => Outcome {
            stdout: if format == Format::Json { json(&[]) } else { String::new() },
            stderr: format!(
                "explain: nothing is recorded of {} in pipeline {}. Was it pushed before the pipeline existed, or is it still to be scanned?\n",
                named.image, aws.settings.pipeline
            ),
            exit: NOTHING_RECORDED,
        },
        Ok(images) => {
            Outcome::said(if format == Format::Json { json(&images) } else { images.iter().map(Explained::in_words).collect::<Vec<_>>().join("\n") }, 0)
        }
        Err(why) => Outcome::failed(format!("explain: {}\n", why.text)),
    }
}

async fn gather(aws: &Aws, named: &Named) -> Result<Vec<Explained>, Why> {
    let digest = match &named.image {
        ImageRef::Digest(digest) => digest.clone(),
        ImageRef::Tag(_) => resolve(aws, named).await?,
    };
    let mut heads = aws.verdicts.everywhere(&digest).await?;
    heads.retain(|head| named.repository.as_ref().is_none_or(|name| head.repository.name == *name));
    // An index has no findings: its images have.
    let mut images = Vec::new();
    for head in &heads {
        if let Kind::Index(children) = &head.kind {
            let digests: Vec<ImageDigest> = children.iter().map(|child| child.digest.clone()).collect();
            images.extend(aws.verdicts.heads(&head.repository, &digests).await?.into_iter().flatten());
        }
    }
    heads.extend(images);
    let open = aws.requests.open().await?;
    let mut explained = Vec::new();
    for head in heads {
        let facts = match head.valid_result() {
            Some(result) => aws.verdicts.facts(&head.repository, &head.digest, &result.facts).await?,
            None => None,
        };
        let policies = alert::policies(&aws.deployments.lives(&head.repository, &head.digest).await?);
        let mut deployments = aws.deployments.of_image(&head.digest).await?;
        deployments.retain(|deployment| deployment.repository == head.repository.arn());
        let waiting = open.iter().filter(|request| waits_for(request, &head)).cloned().collect();
        explained.push(Explained { head, facts, policies, deployments, waiting, verdict: String::new() });
    }
    let verdicts: Vec<String> = explained.iter().map(|it| verdict_of(&it.head, &explained)).collect();
    for (it, verdict) in explained.iter_mut().zip(verdicts) {
        it.verdict = verdict;
    }
    Ok(explained)
}

/// Whether this open request hangs on that image: itself, or an index that holds it.
fn waits_for(request: &OpenRequest, head: &Head) -> bool {
    request.repository == head.repository.name && std::iter::once(&head.digest).chain(&head.parents).any(|digest| digest.as_str() == request.digest)
}

/// The pipeline's verdict. An index has none of its own: the worst of its images decides.
fn verdict_of(head: &Head, all: &[Explained]) -> String {
    let Kind::Index(children) = &head.kind else { return head.verdict.clone() };
    let known = |child: &Child| all.iter().map(|it| &it.head).find(|it| it.digest == child.digest && it.repository == head.repository);
    let verdicts: Vec<(&Child, &str)> = children.iter().map(|child| (child, known(child).map_or("PENDING (NOT_FOUND)", |it| it.verdict.as_str()))).collect();
    let worst = ["BLOCK", "UNSCANNED", "PENDING"].into_iter().find_map(|word| verdicts.iter().find(|(_, verdict)| verdict.starts_with(word)));
    match worst {
        Some((child, verdict)) => format!("{verdict}, its image {child}"),
        None if verdicts.is_empty() => "PENDING (no images)".to_owned(),
        None => "PASS".to_owned(),
    }
}

async fn resolve(aws: &Aws, named: &Named) -> Result<ImageDigest, Why> {
    // Account and region are those of whoever asks.
    let repository = Repository { partition: String::new(), region: String::new(), account: String::new(), name: named.repository.clone().unwrap_or_default() };
    match aws.ecr.resolve(&repository, &named.image, None).await? {
        Resolved::Image(digest) | Resolved::Index(digest, _) | Resolved::NotAnImage(digest, ..) => Ok(digest),
        Resolved::NotFound | Resolved::OtherDigest => Err(Why::new(format!("there is no {}:{} in this account and region", repository.name, named.image))),
        Resolved::Unusable(why) => Err(Why::new(format!("{}:{} cannot be judged: {why}", repository.name, named.image))),
    }
}

struct Explained {
    head: Head,
    facts: Option<Facts>,
    /// Of the deployments that live on it.
    policies: Vec<Policy>,
    deployments: Vec<Deployment>,
    waiting: Vec<OpenRequest>,
    /// The pipeline's.
    verdict: String,
}

impl Explained {
    fn blocking(&self, policy: &Policy) -> Option<usize> {
        let by_facts = self.facts.as_ref().map(|facts| judge(facts.findings(), policy, &self.head.repository.name, Timestamp::now()).blocking.len());
        by_facts.or_else(|| self.head.blocking_under(policy, Timestamp::now()).and_then(|blocking| usize::try_from(blocking).ok()))
    }

    fn verdict_by(&self, policy: &Policy) -> &'static str {
        match (self.blocking(policy), self.head.complete()) {
            (Some(blocking), Some(_)) if blocking > 0 => "BLOCK",
            (Some(0), Some((_, true))) => "PASS",
            _ => "PENDING",
        }
    }

    fn in_words(&self) -> String {
        let Head { digest, repository, kind, tags, .. } = &self.head;
        let mut lines = vec![format!("{}@{digest}", repository.name), format!("  verdict      {} (by the pipeline's policy)", self.verdict)];
        let mut say = |what: &str, text: String| lines.push(format!("  {what:<12} {text}"));
        if !tags.is_empty() {
            say("tags", tags.join(", "));
        }
        match kind {
            Kind::Index(children) => say("index of", children.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n               ")),
            Kind::Image | Kind::Unknown => say("scan", self.scan_in_words()),
        }
        if let Some(result) = self.head.valid_result() {
            say("evidence", format!("{} reading{}, unchanged since {}", result.reads, if result.reads == 1 { "" } else { "s" }, result.equal_since));
            say("findings", if result.counts.is_empty() { "none".to_owned() } else { result.counts.to_string() });
        }
        for policy in &self.policies {
            say("judged", format!("{} by {} {}", self.verdict_by(policy), policy.severity, policy.canonical()));
        }
        for deployment in &self.deployments {
            say("deployed", format!("{} ({}, since {})", deployment.stack, deployment.state, deployment.since));
        }
        for request in &self.waiting {
            let until = request.due.map(|due| format!(", until {due}")).unwrap_or_default();
            say("waiting", format!("{} ({}, since {}{until})", request.stack, request.state, request.since));
        }
        lines.extend(self.findings().iter().map(|finding| format!("  {}", finding_line(finding))));
        lines.join("\n") + "\n"
    }

    fn scan_in_words(&self) -> String {
        let state = self.head.state();
        match (self.head.complete(), &self.head.latest) {
            (Some((result, settled)), _) => {
                let proof = if settled { "" } else { ", its list of findings not yet proven whole" };
                format!("{} by {} at {}{proof}", state.word(), result.source, result.completed_at)
            }
            (None, Some(word)) => format!("{} by {}, asked at {}: {}", state.word(), word.source, word.read_at, word.status),
            (None, None) => state.word().to_owned(),
        }
    }

    fn findings(&self) -> &[Finding] {
        self.facts.as_ref().map(Facts::findings).unwrap_or_default()
    }
}

fn json(images: &[Explained]) -> String {
    let report = Report { schema_version: 1, images: images.iter().map(ImageReport::of).collect() };
    serde_json::to_string_pretty(&report).expect("texts and numbers are JSON") + "\n"
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    schema_version: u32,
    images: Vec<ImageReport<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ImageReport<'a> {
    digest: &'a ImageDigest,
    repository: String,
    tags: &'a [String],
    kind: &'a Kind,
    parents: &'a [ImageDigest],
    verdict: &'a str,
    scan_state: String,
    settled: bool,
    counts: Counts,
    evidence: Evidence<'a>,
    findings: &'a [Finding],
    policies: Vec<PolicyReport>,
    deployments: Vec<DeploymentReport<'a>>,
    waiting: Vec<Waiter<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Evidence<'a> {
    source: Option<&'static str>,
    status: Option<&'a str>,
    completed_at: Option<String>,
    stated_counts: Option<&'a Counts>,
    reads: u32,
    checked_at: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyReport {
    policy: String,
    hash: String,
    verdict: &'static str,
    blocking: Option<usize>,
}

#[derive(Serialize)]
struct DeploymentReport<'a> {
    stack: &'a str,
    image: &'a str,
    state: &'a str,
    since: &'a str,
}

impl<'a> ImageReport<'a> {
    fn of(explained: &'a Explained) -> Self {
        let head = &explained.head;
        let result = head.valid_result();
        Self {
            digest: &head.digest,
            repository: head.repository.arn(),
            tags: &head.tags,
            kind: &head.kind,
            parents: &head.parents,
            verdict: &explained.verdict,
            scan_state: head.state().word().to_owned(),
            settled: head.complete().is_some_and(|(_, settled)| settled),
            counts: result.map(|result| result.counts.clone()).unwrap_or_default(),
            evidence: Evidence {
                source: head.source().map(|source| source.word()),
                status: result.map(|result| result.status.as_str()).or_else(|| head.latest.as_ref().map(|word| word.status.as_str())),
                completed_at: result.map(|result| result.completed_at.to_string()),
                stated_counts: result.and_then(|result| result.stated_counts.as_ref()),
                reads: result.map_or(0, |result| result.reads),
                checked_at: head.last_read.newest().map(|at| at.to_string()),
            },
            findings: explained.findings(),
            policies: explained
                .policies
                .iter()
                .map(|policy| PolicyReport {
                    policy: policy.canonical(),
                    hash: policy.hash().to_string(),
                    verdict: explained.verdict_by(policy),
                    blocking: explained.blocking(policy),
                })
                .collect(),
            deployments: explained
                .deployments
                .iter()
                .map(|it| DeploymentReport { stack: &it.stack, image: &it.image, state: &it.state, since: &it.since })
                .collect(),
            waiting: explained.waiting.iter().map(|request| Waiter::of(request, Timestamp::now())).collect(),
        }
    }
}
