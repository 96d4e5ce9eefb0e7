//! Who is told of what, and what they have been told already.
//!
//! No alert is set off by a change: what an audience has been told is kept, and compared with what is true. So news that comes
//! twice, late, or to somebody who dies over it, makes one alert all the same.
//!
//! An **audience** is the pipeline's own topic (with the event bus beside it), under the pipeline's policy; or the topic of a
//! live deployment's gate, under that gate's policy. Each has a record for each image: what it was told, and in its *outbox*
//! what it is still to be told.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::finding::{Finding, Rating, Severity};
use super::head::{Head, Kind};
use super::history::stack_name;
use super::image::{ImageDigest, Repository, sha256_hex};
use super::judge::{Judgement, judge};
use super::notice::{self, About};
use super::outputs::{Message, Role};
use super::policy::{Exemption, Policy, PolicyHash};
use super::scan::{Facts, FactsHash, ScanState, Standing};

/// A record has room for so many findings (120 KB); a DynamoDB item takes 400 KB. Of more, the worst ones.
const FINDINGS: usize = 20_000;
/// And for so many notices, of up to 30 KB each. Until there is room again nothing is compared, so nothing of it is lost.
const OUTBOX: usize = 6;
/// One comparison makes no more notices than this.
const AT_ONCE: usize = 4;
/// Nobody comes again later than this: SQS delays a message no longer.
const COMES_WITHIN: SignedDuration = SignedDuration::from_secs(900);
/// What could not be sent for so long is let go, and told anew as it is then.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// Which images the pipeline's topic hears of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AlertOn {
    /// What a gate has let through and nothing has replaced.
    #[default]
    Deployed,
    /// And what one of its own tags still names.
    NewestOfTag,
    All,
}

/// How the pipeline tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Alerting {
    pub topic_arn: Option<String>,
    /// Whether verdicts that change are told to an event bus.
    pub bus: bool,
    pub options: AlertOptions,
}

/// As the construct writes them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AlertOptions {
    #[serde(default)]
    pub on: AlertOn,
    /// A finding below it raises no alert. One without a rating does.
    #[serde(default, deserialize_with = "severity")]
    pub severity: Option<Severity>,
    /// For so long after an alert the next findings of the same image are gathered.
    #[serde(default)]
    pub quiet_seconds: Option<u32>,
    /// So long before an exemption ends somebody is warned.
    #[serde(default = "a_week")]
    pub warn_days: u16,
}

impl Default for AlertOptions {
    fn default() -> Self {
        Self { on: AlertOn::default(), severity: None, quiet_seconds: None, warn_days: a_week() }
    }
}

fn a_week() -> u16 {
    7
}

fn severity<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Severity>, D::Error> {
    let word = Option::<String>::deserialize(from)?;
    word.map(|word| Severity::parse(&word).ok_or_else(|| serde::de::Error::custom(format!("`{word}` is no severity")))).transpose()
}

impl AlertOptions {
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    fn quiet(&self) -> SignedDuration {
        SignedDuration::from_secs(self.quiet_seconds.unwrap_or_default().into())
    }

    fn warns_from(&self, ends: Timestamp) -> Timestamp {
        ends.saturating_sub(SignedDuration::from_hours(24 * i64::from(self.warn_days))).unwrap_or(Timestamp::MIN)
    }

    fn is_loud(&self, finding: &Finding) -> bool {
        match (&finding.severity, self.severity) {
            (Rating::Rated(severity), Some(least)) => *severity >= least,
            _ => true,
        }
    }
}

/// One live deployment of an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Live {
    pub stack_id: String,
    pub logical_id: String,
    /// The digest in the template: the image itself, or the index that it is an image of.
    pub of: ImageDigest,
    /// Tag or digest, as the template names it.
    pub image: String,
    pub since: String,
    pub policy: Option<Policy>,
    /// Its gate's own topic, and the role that may publish there.
    pub topic: Option<(String, String)>,
    /// What the gate has said.
    pub verdict: String,
    /// The findings that the gate has judged; none where it has not judged.
    pub judged: Option<FactsHash>,
}

impl Live {
    pub fn stack_name(&self) -> &str {
        stack_name(&self.stack_id)
    }
}

/// By what the deployments judge, each policy once.
pub fn policies(lives: &[Live]) -> Vec<Policy> {
    let mut policies: Vec<Policy> = Vec::new();
    for policy in lives.iter().filter_map(|live| live.policy.as_ref()) {
        if !policies.contains(policy) {
            policies.push(policy.clone());
        }
    }
    policies
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Audience {
    Pipeline,
    Topic { arn: String, role: Role, policy: Box<Policy> },
}

impl Audience {
    /// The name of its record.
    pub fn id(&self) -> String {
        match self {
            Self::Pipeline => "pipeline".to_owned(),
            Self::Topic { arn, policy, .. } => sha256_hex(format!("{arn} {}", policy.hash()).as_bytes())[..16].to_owned(),
        }
    }

    pub fn policy<'a>(&'a self, pipelines: &'a Policy) -> &'a Policy {
        match self {
            Self::Pipeline => pipelines,
            Self::Topic { policy, .. } => policy,
        }
    }
}

/// Who can be told anything of an image that lives in these deployments.
pub fn audiences(alerting: &Alerting, pipelines: &Policy, lives: &[Live]) -> Vec<Audience> {
    let mut all = Vec::new();
    let is_heard = alerting.topic_arn.is_some() && (!lives.is_empty() || alerting.options.on != AlertOn::Deployed);
    if is_heard || alerting.bus {
        all.push(Audience::Pipeline);
    }
    for live in lives {
        let (Some((arn, role)), Some(policy)) = (&live.topic, &live.policy) else { continue };
        let role = Role { arn: role.clone(), of_stack: live.stack_id.clone() };
        let audience = Audience::Topic { arn: arn.clone(), role, policy: Box::new(policy.clone()) };
        // One topic under one policy hears it once, by whosever leave.
        let is_the_pipelines = alerting.topic_arn.as_ref() == Some(arn) && policy == pipelines;
        if !is_the_pipelines && !all.iter().any(|known: &Audience| known.id() == audience.id()) {
            all.push(audience);
        }
    }
    all
}

/// Why somebody is told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    NewFindings,
    BlockedNow,
    Cleared,
    ScanFailed,
    ExemptionEnding,
    DeploymentBlocked,
    RollbackUnverified,
    BreakGlassUsed,
    SignatureFailed,
    /// An event on the bus.
    VerdictChanged,
}

impl NoticeKind {
    pub fn word(self) -> &'static str {
        match self {
            Self::NewFindings => "new-findings",
            Self::BlockedNow => "blocked-now",
            Self::Cleared => "cleared",
            Self::ScanFailed => "scan-failed",
            Self::ExemptionEnding => "exemption-ending",
            Self::DeploymentBlocked => "deployment-blocked",
            Self::RollbackUnverified => "rollback-unverified",
            Self::BreakGlassUsed => "break-glass-used",
            Self::SignatureFailed => "signature-failed",
            Self::VerdictChanged => "verdict-changed",
        }
    }
}

/// Something that an audience is still to be told, word for word, so that it says the same however often it has to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Notice {
    /// Of the same image, kind and findings there is one.
    pub id: String,
    pub kind: NoticeKind,
    pub message: Message,
    pub since: Timestamp,
}

/// A finding, as it is known to whoever has been told of it: 48 bits of a hash, so that many fit into an item.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub [u8; 6]);

impl Key {
    /// By id and package: the same vulnerability in another package needs another fix. Not by version, severity or text, which
    /// a scanner mends without anything being new.
    fn of(finding: &Finding) -> Self {
        let mut packages: Vec<&str> = finding.packages.iter().map(|package| package.name.as_str()).collect();
        packages.sort_unstable();
        packages.dedup();
        Self::hash(&format!("{}\0{}", finding.id, packages.join("\0")))
    }

    fn hash(text: &str) -> Self {
        let hex = sha256_hex(text.as_bytes());
        let byte = |n: usize| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap_or_default();
        Self(std::array::from_fn(byte))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What an audience has been told of an image, and is still to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Announced {
    /// Every write expects the version it read and adds one; 0: there is no record.
    pub version: u64,
    /// The findings.
    pub told: BTreeSet<Key>,
    /// The exemptions whose end it was warned of.
    pub warned: BTreeSet<Key>,
    pub weighed: Option<Weighed>,
    /// The version of the image's row that was compared last. Who comes with an older one reads it again: he was slow, and what he
    /// has in hand is not true any more.
    pub head_version: u64,
    /// The last verdict that the bus heard.
    pub verdict: Option<String>,
    /// The last state that kept the image from being scanned.
    pub unscanned: Option<String>,
    /// When it was last told of findings.
    pub told_at: Option<Timestamp>,
    /// When somebody comes again because of a quiet period.
    pub comes_again_at: Option<Timestamp>,
    pub outbox: Vec<Notice>,
    /// Whoever has it sends what is in the outbox, until then.
    pub lease_until: Option<Timestamp>,
}

/// What was last compared: nothing new comes of the same again until then.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Weighed {
    pub facts: Option<FactsHash>,
    pub policy: PolicyHash,
    pub until: Option<Timestamp>,
    /// Whether the list was proven whole.
    pub settled: bool,
    /// The state of the scan, in a word.
    pub state: String,
    pub lives: u64,
    /// Who could hear it, and what they wanted to hear: ears that are given later hear what is true then.
    pub ears: String,
}

/// All that a comparison is made of.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    pub head: &'a Head,
    pub lives: &'a [Live],
    pub alerting: &'a Alerting,
    /// The pipeline's own.
    pub pipelines: &'a Policy,
    pub now: Timestamp,
}

impl Scene<'_> {
    fn weighed(&self, audience: &Audience, until: Option<Timestamp>) -> Weighed {
        let complete = self.head.complete();
        Weighed {
            facts: complete.map(|(result, _)| result.facts.clone()),
            policy: audience.policy(self.pipelines).hash(),
            until,
            settled: complete.is_some_and(|(_, settled)| settled),
            state: self.head.state().word().to_owned(),
            lives: self.lives.len() as u64,
            ears: format!("{} {} {:?}", self.alerting.topic_arn.is_some(), self.alerting.bus, self.alerting.options),
        }
    }

    fn unscanned(&self) -> Option<ScanState> {
        let state = self.head.state();
        // What somebody has deleted or archived on purpose is no failure of a scan.
        let is_failure = state.standing() == Standing::Unscanned && !matches!(state, ScanState::Deleted | ScanState::Archived);
        // An index is not scanned. And who has let one through that no scanner can scan knows of it.
        let is_scanned_at_all = !matches!(self.head.kind, Kind::Index(_));
        let is_news = state != ScanState::Unsupported || self.lives.iter().any(|live| live.verdict != "UNSCANNED");
        (is_failure && is_scanned_at_all && is_news).then_some(state)
    }

    /// Whether the record is that of this very scene, so that comparing would change nothing.
    pub fn is_weighed(&self, audience: &Audience, announced: &Announced) -> bool {
        let Some(weighed) = &announced.weighed else { return false };
        *weighed == self.weighed(audience, weighed.until) && weighed.until.is_none_or(|until| self.now < until)
    }

    /// The findings that the comparison needs, where it needs any.
    pub fn needs_facts(&self) -> Option<&FactsHash> {
        self.head.complete().map(|(result, _)| &result.facts)
    }
}

/// What comes of a comparison: the record as it is to be, and whether somebody has to come again for what is held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighing {
    pub announced: Announced,
    /// After how long somebody has to come again.
    pub come_again: Option<SignedDuration>,
}

/// Compares what is true with what the audience was told.
///
/// `facts` are those that the head refers to, where it is complete. `is_newest`: whether one of the image's own tags names it
/// still. `part_of`: the indexes that it is an image of, for the text.
pub fn weigh(scene: &Scene<'_>, audience: &Audience, announced: &Announced, facts: Option<&Facts>, is_newest: bool, part_of: &[Head]) -> Weighing {
    if announced.outbox.len() + AT_ONCE > OUTBOX {
        return Weighing { announced: announced.clone(), come_again: None };
    }
    let policy = audience.policy(scene.pipelines);
    let mut next = announced.clone();
    let mut come_again = None;
    let about = About { scene, policy, part_of };
    let is_pipeline = *audience == Audience::Pipeline;
    let hears_findings = match audience {
        Audience::Topic { .. } => true,
        Audience::Pipeline => {
            scene.alerting.topic_arn.is_some()
                && match scene.alerting.options.on {
                    AlertOn::All => true,
                    AlertOn::NewestOfTag => is_newest || !scene.lives.is_empty(),
                    AlertOn::Deployed => !scene.lives.is_empty(),
                }
        }
    };

    let judgement = facts.map(|facts| judge(facts.findings(), policy, &scene.head.repository.name, scene.now));
    let settled = scene.head.complete().is_some_and(|(_, settled)| settled);
    let mut until = judgement.as_ref().and_then(|judgement| judgement.holds_until);
    if let Some(judgement) = judgement.as_ref().filter(|_| hears_findings) {
        let options = &scene.alerting.options;
        let objected = objected(judgement, options);
        let now_true: BTreeSet<Key> = objected.iter().map(|(key, _)| *key).collect();
        let fresh: Vec<&Finding> = objected.iter().filter(|(key, _)| !announced.told.contains(key)).map(|(_, finding)| *finding).collect();
        let quiet_until = announced.told_at.and_then(|at| at.checked_add(options.quiet()).ok()).filter(|until| *until > scene.now);
        // A list that is being filled is shorter than it will be.
        next.told.retain(|key| !settled || now_true.contains(key));
        match quiet_until {
            // Gathered until then.
            Some(quiet_until) if !fresh.is_empty() => {
                let comes_at = quiet_until.min(scene.now.saturating_add(COMES_WITHIN).unwrap_or(Timestamp::MAX));
                until = Some(until.map_or(comes_at, |known| known.min(comes_at)));
                if announced.comes_again_at.is_none_or(|at| at <= scene.now) {
                    come_again = Some(comes_at.duration_since(scene.now));
                    next.comes_again_at = Some(comes_at);
                }
            }
            _ => next.told.extend(&now_true),
        }
        if fresh.is_empty() {
            if is_pipeline && next.told.is_empty() && !announced.told.is_empty() && !judgement.blocks() {
                next.put(scene, NoticeKind::Cleared, "", notice::cleared(&about));
            }
        } else if quiet_until.is_none() {
            let was_clear = announced.told.is_empty() && judgement.blocking.len() == fresh.len();
            let kind = if was_clear && !scene.lives.is_empty() { NoticeKind::BlockedNow } else { NoticeKind::NewFindings };
            let message = match audience {
                Audience::Pipeline => notice::findings(&about, kind, &fresh, judgement),
                Audience::Topic { .. } => notice::in_the_originals_form(&about, &fresh, judgement),
            };
            next.put(scene, kind, &ids(&fresh), message);
            next.told_at = Some(scene.now);
        }
        if let Some(facts) = facts.filter(|_| is_pipeline) {
            let others = policies(scene.lives).into_iter().filter(|policy| policy != scene.pipelines);
            let all: Vec<Policy> = std::iter::once(scene.pipelines.clone()).chain(others).collect();
            warn_of_exemptions(&about, facts, &all, &mut next, &mut until);
        }
    }
    if is_pipeline && !scene.lives.is_empty() && scene.alerting.topic_arn.is_some() {
        let unscanned = scene.unscanned();
        let word = unscanned.as_ref().map(|state| state.word().to_owned());
        if let Some(state) = unscanned.filter(|_| word != announced.unscanned) {
            next.put(scene, NoticeKind::ScanFailed, state.word(), notice::scan_failed(&about, &state));
        }
        next.unscanned = word;
    }
    if is_pipeline && scene.alerting.bus {
        let verdict = match (&judgement, scene.head.state().standing()) {
            (Some(judgement), _) if judgement.blocks() => Some("BLOCK"),
            (Some(_), _) if settled => Some("PASS"),
            (None, Standing::Unscanned) => Some("UNSCANNED"),
            _ => None,
        };
        if let Some(verdict) = verdict.filter(|verdict| announced.verdict.as_deref() != Some(verdict) && !matches!(scene.head.kind, Kind::Index(_))) {
            let event = notice::verdict_changed(&about, announced.verdict.as_deref(), verdict, judgement.as_ref());
            next.put(scene, NoticeKind::VerdictChanged, &format!("{verdict} {}", scene.head.version), event);
            next.verdict = Some(verdict.to_owned());
        }
    }
    next.weighed = Some(scene.weighed(audience, until));
    next.head_version = scene.head.version;
    Weighing { announced: next, come_again }
}

/// What somebody is to be told of, by what it is remembered.
fn objected<'a>(judgement: &Judgement<'a>, options: &AlertOptions) -> Vec<(Key, &'a Finding)> {
    judgement.blocking.iter().filter(|finding| options.is_loud(finding)).take(FINDINGS).map(|finding| (Key::of(finding), *finding)).collect()
}

fn ids(findings: &[&Finding]) -> String {
    findings.iter().map(|finding| finding.id.as_str()).collect::<Vec<_>>().join(" ")
}

/// Once for each exemption and end, as long before as somebody has asked for; of whatever policy the image lives by.
fn warn_of_exemptions(about: &About<'_>, facts: &Facts, policies: &[Policy], next: &mut Announced, until: &mut Option<Timestamp>) {
    let (scene, options) = (about.scene, &about.scene.alerting.options);
    let key = |exemption: &Exemption| Key::hash(&format!("{exemption:?}"));
    next.warned.retain(|known| policies.iter().flat_map(|policy| &policy.exemptions).any(|exemption| key(exemption) == *known));
    let mut ending: Vec<(&Finding, &Exemption)> = Vec::new();
    for policy in policies {
        let judgement = judge(facts.findings(), policy, &scene.head.repository.name, scene.now);
        for (finding, exemption) in judgement.exempt {
            let from = options.warns_from(exemption.ends());
            if from > scene.now {
                *until = Some(until.map_or(from, |known| known.min(from)));
            } else if next.warned.insert(key(exemption)) || ending.iter().any(|(_, known)| *known == exemption) {
                ending.push((finding, exemption));
            }
        }
    }
    ending.dedup();
    if !ending.is_empty() {
        let ids: Vec<&str> = ending.iter().map(|(finding, _)| finding.id.as_str()).collect();
        next.put(scene, NoticeKind::ExemptionEnding, &ids.join(" "), notice::exemption_ending(about, &ending));
    }
}

impl Scene<'_> {
    /// The findings that a gate of this audience has judged, and when: of those that it let through with its eyes open, its own
    /// message has told.
    pub fn judged_by_gate(&self, audience: &Audience) -> Option<(&FactsHash, Timestamp)> {
        let Audience::Topic { arn, policy, .. } = audience else { return None };
        let is_its = |live: &&Live| live.topic.as_ref().is_some_and(|(topic, _)| topic == arn) && live.policy.as_ref() == Some(&**policy);
        self.lives.iter().filter(is_its).find_map(|live| Some((live.judged.as_ref()?, live.since.parse().ok()?)))
    }

    /// What the gate's own message has told of, these findings being what it has judged then.
    pub fn told_by_gate(&self, audience: &Audience, judged: &Facts, at: Timestamp) -> BTreeSet<Key> {
        let judgement = judge(judged.findings(), audience.policy(self.pipelines), &self.head.repository.name, at);
        objected(&judgement, &self.alerting.options).into_iter().map(|(key, _)| key).collect()
    }

    fn subject(&self) -> (&ImageDigest, &Repository) {
        (&self.head.digest, &self.head.repository)
    }
}

impl Announced {
    /// Takes out what nobody could be told for so long, and forgets that it was to be told: what is true then is told anew.
    pub fn let_go(&mut self, now: Timestamp) {
        for notice in std::mem::take(&mut self.outbox) {
            if now.duration_since(notice.since) < KEPT {
                self.outbox.push(notice);
                continue;
            }
            self.weighed = None;
            match notice.kind {
                NoticeKind::NewFindings | NoticeKind::BlockedNow => (self.told, self.told_at) = (BTreeSet::new(), None),
                NoticeKind::ExemptionEnding => self.warned.clear(),
                NoticeKind::ScanFailed => self.unscanned = None,
                NoticeKind::VerdictChanged => self.verdict = None,
                NoticeKind::Cleared
                | NoticeKind::DeploymentBlocked
                | NoticeKind::RollbackUnverified
                | NoticeKind::BreakGlassUsed
                | NoticeKind::SignatureFailed => {}
            }
        }
    }

    fn put(&mut self, scene: &Scene<'_>, kind: NoticeKind, what: &str, message: Message) {
        let (digest, repository) = scene.subject();
        let id = sha256_hex(format!("{digest} {} {} {what} {}", repository.arn(), kind.word(), self.version).as_bytes())[..16].to_owned();
        self.outbox.push(Notice { id, kind, message, since: scene.now });
    }
}
