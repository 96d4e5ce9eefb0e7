//! What is kept of one image in one repository: a few kilobytes that answer a deployment in one read.
//!
//! News arrive doubled, late and in any order. [`merge`] gives one scanner's readings the same state and the same findings in
//! whatever order they come: newer evidence wins by the scan's completed time, then by the time of reading, then by content.
//! What has been merged once changes nothing the second time. Of a reading that loses one thing stays: that it differed, and
//! when. So no order of arrival proves more than the order of reading does; a late one may cost one more look.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::finding::Counts;
use super::image::{ImageDigest, Repository};
use super::judge::judge;
use super::policy::{Policy, PolicyHash};
use super::scan::{Clock, Facts, FactsHash, Reading, ScanSource, ScanState, Standing, Status};

/// How far apart two equal readings of Inspector's findings have to be, so that the list can be taken for whole: one finding
/// has been seen to become three within a minute.
pub const APART: SignedDuration = SignedDuration::from_secs(20);
/// Over so many unchanged readings and so long a count above the list is no longer a list that is still being filled.
const DISAGREEING_READS: u32 = 3;
const DISAGREEING_FOR: SignedDuration = SignedDuration::from_secs(30);
/// After how long to look again, the first, second and third time. A fourth does not come: the chain ends by itself, and
/// the next event or deployment goes on from there.
const LOOK_AGAIN_S: [i64; 3] = [15, 30, 60];
/// Two readings that prove each other are 20 s apart, so the first look again at an unproven list is a little later.
const PROOF_S: i64 = 22;
/// A delayed message may come this much before its time: clocks differ, and a queue may count whole seconds. Whoever comes early
/// may have read already what is news now.
const COMES_EARLY: SignedDuration = SignedDuration::from_secs(2);
/// A scan-complete event speaks of the scan that had been completed when it was sent; clocks may differ by this much.
const EVENT_SKEW: SignedDuration = SignedDuration::from_secs(60);
/// A scan that has brought nothing for so long is not coming.
const SCAN_TAKES_AT_MOST: SignedDuration = SignedDuration::from_hours(24);
const POLICIES: usize = 8;
const PARENTS: usize = 20;
const TAGS: usize = 20;
/// Tags can have 128 characters each; a head has to stay within 4 KB.
const TAG_BYTES: usize = 600;

/// An image of an index, with the platform that it is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Child {
    pub digest: ImageDigest,
    /// `os/architecture[/variant]`; empty when the index does not say.
    pub platform: String,
}

/// What a deployment names, resolved: the digest in the template and the images that count for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Counted {
    pub digest: ImageDigest,
    pub images: Vec<Child>,
}

impl Counted {
    pub fn is_index(&self) -> bool {
        self.images.iter().all(|image| image.digest != self.digest)
    }

    /// Each digest that news can come of.
    pub fn digests(&self) -> impl Iterator<Item = &ImageDigest> {
        let root = self.is_index().then_some(&self.digest);
        root.into_iter().chain(self.images.iter().map(|image| &image.digest))
    }
}

/// What a digest turned out to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nobody has looked at the manifest yet.
    #[default]
    Unknown,
    Image,
    /// Not scanned itself: its counted children are.
    Index(Vec<Child>),
}

/// The head of one image in one repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Head {
    pub digest: ImageDigest,
    #[serde(rename = "item")]
    pub repository: Repository,
    /// Every write expects the version it read and adds one.
    pub version: u64,
    #[serde(default)]
    pub kind: Kind,
    /// The indexes that hold this image, as far as there is room.
    #[serde(default)]
    pub parents: Vec<ImageDigest>,
    #[serde(default)]
    pub more_parents: bool,
    /// Newest first.
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub pushed_at: Option<Timestamp>,
    #[serde(default)]
    pub result: Option<ScanResult>,
    /// A scan that we have asked for: results that were there before are not its.
    #[serde(default)]
    pub asked_for: Option<AskedFor>,
    /// The newest word on the scan that came without a result.
    #[serde(default)]
    pub latest: Option<Word>,
    /// Results read before this moment do not count any more, and prove nothing for a later one: the image was archived, deleted
    /// or fell out of scanning since, or the scanner withheld its findings or said what nobody here understands.
    #[serde(default)]
    pub voided_at: Option<Timestamp>,
    /// What the scanner's own event counted.
    #[serde(default)]
    pub event: Option<EventCounts>,
    /// What has been judged already; only ever of `result`'s findings.
    #[serde(default)]
    pub verdicts: Vec<PolicyVerdict>,
    /// When the API was last asked, by the scanner that was in charge: what one has found counts only until the other answers.
    #[serde(default)]
    pub last_read: LastRead,
    /// When on-scan itself has begun its last reading. What others have read in passing nobody was told of.
    #[serde(default)]
    pub seen_at: Option<Timestamp>,
    /// When somebody comes who reads the image again: what happens to its findings until then needs no reading of its own.
    #[serde(default)]
    pub look_at: Option<Timestamp>,
    /// The pipeline's verdict, for a person who looks at the table.
    #[serde(default)]
    pub verdict: String,
}

/// The newest reading of each scanner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LastRead {
    #[serde(default)]
    pub basic: Option<Timestamp>,
    #[serde(default)]
    pub enhanced: Option<Timestamp>,
}

impl LastRead {
    fn note(&mut self, source: ScanSource, at: Timestamp) {
        let last = match source {
            ScanSource::Basic => &mut self.basic,
            ScanSource::Enhanced => &mut self.enhanced,
        };
        *last = (*last).max(Some(at));
    }

    fn of_the_other(&self, source: ScanSource) -> Option<Timestamp> {
        match source {
            ScanSource::Basic => self.enhanced,
            ScanSource::Enhanced => self.basic,
        }
    }

    pub fn newest(&self) -> Option<Timestamp> {
        self.basic.max(self.enhanced)
    }
}

/// A scan that the scanner calls finished.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ScanResult {
    pub source: ScanSource,
    pub status: String,
    pub completed_at: Timestamp,
    /// Who said so: two clocks do not compare.
    #[serde(default)]
    pub clock: Clock,
    pub read_at: Timestamp,
    /// How many readings agreed with this one, itself included.
    pub reads: u32,
    /// The first reading since which nothing changed. It counts as proof only from `completed_at` on.
    pub equal_since: Timestamp,
    /// The newest reading that listed something else.
    #[serde(default)]
    pub differed_at: Option<Timestamp>,
    #[serde(default)]
    pub stated_counts: Option<Counts>,
    /// What counts: active findings by severity.
    pub counts: Counts,
    /// Everything listed, suppressed and closed findings included.
    pub listed: Counts,
    pub facts: FactsHash,
    /// Whether they say how likely the findings are exploited.
    #[serde(default)]
    pub says_epss: bool,
    /// Whether the scanner counts more than it lists.
    #[serde(default)]
    pub counts_disagree: bool,
}

/// A basic scan that somebody here has asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AskedFor {
    pub at: Timestamp,
    /// The end of the scan whose result was there then.
    pub after: Option<Timestamp>,
}

/// A state without a result.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Word {
    pub source: ScanSource,
    pub state: ScanState,
    pub status: String,
    pub read_at: Timestamp,
}

impl Word {
    /// Whether the scanner has called the scan complete, and what was read of it is not its whole result.
    pub fn is_of_an_ended_scan(&self) -> bool {
        matches!(Status::parse(Some(&self.status)), Status::Complete | Status::Active)
    }
}

/// The counts of a scan-complete event. Inspector counts CRITICAL, HIGH, MEDIUM and TOTAL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EventCounts {
    pub at: Timestamp,
    pub critical: u64,
    pub high: u64,
    pub medium: u64,
    pub total: u64,
}

impl EventCounts {
    /// Whether the scanner has counted more of anything than this.
    fn exceed(&self, counts: &Counts) -> bool {
        self.critical > counts.get("CRITICAL") || self.high > counts.get("HIGH") || self.medium > counts.get("MEDIUM") || self.total > counts.total()
    }

    /// Which of two events is newer. Envelopes carry whole seconds; of one second, the event that counts more.
    pub fn newer(self, other: Self) -> Self {
        let key = |event: &Self| (event.at, event.total, event.critical, event.high, event.medium);
        if key(&other) > key(&self) { other } else { self }
    }

    fn agree_with(&self, counts: &Counts) -> bool {
        (self.critical, self.high, self.medium, self.total) == (counts.get("CRITICAL"), counts.get("HIGH"), counts.get("MEDIUM"), counts.total())
    }
}

/// How many findings of the result block under one policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PolicyVerdict {
    pub policy: PolicyHash,
    pub blocking: u64,
    pub asked_at: Timestamp,
    /// The first moment in which time alone makes another verdict: an exemption ends then, or a grace.
    #[serde(default)]
    pub holds_until: Option<Timestamp>,
}

impl PolicyVerdict {
    fn holds(&self, now: Timestamp) -> bool {
        self.holds_until.is_none_or(|until| now < until)
    }
}

impl ScanResult {
    fn unchanged_for(&self) -> SignedDuration {
        self.read_at.duration_since(self.equal_since)
    }

    fn is_contested(&self) -> bool {
        self.differed_at.is_some_and(|differed| differed >= self.read_at)
    }

    fn says_the_same_as(&self, other: &Self) -> bool {
        let content = |result: &Self| (result.facts.clone(), result.stated_counts.clone(), result.counts_disagree);
        content(self) == content(other)
    }

    /// Another reading listed something else at that moment.
    fn differs_from_one_of(&mut self, at: Timestamp) {
        self.differed_at = self.differed_at.max(Some(at));
        self.proves_nothing_before(at);
    }

    /// What was read the same until that moment proves nothing any more.
    fn proves_nothing_before(&mut self, at: Timestamp) {
        if at >= self.equal_since {
            self.equal_since = self.read_at;
            self.reads = 1;
        }
    }

    /// Takes over what `old`, which this one replaces, has proven already.
    fn follow(&mut self, old: &Self) {
        self.differed_at = old.differed_at;
        if !self.says_the_same_as(old) {
            self.differs_from_one_of(old.read_at);
        } else if old.clock == self.clock && old.differed_at < Some(old.equal_since) {
            self.reads = old.reads.saturating_add(1);
            // The run of equal readings counts from the first one that was not before this scan's end.
            if old.equal_since >= self.completed_at {
                self.equal_since = old.equal_since;
            }
        }
    }
}

impl Head {
    fn new(digest: &ImageDigest, repository: &Repository) -> Self {
        Self {
            digest: digest.clone(),
            repository: repository.clone(),
            version: 0,
            kind: Kind::Unknown,
            parents: Vec::new(),
            more_parents: false,
            tags: Vec::new(),
            pushed_at: None,
            result: None,
            asked_for: None,
            latest: None,
            voided_at: None,
            event: None,
            verdicts: Vec::new(),
            last_read: LastRead::default(),
            seen_at: None,
            look_at: None,
            verdict: String::new(),
        }
    }

    /// The result, unless something since has made it void.
    pub fn valid_result(&self) -> Option<&ScanResult> {
        self.result.as_ref().filter(|result| self.still_counts(result))
    }

    fn still_counts(&self, result: &ScanResult) -> bool {
        self.ended_before(result.source).is_none_or(|ended| result.read_at > ended)
    }

    /// Since when the readings of this scanner count.
    fn ended_before(&self, source: ScanSource) -> Option<Timestamp> {
        self.voided_at.max(self.last_read.of_the_other(source))
    }

    /// How far the scan of this image is.
    pub fn state(&self) -> ScanState {
        match self.valid_result() {
            Some(result) if !result.counts_disagree => ScanState::Complete,
            Some(result) if result.reads >= DISAGREEING_READS && result.unchanged_for() >= DISAGREEING_FOR => ScanState::CountsDisagree,
            Some(_) => ScanState::Running,
            None => self.latest.as_ref().map_or(ScanState::NotFound, |word| word.state.clone()),
        }
    }

    /// The scanner that this record is of.
    pub fn source(&self) -> Option<ScanSource> {
        self.valid_result().map(|result| result.source).or_else(|| self.latest.as_ref().map(|word| word.source))
    }

    /// The complete result, if there is one, and whether its list of findings is proven to be whole.
    ///
    /// Basic scanning writes its findings at once. Inspector fills the list while it already calls the scan complete, so it
    /// takes the counts of its scan-complete event, or two equal readings [`APART`] that this event does not contradict.
    pub fn complete(&self) -> Option<(&ScanResult, bool)> {
        let result = self.valid_result().filter(|result| !result.counts_disagree)?;
        let settled = match result.source {
            // A later reading, of an older scan as it says, listed something else: which of them is true shows the next one.
            _ if result.is_contested() => false,
            ScanSource::Basic => true,
            ScanSource::Enhanced => match self.event_of(result) {
                // An event counts either everything or what is active: it is not documented which.
                Some(event) if event.agree_with(&result.listed) || event.agree_with(&result.counts) => true,
                // The scanner itself has counted more than it lists: reading the same list twice proves nothing against that.
                Some(event) if event.exceed(&result.listed) => false,
                _ => result.unchanged_for() >= APART,
            },
        };
        Some((result, settled))
    }

    /// The counts of the event that speaks of this very scan, and that nothing has made void since.
    fn event_of(&self, result: &ScanResult) -> Option<&EventCounts> {
        let of_this_scan = |event: &&EventCounts| result.completed_at <= event.at.saturating_add(EVENT_SKEW).unwrap_or(Timestamp::MAX);
        self.event.as_ref().filter(of_this_scan).filter(|event| self.voided_at.max(self.last_read.basic).is_none_or(|ended| event.at > ended))
    }

    /// After how long it should be read again, when it was read `n` times in a row.
    pub fn look_again_after(&self, n: u32) -> Option<SignedDuration> {
        let wait_s = *LOOK_AGAIN_S.get(n as usize)?;
        // An index is not scanned, so looking again finds nothing.
        if matches!(self.kind, Kind::Index(_)) {
            return None;
        }
        let unproven = self.complete().is_some_and(|(_, settled)| !settled);
        let pending = self.state().standing() == Standing::Pending && self.state() != ScanState::CountsDisagree;
        match (unproven, pending) {
            (true, _) => Some(SignedDuration::from_secs(wait_s.max(PROOF_S))),
            (false, true) => Some(SignedDuration::from_secs(wait_s)),
            (false, false) => None,
        }
    }

    /// Whether somebody comes who reads it. One who should have come by now may be reading already: what he has not seen is news.
    pub fn is_about_to_be_read(&self, now: Timestamp) -> bool {
        self.look_at.is_some_and(|at| at.duration_since(now) > COMES_EARLY)
    }

    /// Whether a scan that was asked for within a day has not brought its result yet.
    pub fn awaits_scan(&self, now: Timestamp) -> bool {
        let asked = self.asked_for.as_ref().filter(|asked| now.duration_since(asked.at) < SCAN_TAKES_AT_MOST);
        asked.is_some_and(|asked| self.valid_result().is_none_or(|result| Some(result.completed_at) <= asked.after))
    }

    /// Whether whoever reads the findings has to ask as well how likely they are exploited. Once somebody has needed it, it stays:
    /// two readings that differ in that alone would not prove each other.
    pub fn needs_epss(&self) -> bool {
        self.valid_result().is_some_and(|result| result.says_epss)
    }

    /// How many findings block under `policy`, where the record alone can tell.
    pub fn blocking_under(&self, policy: &Policy, now: Timestamp) -> Option<u64> {
        let result = self.valid_result()?;
        if policy.is_by_severity_alone() {
            return Some(policy.blocking_in(&result.counts));
        }
        let hash = policy.hash();
        self.verdicts.iter().find(|verdict| verdict.policy == hash && verdict.holds(now)).map(|verdict| verdict.blocking)
    }

    /// How many findings block in a list that is not complete, where counts can tell. It admits nothing; it can be named.
    pub fn listed_so_far(&self, policy: &Policy) -> Option<u64> {
        let result = self.valid_result().filter(|_| policy.is_by_severity_alone())?;
        Some(policy.blocking_in(&result.counts)).filter(|blocking| *blocking > 0)
    }

    /// The verdict in words, for a person.
    fn in_words(&self, policy: &Policy) -> String {
        match (&self.kind, self.complete(), self.state()) {
            (Kind::Index(children), _, _) => format!("see its {} images", children.len()),
            (_, Some((result, settled)), _) => match self.blocking_under(policy, result.read_at) {
                Some(0) if settled => "PASS".to_owned(),
                Some(0) | None => "PENDING (not proven whole yet)".to_owned(),
                Some(blocking) => format!("BLOCK ({blocking} of {})", result.counts),
            },
            (_, None, state) if state.standing() == Standing::Unscanned => format!("UNSCANNED ({})", state.word()),
            (_, None, state) => format!("PENDING ({})", state.word()),
        }
    }
}

/// Something that was learned about an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum News {
    Pushed {
        kind: Kind,
        tag: Option<String>,
        at: Option<Timestamp>,
    },
    PartOf(ImageDigest),
    Scan(Reading),
    ScanEnded(EventCounts),
    ScanAskedFor(AskedFor),
    /// on-scan has read the image for the `n`-th time in a row: whether it is read again follows from what was found.
    WasRead {
        n: u32,
        began_at: Timestamp,
        at: Timestamp,
    },
    /// It will be read then.
    WillBeRead(Timestamp),
}

/// What the news make of the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Same,
    Write(Box<Head>),
}

/// Puts news into a row. Monotone and idempotent: what was merged before, or is older than what is known, changes nothing.
///
/// `policies` are those whose verdict the row shall hold, the pipeline's first.
pub fn merge(old: Option<&Head>, digest: &ImageDigest, repository: &Repository, news: &[News], policies: &[Policy]) -> Change {
    let before = old.cloned().unwrap_or_else(|| Head::new(digest, repository));
    let mut head = before.clone();
    for item in news {
        match item {
            News::Pushed { kind, tag, at } => pushed(&mut head, kind, tag.as_deref(), *at),
            News::PartOf(parent) => part_of(&mut head, parent),
            News::ScanEnded(event) => {
                head.event = Some(match head.event.take() {
                    Some(known) => known.newer(event.clone()),
                    None => event.clone(),
                });
            }
            News::ScanAskedFor(asked) => head.asked_for = head.asked_for.take().max(Some(asked.clone())),
            News::Scan(reading) => scanned(&mut head, reading, policies),
            News::WasRead { n, began_at, at } => {
                head.seen_at = head.seen_at.max(Some(*began_at));
                head.look_at = head.look_again_after(*n).and_then(|after| at.checked_add(after).ok());
            }
            News::WillBeRead(at) => head.look_at = head.look_at.max(Some(*at)),
        }
    }
    if let Some(pipelines) = policies.first() {
        head.verdict = head.in_words(pipelines);
    }
    if old.is_some() && head == before {
        return Change::Same;
    }
    head.version = before.version + 1;
    Change::Write(Box::new(head))
}

fn pushed(head: &mut Head, kind: &Kind, tag: Option<&str>, at: Option<Timestamp>) {
    if *kind != Kind::Unknown {
        head.kind = kind.clone(); // a digest's manifest never changes
    }
    // An older push that arrives late adds its tag at the end, so that the order of arrival does not matter much.
    let is_newest = head.pushed_at < at;
    if let Some(tag) = tag
        && !head.tags.iter().any(|known| known == tag)
    {
        let place = if is_newest { 0 } else { head.tags.len() };
        head.tags.insert(place, tag.to_owned());
        head.tags.truncate(TAGS);
        while head.tags.iter().map(String::len).sum::<usize>() > TAG_BYTES {
            head.tags.pop();
        }
    }
    if is_newest {
        head.pushed_at = at;
    }
}

fn part_of(head: &mut Head, parent: &ImageDigest) {
    if head.parents.contains(parent) {
        return;
    }
    // The first ones stay: were the last one to make way, two that come again and again would push each other out.
    if head.parents.len() < PARENTS {
        head.parents.insert(0, parent.clone());
    } else {
        head.more_parents = true;
    }
}

fn scanned(head: &mut Head, reading: &Reading, policies: &[Policy]) {
    head.last_read.note(reading.source, reading.read_at);
    let finished = matches!(reading.state, ScanState::Complete | ScanState::CountsDisagree);
    match (finished, &reading.facts, reading.completed_at) {
        (true, Some(facts), Some(completed_at)) => {
            let new = ScanResult {
                source: reading.source,
                status: reading.status.clone(),
                completed_at,
                clock: reading.clock,
                read_at: reading.read_at,
                reads: 1,
                equal_since: reading.read_at,
                differed_at: None,
                stated_counts: reading.stated_counts.clone(),
                counts: Counts::of(facts.findings().iter().filter(|finding| finding.counts())),
                listed: Counts::of(facts.findings()),
                facts: facts.hash().clone(),
                says_epss: facts.says_epss(),
                counts_disagree: reading.state == ScanState::CountsDisagree,
            };
            let result = newer_result(head, new);
            if head.result.as_ref().is_none_or(|old| old.facts != result.facts) {
                head.verdicts.clear();
            }
            // Verdicts are of the findings that the row refers to, and these may be those of a newer reading.
            if result.facts == *facts.hash() {
                remember_verdicts(head, facts, policies, reading.read_at);
            }
            head.result = Some(result);
        }
        _ => {
            // A word that rules the old result out, or one that nobody here understands: it does not count any more.
            let takes_back = reading.state.standing() == Standing::Unscanned || matches!(reading.state, ScanState::FindingsUnavailable | ScanState::Unknown(_));
            if takes_back {
                head.voided_at = head.voided_at.max(Some(reading.read_at));
            }
            let word = Word { source: reading.source, state: reading.state.clone(), status: reading.status.clone(), read_at: reading.read_at };
            if head.latest.as_ref().is_none_or(|known| (word.read_at, &word.state) > (known.read_at, &known.state)) {
                head.latest = Some(word);
            }
        }
    }
    let ended_before = head.result.as_ref().and_then(|result| head.ended_before(result.source));
    if let (Some(result), Some(ended)) = (&mut head.result, ended_before) {
        result.proves_nothing_before(ended);
    }
}

/// The result to keep: the new one, or the old one and what the new one means for it.
fn newer_result(head: &Head, mut new: ScanResult) -> ScanResult {
    let Some(old) = &head.result else { return new };
    let wins = match (head.still_counts(old), head.still_counts(&new)) {
        (false, true) => true,
        (true, false) => false,
        // Two clocks do not compare: there the later reading is the newer one.
        _ if new.source != old.source || new.clock != old.clock => (new.read_at, &new.facts) > (old.read_at, &old.facts),
        _ => (new.completed_at, new.read_at, &new.facts) > (old.completed_at, old.read_at, &old.facts),
    };
    if wins {
        // A result that does not count any more proves nothing for the one that follows it.
        if head.still_counts(old) && old.source == new.source {
            new.follow(old);
        }
        return new;
    }
    let mut old = old.clone();
    if head.still_counts(&new) && old.source == new.source && !old.says_the_same_as(&new) {
        old.differs_from_one_of(new.read_at);
    }
    old
}

/// Those asked for now come first; of the others, as many as there is room for.
fn remember_verdicts(head: &mut Head, facts: &Facts, policies: &[Policy], asked_at: Timestamp) {
    let asked: Vec<(PolicyHash, &Policy)> =
        policies.iter().filter(|policy| !policy.is_by_severity_alone() && facts.can_be_judged_by(policy)).map(|policy| (policy.hash(), policy)).collect();
    let is_known = |hash: &PolicyHash| head.verdicts.iter().any(|verdict| verdict.policy == *hash && verdict.holds(asked_at));
    if asked.iter().all(|(hash, _)| is_known(hash)) {
        return;
    }
    let mut verdicts: Vec<PolicyVerdict> = Vec::with_capacity(POLICIES);
    for (hash, policy) in asked {
        let known = head.verdicts.iter().position(|verdict| verdict.policy == hash).map(|place| head.verdicts.remove(place));
        verdicts.push(known.filter(|verdict| verdict.holds(asked_at)).unwrap_or_else(|| {
            let judgement = judge(facts.findings(), policy, &head.repository.name, asked_at);
            PolicyVerdict { policy: hash, blocking: judgement.blocking.len() as u64, asked_at, holds_until: judgement.holds_until }
        }));
    }
    verdicts.append(&mut head.verdicts);
    verdicts.truncate(POLICIES);
    head.verdicts = verdicts;
}

impl fmt::Display for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.platform.is_empty() { write!(f, "{}", self.digest) } else { write!(f, "{} ({})", self.digest, self.platform) }
    }
}
