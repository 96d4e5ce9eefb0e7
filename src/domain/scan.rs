//! What is known of the scan of one image: the scanner's words, and what they are worth.
//!
//! A scanner's answer becomes a [`Reading`] here, by one exhaustive look at its status. Only [`ScanState::Complete`] can lead
//! to a Pass. "Could not look" is no state: it is an error, and whoever met it tries again.

use std::sync::Arc;
use std::{fmt, io};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::finding::{Counts, Finding, sort};
use super::image::{Sha256Writer, sha256_hex};
use super::policy::Policy;

/// A scan's end and our clock may differ by this much.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_secs(60);

/// Which scanner of the registry answers: ECR basic scanning or Amazon Inspector. Taken from the registry's configuration,
/// never guessed from the findings: a clean image has none of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ScanSource {
    Basic,
    Enhanced,
}

impl ScanSource {
    pub fn word(self) -> &'static str {
        match self {
            Self::Basic => "BASIC",
            Self::Enhanced => "ENHANCED",
        }
    }
}

impl fmt::Display for ScanSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The status that ECR writes into an answer of DescribeImageScanFindings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    Pending,
    InProgress,
    Complete,
    /// Inspector keeps watching the image. Can be there before the first finding.
    Active,
    Failed,
    UnsupportedImage,
    EligibilityExpired,
    FindingsUnavailable,
    LimitExceeded,
    ImageArchived,
    /// An answer without a status.
    Missing,
    /// A word of a future API.
    Other(String),
}

impl Status {
    pub fn parse(word: Option<&str>) -> Self {
        match word {
            None => Self::Missing,
            Some("PENDING") => Self::Pending,
            Some("IN_PROGRESS") => Self::InProgress,
            Some("COMPLETE") => Self::Complete,
            Some("ACTIVE") => Self::Active,
            Some("FAILED") => Self::Failed,
            Some("UNSUPPORTED_IMAGE") => Self::UnsupportedImage,
            Some("SCAN_ELIGIBILITY_EXPIRED") => Self::EligibilityExpired,
            Some("FINDINGS_UNAVAILABLE") => Self::FindingsUnavailable,
            Some("LIMIT_EXCEEDED") => Self::LimitExceeded,
            Some("IMAGE_ARCHIVED") => Self::ImageArchived,
            Some(other) => Self::Other(other.to_owned()),
        }
    }
}

/// Whose clock a scan's completed time was taken from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Clock {
    /// The scan's own completed time, in ECR's answer.
    #[default]
    Scan,
    /// When Inspector's coverage says that it has scanned the image last.
    Coverage,
}

/// How far the scan of an image is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ScanState {
    NotFound,
    Running,
    /// Inspector knows the image and has not scanned it yet.
    CoveragePending,
    LimitExceeded,
    /// The one state that may become a Pass.
    Complete,
    FindingsUnavailable,
    /// The scanner counts more findings than it lists, read after read.
    CountsDisagree,
    /// A word that this version does not know, as AWS wrote it.
    Unknown(String),
    /// The scanner's own reason.
    Failed(String),
    Unsupported,
    EligibilityExpired,
    Archived,
    Deleted,
}

/// What a state means for whoever waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Complete,
    /// A result may still come.
    Pending,
    /// This image has no result, and waiting does not bring one.
    Unscanned,
}

impl ScanState {
    pub fn standing(&self) -> Standing {
        match self {
            Self::Complete => Standing::Complete,
            Self::NotFound | Self::Running | Self::CoveragePending | Self::LimitExceeded => Standing::Pending,
            Self::FindingsUnavailable | Self::CountsDisagree | Self::Unknown(_) => Standing::Pending,
            Self::Failed(_) | Self::Unsupported | Self::EligibilityExpired | Self::Archived | Self::Deleted => Standing::Unscanned,
        }
    }

    /// The state as reports name it; an unknown one as AWS wrote it.
    pub fn word(&self) -> &str {
        match self {
            Self::NotFound => "NOT_FOUND",
            Self::Running => "RUNNING",
            Self::CoveragePending => "COVERAGE_PENDING",
            Self::LimitExceeded => "LIMIT_EXCEEDED",
            Self::Complete => "COMPLETE",
            Self::FindingsUnavailable => "FINDINGS_UNAVAILABLE",
            Self::CountsDisagree => "COUNTS_DISAGREE",
            Self::Unknown(word) => word,
            Self::Failed(_) => "FAILED",
            Self::Unsupported => "UNSUPPORTED",
            Self::EligibilityExpired => "ELIGIBILITY_EXPIRED",
            Self::Archived => "ARCHIVED",
            Self::Deleted => "DELETED",
        }
    }
}

/// SHA-256 hex of a list of findings as it is stored, uncompressed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FactsHash(String);

impl From<String> for FactsHash {
    fn from(stored: String) -> Self {
        Self(stored)
    }
}

impl FactsHash {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The findings of one image in one repository: immutable, and named by their own hash. There can be 20,000 of them, so copies
/// share them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    content: Arc<Content>,
    hash: FactsHash,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Content {
    source: ScanSource,
    findings: Vec<Finding>,
    /// Whether Inspector was asked how likely the findings are exploited.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    says_epss: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFacts {
    #[error("the stored findings have the hash {found}, expected {expected}")]
    OtherHash { found: String, expected: String },
    #[error("the stored findings cannot be read: {0}")]
    Unreadable(String),
}

impl Facts {
    /// The order in which a scanner lists its findings carries no meaning, so it does not reach the hash.
    pub fn new(source: ScanSource, findings: Vec<Finding>) -> Self {
        Self::with(source, findings, false)
    }

    pub fn with(source: ScanSource, mut findings: Vec<Finding>, says_epss: bool) -> Self {
        sort(&mut findings);
        let content = Content { source, findings, says_epss };
        let mut hashing = Sha256Writer::default();
        serde_json::to_writer(&mut hashing, &content).expect("findings are JSON, and hashing does not fail");
        Self { content: Arc::new(content), hash: FactsHash(hashing.hex()) }
    }

    pub fn findings(&self) -> &[Finding] {
        &self.content.findings
    }

    /// Whether a policy finds here what it asks for.
    pub fn can_be_judged_by(&self, policy: &Policy) -> bool {
        // Of basic scanning's findings nobody says it, whoever is asked: there it counts against the image.
        !policy.needs_epss() || self.content.says_epss || self.content.source == ScanSource::Basic
    }

    pub fn says_epss(&self) -> bool {
        self.content.says_epss
    }

    pub fn hash(&self) -> &FactsHash {
        &self.hash
    }

    /// Writes the bytes that are stored; their SHA-256 is [`Self::hash`].
    pub fn write_to(&self, to: impl io::Write) -> io::Result<()> {
        Ok(serde_json::to_writer(to, &*self.content)?)
    }

    /// Reads what [`Self::write_to`] wrote, and checks that these are the bytes that `hash` names.
    pub fn from_bytes(bytes: &[u8], hash: &FactsHash) -> Result<Self, BadFacts> {
        let found = sha256_hex(bytes);
        if found != hash.0 {
            return Err(BadFacts::OtherHash { found, expected: hash.0.clone() });
        }
        let content = serde_json::from_slice(bytes).map_err(|error| BadFacts::Unreadable(error.to_string()))?;
        Ok(Self { content: Arc::new(content), hash: hash.clone() })
    }
}

/// One answer of the scanner about one image, before anything is made of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    pub source: ScanSource,
    pub what: Answered,
    /// Inspector's own word on the image, asked for only where ECR's answer leaves it open.
    pub coverage: Option<Coverage>,
    /// When the image was pushed, where the coverage has to be newer than that.
    pub pushed_at: Option<Timestamp>,
    /// The moment in which the reading began.
    pub read_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answered {
    Findings(Report),
    /// ScanNotFoundException: never scanned, scanning is off, or the first moments after a push.
    NoScan,
    /// ImageNotFoundException.
    NoImage,
}

/// DescribeImageScanFindings, its pages put together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Report {
    pub status: Option<String>,
    pub description: Option<String>,
    pub completed_at: Option<Timestamp>,
    /// The scanner's own counts, where it states any.
    pub stated_counts: Option<Counts>,
    pub findings: Vec<Finding>,
    /// Whether there are pages that were not read.
    pub more: bool,
    /// Whether there was a list of findings at all, be it an empty one.
    pub listed: bool,
    /// Whether findings came in the list that only Inspector fills, and in the one that only basic scanning fills.
    pub has_enhanced_findings: bool,
    pub has_basic_findings: bool,
    /// Whether Inspector was asked how likely the findings are exploited, and has answered about all that it knows.
    #[serde(default)]
    pub says_epss: bool,
}

/// Pages that do not belong together: the scan went on while they were read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} changed while its pages were read")]
pub struct MixedPages(&'static str);

impl Report {
    /// Puts the page that follows to what has been read so far. What is read of two scans is the list of neither.
    pub fn followed_by(mut self, page: Report) -> Result<Report, MixedPages> {
        // That every page repeats what the first one says of the scan is nowhere promised: silence is no contradiction.
        if page.status.is_some() && self.status != page.status {
            return Err(MixedPages("the status"));
        }
        if page.completed_at.is_some() && self.completed_at != page.completed_at {
            return Err(MixedPages("the completed time"));
        }
        if page.stated_counts.is_some() && self.stated_counts != page.stated_counts {
            return Err(MixedPages("the number of findings"));
        }
        if self.listed != page.listed {
            return Err(MixedPages("whether there is a list of findings"));
        }
        self.findings.extend(page.findings);
        self.has_enhanced_findings |= page.has_enhanced_findings;
        self.has_basic_findings |= page.has_basic_findings;
        self.more = page.more;
        Ok(self)
    }
}

/// Inspector's coverage of one image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coverage {
    pub code: String,
    pub reason: String,
    pub last_scanned_at: Option<Timestamp>,
}

/// An answer, understood: the state it proves, with the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reading {
    pub source: ScanSource,
    pub state: ScanState,
    /// The scanner's status, in its own words.
    pub status: String,
    pub completed_at: Option<Timestamp>,
    /// Whose clock `completed_at` is.
    pub clock: Clock,
    pub stated_counts: Option<Counts>,
    /// Everything that was listed, suppressed and closed findings included; `None` when nothing was listed because there is
    /// no result to list.
    pub facts: Option<Facts>,
    pub read_at: Timestamp,
}

impl Reading {
    pub fn without_result(source: ScanSource, state: ScanState, status: String, read_at: Timestamp) -> Self {
        Self { source, state, status, completed_at: None, clock: Clock::default(), stated_counts: None, facts: None, read_at }
    }

    /// Whether the scanner counts more than it lists. Compared within one answer, with suppressed and closed findings.
    pub fn counts_disagree(&self) -> bool {
        match (&self.stated_counts, &self.facts) {
            (Some(stated), Some(facts)) => stated.exceed(&Counts::of(facts.findings())),
            _ => false,
        }
    }
}

/// Whether Inspector's coverage has to be asked as well, because ECR's answer leaves open what has become of the scan.
pub fn leaves_open(source: ScanSource, what: &Answered) -> bool {
    source == ScanSource::Enhanced
        && match what {
            Answered::NoScan => true,
            Answered::NoImage => false,
            Answered::Findings(report) => report.completed_at.is_none() && matches!(Status::parse(report.status.as_deref()), Status::Complete | Status::Active),
        }
}

/// What an answer proves.
///
/// - basic: COMPLETE and a completed time.
/// - enhanced: COMPLETE or ACTIVE and a completed time; or, COMPLETE or ACTIVE and Inspector's coverage says that it has
///   scanned the image since it was pushed. COMPLETE or ACTIVE alone is what ECR says *before* findings arrive: Running.
/// - a page that was not read, an answer without a list, or a count above the list, is not complete.
pub fn understand(answer: Answer) -> Reading {
    let Answer { source, what, coverage, pushed_at, read_at } = answer;
    let bare = |state: ScanState, status: &str| Reading::without_result(source, state, status.to_owned(), read_at);
    let report = match what {
        Answered::NoImage => return bare(ScanState::Deleted, "ImageNotFoundException"),
        Answered::NoScan => {
            let state = coverage.as_ref().map_or(ScanState::NotFound, |coverage| without_result(coverage, ScanState::NotFound));
            return bare(state, &with_coverage("ScanNotFoundException", coverage.as_ref()));
        }
        Answered::Findings(report) => report,
    };

    let status = Status::parse(report.status.as_deref());
    let word = report.status.clone().unwrap_or_else(|| "no status".to_owned());
    let by_scan = report.completed_at.map(|at| (at, Clock::Scan));
    let by_coverage = || coverage.as_ref().and_then(|coverage| scanned_since_push(coverage, pushed_at)).map(|at| (at, Clock::Coverage));
    let proven = match (&status, source) {
        _ if report.more || !report.listed => None,
        (Status::Complete, ScanSource::Basic) => by_scan,
        (Status::Complete | Status::Active, ScanSource::Enhanced) => by_scan.or_else(by_coverage),
        _ => None,
    };
    // A scan that ends in the future would be newer than every true one.
    let latest = read_at.saturating_add(CLOCKS_DIFFER).unwrap_or(Timestamp::MAX);
    let proven = proven.filter(|(at, _)| *at <= latest);
    let state = match status {
        // Findings in the other scanner's list, or its status: the configuration has just been changed.
        Status::Active if source == ScanSource::Basic => ScanState::Unknown("ACTIVE under basic scanning".to_owned()),
        Status::Complete if source == ScanSource::Basic && report.has_enhanced_findings => {
            ScanState::Unknown("enhanced findings under basic scanning".to_owned())
        }
        Status::Complete | Status::Active if source == ScanSource::Enhanced && report.has_basic_findings => {
            ScanState::Unknown("basic findings under enhanced scanning".to_owned())
        }
        Status::Complete | Status::Active if proven.is_some() => ScanState::Complete,
        Status::Complete | Status::Active => coverage.as_ref().map_or(ScanState::Running, |coverage| without_result(coverage, ScanState::Running)),
        Status::Pending | Status::InProgress => ScanState::Running,
        Status::Failed => ScanState::Failed(report.description.clone().unwrap_or_else(|| "Unknown error".to_owned())),
        Status::UnsupportedImage => ScanState::Unsupported,
        Status::EligibilityExpired => ScanState::EligibilityExpired,
        Status::FindingsUnavailable => ScanState::FindingsUnavailable,
        Status::LimitExceeded => ScanState::LimitExceeded,
        Status::ImageArchived => ScanState::Archived,
        Status::Missing => ScanState::Unknown("NO_STATUS".to_owned()),
        Status::Other(word) => ScanState::Unknown(word),
    };
    // What is listed beside a state without a result (PENDING with an old list, say) is not what the scan found.
    let lists = state == ScanState::Complete || !report.findings.is_empty();
    let mut reading = Reading {
        source,
        state,
        status: with_coverage(&word, coverage.as_ref()),
        completed_at: proven.map(|(at, _)| at),
        clock: proven.map(|(_, clock)| clock).unwrap_or_default(),
        stated_counts: report.stated_counts,
        facts: lists.then(|| Facts::with(source, report.findings, report.says_epss)),
        read_at,
    };
    if reading.state == ScanState::Complete && reading.counts_disagree() {
        reading.state = ScanState::CountsDisagree;
    }
    reading
}

fn with_coverage(status: &str, coverage: Option<&Coverage>) -> String {
    match coverage {
        Some(coverage) => format!("{status}, coverage {}/{}", coverage.code, coverage.reason),
        None => status.to_owned(),
    }
}

/// The moment of the scan that the coverage proves: none unless it is known to be no older than the push.
fn scanned_since_push(coverage: &Coverage, pushed_at: Option<Timestamp>) -> Option<Timestamp> {
    let says_scanned = matches!((coverage.code.as_str(), coverage.reason.as_str()), ("ACTIVE", "SUCCESSFUL") | ("INACTIVE", "SCAN_FREQUENCY_SCAN_ON_PUSH"));
    coverage.last_scanned_at.filter(|scanned| says_scanned && pushed_at.is_some_and(|pushed| *scanned >= pushed))
}

/// What Inspector's reason says of an image for which ECR shows no result. Reasons that neither promise a result nor rule one
/// out leave it at `otherwise`.
fn without_result(coverage: &Coverage, otherwise: ScanState) -> ScanState {
    match coverage.reason.as_str() {
        "PENDING_INITIAL_SCAN" | "SCAN_IN_PROGRESS" | "PENDING_REVIVAL_SCAN" => ScanState::CoveragePending,
        "UNSUPPORTED_OS" | "UNSUPPORTED_MEDIA_TYPE" | "IMAGE_SIZE_EXCEEDED" => ScanState::Unsupported,
        "SCAN_ELIGIBILITY_EXPIRED" => ScanState::EligibilityExpired,
        "IMAGE_ARCHIVED" => ScanState::Archived,
        _ => otherwise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::finding::{FindingStatus, Rating, Severity};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn finding(id: &str, severity: Severity) -> Finding {
        Finding::new(id, Rating::Rated(severity))
    }

    fn report(status: &str, completed_at: Option<i64>) -> Report {
        Report { status: Some(status.into()), completed_at: completed_at.map(at), listed: true, ..Report::default() }
    }

    fn answer(source: ScanSource, report: Report) -> Answer {
        Answer { source, what: Answered::Findings(report), coverage: None, pushed_at: None, read_at: at(100) }
    }

    fn state(source: ScanSource, report: Report) -> ScanState {
        understand(answer(source, report)).state
    }

    #[test]
    fn every_status_has_its_state_and_only_a_completed_one_is_complete() {
        use ScanSource::{Basic, Enhanced};
        let unknown = |word: &str| ScanState::Unknown(word.into());
        for (source, status, completed_at, expected) in [
            (Basic, "COMPLETE", Some(50), ScanState::Complete),
            (Basic, "COMPLETE", None, ScanState::Running),
            (Basic, "ACTIVE", Some(50), unknown("ACTIVE under basic scanning")),
            (Enhanced, "COMPLETE", Some(50), ScanState::Complete),
            (Enhanced, "ACTIVE", Some(50), ScanState::Complete),
            (Enhanced, "ACTIVE", None, ScanState::Running), // what ECR says before findings arrive
            (Enhanced, "COMPLETE", None, ScanState::Running),
            (Enhanced, "PENDING", Some(50), ScanState::Running),
            (Basic, "IN_PROGRESS", Some(50), ScanState::Running),
            (Basic, "FAILED", None, ScanState::Failed("Unknown error".into())),
            (Basic, "UNSUPPORTED_IMAGE", None, ScanState::Unsupported),
            (Enhanced, "SCAN_ELIGIBILITY_EXPIRED", Some(50), ScanState::EligibilityExpired),
            (Enhanced, "FINDINGS_UNAVAILABLE", Some(50), ScanState::FindingsUnavailable),
            (Basic, "LIMIT_EXCEEDED", Some(50), ScanState::LimitExceeded),
            (Enhanced, "IMAGE_ARCHIVED", Some(50), ScanState::Archived),
            (Enhanced, "SOMETHING_NEW", Some(50), unknown("SOMETHING_NEW")),
        ] {
            assert_eq!(state(source, report(status, completed_at)), expected, "{source} {status} {completed_at:?}");
        }
        assert_eq!(state(Basic, Report::default()), unknown("NO_STATUS"));
    }

    #[test]
    fn a_missing_list_is_not_a_list_without_findings() {
        let bare = Report { listed: false, ..report("COMPLETE", Some(50)) };
        assert_eq!(state(ScanSource::Basic, bare.clone()), ScanState::Running);
        let counted = Report { stated_counts: Some(Counts::default()), ..bare };
        assert_eq!(state(ScanSource::Basic, counted), ScanState::Running, "nor are counts that say that there are none");
    }

    #[test]
    fn a_page_that_was_not_read_is_not_complete() {
        assert_eq!(state(ScanSource::Basic, Report { more: true, ..report("COMPLETE", Some(50)) }), ScanState::Running);
    }

    #[test]
    fn a_scan_that_ends_in_the_future_proves_nothing() {
        for (completed_at, expected) in [(159, ScanState::Complete), (160, ScanState::Complete), (161, ScanState::Running)] {
            assert_eq!(state(ScanSource::Basic, report("COMPLETE", Some(completed_at))), expected, "read at 100, completed at {completed_at}");
        }
    }

    #[test]
    fn findings_in_the_list_of_the_other_scanner_are_not_believed() {
        for source in [ScanSource::Basic, ScanSource::Enhanced] {
            let own = Report {
                has_basic_findings: source == ScanSource::Basic,
                has_enhanced_findings: source == ScanSource::Enhanced,
                ..report("COMPLETE", Some(50))
            };
            assert_eq!(state(source, own.clone()), ScanState::Complete);
            let both = Report { has_basic_findings: true, has_enhanced_findings: true, ..own };
            assert!(matches!(state(source, both), ScanState::Unknown(_)), "{source}");
        }
    }

    #[test]
    fn pages_of_two_scans_are_the_list_of_neither() {
        let first = Report { more: true, findings: vec![finding("CVE-1", Severity::High)], ..report("COMPLETE", Some(50)) };
        let last = || Report { findings: vec![finding("CVE-2", Severity::Low)], ..report("COMPLETE", Some(50)) };
        let whole = first.clone().followed_by(last()).unwrap();
        assert_eq!((whole.findings.len(), whole.more), (2, false));
        let counts = Some(Counts::from(std::collections::BTreeMap::from([("HIGH".into(), 1)])));
        for other in [
            Report { completed_at: Some(at(51)), ..last() },
            Report { stated_counts: counts.clone(), ..last() },
            Report { listed: false, findings: vec![], ..last() },
            Report { status: Some("IN_PROGRESS".into()), ..last() },
        ] {
            assert!(first.clone().followed_by(other.clone()).is_err(), "{other:?}");
        }
        let silent = Report { status: None, completed_at: None, ..last() };
        assert!(first.clone().followed_by(silent.clone()).is_ok());
        assert!(Report { stated_counts: counts, ..first.clone() }.followed_by(silent.clone()).is_ok());
        assert!(silent.followed_by(last()).is_err(), "the scan ended after the first page was read");
    }

    #[test]
    fn whose_findings_any_page_has_the_whole_list_has() {
        let page = |basic: bool, enhanced: bool| Report { has_basic_findings: basic, has_enhanced_findings: enhanced, ..report("COMPLETE", Some(50)) };
        for (first, last) in [((true, false), (false, false)), ((false, true), (false, false)), ((false, false), (true, true))] {
            let whole = page(first.0, first.1).followed_by(page(last.0, last.1)).unwrap();
            assert_eq!((whole.has_basic_findings, whole.has_enhanced_findings), (first.0 | last.0, first.1 | last.1), "{first:?} {last:?}");
        }
    }

    #[test]
    fn coverage_is_asked_where_inspector_is_in_charge_and_ecr_does_not_say_what_became_of_the_scan() {
        let findings = |status: &str, completed_at: Option<i64>| Answered::Findings(report(status, completed_at));
        for (what, open) in [
            (Answered::NoScan, true),
            (Answered::NoImage, false),
            (findings("ACTIVE", None), true),
            (findings("COMPLETE", None), true),
            (findings("ACTIVE", Some(50)), false),
            (findings("PENDING", None), false),
            (findings("FAILED", None), false),
        ] {
            assert_eq!(leaves_open(ScanSource::Enhanced, &what), open, "{what:?}");
            assert!(!leaves_open(ScanSource::Basic, &what), "{what:?}");
        }
    }

    #[test]
    fn a_policy_by_likelihood_needs_findings_of_inspector_that_say_it() {
        let by_likelihood = Policy::parse(r#"{"exploit":{"epss":"0.1"}}"#).unwrap();
        for (source, says_epss, policy, judged) in [
            (ScanSource::Enhanced, false, Policy::default(), true),
            (ScanSource::Enhanced, false, by_likelihood.clone(), false),
            (ScanSource::Enhanced, true, by_likelihood.clone(), true),
            (ScanSource::Basic, false, by_likelihood, true),
        ] {
            assert_eq!(Facts::with(source, vec![], says_epss).can_be_judged_by(&policy), judged, "{source} {says_epss}");
        }
    }

    #[test]
    fn what_is_listed_beside_a_state_without_a_result_is_kept_and_an_empty_list_is_not() {
        for (findings, kept) in [(vec![], false), (vec![finding("CVE-1", Severity::High)], true)] {
            let reading = understand(answer(ScanSource::Enhanced, Report { findings, ..report("PENDING", None) }));
            assert_eq!((reading.facts.is_some(), reading.state), (kept, ScanState::Running));
        }
    }

    #[test]
    fn more_in_the_counts_than_in_the_list_is_not_complete() {
        let counts = |high: u64| Some(Counts::from(std::collections::BTreeMap::from([("HIGH".into(), high)])));
        let suppressed = Finding { status: FindingStatus::Suppressed, ..finding("CVE-1", Severity::High) };
        for (stated, listed, expected) in [
            (counts(2), vec![finding("CVE-1", Severity::High)], ScanState::CountsDisagree),
            (counts(1), vec![finding("CVE-1", Severity::High)], ScanState::Complete),
            (counts(1), vec![suppressed], ScanState::Complete), // the count may hold suppressed ones
            (counts(1), vec![finding("CVE-1", Severity::Low)], ScanState::CountsDisagree),
            (None, vec![], ScanState::Complete),
        ] {
            let report = Report { stated_counts: stated.clone(), findings: listed, ..report("COMPLETE", Some(50)) };
            assert_eq!(state(ScanSource::Basic, report), expected, "{stated:?}");
        }
    }

    #[test]
    fn coverage_proves_a_scan_only_since_the_push() {
        let with = |code: &str, reason: &str, scanned: Option<i64>, pushed: Option<i64>| {
            let coverage = Some(Coverage { code: code.into(), reason: reason.into(), last_scanned_at: scanned.map(at) });
            understand(Answer { coverage, pushed_at: pushed.map(at), ..answer(ScanSource::Enhanced, report("ACTIVE", None)) }).state
        };
        for (code, reason, scanned, pushed, expected) in [
            ("ACTIVE", "SUCCESSFUL", Some(20), Some(10), ScanState::Complete),
            ("ACTIVE", "SUCCESSFUL", Some(10), Some(10), ScanState::Complete),
            ("ACTIVE", "SUCCESSFUL", Some(9), Some(10), ScanState::Running), // the scan of an earlier push
            ("ACTIVE", "SUCCESSFUL", Some(20), None, ScanState::Running),
            ("ACTIVE", "SUCCESSFUL", None, Some(10), ScanState::Running),
            ("INACTIVE", "SCAN_FREQUENCY_SCAN_ON_PUSH", Some(20), Some(10), ScanState::Complete),
            ("INACTIVE", "SUCCESSFUL", Some(20), Some(10), ScanState::Running),
            ("ACTIVE", "PENDING_INITIAL_SCAN", Some(20), Some(10), ScanState::CoveragePending),
            ("INACTIVE", "UNSUPPORTED_OS", None, Some(10), ScanState::Unsupported),
            ("INACTIVE", "SCAN_ELIGIBILITY_EXPIRED", None, Some(10), ScanState::EligibilityExpired),
            ("INACTIVE", "INTERNAL_ERROR", Some(20), Some(10), ScanState::Running),
        ] {
            assert_eq!(with(code, reason, scanned, pushed), expected, "{code}/{reason} scanned {scanned:?} pushed {pushed:?}");
        }
    }

    #[test]
    fn an_image_without_a_scan_is_not_clean_and_one_that_is_gone_is_deleted() {
        let of = |what: Answered| understand(Answer { what, ..answer(ScanSource::Basic, Report::default()) });
        assert_eq!((of(Answered::NoScan).state, of(Answered::NoScan).facts), (ScanState::NotFound, None));
        assert_eq!(of(Answered::NoImage).state, ScanState::Deleted);
    }

    #[test]
    fn findings_have_one_hash_whatever_their_order() {
        let (a, b) = (finding("CVE-1", Severity::Low), finding("CVE-2", Severity::Critical));
        let facts = Facts::new(ScanSource::Basic, vec![a.clone(), b.clone()]);
        assert_eq!(facts, Facts::new(ScanSource::Basic, vec![b, a]));
        let mut bytes = Vec::new();
        facts.write_to(&mut bytes).unwrap();
        assert_eq!(facts.hash().as_str(), sha256_hex(&bytes));
        assert_eq!(facts.findings()[0].id, "CVE-2", "worst first");
        assert_eq!(Facts::from_bytes(&bytes, facts.hash()), Ok(facts.clone()));
        assert!(Facts::from_bytes(b"{}", facts.hash()).is_err());
    }
}
