//! A world in memory that a protocol machine can be driven in: tables with the conditions of the real ones, a scanner that
//! answers what a test says, and a list of everything that was done.

use std::collections::{BTreeMap, VecDeque};

use ecr_scan_verifier::domain::alert::{Alerting, Announced, Live, NoticeKind};
use ecr_scan_verifier::domain::finding::{Epss, Finding, Package, Rating};
use ecr_scan_verifier::domain::head::{Child, Head};
use ecr_scan_verifier::domain::image::{ImageDigest, ImageRef, Repository};
use ecr_scan_verifier::domain::outputs::{Log, Message, Progress};
use ecr_scan_verifier::domain::plan::Started;
use ecr_scan_verifier::domain::policy::Policy;
use ecr_scan_verifier::domain::protocol::deploy::{Deploy, Home};
use ecr_scan_verifier::domain::protocol::notice::Notice;
use ecr_scan_verifier::domain::protocol::outputs::Outputs;
use ecr_scan_verifier::domain::protocol::scan::{Hints, Scan};
use ecr_scan_verifier::domain::protocol::wake::{By, Wake, lease};
use ecr_scan_verifier::domain::protocol::{Do, ExportState, Outcome, PageToken, Protocol, Resolved, Saw, Why};
use ecr_scan_verifier::domain::request::{
    Answer, AskedScan, Data, Forward, Gate, Glass, Named, OnBlock, OnUnscanned, Record, Request, RequestKind, Row, Rows, Stage, Stored, Waiting, image_row,
};
use ecr_scan_verifier::domain::response_url::ResponseUrl;
use ecr_scan_verifier::domain::scan::{Answer as ScanAnswer, Answered, Coverage, Facts, FactsHash, Report, ScanSource};
use ecr_scan_verifier::domain::signature::asked::{Asked, AskedSigner, OnUnsigned};
use ecr_scan_verifier::domain::signature::key::KeyId;
use ecr_scan_verifier::domain::signature::trust::Rule;
use ecr_scan_verifier::domain::signature::verdict::{By as SignedBy, Format, Reason, Refused, Verdict, Verified};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub fn digest(seed: &str) -> ImageDigest {
    ImageDigest::of(seed.as_bytes())
}

pub fn repository() -> Repository {
    "arn:aws:ecr:eu-west-1:123456789012:repository/payments-api".parse().unwrap()
}

pub fn finding(id: &str, severity: &str) -> Finding {
    Finding::new(id, Rating::parse(Some(severity)))
}

pub fn in_package(mut finding: Finding, name: &str, version: &str, fixed_in: Option<&str>) -> Finding {
    finding.packages.push(Package { name: name.into(), version: Some(version.into()), fixed_in: fixed_in.map(str::to_owned) });
    finding
}

pub fn at_or_above(threshold: &str) -> Policy {
    Policy::from_words(None, Some(threshold), []).unwrap()
}

pub fn complete(source: ScanSource, completed_at: i64, findings: &[Finding]) -> Answered {
    let status = if source == ScanSource::Basic { "COMPLETE" } else { "ACTIVE" };
    Answered::Findings(Report {
        status: Some(status.into()),
        completed_at: Some(at(completed_at)),
        findings: findings.to_vec(),
        listed: true,
        has_enhanced_findings: source == ScanSource::Enhanced && !findings.is_empty(),
        has_basic_findings: source == ScanSource::Basic && !findings.is_empty(),
        ..Report::default()
    })
}

pub fn status(word: &str) -> Answered {
    Answered::Findings(Report { status: Some(word.into()), ..Report::default() })
}

/// The name of an effect, and what happens right before it.
pub type Interruption = (&'static str, fn(&mut World));

/// What is found of an image's signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signatures {
    Good,
    None,
    OfAnotherKey,
    CouldNotCheck,
    /// Nobody could look, this time or for good.
    Broken,
    Denied,
    NoImage,
}

const SIGNER: &str = "the KMS key arn:aws:kms:eu-west-1:123456789012:key/1";

pub fn verified() -> Verified {
    Verified { signer: SIGNER.into(), by: SignedBy::Key(KeyId("11".repeat(32))), format: Format::CosignBundle, signed_at: None, expires_at: None }
}

fn refused(reason: Reason) -> Verdict {
    Verdict::Refused(vec![Refused { signer: SIGNER.into(), reason }])
}

/// By a key in KMS.
pub fn asked_to_be_signed(on_unsigned: OnUnsigned) -> Option<Asked> {
    let key = "arn:aws:kms:eu-west-1:123456789012:key/1".parse().unwrap();
    Some(Asked { rule: Rule::AllOf, signers: vec![AskedSigner::Kms(key)], on_unsigned })
}

pub struct World {
    pub now: i64,
    pub registry: ScanSource,
    pub on_demand_only: bool,
    /// What the scanner says of an image: in this order, the last one for ever.
    pub scans: BTreeMap<ImageDigest, VecDeque<Answered>>,
    pub coverage: Option<Coverage>,
    /// Who has signed an image: in this order, the last answer for ever. Of others nobody has.
    pub signed: BTreeMap<ImageDigest, VecDeque<Signatures>>,
    /// What Inspector has for every finding, where it is asked.
    pub epss: Option<Epss>,
    /// So often a reading runs out of time.
    pub pages_left: usize,
    pub read_on: Vec<PageToken>,
    pub tags: BTreeMap<String, Resolved>,
    pub rolling_back: bool,
    pub heads: BTreeMap<ImageDigest, Head>,
    pub facts: BTreeMap<FactsHash, (Facts, u64)>,
    pub expired: Vec<FactsHash>,
    pub requests: BTreeMap<String, Stored>,
    /// When the newest request of the resource was asked.
    pub newest: Option<Timestamp>,
    /// The request that was let through last.
    pub stands: Option<String>,
    pub forward: Option<Forward>,
    /// Broken, and not used.
    pub glass: Option<Glass>,
    /// What was decided, in a word, in order.
    pub decided: Vec<String>,
    /// The same, whole.
    pub recorded: Vec<Record>,
    pub rows: BTreeMap<String, Row>,
    pub data: BTreeMap<String, Data>,
    pub policies: Vec<Policy>,
    pub lives: Vec<Live>,
    pub alerting: Alerting,
    /// What each audience was told of an image.
    pub announced: BTreeMap<(ImageDigest, String), Announced>,
    /// To the pipeline's topic.
    pub told: Vec<(NoticeKind, Message)>,
    /// To the event bus.
    pub events: Vec<Message>,
    pub announce_again: Vec<SignedDuration>,
    /// Requests whose decision is to be told.
    pub notices: Vec<String>,
    pub telling_until: Timestamp,
    /// By which ids images are found.
    pub index: BTreeMap<ImageDigest, (u64, Vec<String>)>,
    /// Answers as they were sent.
    pub sent: Vec<Answer>,
    pub look_again: Vec<(u32, SignedDuration)>,
    /// Timers under way: whose, which, and when they ring.
    pub timers: Vec<(String, u32, i64)>,
    pub started: Vec<ImageDigest>,
    pub starting: Started,
    /// Who wants something written, and how soon.
    pub to_write: Vec<(String, SignedDuration)>,
    pub writing_until: Timestamp,
    pub logs: Vec<Log>,
    pub published: Vec<(String, Message)>,
    /// Of which image, and where to.
    pub exports: Vec<(String, String)>,
    pub export: ExportState,
    pub export_is_empty: bool,
    pub placed: Vec<(String, String)>,
    /// The names of the effects, in order.
    pub did: Vec<String>,
    /// Effects that fail, by the beginning of their name.
    pub broken: Vec<(&'static str, bool)>,
    /// Whoever works is killed at this point: even ones come before an effect, odd ones after it.
    pub kill_at: Option<usize>,
    /// Happens before the effect of this name, once.
    pub before: Vec<Interruption>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            now: 100,
            registry: ScanSource::Basic,
            on_demand_only: false,
            scans: BTreeMap::new(),
            coverage: None,
            signed: BTreeMap::new(),
            epss: None,
            pages_left: 0,
            read_on: Vec::new(),
            tags: BTreeMap::new(),
            rolling_back: false,
            heads: BTreeMap::new(),
            facts: BTreeMap::new(),
            expired: Vec::new(),
            requests: BTreeMap::new(),
            newest: None,
            stands: None,
            forward: None,
            glass: None,
            decided: Vec::new(),
            recorded: Vec::new(),
            rows: BTreeMap::new(),
            data: BTreeMap::new(),
            policies: Vec::new(),
            lives: Vec::new(),
            alerting: Alerting::default(),
            announced: BTreeMap::new(),
            told: Vec::new(),
            events: Vec::new(),
            announce_again: Vec::new(),
            notices: Vec::new(),
            telling_until: Timestamp::MIN,
            index: BTreeMap::new(),
            sent: Vec::new(),
            look_again: Vec::new(),
            timers: Vec::new(),
            started: Vec::new(),
            starting: Started::Yes,
            to_write: Vec::new(),
            writing_until: Timestamp::MIN,
            logs: Vec::new(),
            published: Vec::new(),
            exports: Vec::new(),
            export: ExportState::Running,
            export_is_empty: false,
            placed: Vec::new(),
            did: Vec::new(),
            broken: Vec::new(),
            kill_at: None,
            before: Vec::new(),
        }
    }
}

impl World {
    pub fn signatures(&mut self, image: &str, answers: impl IntoIterator<Item = Signatures>) -> &mut Self {
        self.signed.insert(digest(image), answers.into_iter().collect());
        self
    }

    pub fn scans(&mut self, image: &str, answers: impl IntoIterator<Item = Answered>) -> &mut Self {
        self.scans.insert(digest(image), answers.into_iter().collect());
        self
    }

    /// on-push has seen it.
    pub fn is_image(&mut self, image: &str) {
        self.heads.get_mut(&digest(image)).expect("it has a row").kind = ecr_scan_verifier::domain::head::Kind::Image;
    }

    /// A scan event arrives for this image.
    pub fn scan_ends(&mut self, image: &str) -> Outcome {
        self.scan_with(image, Hints { newest: Some(at(self.now)), ..Hints::default() })
    }

    pub fn scan_with(&mut self, image: &str, hints: Hints) -> Outcome {
        let scan = Scan::new(repository(), digest(image), hints, Policy::default(), self.home()).telling(self.alerting.clone());
        self.drive(scan)
    }

    pub fn deploys(&mut self, request: Request) -> Outcome {
        let due = due(&request);
        self.drive(Deploy::new(request, url(), self.home(), Policy::default(), due))
    }

    /// Lambda has given the request up.
    pub fn gives_up(&mut self, request: Request, why: &str) -> Outcome {
        let due = due(&request);
        self.drive(Deploy::given_up(request, url(), self.home(), Policy::default(), due, why.to_owned()))
    }

    pub fn wakes(&mut self, request_id: &str, by: By) -> Outcome {
        self.drive(Wake::new(request_id.to_owned(), by, self.home(), Policy::default()))
    }

    /// Somebody writes what this request wants written.
    pub fn writes(&mut self, request_id: &str) -> Outcome {
        self.drive(Outputs::new(request_id.to_owned(), "demo".to_owned(), home(), Policy::default()))
    }

    /// Somebody tells of what was decided about this request.
    pub fn tells(&mut self, request_id: &str) -> Outcome {
        self.drive(Notice::new(request_id.to_owned(), self.alerting.clone()))
    }

    fn home(&self) -> Home {
        Home { is_heard: self.alerting.topic_arn.is_some(), ..home() }
    }

    /// The next timer rings.
    pub fn timer_rings(&mut self) -> Outcome {
        let next = self.timers.iter().enumerate().min_by_key(|(_, (_, _, at))| *at).map(|(place, _)| place).expect("a timer is set");
        let (request_id, n, at) = self.timers.remove(next);
        self.now = self.now.max(at);
        self.wakes(&request_id, By::Timer(n))
    }

    pub fn waits(&self, request: &Request) -> bool {
        self.requests.get(&request.request_id).is_some_and(|stored| stored.stage == Stage::Open)
    }

    /// The last answer: status, and the reason or the data.
    pub fn answered(&self) -> (String, Value) {
        let body: Value = serde_json::from_str(self.sent.last().expect("an answer was sent").as_str()).unwrap();
        let rest = if body["Status"] == "FAILED" { body["Reason"].clone() } else { body["Data"].clone() };
        (body["Status"].as_str().unwrap().to_owned(), rest)
    }

    /// The first line of a refusal, or the verdict of what was let through.
    pub fn verdict(&self) -> String {
        let (status, rest) = self.answered();
        let word = rest["Verdict"].as_str().or_else(|| rest.as_str().and_then(|reason| reason.lines().next()));
        format!("{status} {}", word.unwrap_or(""))
    }

    pub fn drive(&mut self, mut protocol: impl Protocol) -> Outcome {
        let mut saw = Saw::Start;
        for _ in 0..500 {
            match protocol.next(saw, at(self.now)) {
                Do::Finish(outcome) => return outcome,
                effect => {
                    if self.dies() {
                        return killed();
                    }
                    saw = self.perform(effect);
                    if self.dies() {
                        return killed();
                    }
                }
            }
        }
        panic!("the machine does not come to an end: {:?}", self.did);
    }

    fn dies(&mut self) -> bool {
        match self.kill_at {
            Some(0) => {
                self.kill_at = None;
                true
            }
            left => {
                self.kill_at = left.map(|left| left - 1);
                false
            }
        }
    }

    fn perform(&mut self, effect: Do) -> Saw {
        let debug = format!("{effect:?}");
        let name = debug.split([' ', '(']).next().unwrap().to_owned();
        self.did.push(name.clone());
        if let Some(place) = self.before.iter().position(|(at, _)| name == *at) {
            let (_, happens) = self.before.remove(place);
            happens(self);
        }
        if let Some((_, denied)) = self.broken.iter().find(|(broken, _)| name == *broken) {
            return Saw::Failed(Why { text: format!("{name} is broken"), denied: *denied });
        }
        match effect {
            Do::ResolveImage { image, .. } => Saw::Image(match &image {
                ImageRef::Tag(tag) => self.tags.get(tag).cloned().unwrap_or(Resolved::NotFound),
                ImageRef::Digest(digest) => self.tags.get(digest.as_str()).cloned().unwrap_or_else(|| Resolved::Image(digest.clone())),
            }),
            Do::ReadStack(_) => Saw::Stack { rolling_back: self.rolling_back },
            Do::ReadHeads { digests, .. } => Saw::Heads(digests.iter().map(|digest| self.heads.get(digest).cloned()).collect()),
            Do::ReadFacts { facts, .. } => Saw::Facts(self.facts.get(&facts).map(|(facts, _)| facts.clone())),
            Do::ReadRegistry => Saw::Registry(self.registry),
            Do::ReadFrequency { .. } => Saw::Frequency { on_demand_only: self.on_demand_only },
            Do::Look { digest, .. } if self.pages_left > 0 => {
                self.pages_left -= 1;
                Saw::MoreToRead(PageToken(format!("{} left of {digest}", self.pages_left)))
            }
            Do::ReadOn { from, .. } => {
                self.read_on.push(from);
                Saw::Done
            }
            Do::Look { digest, epss, .. } => {
                let answers = self.scans.entry(digest).or_default();
                let what = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
                let mut what = what.unwrap_or(Answered::NoScan);
                if let Answered::Findings(report) = &mut what
                    && epss
                {
                    report.says_epss = true;
                    report.findings.iter_mut().for_each(|finding| finding.epss = self.epss);
                }
                Saw::Answer(ScanAnswer { source: self.registry, what, coverage: self.coverage.clone(), pushed_at: None, read_at: at(self.now) })
            }
            Do::Verify { digest, .. } => {
                let answers = self.signed.entry(digest).or_default();
                let said = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
                match said.unwrap_or(Signatures::None) {
                    Signatures::Good => Saw::Signed(Some(Verdict::Verified(vec![verified()]))),
                    Signatures::None => Saw::Signed(Some(refused(Reason::Unsigned { others: 0 }))),
                    Signatures::OfAnotherKey => Saw::Signed(Some(refused(Reason::WrongKey))),
                    Signatures::CouldNotCheck => Saw::Signed(Some(refused(Reason::CouldNotCheck("AWS Signer does not answer".into())))),
                    Signatures::Broken => Saw::Failed(Why { text: "could not list what refers to it: timeout".into(), denied: false }),
                    Signatures::Denied => Saw::Failed(Why { text: "could not read the public key: AccessDenied".into(), denied: true }),
                    Signatures::NoImage => Saw::Signed(None),
                }
            }
            Do::ReadDeployed { .. } => {
                let of_policies = self.policies.iter().map(|policy| Live { policy: Some(policy.clone()), ..live("payments") });
                Saw::Deployed(self.lives.iter().cloned().chain(of_policies).collect())
            }
            Do::Index { digest, version, facts, .. } => {
                let known = self.index.entry(digest).or_default();
                if known.0 <= version {
                    *known = (version, facts.map(|facts| facts.findings().iter().map(|finding| finding.id.clone()).collect()).unwrap_or_default());
                }
                Saw::Done
            }
            Do::ReadAnnounced { digest, audience, .. } => Saw::Announced(Box::new(self.announced.get(&(digest, audience)).cloned().unwrap_or_default())),
            Do::WriteAnnounced { digest, audience, expect, announced, .. } => {
                let known = self.announced.entry((digest, audience)).or_default();
                if known.version != expect {
                    return Saw::Lost;
                }
                *known = *announced;
                Saw::Done
            }
            Do::AnnounceAgain { after, .. } => {
                self.announce_again.push(after);
                Saw::Done
            }
            Do::PublishOwn { kind, message } => {
                self.told.push((kind, message));
                Saw::Done
            }
            Do::PutEvent { message } => {
                self.events.push(message);
                Saw::Done
            }
            Do::SendNotice { request_id } => {
                self.notices.push(request_id);
                Saw::Done
            }
            Do::TakeNotice { request_id, until } => {
                let stored = self.requests.get(&request_id).expect("it was stored");
                if stored.notice.is_none() || self.telling_until > at(self.now) {
                    return Saw::Lost;
                }
                self.telling_until = until;
                Saw::Done
            }
            Do::LetNoticeGo { until, .. } => {
                if self.telling_until != until {
                    return Saw::Lost;
                }
                self.telling_until = Timestamp::MIN;
                Saw::Done
            }
            Do::NoteNotice { request_id } => {
                self.requests.get_mut(&request_id).expect("it was stored").notice = None;
                self.telling_until = Timestamp::MIN;
                Saw::Done
            }
            Do::ReadRows { .. } => Saw::Rows(Rows { images: self.rows.clone(), newest: self.stands.clone() }),
            Do::ReadForward { .. } => Saw::Forward(self.forward.clone()),
            Do::ReadGlass { digest, .. } => Saw::Glass(self.glass.clone().filter(|glass| glass.digest == digest)),
            Do::ReadRequest(id) => Saw::Request(self.requests.get(&id).cloned().map(Box::new)),
            Do::ReadWaiting { digest, .. } => {
                Saw::Waiting(self.waiting(|stored| stored.images.iter().flat_map(|images| images.digests()).any(|image| *image == digest)))
            }
            Do::ReadOpen { stack_key } => Saw::Waiting(self.waiting(|stored| stored.request.stack_key() == stack_key)),
            Do::ReadData { properties_hash, .. } => Saw::Data(self.data.get(&properties_hash).cloned()),
            Do::PutFacts { facts, for_version, .. } => {
                self.facts.insert(facts.hash().clone(), (facts, for_version));
                Saw::Done
            }
            Do::ExpireFacts { facts, since_version, .. } => {
                if self.facts.get(&facts).is_some_and(|(_, for_version)| *for_version <= since_version) {
                    self.expired.push(facts);
                }
                Saw::Done
            }
            Do::WriteHead { expect, head } => {
                let current = self.heads.get(&head.digest);
                if current.map_or(0, |current| current.version) != expect {
                    return Saw::Conflict(current.cloned().map(Box::new));
                }
                let before = current.and_then(|head| head.result.as_ref()).map(|result| &result.facts);
                if let Some(result) = head.result.as_ref().filter(|result| before != Some(&result.facts)) {
                    assert!(self.facts.contains_key(&result.facts), "a head refers to findings that are not there");
                }
                self.heads.insert(head.digest.clone(), *head);
                Saw::Done
            }
            Do::Record { request, url, due, record } => match self.requests.get(&request.request_id) {
                Some(stored) => Saw::AlreadyStored(stored.stage.clone()),
                None => self.decide(*request, Some(url), due, *record),
            },
            Do::Register { request, url, due, images, told, .. } => {
                let id = request.request_id.clone();
                if let Some(stored) = self.requests.get(&id) {
                    return Saw::AlreadyStored(stored.stage.clone());
                }
                self.requests.insert(
                    id,
                    Stored {
                        request: *request,
                        url: Some(url),
                        due,
                        stage: Stage::Open,
                        images: Some(images),
                        timer: 1,
                        told: told.map(|told| *told),
                        progress: Progress::default(),
                        notice: None,
                    },
                );
                Saw::Done
            }
            Do::Claim { request, record } => match self.requests.get(&request.request_id).cloned() {
                Some(Stored { stage: Stage::Open, url, due, .. }) => self.decide(*request, url, due, *record),
                stored => Saw::AlreadyStored(stored.map_or(Stage::Answered, |stored| stored.stage)),
            },
            Do::TakeLease { request_id, until } => match self.requests.get_mut(&request_id).map(|stored| &mut stored.stage) {
                Some(Stage::Claimed { lease_until, .. }) if *lease_until <= at(self.now) => {
                    *lease_until = until;
                    Saw::Done
                }
                _ => Saw::Lost,
            },
            Do::Put { answer, .. } => {
                self.sent.push(answer);
                Saw::Done
            }
            Do::MarkAnswered { request_id } => {
                let stored = self.requests.get_mut(&request_id).expect("it was stored");
                (stored.stage, stored.url, stored.images) = (Stage::Answered, None, None);
                Saw::Done
            }
            Do::CloseDeployments { asked_at, .. } => {
                if self.newest.is_none_or(|newest| newest <= asked_at) {
                    (self.newest, self.stands) = (Some(asked_at), None);
                    self.rows.values_mut().for_each(|row| row.is_admitted = false);
                }
                Saw::Done
            }
            Do::LookAgain { n, after, .. } => {
                self.look_again.push((n, after));
                Saw::Done
            }
            Do::SendTimer { request_id, n, after } => {
                self.timers.push((request_id, n, self.now + after.as_secs()));
                Saw::Done
            }
            Do::AdvanceTimer { request_id, to } => match self.requests.get_mut(&request_id) {
                Some(stored) if stored.timer < to => {
                    stored.timer = to;
                    Saw::Done
                }
                _ => Saw::Lost,
            },
            Do::StartScan { digest, .. } => {
                self.started.push(digest);
                Saw::Started(self.starting)
            }
            Do::Tell { request_id, told } => {
                let stored = self.requests.get_mut(&request_id).filter(|stored| stored.stage == Stage::Open);
                stored.map_or(Saw::Lost, |stored| {
                    stored.told = Some(*told);
                    Saw::Done
                })
            }
            Do::SendOutputs { request_id, after } => {
                self.to_write.push((request_id, after));
                Saw::Done
            }
            Do::TakeOutputs { .. } if self.writing_until > at(self.now) => Saw::Lost,
            Do::TakeOutputs { until, .. } => {
                self.writing_until = until;
                Saw::Done
            }
            Do::WriteLogs { role, logs } => {
                assert!(self.requests.values().any(|stored| stored.request.stack_id == role.of_stack), "in the name of the stack that asks");
                self.logs.extend(logs);
                Saw::Done
            }
            Do::StartExport { image_arn, prefix, .. } => {
                self.exports.push((image_arn, prefix));
                Saw::Export(format!("report-{}", self.exports.len()))
            }
            Do::ReadExport { .. } => Saw::ExportIs(self.export),
            Do::PlaceExport { to, .. } => {
                if self.export_is_empty {
                    return Saw::NoFile;
                }
                self.placed.push(to);
                Saw::Done
            }
            Do::Publish { topic_arn, message, .. } => {
                self.published.push((topic_arn, message));
                Saw::Done
            }
            Do::NoteOutputs { request, progress, ends, .. } => {
                self.requests.get_mut(&request.request_id).expect("it was stored").progress = progress;
                if ends {
                    self.writing_until = Timestamp::MIN;
                }
                Saw::Done
            }
            Do::Finish(outcome) => unreachable!("{outcome:?}"),
        }
    }

    fn waiting(&self, about: impl Fn(&Stored) -> bool) -> Vec<Waiting> {
        let open = self.requests.values().filter(|stored| stored.images.is_some() && about(stored));
        open.map(|stored| Waiting { request_id: stored.request.request_id.clone(), asked_at: stored.request.asked_at }).collect()
    }

    fn decide(&mut self, request: Request, url: Option<ResponseUrl>, due: Timestamp, record: Record) -> Saw {
        if let Some(glass) = &record.glass
            && (self.glass.as_ref() != Some(glass) || glass.until <= at(self.now))
        {
            return Saw::NoGlass;
        }
        if record.admitted.is_some() {
            if self.newest.is_some_and(|newest| newest > request.asked_at) {
                return Saw::Superseded;
            }
            if record.after.as_ref().is_some_and(|after| *after != self.stands) {
                return Saw::RowsChanged;
            }
            (self.newest, self.stands) = (Some(request.asked_at), Some(request.request_id.clone()));
        }
        self.recorded.push(record.clone());
        let for_outputs = record.for_outputs(&request).cloned();
        for row in &record.replaced {
            self.rows.get_mut(row).expect("only what is there is replaced").is_admitted = false;
        }
        if let Some(admission) = record.admitted {
            self.data.insert(request.properties_hash.clone(), admission.data);
            for digest in &admission.digests {
                let repository = admission.repository.as_ref().expect("digests are somewhere");
                let row = Row { digest: digest.clone(), of: admission.digests[0].clone(), is_admitted: true };
                self.rows.insert(image_row(digest, repository), row);
            }
        }
        if record.glass.is_some() {
            self.glass = None;
        }
        self.decided.push(record.verdict);
        let before = self.requests.get(&request.request_id);
        let images = before.and_then(|stored| stored.images.clone());
        let (known, progress) = before.map(|stored| (stored.told.clone(), stored.progress.clone())).unwrap_or_default();
        let notice = record.notice;
        let (told, progress) = match for_outputs {
            Some(told) => (Some(told), Progress::default()),
            None => (known, progress),
        };
        let stage = Stage::Claimed { answer: record.answer, lease_until: lease(record.decided_at) };
        self.requests.insert(request.request_id.clone(), Stored { request, url, due, stage, images, timer: 1, told, progress, notice });
        Saw::Done
    }
}

/// What a killed run looks like from outside.
pub fn killed() -> Outcome {
    Outcome::Redeliver(Why::new("killed"))
}

pub fn home() -> Home {
    Home { account: "123456789012".into(), region: "eu-west-1".into(), is_heard: false }
}

fn url() -> ResponseUrl {
    ResponseUrl::from("https://answers.example/1".to_owned())
}

fn due(request: &Request) -> Timestamp {
    let patience_s = request.gate.as_ref().map_or(840, |gate| gate.polling_timeout_s);
    ecr_scan_verifier::domain::protocol::deploy::due(request.asked_at, patience_s)
}

/// A deployment by digest, under the threshold HIGH, by basic scanning without a scan of its own.
pub fn create(image: &str) -> Request {
    request(RequestKind::Create, ImageRef::Digest(digest(image)))
}

pub fn create_by_tag(tag: &str) -> Request {
    request(RequestKind::Create, ImageRef::Tag(tag.to_owned()))
}

pub fn update(image: &str) -> Request {
    Request { request_id: format!("update-{image}"), ..request(RequestKind::Update, ImageRef::Digest(digest(image))) }
}

fn request(kind: RequestKind, image: ImageRef) -> Request {
    Request {
        kind,
        request_id: "request-1".into(),
        stack_id: "arn:aws:cloudformation:eu-west-1:123456789012:stack/payments/8f9a1c20".into(),
        logical_id: "Gate".into(),
        physical_id: "c8f1".into(),
        properties_hash: format!("properties of {image}"),
        old_properties_hash: None,
        asked_at: at(100),
        named: Named { repository: "payments-api".into(), image: image.to_string() },
        gate: Ok(Gate {
            repository: repository(),
            image,
            expected: None,
            scan: AskedScan::Basic { start_scan: false },
            signatures: None,
            policy: at_or_above("HIGH"),
            platforms: vec![],
            max_scan_age_s: None,
            on_unscanned: OnUnscanned::Block,
            on_block: OnBlock::Fail,
            suppress_on_rollback: true,
            polling_timeout_s: 840,
            outputs: None,
        }),
    }
}

/// Changes what a request asks.
pub fn asking(mut request: Request, change: impl FnOnce(&mut Gate)) -> Request {
    change(request.gate.as_mut().expect("the request is well formed"));
    request
}

/// A deployment by digest of the image `app`, without a topic of its own.
pub fn live(stack: &str) -> Live {
    Live {
        stack_id: format!("arn:aws:cloudformation:eu-west-1:123456789012:stack/{stack}/8f9a1c20"),
        logical_id: "Gate".into(),
        of: digest("app"),
        image: "1.4.2".into(),
        since: at(50).to_string(),
        policy: Some(at_or_above("HIGH")),
        topic: None,
        verdict: "PASS".into(),
        judged: None,
    }
}

pub fn child(image: &str, platform: &str) -> Child {
    Child { digest: digest(image), platform: platform.into() }
}

/// What a person or a machine will read, word for word; the diff is the review.
pub fn golden(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}
