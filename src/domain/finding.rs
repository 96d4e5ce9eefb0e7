//! What a scanner found in an image, in our own words, whichever scanner said it.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How bad a finding is. The order is meant: a threshold reads `severity >= threshold`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    pub const ALL: [Severity; 5] = [Self::Informational, Self::Low, Self::Medium, Self::High, Self::Critical];

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.word() == word)
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Informational => "INFORMATIONAL",
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
            Self::Critical => "CRITICAL",
        }
    }
}

/// What the scanner said of a finding's severity. "Not rated" is not "very low", so it is no severity.
///
/// The order puts the worst first when reversed; an unrated finding stands below every rated one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Rating {
    /// A word that neither scanner documents, kept as it came. Treated as `UNDEFINED`.
    Word(String),
    /// Inspector: not assessed yet.
    Untriaged,
    /// ECR: no rating known; also a finding without any severity.
    Undefined,
    Rated(Severity),
}

impl Rating {
    /// The rating that `word` says; a missing one is `UNDEFINED`, as in the original construct.
    pub fn parse(word: Option<&str>) -> Self {
        match word.unwrap_or_default() {
            "" | "UNDEFINED" => Self::Undefined,
            "UNTRIAGED" => Self::Untriaged,
            word => Severity::parse(word).map_or_else(|| Self::Word(word.to_owned()), Self::Rated),
        }
    }

    /// The scanner's own word.
    pub fn word(&self) -> &str {
        match self {
            Self::Rated(severity) => severity.word(),
            Self::Undefined => "UNDEFINED",
            Self::Untriaged => "UNTRIAGED",
            Self::Word(word) => word,
        }
    }

    /// The word under which it is counted: an unknown one counts as `UNDEFINED`.
    pub fn counted_as(&self) -> &str {
        match self {
            Self::Word(_) => "UNDEFINED",
            known => known.word(),
        }
    }

    pub fn is_rated(&self) -> bool {
        matches!(self, Self::Rated(_))
    }
}

impl From<String> for Rating {
    fn from(word: String) -> Self {
        Self::parse(Some(&word))
    }
}

impl From<Rating> for String {
    fn from(rating: Rating) -> Self {
        rating.word().to_owned()
    }
}

/// Whether a finding counts. Basic scanning knows only `Active`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FindingStatus {
    #[default]
    Active,
    /// Hidden by a suppression rule of the account.
    Suppressed,
    /// No longer true of the image.
    Closed,
}

impl FindingStatus {
    /// A status that we do not know counts as active: it may block, and cannot let anything through.
    pub fn parse(word: Option<&str>) -> Self {
        match word {
            Some("SUPPRESSED") => Self::Suppressed,
            Some("CLOSED") => Self::Closed,
            _ => Self::Active,
        }
    }

    fn is_active(&self) -> bool {
        *self == Self::Active
    }
}

/// A package in which the vulnerability was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Package {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The version with the fix; `None` when there is none, or the scanner does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_in: Option<String>,
}

/// One finding of a scan.
///
/// Field order is sort order: worst first is the reverse of `rating`, see [`sort`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Finding {
    /// The vulnerability's id, as a rule a CVE.
    pub id: String,
    pub severity: Rating,
    /// Inspector's name of the finding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    #[serde(default, skip_serializing_if = "FindingStatus::is_active")]
    pub status: FindingStatus,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Package>,
    /// Whether a fix exists, as far as the scanner says. Basic scanning does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<Fix>,
    /// Whether an exploit is known; basic scanning does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exploit: Option<bool>,
    /// When the scanner found it first; basic scanning does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Timestamp>,
}

/// Whether there is a fix for all of the packages in which something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Fix {
    No,
    Partial,
    Yes,
}

impl Fix {
    /// A word that nobody documented says nothing.
    pub fn parse(word: Option<&str>) -> Option<Self> {
        match word {
            Some("YES") => Some(Self::Yes),
            Some("NO") => Some(Self::No),
            Some("PARTIAL") => Some(Self::Partial),
            _ => None,
        }
    }
}

/// `YES` or `NO`, as Inspector writes it.
pub fn yes_or_no(word: Option<&str>) -> Option<bool> {
    match word {
        Some("YES") => Some(true),
        Some("NO") => Some(false),
        _ => None,
    }
}

impl Finding {
    /// A finding with nothing known of it but its name and how bad it is.
    pub fn new(id: impl Into<String>, severity: Rating) -> Self {
        Self { id: id.into(), severity, arn: None, status: FindingStatus::Active, packages: Vec::new(), fix: None, exploit: None, first_seen: None }
    }

    /// Whether it is true of the image and nobody suppressed it.
    pub fn counts(&self) -> bool {
        self.status.is_active()
    }
}

/// Puts findings into the one order in which they are stored, hashed and shown: worst first, then by id.
pub fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.cmp(b)));
}

/// How many findings of each severity, by the scanner's word. Words with a count of zero are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, u64>", into = "BTreeMap<String, u64>")]
pub struct Counts(BTreeMap<String, u64>);

/// The order in which counts are shown, as in the original construct, with Inspector's word at the end.
const SHOWN: [&str; 7] = ["CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", "UNDEFINED", "UNTRIAGED"];

impl Counts {
    pub fn of<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Self {
        let mut counts = Self::default();
        for finding in findings {
            counts.add(finding.severity.counted_as(), 1);
        }
        counts
    }

    /// The scanner's own counts, under the words by which findings are counted: a word that nobody documented is `UNDEFINED`.
    pub fn stated<'a>(counts: impl IntoIterator<Item = (&'a str, u64)>) -> Self {
        let mut stated = Self::default();
        for (word, count) in counts {
            stated.add(Rating::parse(Some(word)).counted_as(), count);
        }
        stated
    }

    pub fn add(&mut self, word: &str, more: u64) {
        if more == 0 {
            return;
        }
        match self.0.get_mut(word) {
            Some(count) => *count += more,
            None => {
                self.0.insert(word.to_owned(), more);
            }
        }
    }

    pub fn get(&self, word: &str) -> u64 {
        self.0.get(word).copied().unwrap_or(0)
    }

    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order of [`SHOWN`], then words that we do not know.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        let known = SHOWN.into_iter().map(|word| (word, self.get(word))).filter(|(_, count)| *count > 0);
        let others = self.0.iter().filter(|(word, _)| !SHOWN.contains(&word.as_str())).map(|(word, count)| (word.as_str(), *count));
        known.chain(others)
    }

    /// Whether any severity is counted more often here than in `other`.
    ///
    /// Words are compared one by one, so that a HIGH too many is not made good by a LOW too few.
    pub fn exceed(&self, other: &Counts) -> bool {
        self.0.iter().any(|(word, count)| *count > other.get(word))
    }
}

impl From<BTreeMap<String, u64>> for Counts {
    fn from(map: BTreeMap<String, u64>) -> Self {
        Self(map.into_iter().filter(|(_, count)| *count > 0).collect())
    }
}

impl From<Counts> for BTreeMap<String, u64> {
    fn from(counts: Counts) -> Self {
        counts.0
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.iter().map(|(word, count)| format!("{word}: {count}")).collect();
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_severity_is_undefined_and_an_unknown_one_keeps_its_word() {
        for (word, rating, counted_as) in [
            (None, Rating::Undefined, "UNDEFINED"),
            (Some("UNDEFINED"), Rating::Undefined, "UNDEFINED"),
            (Some("UNTRIAGED"), Rating::Untriaged, "UNTRIAGED"),
            (Some("HIGH"), Rating::Rated(Severity::High), "HIGH"),
            (Some("high"), Rating::Word("high".into()), "UNDEFINED"),
            (Some("SEVERE"), Rating::Word("SEVERE".into()), "UNDEFINED"),
        ] {
            assert_eq!(Rating::parse(word), rating);
            assert_eq!(rating.counted_as(), counted_as);
        }
    }

    #[test]
    fn counts_are_shown_worst_first_and_without_zeros() {
        let counts = Counts::from(BTreeMap::from([("LOW".into(), 2), ("CRITICAL".into(), 1), ("HIGH".into(), 0), ("UNTRIAGED".into(), 3)]));
        assert_eq!(counts.to_string(), "CRITICAL: 1, LOW: 2, UNTRIAGED: 3");
    }

    #[test]
    fn a_status_that_nobody_documented_counts_as_active() {
        assert_eq!(FindingStatus::parse(Some("ARCHIVED")), FindingStatus::Active);
        assert_eq!(FindingStatus::parse(None), FindingStatus::Active);
        assert_eq!(FindingStatus::parse(Some("CLOSED")), FindingStatus::Closed);
    }

    #[test]
    fn a_word_that_nobody_documented_agrees_with_the_finding_that_has_it() {
        let stated = Counts::stated([("SEVERE", 1), ("UNDEFINED", 1), ("HIGH", 0)]);
        let odd = Finding::new("CVE-1", Rating::parse(Some("SEVERE")));
        let plain = Finding { severity: Rating::Undefined, ..odd.clone() };
        assert_eq!(stated, Counts::of(&[odd, plain]));
    }

    #[test]
    fn counts_exceed_word_by_word() {
        let of = |pairs: &[(&str, u64)]| Counts::from(pairs.iter().map(|(w, n)| ((*w).to_owned(), *n)).collect::<BTreeMap<_, _>>());
        assert!(of(&[("HIGH", 2)]).exceed(&of(&[("HIGH", 1), ("LOW", 5)])));
        assert!(!of(&[("HIGH", 1)]).exceed(&of(&[("HIGH", 1), ("LOW", 5)])));
        assert!(of(&[("NEW_WORD", 1)]).exceed(&of(&[("HIGH", 1)])));
    }
}
