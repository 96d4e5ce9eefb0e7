//! What a deployment objects to. A policy holds exactly what changes a verdict on given facts; how long a gate waits, or
//! whether a verdict fails the deployment, is not part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::finding::{Counts, Finding, Rating, Severity};
use super::image::sha256_hex;

/// Which severities block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SeverityRule {
    /// The severities named, and no other: the original construct's rule.
    Members(BTreeSet<SeverityWord>),
    /// This severity and every worse one. An unrated finding never blocks here.
    AtOrAbove(Severity),
}

/// A word that `severity` may list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SeverityWord {
    Rated(Severity),
    /// ECR's "no rating"; also a finding without a severity, or with a word that nobody documented.
    Undefined,
    /// Inspector's "not assessed yet".
    Untriaged,
}

impl SeverityWord {
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "UNDEFINED" => Some(Self::Undefined),
            "UNTRIAGED" => Some(Self::Untriaged),
            word => Severity::parse(word).map(Self::Rated),
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Rated(severity) => severity.word(),
            Self::Undefined => "UNDEFINED",
            Self::Untriaged => "UNTRIAGED",
        }
    }

    fn of(rating: &Rating) -> Self {
        match rating {
            Rating::Rated(severity) => Self::Rated(*severity),
            Rating::Untriaged => Self::Untriaged,
            Rating::Undefined | Rating::Word(_) => Self::Undefined,
        }
    }
}

impl SeverityRule {
    fn objects_to(&self, rating: &Rating) -> bool {
        match self {
            Self::Members(words) => words.contains(&SeverityWord::of(rating)),
            Self::AtOrAbove(threshold) => matches!(rating, Rating::Rated(severity) if severity >= threshold),
        }
    }
}

impl Default for SeverityRule {
    fn default() -> Self {
        Self::Members(BTreeSet::from([SeverityWord::Rated(Severity::Critical)]))
    }
}

impl fmt::Display for SeverityRule {
    /// As a message names it: `severity CRITICAL, HIGH` or `severity HIGH or above`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtOrAbove(threshold) => write!(f, "severity {} or above", threshold.word()),
            Self::Members(words) => {
                let mut words: Vec<SeverityWord> = words.iter().copied().collect();
                words.sort_by_key(|word| {
                    std::cmp::Reverse(match word {
                        SeverityWord::Rated(severity) => Some(*severity),
                        SeverityWord::Undefined | SeverityWord::Untriaged => None,
                    })
                });
                write!(f, "severity {}", words.iter().map(|word| word.word()).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// What blocks an image. Stored and sent as its canonical text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Policy {
    pub severity: SeverityRule,
    /// Vulnerability ids or finding ARNs that never block. Compared exactly, without wildcards.
    pub ignore_findings: BTreeSet<String>,
}

/// The name under which verdicts of a policy are kept: SHA-256 hex of its canonical text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyHash(String);

impl PolicyHash {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a policy cannot be used. Names the member, the reason and the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPolicy {
    #[error("`severity` and `severityThreshold` exclude each other: give one of them")]
    Both,
    #[error("`severity` is empty, so nothing would ever block: name at least one of {}", words().join(", "))]
    Empty,
    #[error("`severity` holds `{0}`, which is no severity: expected {words}", words = words().join(", "))]
    UnknownSeverity(String),
    #[error("`severityThreshold` is `{0}`, which is no severity with a rank: expected {words}", words = ranked().join(", "))]
    UnknownThreshold(String),
    #[error("`{0}` is not a list of texts")]
    NotTexts(&'static str),
    #[error("`{0}` is not a member of a policy that this version knows")]
    UnknownMember(String),
    #[error("a policy is a JSON object, optionally with `v1:` before it: {0}")]
    NotAPolicy(String),
}

fn ranked() -> Vec<&'static str> {
    Severity::ALL.iter().rev().map(|severity| severity.word()).collect()
}

fn words() -> Vec<&'static str> {
    ranked().into_iter().chain(["UNDEFINED", "UNTRIAGED"]).collect()
}

impl Policy {
    /// Builds a policy from words as a user writes them. Neither rule given means `[CRITICAL]`.
    pub fn from_words(severity: Option<&[String]>, threshold: Option<&str>, ignore: impl IntoIterator<Item = String>) -> Result<Self, BadPolicy> {
        let severity = match (severity, threshold) {
            (Some(_), Some(_)) => return Err(BadPolicy::Both),
            (Some([]), None) => return Err(BadPolicy::Empty),
            (Some(words), None) => SeverityRule::Members(
                words.iter().map(|word| SeverityWord::parse(word).ok_or_else(|| BadPolicy::UnknownSeverity(word.clone()))).collect::<Result<_, _>>()?,
            ),
            (None, Some(word)) => SeverityRule::AtOrAbove(Severity::parse(word).ok_or_else(|| BadPolicy::UnknownThreshold(word.to_owned()))?),
            (None, None) => SeverityRule::default(),
        };
        Ok(Self { severity, ignore_findings: ignore.into_iter().collect() })
    }

    /// Whether a finding of this rating blocks, were it not ignored.
    pub fn objects_to(&self, rating: &Rating) -> bool {
        self.severity.objects_to(rating)
    }

    /// The entry of `ignoreFindings` that names this finding: its vulnerability id or its ARN.
    pub fn ignored_by<'a>(&'a self, finding: &Finding) -> Option<&'a str> {
        let by_arn = finding.arn.as_ref().and_then(|arn| self.ignore_findings.get(arn));
        by_arn.or_else(|| self.ignore_findings.get(&finding.id)).map(String::as_str)
    }

    /// Whether counts by severity are enough to judge, without the findings themselves.
    pub fn is_by_severity_alone(&self) -> bool {
        self.ignore_findings.is_empty()
    }

    /// How many of these findings block, judged from counts alone; only exact when [`Self::is_by_severity_alone`].
    pub fn blocking_in(&self, counts: &Counts) -> u64 {
        counts.iter().filter(|(word, _)| self.objects_to(&Rating::parse(Some(word)))).map(|(_, count)| count).sum()
    }

    /// The one text of this policy: `v1:` and JSON without white space, keys sorted, members at their default left out, sets
    /// sorted and unique. Equal policies have equal texts, and a member that comes later leaves the old texts as they are.
    pub fn canonical(&self) -> String {
        let mut members: BTreeMap<&str, Value> = BTreeMap::new();
        if !self.ignore_findings.is_empty() {
            members.insert("ignoreFindings", self.ignore_findings.iter().cloned().collect());
        }
        match &self.severity {
            rule if *rule == SeverityRule::default() => {}
            SeverityRule::Members(words) => {
                let words: BTreeSet<&str> = words.iter().map(|word| word.word()).collect();
                members.insert("severity", words.into_iter().collect());
            }
            SeverityRule::AtOrAbove(threshold) => {
                members.insert("severityThreshold", threshold.word().into());
            }
        }
        // A BTreeMap, since whether serde_json's own map is sorted depends on the features that other crates switch on.
        format!("v1:{}", serde_json::to_string(&members).expect("texts and lists are JSON"))
    }

    pub fn hash(&self) -> PolicyHash {
        PolicyHash(sha256_hex(self.canonical().as_bytes()))
    }

    /// Reads a policy's text: canonical, or plain JSON as the pipeline's environment has it.
    ///
    /// A member that we do not know could have made the policy stricter, so it is refused rather than left out.
    pub fn parse(text: &str) -> Result<Self, BadPolicy> {
        let json = text.strip_prefix("v1:").unwrap_or(text);
        let members: Map<String, Value> = serde_json::from_str(json).map_err(|error| BadPolicy::NotAPolicy(error.to_string()))?;
        if let Some(unknown) = members.keys().find(|key| !["severity", "severityThreshold", "ignoreFindings"].contains(&key.as_str())) {
            return Err(BadPolicy::UnknownMember(unknown.clone()));
        }
        let severity = members.get("severity").map(|value| texts(value, "severity")).transpose()?;
        let threshold = match members.get("severityThreshold") {
            None => None,
            Some(Value::String(word)) => Some(word.as_str()),
            Some(other) => return Err(BadPolicy::UnknownThreshold(other.to_string())),
        };
        let ignore = members.get("ignoreFindings").map(|value| texts(value, "ignoreFindings")).transpose()?;
        Self::from_words(severity.as_deref(), threshold, ignore.unwrap_or_default())
    }
}

impl TryFrom<String> for Policy {
    type Error = BadPolicy;

    fn try_from(text: String) -> Result<Self, BadPolicy> {
        Self::parse(&text)
    }
}

impl From<Policy> for String {
    fn from(policy: Policy) -> Self {
        policy.canonical()
    }
}

fn texts(value: &Value, member: &'static str) -> Result<Vec<String>, BadPolicy> {
    let entries = value.as_array().ok_or(BadPolicy::NotTexts(member))?;
    entries.iter().map(|entry| entry.as_str().map(str::to_owned).ok_or(BadPolicy::NotTexts(member))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    fn members(list: &[&str]) -> Policy {
        Policy::from_words(Some(&words(list)), None, []).unwrap()
    }

    fn at_or_above(word: &str) -> Policy {
        Policy::from_words(None, Some(word), []).unwrap()
    }

    #[test]
    fn the_threshold_means_at_or_above_and_the_list_means_membership() {
        for (policy, word, blocks) in [
            (at_or_above("HIGH"), "CRITICAL", true), // an exact match would let this one through
            (at_or_above("HIGH"), "HIGH", true),
            (at_or_above("HIGH"), "MEDIUM", false),
            (at_or_above("INFORMATIONAL"), "UNDEFINED", false), // unrated: never under a threshold
            (at_or_above("INFORMATIONAL"), "UNTRIAGED", false),
            (members(&["HIGH"]), "CRITICAL", false),
            (members(&["HIGH"]), "HIGH", true),
            (members(&["UNDEFINED"]), "UNDEFINED", true),
            (members(&["UNDEFINED"]), "SEVERE", true), // a word nobody documented is as good as none
            (members(&["UNDEFINED"]), "UNTRIAGED", false),
            (members(&["UNTRIAGED"]), "UNTRIAGED", true),
            (members(&["UNTRIAGED"]), "UNDEFINED", false),
            (Policy::default(), "CRITICAL", true),
            (Policy::default(), "HIGH", false),
        ] {
            assert_eq!(policy.objects_to(&Rating::parse(Some(word))), blocks, "{word} under {policy:?}");
        }
    }

    #[test]
    fn equal_policies_have_one_text_and_one_hash() {
        let given = Policy::from_words(Some(&words(&["LOW", "HIGH", "LOW"])), None, words(&["CVE-2", "CVE-1", "CVE-2"])).unwrap();
        assert_eq!(given.canonical(), r#"v1:{"ignoreFindings":["CVE-1","CVE-2"],"severity":["HIGH","LOW"]}"#);
        assert_eq!(given.hash(), Policy::parse(&given.canonical()).unwrap().hash());
        assert_eq!(at_or_above("HIGH").canonical(), r#"v1:{"severityThreshold":"HIGH"}"#);
        // A published hash can never change: verdicts are kept under it.
        assert_eq!(members(&["CRITICAL"]).canonical(), "v1:{}");
        assert_eq!(Policy::default().hash().as_str(), "661275e7bf4a8cd68412ad491c90e8f946ba4b8ed4d9a49398d07b093150672a");
    }

    #[test]
    fn a_rule_that_cannot_be_meant_is_refused_by_name() {
        for (severity, threshold, names) in [
            (Some(vec![]), None, "`severity` is empty"),
            (Some(words(&["high"])), None, "`severity` holds `high`"),
            (None, Some("UNDEFINED"), "`severityThreshold` is `UNDEFINED`"),
            (Some(words(&["HIGH"])), Some("HIGH"), "`severity` and `severityThreshold`"),
        ] {
            let error = Policy::from_words(severity.as_deref(), threshold, []).unwrap_err().to_string();
            assert!(error.starts_with(names), "{error}");
        }
        assert_eq!(Policy::parse(r#"v1:{"graceDays":3}"#), Err(BadPolicy::UnknownMember("graceDays".into())));
        assert_eq!(Policy::parse(r#"{"ignoreFindings":"CVE-1"}"#), Err(BadPolicy::NotTexts("ignoreFindings")));
    }

    #[test]
    fn the_rule_is_named_worst_first() {
        assert_eq!(members(&["UNTRIAGED", "LOW", "CRITICAL"]).severity.to_string(), "severity CRITICAL, LOW, UNTRIAGED");
        assert_eq!(at_or_above("HIGH").severity.to_string(), "severity HIGH or above");
    }
}
