//! Findings and policy in, judgement out. Pure, total, and the one place that says who is blocked and why.
//!
//! Nothing vanishes: an ignored, exempt, suppressed or unrated finding stays in the judgement, beside the reason for which it
//! does not block. Whether a judgement may become a Pass is for [`super::scan`] and [`super::head`] to say: it needs complete
//! facts. What a finding does not say counts against it: without a date there is no grace, without a word on a fix there is one.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::finding::{Counts, Finding, Fix, Rating, Severity};
use super::policy::{Exemption, Policy};

/// What a policy says of a list of findings. Every finding is in exactly one of `blocking`, `tolerated`, `ignored`, `exempt` and
/// `suppressed`, in the order of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement<'a> {
    pub blocking: Vec<&'a Finding>,
    /// Counted, and not objected to.
    pub tolerated: Vec<&'a Finding>,
    pub ignored: Vec<Ignored<'a>>,
    pub exempt: Vec<(&'a Finding, &'a Exemption)>,
    /// Suppressed or closed in Inspector: these do not count.
    pub suppressed: Vec<&'a Finding>,
    /// Entries of `ignoreFindings` that no finding of the list matches.
    pub unused_ignores: Vec<&'a str>,
    /// Exemptions that excused nothing here, because no finding of the list is theirs.
    pub unused_exemptions: Vec<&'a Exemption>,
    /// Exemptions that would excuse a finding of the list, had they not ended.
    pub ended_exemptions: Vec<&'a Exemption>,
    /// Of the tolerated ones, those that will block, and when the first of them does.
    pub in_grace: Vec<(&'a Finding, Timestamp)>,
    /// Severities of which there are more than `maxFindings` allows: how many, and how many are allowed.
    pub too_many: BTreeMap<Severity, (u64, u64)>,
    /// Of all that count and are neither ignored nor exempt.
    pub counts: Counts,
    /// The first moment in which time alone makes another judgement of these very findings.
    pub holds_until: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ignored<'a> {
    pub finding: &'a Finding,
    /// The entry of `ignoreFindings` that excused it.
    pub by: &'a str,
}

impl<'a> Judgement<'a> {
    pub fn blocks(&self) -> bool {
        !self.blocking.is_empty()
    }

    /// What counts and has no rating, whether it blocks or not.
    pub fn unrated(&self) -> impl Iterator<Item = &'a Finding> {
        self.blocking.iter().chain(&self.tolerated).copied().filter(|finding| !finding.severity.is_rated())
    }

    fn holds_no_longer_than(&mut self, end: Timestamp) {
        self.holds_until = Some(self.holds_until.map_or(end, |known| known.min(end)));
    }
}

/// `repository` is the name of the one in which the findings are true, `now` the moment of judging.
pub fn judge<'a>(findings: &'a [Finding], policy: &'a Policy, repository: &str, now: Timestamp) -> Judgement<'a> {
    let mut judgement = Judgement {
        blocking: Vec::new(),
        tolerated: Vec::new(),
        ignored: Vec::new(),
        exempt: Vec::new(),
        suppressed: Vec::new(),
        unused_ignores: policy.ignore_findings.iter().map(String::as_str).collect(),
        unused_exemptions: policy.exemptions.iter().collect(),
        ended_exemptions: Vec::new(),
        in_grace: Vec::new(),
        too_many: BTreeMap::new(),
        counts: Counts::default(),
        holds_until: None,
    };
    let too_many = too_many(findings, policy, repository, now);
    for finding in findings {
        let ignored_by = policy.ignored_by(finding);
        if ignored_by.is_some() {
            judgement.unused_ignores.retain(|entry| *entry != finding.id && Some(*entry) != finding.arn.as_deref());
        }
        judgement.unused_exemptions.retain(|exemption| !exemption.names(finding, repository));
        if !finding.counts() {
            judgement.suppressed.push(finding);
            continue;
        }
        match excuse(finding, policy, repository, now) {
            Excuse::Ignored(by) => {
                judgement.ignored.push(Ignored { finding, by });
                continue;
            }
            Excuse::Exempt(exemption) => {
                judgement.exempt.push((finding, exemption));
                judgement.holds_no_longer_than(exemption.ends());
                continue;
            }
            Excuse::None => {}
        }
        judgement.counts.add(finding.severity.counted_as(), 1);
        for exemption in policy.exemptions.iter().filter(|exemption| exemption.names(finding, repository) && exemption.has_ended(now)) {
            if !judgement.ended_exemptions.contains(&exemption) {
                judgement.ended_exemptions.push(exemption);
            }
        }
        let candidate = is_candidate(finding, policy);
        // What could not block afterwards either has no grace.
        let may_block = candidate && !policy.block_always.contains(&finding.id) && (is_limited(finding, policy) || policy.objects_to(&finding.severity));
        let grace_until = policy.grace_until(finding, now).filter(|_| may_block);
        if let Some(until) = grace_until {
            judgement.in_grace.push((finding, until));
            judgement.holds_no_longer_than(until);
        }
        let exceeds = matches!(&finding.severity, Rating::Rated(severity) if too_many.contains_key(severity));
        let blocks = policy.block_always.contains(&finding.id) || (candidate && grace_until.is_none() && (is_objected_to(finding, policy) || exceeds));
        if blocks { judgement.blocking.push(finding) } else { judgement.tolerated.push(finding) }
    }
    judgement.too_many = too_many;
    judgement
}

enum Excuse<'a> {
    None,
    Ignored(&'a str),
    Exempt(&'a Exemption),
}

fn excuse<'a>(finding: &Finding, policy: &'a Policy, repository: &str, now: Timestamp) -> Excuse<'a> {
    if policy.block_always.contains(&finding.id) {
        return Excuse::None;
    }
    match (policy.ignored_by(finding), policy.exempted_by(finding, repository, now)) {
        (Some(by), _) => Excuse::Ignored(by),
        (None, Some(exemption)) => Excuse::Exempt(exemption),
        (None, None) => Excuse::None,
    }
}

/// Whether a finding can block at all, however bad it is.
fn is_candidate(finding: &Finding, policy: &Policy) -> bool {
    let is_excused_as_unfixed = policy.ignore_unfixed && finding.fix == Some(Fix::No);
    !is_excused_as_unfixed && !policy.excuses_as_unexploited(finding)
}

/// Whether one such finding is enough.
fn is_objected_to(finding: &Finding, policy: &Policy) -> bool {
    !is_limited(finding, policy) && policy.objects_to(&finding.severity)
}

/// Whether it depends on how many there are.
fn is_limited(finding: &Finding, policy: &Policy) -> bool {
    matches!(&finding.severity, Rating::Rated(severity) if policy.max_findings.contains_key(severity))
}

fn too_many(findings: &[Finding], policy: &Policy, repository: &str, now: Timestamp) -> BTreeMap<Severity, (u64, u64)> {
    let mut counted: BTreeMap<Severity, u64> = BTreeMap::new();
    for finding in findings {
        if let Rating::Rated(severity) = &finding.severity
            && policy.max_findings.contains_key(severity)
            && finding.counts()
            && is_candidate(finding, policy)
            && policy.grace_until(finding, now).is_none()
            && matches!(excuse(finding, policy, repository, now), Excuse::None)
        {
            *counted.entry(*severity).or_default() += 1;
        }
    }
    let exceeds = |(severity, count): (Severity, u64)| policy.max_findings.get(&severity).filter(|most| count > **most).map(|most| (severity, (count, *most)));
    counted.into_iter().filter_map(exceeds).collect()
}
