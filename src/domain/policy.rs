//! What a deployment objects to. A policy holds exactly what changes a verdict on given facts; how long a gate waits, or
//! whether a verdict fails the deployment, is not part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::finding::{Counts, Epss, Finding, Fix, Rating, Severity};
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
    /// What does not block until its last day.
    pub exemptions: BTreeSet<Exemption>,
    /// Vulnerability ids that block whatever everything else here says.
    pub block_always: BTreeSet<String>,
    /// A finding without a fix does not block. Only Inspector knows.
    pub ignore_unfixed: bool,
    /// A finding for which no exploit is known does not block. Only Inspector knows.
    pub only_exploited: bool,
    /// A finding whose exploitation is less likely than this does not block. Only Inspector knows, in a list of its own.
    pub epss_from: Option<Epss>,
    /// So long after the scanner first saw it a finding does not block yet. Only Inspector knows.
    pub grace_days: Option<u16>,
    /// Of these severities so many do not block; one more, and all of them do.
    pub max_findings: BTreeMap<Severity, u64>,
}

/// A finding that somebody has taken responsibility for, until a day.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exemption {
    /// The vulnerability's id, exactly.
    pub id: String,
    pub reason: String,
    /// The last day on which it excuses anything, in UTC.
    pub until: Date,
    /// Only in this package.
    pub package: Option<String>,
    /// Only in the repository of this name.
    pub repository: Option<String>,
    /// Only while there is no fix.
    pub until_fixed: bool,
}

impl Exemption {
    /// Whether it speaks of this finding, ended or not.
    pub fn names(&self, finding: &Finding, repository: &str) -> bool {
        self.id == finding.id
            && self.repository.as_ref().is_none_or(|name| name == repository)
            && self.package.as_ref().is_none_or(|name| !finding.packages.is_empty() && finding.packages.iter().all(|package| package.name == *name))
    }

    pub fn has_ended(&self, now: Timestamp) -> bool {
        now >= self.ends()
    }

    /// The first moment in which it excuses nothing any more.
    pub fn ends(&self) -> Timestamp {
        let day_after = self.until.saturating_add(1.day()).at(0, 0, 0, 0);
        TimeZone::UTC.to_timestamp(day_after).unwrap_or(Timestamp::MAX)
    }
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
    #[error("`{member}` {reason}")]
    Member { member: String, reason: String },
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
        Ok(Self { severity, ignore_findings: ignore.into_iter().collect(), ..Self::default() })
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

    /// The exemption that excuses this finding now.
    pub fn exempted_by(&self, finding: &Finding, repository: &str, now: Timestamp) -> Option<&Exemption> {
        let is_fixed = finding.fix != Some(Fix::No);
        self.exemptions.iter().find(|exemption| exemption.names(finding, repository) && !exemption.has_ended(now) && !(exemption.until_fixed && is_fixed))
    }

    /// From when on this finding blocks, if its grace is not over. What nobody has dated has none.
    pub fn grace_until(&self, finding: &Finding, now: Timestamp) -> Option<Timestamp> {
        let grace = SignedDuration::from_hours(24 * i64::from(self.grace_days?));
        finding.first_seen?.checked_add(grace).ok().filter(|until| now < *until)
    }

    /// Whether counts by severity are enough to judge, without the findings themselves.
    pub fn is_by_severity_alone(&self) -> bool {
        *self == Self { severity: self.severity.clone(), ..Self::default() }
    }

    /// The members that only Inspector's findings can be judged by, as a template names them.
    pub fn needs_inspector(&self) -> Vec<&'static str> {
        let by_exploit = self.only_exploited || self.epss_from.is_some();
        let until_fixed = self.exemptions.iter().any(|exemption| exemption.until_fixed);
        let asked = [("ignoreUnfixed", self.ignore_unfixed), ("exploit", by_exploit), ("graceDays", self.grace_days.is_some()), ("untilFixed", until_fixed)];
        asked.into_iter().filter(|(_, asked)| *asked).map(|(name, _)| name).collect()
    }

    /// Whether findings have to say how likely it is that they are exploited.
    pub fn needs_epss(&self) -> bool {
        self.epss_from.is_some()
    }

    /// Whether an exploit is neither known nor likely, as far as this policy asks. What nobody says counts as both.
    pub fn excuses_as_unexploited(&self, finding: &Finding) -> bool {
        let is_unexploited = !self.only_exploited || finding.exploit == Some(false);
        let is_unlikely = self.epss_from.is_none_or(|from| finding.epss.is_some_and(|epss| epss < from));
        (self.only_exploited || self.epss_from.is_some()) && is_unexploited && is_unlikely
    }

    /// How many of these findings block, judged from counts alone; only exact when [`Self::is_by_severity_alone`].
    pub fn blocking_in(&self, counts: &Counts) -> u64 {
        counts.iter().filter(|(word, _)| self.objects_to(&Rating::parse(Some(word)))).fold(0, |total, (_, count)| total.saturating_add(count))
    }

    /// The one text of this policy: `v1:` and JSON without white space, keys sorted, members at their default left out, sets
    /// sorted and unique. Equal policies have equal texts, and a member that comes later leaves the old texts as they are.
    pub fn canonical(&self) -> String {
        let mut members: BTreeMap<&str, Value> = BTreeMap::new();
        if !self.block_always.is_empty() {
            members.insert("blockAlways", self.block_always.iter().cloned().collect());
        }
        if !self.exemptions.is_empty() {
            members.insert("exemptions", self.exemptions.iter().map(exemption_text).collect());
        }
        if self.only_exploited || self.epss_from.is_some() {
            let epss = self.epss_from.map(|epss| epss.to_string().into());
            members.insert("exploit", sorted([("epss", epss), ("exploitAvailable", self.only_exploited.then(|| true.into()))]));
        }
        if let Some(days) = self.grace_days {
            members.insert("graceDays", days.into());
        }
        if self.ignore_unfixed {
            members.insert("ignoreUnfixed", true.into());
        }
        if !self.max_findings.is_empty() {
            let counts: BTreeMap<&str, Value> = self.max_findings.iter().map(|(severity, most)| (severity.word(), (*most).into())).collect();
            members.insert("maxFindings", sorted(counts.into_iter().map(|(word, most)| (word, Some(most)))));
        }
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
        let known = ["severity", "severityThreshold", "ignoreFindings"];
        if let Some(unknown) = members.keys().find(|key| !known.contains(&key.as_str()) && !BEYOND_SEVERITY.contains(&key.as_str())) {
            return Err(BadPolicy::UnknownMember(unknown.clone()));
        }
        let severity = members.get("severity").map(|value| texts(value, "severity")).transpose()?;
        let threshold = match members.get("severityThreshold") {
            None => None,
            Some(Value::String(word)) => Some(word.as_str()),
            Some(other) => return Err(BadPolicy::UnknownThreshold(other.to_string())),
        };
        let ignore = members.get("ignoreFindings").map(|value| texts(value, "ignoreFindings")).transpose()?;
        Self::from_words(severity.as_deref(), threshold, ignore.unwrap_or_default())?.with(|member| members.get(member))
    }

    /// Takes the members beyond severity from wherever they stand. CloudFormation sends numbers and flags as text, so text is
    /// taken for both.
    pub fn with<'a>(mut self, get: impl Fn(&str) -> Option<&'a Value>) -> Result<Self, BadPolicy> {
        let get = |member: &str| get(member).filter(|value| !value.is_null());
        if let Some(value) = get("blockAlways") {
            self.block_always = texts(value, "blockAlways")?.into_iter().collect();
        }
        if let Some(value) = get("exemptions") {
            let list = value.as_array().ok_or_else(|| bad("exemptions", "is no list"))?;
            self.exemptions = list.iter().enumerate().map(|(n, value)| exemption(value, n)).collect::<Result<_, _>>()?;
        }
        if let Some(value) = get("exploit") {
            let members = value.as_object().ok_or_else(|| bad("exploit", "is no object"))?;
            // A limit that is passed over would let through what it holds back.
            if let Some(unknown) = members.keys().find(|key| !["epss", "exploitAvailable"].contains(&key.as_str())) {
                return Err(bad("exploit", format!("has the member `{unknown}`, which this version does not know")));
            }
            self.epss_from = members.get("epss").map(epss).transpose()?;
            self.only_exploited = members.get("exploitAvailable").map(|value| flag(value, "exploit.exploitAvailable")).transpose()?.unwrap_or(false);
        }
        if let Some(value) = get("graceDays") {
            let days = whole(value, "graceDays")?;
            let days = u16::try_from(days).ok().filter(|days| (1..=365).contains(days)).ok_or_else(|| bad("graceDays", "is not between 1 and 365"))?;
            self.grace_days = Some(days);
        }
        if let Some(value) = get("ignoreUnfixed") {
            self.ignore_unfixed = flag(value, "ignoreUnfixed")?;
        }
        if let Some(value) = get("maxFindings") {
            let members = value.as_object().ok_or_else(|| bad("maxFindings", "is no object"))?;
            for (word, most) in members {
                let severity = Severity::parse(word).ok_or_else(|| bad("maxFindings", format!("names `{word}`, which is no severity with a rank")))?;
                self.max_findings.insert(severity, whole(most, &format!("maxFindings.{word}"))?);
            }
        }
        // A set, since a direct call has room for a hundred thousand of each.
        let exempt: BTreeSet<&str> = self.exemptions.iter().map(|exemption| exemption.id.as_str()).collect();
        if let Some(id) = self.block_always.iter().find(|id| self.ignore_findings.contains(*id) || exempt.contains(id.as_str())) {
            return Err(bad("blockAlways", format!("names `{id}`, which is ignored or exempt as well")));
        }
        Ok(self)
    }
}

/// What a policy can hold besides severities and what is ignored, by the names that templates and files use.
pub const BEYOND_SEVERITY: [&str; 6] = ["blockAlways", "exemptions", "exploit", "graceDays", "ignoreUnfixed", "maxFindings"];

fn bad(member: &str, reason: impl Into<String>) -> BadPolicy {
    BadPolicy::Member { member: member.to_owned(), reason: reason.into() }
}

/// An object whose keys stand in the order in which they are given; what is not there is left out.
fn sorted<'a>(members: impl IntoIterator<Item = (&'a str, Option<Value>)>) -> Value {
    let mut map = Map::new();
    for (name, value) in members {
        if let Some(value) = value {
            map.insert(name.to_owned(), value);
        }
    }
    Value::Object(map)
}

fn exemption_text(exemption: &Exemption) -> Value {
    sorted([
        ("id", Some(exemption.id.as_str().into())),
        ("package", exemption.package.as_deref().map(Value::from)),
        ("reason", Some(exemption.reason.as_str().into())),
        ("repository", exemption.repository.as_deref().map(Value::from)),
        ("until", Some(exemption.until.to_string().into())),
        ("untilFixed", exemption.until_fixed.then(|| true.into())),
    ])
}

fn exemption(value: &Value, n: usize) -> Result<Exemption, BadPolicy> {
    let place = |member: &str| format!("exemptions[{n}].{member}");
    let members = value.as_object().ok_or_else(|| bad(&format!("exemptions[{n}]"), "is no object"))?;
    let known = ["id", "reason", "until", "package", "repository", "untilFixed"];
    if let Some(unknown) = members.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(bad(&place(unknown), "is not a member of an exemption that this version knows"));
    }
    let text = |member: &str| match members.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.clone())),
        Some(_) => Err(bad(&place(member), "is no text, or an empty one")),
    };
    let needed = |member: &str| text(member)?.ok_or_else(|| bad(&place(member), "is missing"));
    let until = needed("until")?;
    Ok(Exemption {
        id: needed("id")?,
        reason: needed("reason")?,
        until: until.parse().map_err(|_| bad(&place("until"), format!("is `{until:.40}`, no day: expected YYYY-MM-DD")))?,
        package: text("package")?,
        repository: text("repository")?,
        until_fixed: members.get("untilFixed").map(|value| flag(value, &place("untilFixed"))).transpose()?.unwrap_or(false),
    })
}

fn flag(value: &Value, member: &str) -> Result<bool, BadPolicy> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        Value::String(text) if text == "true" => Ok(true),
        Value::String(text) if text == "false" => Ok(false),
        _ => Err(bad(member, "is neither true nor false")),
    }
}

fn epss(value: &Value) -> Result<Epss, BadPolicy> {
    let limit = match value {
        Value::Number(number) => number.as_f64().and_then(Epss::of),
        Value::String(text) => Epss::parse(text),
        _ => None,
    };
    limit.ok_or_else(|| bad("exploit.epss", "is not between 0 and 1: expected a likelihood such as 0.1"))
}

fn whole(value: &Value, member: &str) -> Result<u64, BadPolicy> {
    let number = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| bad(member, "is no whole number"))
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
        let unknown = Policy::from_words(Some(&words(&["high"])), None, []).unwrap_err().to_string();
        assert!(unknown.ends_with("expected CRITICAL, HIGH, MEDIUM, LOW, INFORMATIONAL, UNDEFINED, UNTRIAGED"), "{unknown}");
        let unranked = Policy::from_words(None, Some("UNDEFINED"), []).unwrap_err().to_string();
        assert!(unranked.ends_with("expected CRITICAL, HIGH, MEDIUM, LOW, INFORMATIONAL"), "{unranked}");
        assert_eq!(Policy::parse(r#"v1:{"gracePeriod":3}"#), Err(BadPolicy::UnknownMember("gracePeriod".into())));
        assert_eq!(Policy::parse(r#"{"ignoreFindings":"CVE-1"}"#), Err(BadPolicy::NotTexts("ignoreFindings")));
    }

    #[test]
    fn the_members_beyond_severity_are_read_from_text_and_have_one_text() {
        let given = r#"{"maxFindings":{"LOW":"100","HIGH":5},"graceDays":"14","ignoreUnfixed":"true","exploit":{"exploitAvailable":"true","epss":0.10},
            "blockAlways":["CVE-9"],"exemptions":[{"until":"2026-12-31","reason":"not reachable","id":"CVE-1","untilFixed":"true"},
            {"id":"CVE-1","reason":"vendor says no","until":"2026-06-30","package":"xz-utils","repository":"team/app"}]}"#;
        let policy = Policy::parse(given).unwrap();
        let text = r#"v1:{"blockAlways":["CVE-9"],"exemptions":[{"id":"CVE-1","reason":"not reachable","until":"2026-12-31","untilFixed":true},{"id":"CVE-1","package":"xz-utils","reason":"vendor says no","repository":"team/app","until":"2026-06-30"}],"exploit":{"epss":"0.1","exploitAvailable":true},"graceDays":14,"ignoreUnfixed":true,"maxFindings":{"HIGH":5,"LOW":100}}"#;
        assert_eq!(policy.canonical(), text);
        assert_eq!(Policy::parse(text), Ok(policy.clone()));
        let stored = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&stored).unwrap(), policy, "{stored}");
        let hash = crate::domain::image::sha256_hex(text.as_bytes());
        assert_eq!((policy.hash().as_str(), policy.hash().to_string()), (hash.as_str(), hash.clone()));
        assert!(!policy.is_by_severity_alone() && at_or_above("LOW").is_by_severity_alone() && members(&["HIGH"]).is_by_severity_alone());
        assert_eq!(policy.needs_inspector(), ["ignoreUnfixed", "exploit", "graceDays", "untilFixed"]);
        for (text, needs) in [
            (r#"{"exploit":{"epss":"0.1"}}"#, vec!["exploit"]),
            (r#"{"exploit":{"exploitAvailable":true}}"#, vec!["exploit"]),
            (r#"{"exploit":{"exploitAvailable":"false"},"ignoreUnfixed":"false","maxFindings":{"HIGH":5}}"#, vec![]),
        ] {
            assert_eq!(Policy::parse(text).unwrap().needs_inspector(), needs, "{text}");
        }
    }

    #[test]
    fn the_schema_names_what_is_read() {
        let schema: Value = serde_json::from_str(include_str!("../../docs/policy.schema.json")).unwrap();
        let mut named: Vec<&str> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let mut read: Vec<&str> = BEYOND_SEVERITY.into_iter().chain(["severity", "severityThreshold", "ignoreFindings"]).collect();
        named.sort_unstable();
        read.sort_unstable();
        assert_eq!(named, read);
    }

    #[test]
    fn a_member_that_cannot_be_meant_is_refused_by_name() {
        for (text, says) in [
            (r#"{"exploit":{"kev":"true"}}"#, "`exploit` has the member `kev`"),
            (r#"{"exploit":{"epss":"10%"}}"#, "`exploit.epss` is not between 0 and 1"),
            (r#"{"exploit":{"epss":1.5}}"#, "`exploit.epss` is not between 0 and 1"),
            (r#"{"graceDays":0}"#, "`graceDays` is not between"),
            (r#"{"graceDays":"-1"}"#, "`graceDays` is no whole number"),
            (r#"{"graceDays":"+1"}"#, "`graceDays` is no whole number"),
            (r#"{"ignoreUnfixed":"yes"}"#, "`ignoreUnfixed` is neither"),
            (r#"{"maxFindings":{"UNDEFINED":1}}"#, "`maxFindings` names `UNDEFINED`"),
            (r#"{"maxFindings":{"HIGH":1.5}}"#, "`maxFindings.HIGH` is no whole number"),
            (r#"{"exemptions":{}}"#, "`exemptions` is no list"),
            (r#"{"exemptions":[{"id":"CVE-1","until":"2026-01-01"}]}"#, "`exemptions[0].reason` is missing"),
            (r#"{"exemptions":[{"id":"CVE-1","reason":"x","until":"soon"}]}"#, "`exemptions[0].until` is `soon`"),
            (r#"{"exemptions":[{"id":"CVE-1","reason":" ","until":"2026-01-01"}]}"#, "`exemptions[0].reason` is no text"),
            (r#"{"exemptions":[{"id":"CVE-1","reason":"x","until":"2026-01-01","for":"me"}]}"#, "`exemptions[0].for` is not a member"),
            (r#"{"blockAlways":["CVE-1"],"ignoreFindings":["CVE-1"]}"#, "`blockAlways` names `CVE-1`"),
            (r#"{"blockAlways":["CVE-1"],"exemptions":[{"id":"CVE-1","reason":"x","until":"2026-01-01"}]}"#, "`blockAlways` names `CVE-1`"),
        ] {
            let error = Policy::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(says), "{text}: {error}");
        }
    }

    #[test]
    fn an_exemption_ends_with_its_last_day() {
        let exemption = Policy::parse(r#"{"exemptions":[{"id":"CVE-1","reason":"x","until":"2026-03-14"}]}"#).unwrap().exemptions.pop_first().unwrap();
        for (now, ended) in [("2026-03-14T23:59:59Z", false), ("2026-03-15T00:00:00Z", true)] {
            assert_eq!(exemption.has_ended(now.parse().unwrap()), ended, "{now}");
        }
    }

    #[test]
    fn the_rule_is_named_worst_first() {
        assert_eq!(members(&["UNTRIAGED", "LOW", "CRITICAL"]).severity.to_string(), "severity CRITICAL, LOW, UNTRIAGED");
        assert_eq!(at_or_above("HIGH").severity.to_string(), "severity HIGH or above");
    }
}
