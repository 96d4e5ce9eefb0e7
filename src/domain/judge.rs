//! Findings and policy in, judgement out. Pure, total, and the one place that says who is blocked and why.
//!
//! Nothing vanishes: an ignored, suppressed or unrated finding stays in the judgement, beside the reason for which it does
//! not block. Whether a judgement may become a Pass is for [`super::scan`] and [`super::head`] to say: it needs complete facts.

use super::finding::{Counts, Finding};
use super::policy::Policy;

/// What a policy says of a list of findings. Every finding is in exactly one of `blocking`, `tolerated`, `ignored` and
/// `suppressed`, in the order of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement<'a> {
    pub blocking: Vec<&'a Finding>,
    /// Counted, and not objected to.
    pub tolerated: Vec<&'a Finding>,
    pub ignored: Vec<Ignored<'a>>,
    /// Suppressed or closed in Inspector: these do not count.
    pub suppressed: Vec<&'a Finding>,
    /// Entries of `ignoreFindings` that no finding of the list matches.
    pub unused_ignores: Vec<&'a str>,
    /// Of all that count and are not ignored.
    pub counts: Counts,
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
}

pub fn judge<'a>(findings: &'a [Finding], policy: &'a Policy) -> Judgement<'a> {
    let mut judgement = Judgement {
        blocking: Vec::new(),
        tolerated: Vec::new(),
        ignored: Vec::new(),
        suppressed: Vec::new(),
        unused_ignores: policy.ignore_findings.iter().map(String::as_str).collect(),
        counts: Counts::default(),
    };
    for finding in findings {
        let ignored_by = policy.ignored_by(finding);
        if ignored_by.is_some() {
            judgement.unused_ignores.retain(|entry| *entry != finding.id && Some(*entry) != finding.arn.as_deref());
        }
        if !finding.counts() {
            judgement.suppressed.push(finding);
        } else if let Some(by) = ignored_by {
            judgement.ignored.push(Ignored { finding, by });
        } else {
            judgement.counts.add(finding.severity.counted_as(), 1);
            let objected = policy.objects_to(&finding.severity);
            if objected { judgement.blocking.push(finding) } else { judgement.tolerated.push(finding) }
        }
    }
    judgement
}
