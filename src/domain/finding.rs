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
    /// Read only where a policy asks for it: it takes a list of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epss: Option<Epss>,
}

/// How likely it is that the vulnerability is exploited within 30 days, as the Exploit Prediction Scoring System has it: 0 to 1,
/// kept in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epss(u32);

const MILLION: u32 = 1_000_000;

impl Epss {
    /// A score between two millionths is the higher one: it must not pass for less than it is.
    pub fn of(score: f64) -> Option<Self> {
        // As decimal text 0.1 is exact, which as a binary fraction it is not.
        (0.0..=1.0).contains(&score).then(|| Self::parse(&format!("{score:.12}"))).flatten()
    }

    /// `0`, `1` or a decimal fraction in between, as a person writes it: `0.05`.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |part: &str| !part.is_empty() && part.len() <= 18 && part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) {
            return None;
        }
        let (kept, rest) = fraction.split_at(fraction.len().min(6));
        let millionths: u32 = format!("{kept:0<6}").parse().ok()?;
        let above = u32::from(rest.bytes().any(|digit| digit != b'0'));
        let score = whole.parse::<u32>().ok()?.checked_mul(MILLION)?.checked_add(millionths)?.checked_add(above)?;
        (score <= MILLION).then_some(Self(score))
    }
}

impl fmt::Display for Epss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:06}", self.0 / MILLION, self.0 % MILLION);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
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
        Self { id: id.into(), severity, arn: None, status: FindingStatus::Active, packages: Vec::new(), fix: None, exploit: None, first_seen: None, epss: None }
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

    /// Where a number ends it stays: begun anew at 0, a count could agree with a list that lacks findings.
    pub fn add(&mut self, word: &str, more: u64) {
        if more == 0 {
            return;
        }
        match self.0.get_mut(word) {
            Some(count) => *count = count.saturating_add(more),
            None => {
                self.0.insert(word.to_owned(), more);
            }
        }
    }

    pub fn get(&self, word: &str) -> u64 {
        self.0.get(word).copied().unwrap_or(0)
    }

    pub fn total(&self) -> u64 {
        self.0.values().fold(0, |total, count| total.saturating_add(*count))
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
    fn a_likelihood_is_read_exactly_and_never_rounded_down() {
        for (text, shown) in [("0", "0"), ("1", "1"), ("1.0", "1"), ("0.05", "0.05"), ("0.000430000", "0.00043"), ("0.0000001", "0.000001")] {
            assert_eq!(Epss::parse(text).map(|epss| epss.to_string()).as_deref(), Some(shown), "{text}");
        }
        for text in ["", ".", "-0.1", "1.1", "1e-3", "0,5", "50%", "NaN", "99999999999999999999"] {
            assert_eq!(Epss::parse(text), None, "{text}");
        }
        for (score, text) in [(0.1, "0.1"), (0.3, "0.3"), (0.00121, "0.00121"), (1.0, "1"), (0.0, "0")] {
            assert_eq!(Epss::of(score), Epss::parse(text), "{score}");
        }
        assert_eq!((Epss::of(f64::NAN), Epss::of(-0.1), Epss::of(1.5)), (None, None, None));
    }

    #[test]
    fn counts_exceed_word_by_word() {
        let of = |pairs: &[(&str, u64)]| Counts::from(pairs.iter().map(|(w, n)| ((*w).to_owned(), *n)).collect::<BTreeMap<_, _>>());
        assert!(of(&[("HIGH", 2)]).exceed(&of(&[("HIGH", 1), ("LOW", 5)])));
        assert!(!of(&[("HIGH", 1)]).exceed(&of(&[("HIGH", 1), ("LOW", 5)])));
        assert!(of(&[("NEW_WORD", 1)]).exceed(&of(&[("HIGH", 1)])));
    }
}
