//! A deployment asks: answer it at once, or let it wait.
//!
//! The machine gathers only what it needs, in the order of cost: for a known verdict by digest one read, one transaction, the
//! answer, and the mark after it. [`Deploy::decide`] looks at what is known and names the one thing that is missing, or rules.
//!
//! A request whose image has no complete verdict waits: it is **registered, then looked at once more**. The other way round a
//! scan could end between the look and the registration, and the request would wait for news that has already passed.
//!
//! The same machine goes on with a request that was woken ([`Deploy::woken`], driven by [`super::wake`]), and with one that
//! Lambda has given up ([`Deploy::given_up`]). And it answers whoever asks without a deployment ([`Deploy::checking`]): it looks
//! as it does for a Create, and where that would be decided or would begin to wait, it says so and leaves nothing behind but what it has read.

mod signing;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::remember::{Next, Remember};
use super::wake::{By, Wake, timer_after};
use super::{Depth, Do, Outcome, Protocol, Resolved, Saw, Why};
use crate::domain::check::Named as CheckedImage;
use crate::domain::check::{Blocking, Checked, LISTED, OfIndex, Verdict};
use crate::domain::finding::Counts;
use crate::domain::head::{APART, AskedFor, Child, Counted, Head, Kind, News};
use crate::domain::image::{ImageDigest, ImageRef};
use crate::domain::judge::judge;
use crate::domain::message::{self, Blocked, NotYet};
use crate::domain::notice::Decided;
use crate::domain::outputs::{Progress, Scanned, Told};
use crate::domain::plan::Started;
use crate::domain::policy::Policy;
use crate::domain::request::{
    Admission, Answer, AskedScan, Data, Forward, Gate, Glass, Named, OnBlock, OnUnscanned, Reason, Record, Request, RequestKind, Rows, Ruling, Stage, Stored,
    Waiting, image_row,
};
use crate::domain::response_url::ResponseUrl;
use crate::domain::scan::{Facts, FactsHash, Reading, ScanSource, ScanState, Standing, understand};
use crate::domain::signature::standing::{Found, Refusal};

/// So many images of an index are judged together; their heads come in one read, their rows in one transaction.
pub const MOST_IMAGES: usize = 40;
/// So many images are looked at in passing; more is work for on-scan.
const MOST_LOOKS: usize = 5;
/// The policy is stored with what is deployed, and DynamoDB takes 400 KB an item.
const POLICY_BYTES: usize = 200_000;
/// After a push its event is here within seconds; and what was pushed before the pipeline existed has none.
const ON_PUSH_COMES_WITHIN: SignedDuration = SignedDuration::from_secs(60);
/// A scan takes seconds at best.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(5);
/// A rollback that nobody can ask about is known by what it swaps; an older request than this is no longer being rolled back.
const ROLLS_BACK_WITHIN: SignedDuration = SignedDuration::from_hours(24);

/// Where the function runs: it judges images of this account and region alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Home {
    pub account: String,
    pub region: String,
    /// Whether somebody hears of what is decided here: the pipeline has a topic.
    pub is_heard: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deploy {
    request: Request,
    url: ResponseUrl,
    home: Home,
    /// The pipeline's own policy, whose verdict stands in every row.
    pipelines: Policy,
    due: Timestamp,
    run: Run,
    known: Known,
    doing: Doing,
    /// What the decision was, in a word, for the log.
    verdict: String,
    /// Whether somebody besides is to hear of it.
    has_notice: bool,
    /// The images that this run has remembered something of: whoever reads them next does the rest.
    remembered: Vec<ImageDigest>,
}

/// How this run came about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Run {
    /// CloudFormation has asked.
    Delivered,
    /// It has, and the request is stored as open: this run has done so, or an earlier delivery.
    Registered,
    /// Somebody looks at a request that waits. `looks`: the API is asked too, not the rows alone.
    Woken { looks: bool },
    /// Every delivery failed, and nothing more is known than why.
    GivenUp { why: String },
    /// Somebody asks what a deployment would be answered.
    Checked,
}

/// What has been seen so far. `None` is "not asked yet", everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Known {
    /// Older open requests of the same resource that have to be answered first.
    older: Option<Vec<String>>,
    rows: Option<Rows>,
    rolling_back: Option<bool>,
    /// The state of the stack was not to be had: whether this is a rollback shows in what it swaps.
    stack_denied: bool,
    resolved: Option<Result<Resolved, Why>>,
    /// The images that the decision hangs on, once that is known.
    counted: Option<Counted>,
    /// What each of them is found to be; gathered for a check alone.
    judged: Vec<Judged>,
    /// Whether the tag still names what it named when the request began to wait.
    checked_again: bool,
    heads: BTreeMap<ImageDigest, Option<Head>>,
    /// The one whose row was handed over instead of being read.
    handed: Option<ImageDigest>,
    /// Who has signed it, as far as somebody has looked.
    signed: BTreeMap<ImageDigest, Found>,
    /// What is in the way of it as far as signatures go, forgiven or not.
    refusal: Option<Refusal>,
    /// The findings of that name, or that they are gone.
    facts: BTreeMap<ImageDigest, (FactsHash, Option<Facts>)>,
    registry: Option<ScanSource>,
    /// Whether the repository's images are scanned only when somebody asks.
    on_demand_only: Option<bool>,
    looked: BTreeSet<ImageDigest>,
    started: BTreeSet<ImageDigest>,
    /// ECR has refused to scan again so soon: what there is counts, however old it is.
    scanned_lately: BTreeSet<ImageDigest>,
    data: Option<Option<Data>>,
    superseded: bool,
    /// Of these images on-scan has been told, for a check.
    asked_to_look: BTreeSet<ImageDigest>,
    /// Whether somebody has broken the glass for this image.
    glass: Option<Option<Glass>>,
    /// Whether an earlier delivery has stored the request.
    stored: Option<bool>,
    /// What the decision rests on, where somebody is to be told of it.
    told: Option<Told>,
    outputs_asked: bool,
    /// How far the outputs are that have to be written before the answer; `None`: nobody has been asked to.
    progress: Option<Progress>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Doing {
    Gathering(Asked),
    Remembering(ImageDigest, Box<Remember>),
    Superseding(Box<Wake>),
    Registering(Counted, Vec<ImageDigest>),
    SendingTimer(Counted, Vec<ImageDigest>),
    /// The images that on-scan still has to be told of.
    AskingToLook(Counted, Vec<ImageDigest>),
    Recording(Box<Record>),
    Claiming(Box<Record>),
    Putting {
        mark: bool,
    },
    SendingNotice,
    HavingItRead,
    SendingOutputs,
    /// What the outputs are made of is being kept, before the answer.
    Telling,
    AskingForOutputs,
    Marking,
    Closing,
}

/// The effect whose outcome is awaited.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Asked {
    Nothing,
    Stored,
    Open,
    Rows,
    Stack,
    Forward,
    Image,
    ImageAgain(ImageDigest),
    Heads(Vec<ImageDigest>),
    Facts(ImageDigest, FactsHash),
    Signatures(ImageDigest),
    Registry,
    Frequency,
    Glass,
    Look(ImageDigest),
    ToLook,
    ReadOn,
    Start(ImageDigest),
    Data,
}

/// What one image's record says under the gate's policy.
enum Seen {
    Missing(Box<(Asked, Do)>),
    Pass(Option<Timestamp>),
    /// No scanner can scan it, and this gate lets such images through.
    LetThrough,
    Block {
        source: ScanSource,
        at: Timestamp,
        blocking: u64,
    },
    NotYet(PendingWhy),
    Unscanned(ScanState),
    /// Neither waiting nor scanning helps: what was asked cannot be done here.
    Refused(Reason),
}

impl Seen {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Pass(_) => Verdict::Pass,
            Self::Block { .. } => Verdict::Block,
            Self::LetThrough | Self::Unscanned(_) => Verdict::Unscanned,
            Self::NotYet(_) | Self::Missing(_) => Verdict::Pending,
            Self::Refused(_) => Verdict::Refused,
        }
    }
}

/// One image of a check.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Judged {
    image: Child,
    verdict: Verdict,
    scanned_at: Option<Timestamp>,
    blocking: u64,
}

enum PendingWhy {
    State(ScanState),
    Unsettled,
    FindingsGone,
    /// Nobody has asked yet how likely the findings are exploited.
    NoEpss,
    /// The scan of that moment is older than the gate allows.
    TooOld(Timestamp),
}

impl PendingWhy {
    fn not_yet(&self) -> NotYet<'_> {
        match self {
            Self::State(state) => NotYet::State(state),
            Self::Unsettled => NotYet::Unsettled,
            Self::FindingsGone => NotYet::FindingsGone,
            Self::NoEpss => NotYet::NoEpss,
            Self::TooOld(at) => NotYet::TooOld(*at),
        }
    }
}

impl Deploy {
    /// CloudFormation asks.
    pub fn new(request: Request, url: ResponseUrl, home: Home, pipelines: Policy, due: Timestamp) -> Self {
        Self {
            request,
            url,
            home,
            pipelines,
            due,
            run: Run::Delivered,
            known: Known::default(),
            doing: Doing::Gathering(Asked::Nothing),
            verdict: String::new(),
            has_notice: false,
            remembered: Vec::new(),
        }
    }

    /// A waiting request is looked at. `looks`: at the API too.
    pub fn woken(stored: Stored, home: Home, pipelines: Policy, looks: bool) -> Result<Self, Why> {
        let id = &stored.request.request_id;
        let (Some(url), Some(images)) = (stored.url, stored.images) else { return Err(Why::new(format!("request {id} waits for nothing, or nowhere"))) };
        let resolved = if images.is_index() { Resolved::Index(images.digest, images.images) } else { Resolved::Image(images.digest) };
        let mut deploy = Self::new(stored.request, url, home, pipelines, stored.due);
        deploy.run = Run::Woken { looks };
        // A stack that is rolling back sends a request of its own, and that one replaces this.
        deploy.known.rolling_back = Some(false);
        deploy.known.older = Some(Vec::new());
        deploy.known.resolved = Some(Ok(resolved));
        deploy.known.progress = stored.told.map(|_| stored.progress);
        Ok(deploy)
    }

    /// The row of an image as it was read or written a moment ago.
    pub fn knowing(mut self, head: Head) -> Self {
        self.known.handed = Some(head.digest.clone());
        self.known.heads.insert(head.digest.clone(), Some(head));
        self
    }

    /// Lambda has delivered a request as often as it does, and each time the function failed.
    pub fn given_up(request: Request, url: ResponseUrl, home: Home, pipelines: Policy, due: Timestamp, why: String) -> Self {
        let mut deploy = Self::new(request, url, home, pipelines, due);
        deploy.run = Run::GivenUp { why };
        deploy
    }

    /// Somebody asks whether an image may be deployed, and deploys nothing.
    pub fn checking(gate: Result<Gate, String>, named: Named, home: Home, pipelines: Policy, now: Timestamp) -> Self {
        // Nobody is answered by an id or at an address, and nothing is stored under either.
        let request = Request {
            kind: RequestKind::Create,
            request_id: String::new(),
            stack_id: String::new(),
            logical_id: String::new(),
            physical_id: String::new(),
            properties_hash: String::new(),
            old_properties_hash: None,
            asked_at: now,
            gate,
            named,
        };
        let mut deploy = Self::new(request, ResponseUrl::from(String::new()), home, pipelines, now);
        deploy.run = Run::Checked;
        deploy
    }

    fn ask(&mut self, asked: Asked, effect: Do) -> Do {
        // Decided when this is known, and told then.
        self.known.told = None;
        self.doing = Doing::Gathering(asked);
        effect
    }

    /// The next thing to find out, or the ruling.
    fn decide(&mut self, now: Timestamp) -> Do {
        if self.request.kind == RequestKind::Delete {
            // From the event alone: nothing that we could read makes a Delete wrong.
            self.verdict = "DELETE".to_owned();
            self.doing = Doing::Putting { mark: false };
            return Do::Put { url: self.url.clone(), answer: Answer::new(&self.request, &Ruling::Success(None)) };
        }
        if matches!(self.run, Run::GivenUp { .. }) && self.known.stored.is_none() {
            return self.ask(Asked::Stored, Do::ReadRequest(self.request.request_id.clone()));
        }
        // Before anything is decided: an older request that is answered later would undo what this one records.
        if self.is_update() && self.known.older.is_none() {
            return self.ask(Asked::Open, Do::ReadOpen { stack_key: self.request.stack_key() });
        }
        if let Some(older) = self.known.older.as_mut().and_then(Vec::pop) {
            return self.supersede(older, now);
        }
        if self.known.stack_denied && self.known.rolling_back.is_none() {
            return self.ask(Asked::Forward, Do::ReadForward { stack_key: self.request.stack_key() });
        }
        let gate = match &self.request.gate {
            Ok(gate) if !self.is_at_home(gate) => {
                let reason = message::foreign_repository(gate, &self.home.account, &self.home.region);
                return self.refuse(reason, "REFUSED", now);
            }
            Ok(gate) if gate.policy.canonical().len() > POLICY_BYTES => {
                let reason = message::policy_too_large(gate, POLICY_BYTES);
                return self.refuse(reason, "REFUSED", now);
            }
            Ok(gate) => gate.clone(),
            Err(why) => {
                let reason = Reason::new(why.clone());
                return self.refuse(reason, "REFUSED", now);
            }
        };
        if self.known.rolling_back == Some(true) && gate.suppress_on_rollback {
            return self.roll_back(now);
        }
        if let Run::GivenUp { why } = &self.run {
            let reason = message::given_up(&gate, why);
            return self.refuse(reason, "GIVEN_UP", now);
        }
        // A tag may have moved since the deployment that a rollback returns to: ask before resolving it.
        if self.must_ask_stack() && matches!(gate.image, ImageRef::Tag(_)) {
            return self.ask_stack();
        }
        self.judge_image(&gate, now)
    }

    fn judge_image(&mut self, gate: &Gate, now: Timestamp) -> Do {
        let (digest, images) = match self.images(gate) {
            Ok(found) => found,
            Err(effect) => {
                let (asked, effect) = *effect;
                return self.ask(asked, effect);
            }
        };
        let images = match images {
            Images::Counted(images) => Counted { digest, images },
            Images::Refused(reason) => return self.refuse(reason, "REFUSED", now),
        };
        self.known.counted = Some(images.clone());
        if gate.scan == AskedScan::SignatureOnly {
            return match self.stand(gate, &images, now) {
                Some(effect) => effect,
                None => self.rule(gate, &images, &[], now),
            };
        }
        if let Some(effect) = self.read_heads(gate, &images) {
            return effect;
        }
        // An index is not scanned, but it can be archived, whatever its images are.
        if images.is_index() && self.head(&images.digest).map(Head::state) == Some(ScanState::Archived) {
            let root = Child { digest: images.digest.clone(), platform: String::new() };
            return self.refuse(message::unscanned(gate, &root, &ScanState::Archived), "UNSCANNED", now);
        }

        if let Some(effect) = self.stand(gate, &images, now) {
            return effect;
        }
        // An image that is refused for its signature is not looked at any further.
        if self.is_unsigned_for_good(gate, &images, now) {
            return self.rule(gate, &images, &[], now);
        }

        let mut seen = Vec::with_capacity(images.images.len());
        for image in &images.images {
            match self.see(gate, image, images.images.len(), now) {
                Seen::Missing(missing) => {
                    let (asked, effect) = *missing;
                    return self.ask(asked, effect);
                }
                known => seen.push((image, known)),
            }
        }
        self.rule(gate, &images, &seen, now)
    }

    /// Every image is judged: the worst one decides.
    fn rule(&mut self, gate: &Gate, images: &Counted, seen: &[(&Child, Seen)], now: Timestamp) -> Do {
        if self.run == Run::Checked
            && let Some(effect) = self.gather_for_check(gate, seen)
        {
            return effect;
        }
        let find = |wanted: fn(&Seen) -> bool| seen.iter().find(|(_, seen)| wanted(seen));
        if let Some((_, Seen::Refused(reason))) = find(|seen| matches!(seen, Seen::Refused(_))) {
            return self.refuse(reason.clone(), "REFUSED", now);
        }
        // Only where something stands in the way is it worth asking whether somebody has taken that upon themselves.
        let is_in_the_way = |seen: &Seen| match seen {
            Seen::Block { .. } => gate.on_block == OnBlock::Fail,
            // What is not in the registry, or must not be pulled, cannot be deployed either.
            Seen::Unscanned(ScanState::Archived | ScanState::Deleted) => false,
            Seen::NotYet(_) | Seen::Unscanned(_) => true,
            Seen::Pass(_) | Seen::LetThrough | Seen::Refused(_) | Seen::Missing(_) => false,
        };
        let unsigned = self.known.refusal.clone().filter(|refusal| !gate.forgives(refusal));
        // Broken for one deployment, and a check is none.
        if (unsigned.is_some() || seen.iter().any(|(_, seen)| is_in_the_way(seen))) && self.known.rolling_back != Some(true) && self.run != Run::Checked {
            match self.known.glass.clone() {
                None if self.must_ask_stack() => return self.ask_stack(),
                None => {
                    let (stack_id, repository) = (self.request.stack_id.clone(), gate.repository.clone());
                    return self.ask(Asked::Glass, Do::ReadGlass { stack_id, repository, digest: images.digest.clone() });
                }
                Some(Some(glass)) if now < glass.until => match self.check_tag_again(gate, images) {
                    Some(effect) => return effect,
                    None => return self.break_glass(gate, images, glass, now),
                },
                Some(_) => {}
            }
        }
        if let Some(refusal) = unsigned.as_ref().filter(|_| self.is_unsigned_for_good(gate, images, now)) {
            return self.refuse_unsigned(gate, images, refusal, now);
        }
        // With `failOnVulnerability: false` a Block decides nothing; an image that is not judged still does.
        if gate.on_block == OnBlock::Fail
            && let Some((image, Seen::Block { source, blocking, .. })) = find(|seen| matches!(seen, Seen::Block { .. }))
        {
            if let Some(effect) = self.facts_for_message(gate, image) {
                return effect;
            }
            let also = seen.iter().filter(|(_, seen)| matches!(seen, Seen::Block { .. })).count() - 1;
            let reason = self.blocked(gate, image, *source, *blocking, also, now);
            self.tell(images, "BLOCK", Some(message::objection(&reason)), now);
            return self.refuse(reason, "BLOCK", now);
        }
        if let Some((image, Seen::Unscanned(state))) = find(|seen| matches!(seen, Seen::Unscanned(_))) {
            return self.refuse(message::unscanned(gate, image, state), "UNSCANNED", now);
        }
        if find(|seen| matches!(seen, Seen::NotYet(_))).is_some() {
            return self.wait(gate, images, seen, now);
        }
        if let Some(refusal) = &unsigned {
            return self.wait_for_signature(gate, images, refusal, now);
        }
        if let Some(effect) = self.check_tag_again(gate, images) {
            return effect;
        }
        let verdict = match (find(|seen| matches!(seen, Seen::Block { .. })), find(|seen| matches!(seen, Seen::LetThrough))) {
            (Some(_), _) => "BLOCK",
            (None, Some(_)) => "UNSCANNED",
            (None, None) => "PASS",
        };
        if self.run == Run::Checked {
            return self.may_deploy(gate, images, seen, now);
        }
        let mut objection = None;
        if let Some((image, Seen::Block { source, blocking, .. })) = find(|seen| matches!(seen, Seen::Block { .. })) {
            if self.has_outputs() {
                // A rollback tells nobody.
                if self.must_ask_stack() {
                    return self.ask_stack();
                }
                // Its counts leave out what is ignored, which takes the findings.
                if let Some(effect) = self.facts_for_message(gate, image) {
                    return effect;
                }
            }
            objection = Some(message::objection(&self.blocked(gate, image, *source, *blocking, 0, now)));
        }
        self.tell(images, verdict, objection, now);
        if let Some(effect) = self.write_outputs_first(gate, images, now) {
            return effect;
        }
        // The oldest scan of an index's images is how old the whole verdict is.
        let scanned_at = seen.iter().filter_map(|(_, seen)| match seen {
            Seen::Pass(at) => *at,
            Seen::Block { at, .. } => Some(*at),
            _ => None,
        });
        let data = Data::admitted(gate, &images.digest, verdict, scanned_at.min());
        self.admit(verdict, admission(gate, images, data), now)
    }

    /// While the request waited, the tag may have moved: what would be deployed now is another image.
    fn check_tag_again(&mut self, gate: &Gate, images: &Counted) -> Option<Do> {
        let has_waited = matches!(self.run, Run::Woken { .. });
        if !has_waited || self.known.checked_again || !matches!(gate.image, ImageRef::Tag(_)) {
            return None;
        }
        let effect = Do::ResolveImage { repository: gate.repository.clone(), image: gate.image.clone(), expected: Some(images.digest.clone()) };
        Some(self.ask(Asked::ImageAgain(images.digest.clone()), effect))
    }

    /// Let through on somebody's word, once, and recorded as that.
    fn break_glass(&mut self, gate: &Gate, images: &Counted, glass: Glass, now: Timestamp) -> Do {
        let data = Data::admitted(gate, &images.digest, "BREAK_GLASS", None);
        self.admit_by("BREAK_GLASS", admission(gate, images, data), Some(glass), now)
    }

    /// No complete result: wait for one, as long as there is time.
    fn wait(&mut self, gate: &Gate, images: &Counted, seen: &[(&Child, Seen)], now: Timestamp) -> Do {
        if self.must_ask_stack() {
            return self.ask_stack();
        }
        let not_yet: Vec<(&Child, &PendingWhy)> = seen
            .iter()
            .filter_map(|(image, seen)| match seen {
                Seen::NotYet(why) => Some((*image, why)),
                _ => None,
            })
            .collect();
        let [(image, why), ..] = not_yet.as_slice() else { return self.give_up("nothing to wait for") };
        if self.run == Run::Checked {
            return self.would_wait(gate, image, why, &not_yet, now);
        }
        if self.known.rolling_back == Some(true) {
            return self.refuse(message::rollback_without_record(gate), "PENDING", now);
        }
        if matches!(self.run, Run::Woken { .. })
            && let Some(digest) = self.to_start(gate, &not_yet)
        {
            // Somebody else may have asked for it since that row was written.
            if self.known.handed.take().as_ref() == Some(&digest) {
                self.known.heads.remove(&digest);
                return self.decide(now);
            }
            self.known.started.insert(digest.clone());
            let effect = Do::StartScan { repository: gate.repository.clone(), digest: digest.clone() };
            return self.ask(Asked::Start(digest), effect);
        }
        // Waiting for a scan that nobody makes would end with the same answer, later.
        if self.run == (Run::Woken { looks: true }) && self.known.on_demand_only != Some(false) && self.nobody_has_come(gate, image, why, now) {
            if self.known.on_demand_only == Some(true) {
                let source = self.head(&image.digest).and_then(Head::source);
                return self.refuse(message::nobody_scans(gate, image, source), "REFUSED", now);
            }
            return self.ask(Asked::Frequency, Do::ReadFrequency { repository: gate.repository.clone() });
        }
        if now >= self.due {
            let listed = self.head(&image.digest).and_then(|head| head.listed_so_far(&gate.policy));
            return self.refuse(message::timed_out(&self.request, Some((image, why.not_yet())), listed), "TIMED_OUT", now);
        }
        match self.run {
            Run::Delivered | Run::GivenUp { .. } => {
                let unknown = not_yet.iter().map(|(image, _)| image.digest.clone()).collect();
                self.doing = Doing::Registering(images.clone(), unknown);
                self.register(images.clone(), None, now)
            }
            Run::Registered | Run::Woken { .. } => Do::Finish(Outcome::Done(format!("waits for {}", image.digest))),
            Run::Checked => self.give_up("a check that waits"),
        }
    }

    fn register(&self, images: Counted, told: Option<Box<Told>>, now: Timestamp) -> Do {
        Do::Register { request: Box::new(self.request.clone()), url: self.url.clone(), due: self.due, images, since: now, told }
    }

    /// Under `strictOutputs` nothing is let through before its outputs are written.
    fn write_outputs_first(&mut self, gate: &Gate, images: &Counted, now: Timestamp) -> Option<Do> {
        let wanted = gate.outputs.as_ref().filter(|wanted| wanted.strict)?;
        if self.must_ask_stack() {
            return Some(self.ask_stack());
        }
        if self.known.rolling_back == Some(true) {
            return None;
        }
        match self.known.progress.clone() {
            Some(progress) if progress.is_settled_for_the_answer(wanted) => {
                let why = progress.given_up()?;
                let reason = message::outputs_failed(gate, why);
                // Nobody is told of an image that was let through: it was not.
                self.known.told = None;
                Some(self.refuse(reason, "OUTPUTS_FAILED", now))
            }
            progress if now >= self.due => {
                self.known.told = None;
                let why = progress.and_then(|progress| progress.failed).unwrap_or_else(|| "they were not written in time".to_owned());
                Some(self.refuse(message::outputs_failed(gate, &why), "OUTPUTS_FAILED", now))
            }
            // A timer asks again: whoever was asked may have given up.
            Some(_) if self.run == (Run::Woken { looks: true }) && !self.known.outputs_asked => Some(self.ask_for_outputs()),
            Some(_) => Some(Do::Finish(Outcome::Done("waits for its outputs".to_owned()))),
            None => {
                let Some(told) = self.known.told.take() else { return Some(self.give_up("outputs of nothing")) };
                self.known.progress = Some(Progress::default());
                match self.run {
                    Run::Delivered | Run::GivenUp { .. } => {
                        self.doing = Doing::Registering(images.clone(), Vec::new());
                        Some(self.register(images.clone(), Some(Box::new(told)), now))
                    }
                    Run::Registered | Run::Woken { .. } => {
                        self.doing = Doing::Telling;
                        Some(Do::Tell { request_id: self.request.request_id.clone(), told: Box::new(told) })
                    }
                    Run::Checked => Some(self.give_up("a check that writes outputs")),
                }
            }
        }
    }

    fn ask_for_outputs(&mut self) -> Do {
        self.known.outputs_asked = true;
        self.doing = Doing::AskingForOutputs;
        Do::SendOutputs { request_id: self.request.request_id.clone(), after: SignedDuration::ZERO }
    }

    /// Whether an image that nobody has scanned has been waited for so long that on-push, which starts scans where nobody else
    /// does, would have come.
    fn nobody_has_come(&self, gate: &Gate, image: &Child, why: &PendingWhy, now: Timestamp) -> bool {
        let starts_scans = gate.scan == AskedScan::Basic { start_scan: true };
        let is_unscanned = matches!(why, PendingWhy::State(ScanState::NotFound)) && self.known.looked.contains(&image.digest);
        is_unscanned && !starts_scans && now.duration_since(self.request.asked_at) >= ON_PUSH_COMES_WITHIN
    }

    /// The image whose scan nobody has started, where this gate asks for that.
    fn to_start(&self, gate: &Gate, not_yet: &[(&Child, &PendingWhy)]) -> Option<ImageDigest> {
        let asks = gate.scan == AskedScan::Basic { start_scan: true };
        let unscanned = not_yet.iter().find(|(image, why)| {
            matches!(why, PendingWhy::State(ScanState::NotFound) | PendingWhy::TooOld(_))
                && !self.known.started.contains(&image.digest)
                // Only where basic scanning has said so: of Inspector's images nobody else starts a scan.
                && self.head(&image.digest).and_then(Head::source) == Some(ScanSource::Basic)
        });
        unscanned.filter(|_| asks).map(|(image, _)| image.digest.clone())
    }

    fn supersede(&mut self, request_id: String, now: Timestamp) -> Do {
        let mut wake = Wake::new(request_id, By::Newer, self.home.clone(), self.pipelines.clone());
        let effect = wake.next(Saw::Start, now);
        self.doing = Doing::Superseding(Box::new(wake));
        effect
    }

    /// The request is stored: now a timer, then a word to on-scan, then one more look.
    fn set_timer(&mut self, images: Counted, unknown: Vec<ImageDigest>, now: Timestamp) -> Do {
        self.run = Run::Registered;
        // Of these on-scan is told too.
        let mut unknown = unknown;
        unknown.extend(std::mem::take(&mut self.remembered).into_iter().filter(|digest| !unknown.contains(digest)).collect::<Vec<_>>());
        match timer_after(1, now, self.due) {
            Some(after) => {
                self.doing = Doing::SendingTimer(images, unknown);
                Do::SendTimer { request_id: self.request.request_id.clone(), n: 1, after }
            }
            None => self.ask_to_look(images, unknown, now),
        }
    }

    fn ask_to_look(&mut self, images: Counted, mut unknown: Vec<ImageDigest>, now: Timestamp) -> Do {
        let gate = self.request.gate.as_ref().ok();
        match gate.zip(unknown.pop()) {
            Some((gate, digest)) => {
                let repository = gate.repository.clone();
                self.doing = Doing::AskingToLook(images, unknown);
                Do::LookAgain { repository, digest, n: 0, after: SignedDuration::ZERO, request_id: Some(self.request.request_id.clone()) }
            }
            None if self.known.progress.is_some() && !self.known.outputs_asked => self.ask_for_outputs(),
            None => {
                // Registered, so now look: a scan that ended in between has told nobody of it.
                for digest in images.digests() {
                    self.known.heads.remove(digest);
                    self.known.looked.insert(digest.clone());
                }
                // So can a signature have come.
                self.known.signed.clear();
                self.decide(now)
            }
        }
    }

    fn give_up(&mut self, what: &str) -> Do {
        Do::Finish(Outcome::Redeliver(Why::new(what)))
    }

    fn head(&self, digest: &ImageDigest) -> Option<&Head> {
        self.known.heads.get(digest).and_then(Option::as_ref)
    }

    /// The findings that the row refers to: `None` unread, `Some(None)` gone.
    fn facts(&self, digest: &ImageDigest) -> Option<Option<&Facts>> {
        let wanted = &self.head(digest)?.valid_result()?.facts;
        self.known.facts.get(digest).filter(|(hash, _)| hash == wanted).map(|(_, facts)| facts.as_ref())
    }

    /// The digest that is asked for and the images that count for it, or what has to be found out first.
    fn images(&self, gate: &Gate) -> Result<(ImageDigest, Images), Box<(Asked, Do)>> {
        let one = |digest: &ImageDigest| Images::Counted(vec![Child { digest: digest.clone(), platform: String::new() }]);
        let resolve = || {
            let effect = Do::ResolveImage { repository: gate.repository.clone(), image: gate.image.clone(), expected: gate.expected.clone() };
            Box::new(if self.must_ask_stack() { self.stack_first() } else { (Asked::Image, effect) })
        };
        let many = |children: &[Child]| {
            let missing =
                gate.platforms.iter().find(|wanted| !children.iter().any(|child| Gate { platforms: vec![(*wanted).clone()], ..gate.clone() }.counts(child)));
            let counted: Vec<Child> = children.iter().filter(|child| gate.counts(child)).cloned().collect();
            match (children.len(), missing, counted.len()) {
                (0, ..) => Images::Refused(message::index_without_images(gate)),
                (_, Some(platform), _) => Images::Refused(message::no_such_platform(gate, platform, children)),
                (_, None, 0..=MOST_IMAGES) => Images::Counted(counted),
                (_, None, more) => Images::Refused(message::index_too_large(gate, more, MOST_IMAGES)),
            }
        };
        let asked = gate.expected.as_ref().or(match &gate.image {
            ImageRef::Digest(digest) => Some(digest),
            ImageRef::Tag(_) => None,
        });
        match (&self.known.resolved, &gate.image) {
            // ECR has checked this; a registry that answers about another image is not believed all the same.
            (Some(Ok(Resolved::Image(found) | Resolved::Index(found, _))), _) if asked.is_some_and(|asked| asked != found) => {
                let asked = asked.cloned().unwrap_or_else(|| found.clone());
                Ok((asked.clone(), Images::Refused(message::tag_moved(gate, &asked))))
            }
            (Some(Ok(Resolved::Image(digest))), _) => Ok((digest.clone(), one(digest))),
            (Some(Ok(Resolved::Index(digest, children))), _) => Ok((digest.clone(), many(children))),
            (Some(Ok(Resolved::NotAnImage(digest, media_type, _))), _) => Ok((digest.clone(), Images::Refused(message::not_an_image(gate, media_type)))),
            (Some(Ok(Resolved::NotFound)), image) => Ok((digest_or_none(image), Images::Refused(message::image_not_found(gate)))),
            (Some(Ok(Resolved::OtherDigest)), image) => {
                let expected = gate.expected.clone().unwrap_or_else(|| digest_or_none(image));
                Ok((expected.clone(), Images::Refused(message::tag_moved(gate, &expected))))
            }
            (Some(Ok(Resolved::Unusable(why))), image) => Ok((digest_or_none(image), Images::Refused(message::unusable(gate, why)))),
            // The driver gives up before a failed look gets here, except in a rollback, which does not judge.
            (Some(Err(_)), _) => Err(resolve()),
            // A tag that is given beside a known digest has to be checked against it by ECR.
            (None, ImageRef::Tag(_)) => Err(resolve()),
            (None, ImageRef::Digest(digest)) => match self.known.heads.get(digest) {
                None => {
                    let effect = Do::ReadHeads { repository: gate.repository.clone(), digests: vec![digest.clone()] };
                    Err(Box::new((Asked::Heads(vec![digest.clone()]), effect)))
                }
                // Deleted, it was once said: it may have been pushed again.
                Some(Some(head)) if head.state() == ScanState::Deleted => Err(resolve()),
                Some(Some(Head { kind: Kind::Index(children), .. })) => Ok((digest.clone(), many(children))),
                Some(Some(head)) if head.kind == Kind::Image => Ok((digest.clone(), one(digest))),
                // Nobody has looked at its manifest: it may be an index, or not there at all.
                Some(_) => Err(resolve()),
            },
        }
    }

    /// What is known of one image, or what has to be found out first.
    fn see(&self, gate: &Gate, image: &Child, of: usize, now: Timestamp) -> Seen {
        let head = self.head(&image.digest);
        let needs_epss = gate.policy.needs_epss() || head.is_some_and(Head::needs_epss);
        let has_looked = self.known.looked.contains(&image.digest);
        let is_woken = matches!(self.run, Run::Woken { .. });
        // How likely findings are exploited takes page after page of a second list: that is for on-scan.
        let may_look = self.may_look(gate, of) && !has_looked && (is_woken || !needs_epss);
        let look = || {
            let depth = if is_woken { Depth::Whole } else { Depth::FirstPage };
            let pushed_at = head.and_then(|head| head.pushed_at);
            let effect = Do::Look { repository: gate.repository.clone(), digest: image.digest.clone(), depth, pushed_at, from: None, epss: needs_epss };
            Seen::Missing(Box::new(if self.must_ask_stack() { self.stack_first() } else { (Asked::Look(image.digest.clone()), effect) }))
        };
        if let Some(source) = head.and_then(Head::source)
            && let Some(answer) = self.check_source(gate, source)
        {
            return match answer {
                Source::Ask => Seen::Missing(Box::new((Asked::Registry, Do::ReadRegistry))),
                Source::Refused(reason) => Seen::Refused(reason),
                Source::Outdated if may_look => look(),
                Source::Outdated => Seen::NotYet(PendingWhy::State(ScanState::NotFound)),
            };
        }
        let asks_inspector = gate.policy.needs_inspector();
        if head.and_then(Head::source) == Some(ScanSource::Basic) && !asks_inspector.is_empty() {
            return Seen::Refused(message::basic_does_not_say(gate, &asks_inspector));
        }
        let Some((result, settled)) = head.and_then(Head::complete) else {
            if may_look {
                return look();
            }
            let state = head.map_or(ScanState::NotFound, Head::state);
            if state == ScanState::Unsupported && gate.on_unscanned != OnUnscanned::Block {
                return Seen::LetThrough;
            }
            return if state.standing() == Standing::Unscanned { Seen::Unscanned(state) } else { Seen::NotYet(PendingWhy::State(state)) };
        };
        if gate.policy.needs_epss() && !result.says_epss {
            // Whoever brought the news did not know that somebody needs it.
            return if is_woken && !has_looked { look() } else { Seen::NotYet(PendingWhy::NoEpss) };
        }
        let by_facts = |facts: &Facts| judge(facts.findings(), &gate.policy, &gate.repository.name, now).blocking.len() as u64;
        let blocking = match (head.and_then(|head| head.blocking_under(&gate.policy, now)), self.facts(&image.digest)) {
            (Some(blocking), _) => blocking,
            (None, Some(Some(facts))) => by_facts(facts),
            (None, None) => {
                let effect = Do::ReadFacts { repository: gate.repository.clone(), digest: image.digest.clone(), facts: result.facts.clone() };
                return Seen::Missing(Box::new((Asked::Facts(image.digest.clone(), result.facts.clone()), effect)));
            }
            (None, Some(None)) if may_look => return look(),
            (None, Some(None)) => return Seen::NotYet(PendingWhy::FindingsGone),
        };
        let is_too_old = gate.max_scan_age().is_some_and(|age| now.duration_since(result.completed_at) > age);
        if head.is_some_and(|head| head.awaits_scan(now)) {
            return if may_look { look() } else { Seen::NotYet(PendingWhy::State(ScanState::Running)) };
        }
        if is_too_old && !self.known.scanned_lately.contains(&image.digest) {
            return match gate.scan {
                _ if may_look => look(),
                AskedScan::Basic { start_scan: true } => Seen::NotYet(PendingWhy::TooOld(result.completed_at)),
                _ => Seen::Refused(message::scan_too_old(gate, image, result.source, result.completed_at, now)),
            };
        }
        match (blocking, settled) {
            (0, true) => Seen::Pass(Some(result.completed_at)),
            (0, false) if may_look => look(),
            (0, false) => Seen::NotYet(PendingWhy::Unsettled),
            (blocking, _) => Seen::Block { source: result.source, at: result.completed_at, blocking },
        }
    }

    /// Whether the scanner that a record is of is the one that was asked for; `None`: it is good enough.
    fn check_source(&self, gate: &Gate, source: ScanSource) -> Option<Source> {
        let wanted = match (gate.scan, source) {
            (AskedScan::Basic { start_scan: true }, ScanSource::Enhanced) => ScanSource::Basic,
            (AskedScan::Enhanced, ScanSource::Basic) => ScanSource::Enhanced,
            _ => return None,
        };
        Some(match self.known.registry {
            None => Source::Ask,
            // The record is of a scanner that is not in charge any more.
            Some(registry) if registry == wanted => Source::Outdated,
            Some(ScanSource::Enhanced) => Source::Refused(message::start_scan_is_disabled()),
            Some(ScanSource::Basic) => Source::Refused(message::enhanced_is_off(gate)),
        })
    }

    /// A rollback is judged from the record alone. Of many images on-deploy looks at none: that is work for on-scan, which has
    /// just looked when it wakes somebody, and looks at each when a timer rings.
    fn may_look(&self, gate: &Gate, of: usize) -> bool {
        match self.run {
            Run::Delivered | Run::Registered | Run::Checked => (self.known.rolling_back != Some(true) || gate.suppress_on_rollback) && of <= MOST_LOOKS,
            Run::Woken { looks } => looks,
            Run::GivenUp { .. } => false,
        }
    }

    /// The findings for the message of a blocked image; without them it is blocked all the same.
    fn facts_for_message(&mut self, gate: &Gate, image: &Child) -> Option<Do> {
        if self.facts(&image.digest).is_some() {
            return None;
        }
        let facts = self.head(&image.digest)?.valid_result()?.facts.clone();
        let effect = Do::ReadFacts { repository: gate.repository.clone(), digest: image.digest.clone(), facts: facts.clone() };
        Some(self.ask(Asked::Facts(image.digest.clone(), facts), effect))
    }

    fn blocked(&self, gate: &Gate, image: &Child, source: ScanSource, blocking: u64, also: usize, now: Timestamp) -> Reason {
        let head = self.head(&image.digest);
        let judgement = self.facts(&image.digest).flatten().map(|facts| judge(facts.findings(), &gate.policy, &gate.repository.name, now));
        let recorded = head.and_then(Head::valid_result).map(|result| result.counts.clone()).unwrap_or_default();
        let counts = judgement.as_ref().map_or(recorded, |judgement| judgement.counts.clone());
        let unrated = judgement.as_ref().map(|judgement| Counts::of(judgement.tolerated.iter().copied().filter(|finding| !finding.severity.is_rated())));
        message::found_vulnerabilities(&Blocked {
            gate,
            image,
            source,
            counts: &counts,
            blocking,
            judgement: judgement.as_ref(),
            unrated: &unrated.unwrap_or_default(),
            also,
        })
    }

    /// Answers FAILED, unless this is a rollback: that one never fails because of us.
    fn refuse(&mut self, reason: Reason, verdict: &str, now: Timestamp) -> Do {
        if self.run == Run::Checked {
            return self.checked(Verdict::of_refusal(verdict), false, reason.text(), None, now);
        }
        if self.must_ask_stack() {
            return self.ask_stack();
        }
        let suppresses = self.request.gate.as_ref().map_or(true, |gate| gate.suppress_on_rollback);
        if self.known.rolling_back == Some(true) && suppresses {
            return self.roll_back(now);
        }
        self.record(Record::refused(&self.request, reason, verdict, now))
    }

    /// Answers a rollback from the record: what it returns to has been let through before.
    fn roll_back(&mut self, now: Timestamp) -> Do {
        // Nothing was judged for it, so nobody is told of anything.
        self.known.told = None;
        let gate = self.request.gate.clone().ok().filter(|gate| self.is_at_home(gate));
        let policy = gate.as_ref().map(|gate| gate.policy.clone());
        let data = match (self.known.data.clone(), &gate, &self.known.resolved) {
            (None, _, _) => {
                let effect = Do::ReadData { stack_key: self.request.stack_key(), properties_hash: self.request.properties_hash.clone() };
                return self.ask(Asked::Data, effect);
            }
            (Some(Some(data)), _, _) => data,
            (Some(None), Some(gate @ Gate { image: ImageRef::Digest(digest), .. }), _) => Data::admitted(gate, digest, "ROLLBACK", None),
            (Some(None), Some(gate), None) => {
                let effect = Do::ResolveImage { repository: gate.repository.clone(), image: gate.image.clone(), expected: None };
                return self.ask(Asked::Image, effect);
            }
            (Some(None), Some(gate), Some(Ok(Resolved::Image(digest) | Resolved::Index(digest, _)))) => Data::admitted(gate, digest, "ROLLBACK", None),
            (Some(None), _, _) => Data::unknown_image(&self.request.named, gate.as_ref()),
        };
        // Where it is known what the index's images were, they are deployed again too.
        let root: Option<ImageDigest> = data.image_digest.parse().ok();
        let rows = match &self.known.rows {
            Some(rows) => rows,
            None => return self.ask(Asked::Rows, Do::ReadRows { stack_key: self.request.stack_key() }),
        };
        let images = rows.images.values().filter(|row| Some(&row.of) == root.as_ref() && Some(&row.digest) != root.as_ref()).map(|row| row.digest.clone());
        let digests = root.iter().cloned().chain(images).collect();
        let repository = gate.map(|gate| gate.repository);
        let verdict = if self.known.stack_denied { "ROLLBACK_UNVERIFIED" } else { "ROLLBACK" };
        self.admit(verdict, Admission { repository, digests, policy, data }, now)
    }

    fn admit(&mut self, verdict: &str, admission: Admission, now: Timestamp) -> Do {
        self.admit_by(verdict, admission, None, now)
    }

    fn admit_by(&mut self, verdict: &str, admission: Admission, glass: Option<Glass>, now: Timestamp) -> Do {
        if self.is_update() && self.known.rows.is_none() {
            return self.ask(Asked::Rows, Do::ReadRows { stack_key: self.request.stack_key() });
        }
        let keys: BTreeSet<String> = match &admission.repository {
            Some(repository) => admission.digests.iter().map(|digest| image_row(digest, repository)).collect(),
            None => BTreeSet::new(),
        };
        // Where nobody can say which image it is, nothing is known to be replaced.
        let is_known = !keys.is_empty();
        let admitted = self.known.rows.iter().flat_map(|rows| &rows.images).filter(|(_, row)| row.is_admitted).map(|(key, _)| key);
        let replaced = admitted.filter(|key| is_known && !keys.contains(*key)).cloned().collect();
        let answer = Answer::new(&self.request, &Ruling::Success(Some(admission.data.clone())));
        self.record(Record {
            answer,
            decided_at: now,
            admitted: Some(admission),
            replaced,
            after: self.known.rows.as_ref().map(|rows| rows.newest.clone()),
            verdict: verdict.to_owned(),
            why: glass.as_ref().map(|glass| glass.reason.clone()).unwrap_or_default(),
            glass,
            told: None,
            outputs_are_written: false,
            notice: None,
            digest: None,
            known: Vec::new(),
            signed: None,
        })
    }

    fn record(&mut self, record: Record) -> Do {
        let now = record.decided_at;
        self.verdict = record.verdict.clone();
        let outputs_are_written = self.known.progress.is_some() && record.admitted.is_some();
        let known = self.known.counted.as_ref().map(|images| self.scanned(images, now)).unwrap_or_default();
        let admitted = record.admitted.as_ref().and_then(|admission| admission.data.image_digest.parse().ok());
        let digest = admitted.or_else(|| self.digest());
        let signed = self.signed().filter(|_| !["ROLLBACK", "ROLLBACK_UNVERIFIED", "SUPERSEDED"].contains(&record.verdict.as_str()));
        let mut record = Box::new(Record { told: self.known.told.take(), outputs_are_written, digest, known, signed, ..record });
        record.notice = Decided::of(&self.request, &record).filter(|_| self.home.is_heard);
        self.has_notice = record.notice.is_some();
        match self.run {
            Run::Delivered | Run::GivenUp { .. } => {
                self.doing = Doing::Recording(record.clone());
                Do::Record { request: Box::new(self.request.clone()), url: self.url.clone(), due: self.due, record }
            }
            Run::Registered | Run::Woken { .. } => {
                self.doing = Doing::Claiming(record.clone());
                Do::Claim { request: Box::new(self.request.clone()), record }
            }
            Run::Checked => self.give_up("a check that records something"),
        }
    }

    /// What each image of a check is, and the findings of those that block: whoever asks reads them all.
    fn gather_for_check(&mut self, gate: &Gate, seen: &[(&Child, Seen)]) -> Option<Do> {
        for (image, seen) in seen {
            if matches!(seen, Seen::Block { .. })
                && let Some(effect) = self.facts_for_message(gate, image)
            {
                return Some(effect);
            }
        }
        let judged = seen.iter().map(|(image, seen)| {
            let (scanned_at, blocking) = match seen {
                Seen::Pass(at) => (*at, 0),
                Seen::Block { at, blocking, .. } => (Some(*at), *blocking),
                _ => (None, 0),
            };
            Judged { image: (*image).clone(), verdict: seen.verdict(), scanned_at, blocking }
        });
        self.known.judged = judged.collect();
        // What it has read first, others are to be told of, and to find.
        let read =
            self.remembered.iter().find(|digest| self.head(digest).and_then(Head::valid_result).is_some() && !self.known.asked_to_look.contains(*digest));
        let digest = read.cloned()?;
        self.known.asked_to_look.insert(digest.clone());
        let effect = Do::LookAgain { repository: gate.repository.clone(), digest, n: 0, after: SignedDuration::ZERO, request_id: None };
        Some(self.ask(Asked::ToLook, effect))
    }

    /// A check of what a gate would let through, be it in spite of what stands in the way.
    fn may_deploy(&mut self, gate: &Gate, images: &Counted, seen: &[(&Child, Seen)], now: Timestamp) -> Do {
        for (image, seen) in seen {
            if let Seen::Block { source, blocking, .. } = seen {
                let also = self.known.judged.iter().filter(|judged| judged.verdict == Verdict::Block).count() - 1;
                let reason = self.blocked(gate, image, *source, *blocking, also, now);
                return self.checked(Verdict::Block, true, message::let_through_all_the_same(&reason), None, now);
            }
        }
        match seen.iter().find(|(_, seen)| matches!(seen, Seen::LetThrough)) {
            Some((image, _)) => self.checked(Verdict::Unscanned, true, message::let_through_unscanned(gate, image), None, now),
            None => self.checked(Verdict::Pass, true, message::may_be_deployed(gate, &images.digest), None, now),
        }
    }

    /// A check of what a deployment would wait for. What this function cannot find out by looking, on-scan is asked to: nobody
    /// else would, since nobody waits.
    fn would_wait(&mut self, gate: &Gate, image: &Child, why: &PendingWhy, not_yet: &[(&Child, &PendingWhy)], now: Timestamp) -> Do {
        let to_look = not_yet.iter().map(|(image, _)| &image.digest).find(|digest| !self.known.asked_to_look.contains(*digest) && !self.has_seen_all(digest));
        if let Some(digest) = to_look.cloned() {
            self.known.asked_to_look.insert(digest.clone());
            let effect = Do::LookAgain { repository: gate.repository.clone(), digest, n: 0, after: SignedDuration::ZERO, request_id: None };
            return self.ask(Asked::ToLook, effect);
        }
        let listed = self.head(&image.digest).and_then(|head| head.listed_so_far(&gate.policy));
        let ask_again = match why {
            PendingWhy::Unsettled => APART,
            _ => ASK_AGAIN,
        };
        self.checked(Verdict::Pending, false, message::would_wait(gate, image, why.not_yet(), listed), Some(ask_again), now)
    }

    /// Whether this run has asked the scanner itself, and was told all that there is: of a long list it reads the first page alone.
    fn has_seen_all(&self, digest: &ImageDigest) -> bool {
        let has_more = |head: &Head| head.state() == ScanState::Running && head.latest.as_ref().is_some_and(|word| word.is_of_an_ended_scan());
        self.known.looked.contains(digest) && !self.head(digest).is_some_and(has_more)
    }

    fn checked(&self, verdict: Verdict, may_deploy: bool, message: String, retry_after: Option<SignedDuration>, now: Timestamp) -> Do {
        let gate = self.request.gate.as_ref().ok();
        let is_index = self.known.counted.as_ref().is_some_and(Counted::is_index);
        let mut counts = Counts::default();
        let mut blocking = Vec::new();
        for judged in &self.known.judged {
            let digest = &judged.image.digest;
            let judgement = gate.and_then(|gate| Some(judge(self.facts(digest)??.findings(), &gate.policy, &gate.repository.name, now)));
            let result = self.head(digest).and_then(Head::valid_result);
            match (&judgement, result) {
                (Some(judgement), _) => judgement.counts.iter().for_each(|(word, count)| counts.add(word, count)),
                (None, Some(result)) => result.counts.iter().for_each(|(word, count)| counts.add(word, count)),
                (None, None) => {}
            }
            if judged.verdict == Verdict::Block {
                let of = is_index.then(|| digest.clone());
                blocking.extend(judgement.iter().flat_map(|judgement| &judgement.blocking).map(|finding| Blocking::of(finding, of.clone())));
            }
        }
        blocking.truncate(LISTED);
        let digest = self.digest();
        let named = &self.request.named;
        let of_index = |judged: &Judged| OfIndex { digest: judged.image.digest.clone(), platform: judged.image.platform.clone(), verdict: judged.verdict };
        Do::Finish(Outcome::Checked(Box::new(Checked {
            schema_version: 1,
            verdict,
            may_deploy,
            image: CheckedImage {
                repository: gate.map_or_else(|| named.repository.clone(), |gate| gate.repository.name.clone()),
                uri: gate.zip(digest.as_ref()).map(|(gate, digest)| format!("{}@{digest}", gate.repository.uri())),
                digest,
                tag: gate.and_then(|gate| match &gate.image {
                    ImageRef::Tag(tag) => Some(tag.clone()),
                    ImageRef::Digest(_) => None,
                }),
            },
            scanned_at: self.known.judged.iter().filter_map(|judged| judged.scanned_at).min(),
            policy_hash: gate.map(|gate| gate.policy.hash().to_string()),
            counts,
            blocking,
            blocking_total: self.known.judged.iter().map(|judged| judged.blocking).fold(0, u64::saturating_add),
            signature: self.signed(),
            images: self.known.judged.iter().filter(|_| is_index).map(of_index).collect(),
            message,
            retry_after_seconds: retry_after.and_then(|after| u32::try_from(after.as_secs()).ok()),
        })))
    }

    /// The digest that is deployed, as far as it is known.
    fn digest(&self) -> Option<ImageDigest> {
        match (&self.known.resolved, self.request.gate.as_ref().ok().map(|gate| &gate.image)) {
            (Some(Ok(Resolved::Image(digest) | Resolved::Index(digest, _) | Resolved::NotAnImage(digest, ..))), _) => Some(digest.clone()),
            (_, Some(ImageRef::Digest(digest))) => Some(digest.clone()),
            _ => None,
        }
    }

    fn has_outputs(&self) -> bool {
        self.request.gate.as_ref().is_ok_and(|gate| gate.outputs.is_some())
    }

    /// What is known of each image that has a complete result.
    fn scanned(&self, images: &Counted, now: Timestamp) -> Vec<Scanned> {
        let Ok(gate) = &self.request.gate else { return Vec::new() };
        let scanned = images.images.iter().filter_map(|image| {
            let (result, _) = self.head(&image.digest)?.complete()?;
            let judged = self.facts(&image.digest).flatten().map(|facts| judge(facts.findings(), &gate.policy, &gate.repository.name, now).counts);
            Some(Scanned {
                counts: judged.unwrap_or_else(|| result.counts.clone()),
                image: image.clone(),
                source: result.source,
                status: result.status.clone(),
                completed_at: result.completed_at,
                facts: result.facts.clone(),
            })
        });
        scanned.collect()
    }

    /// What was judged, for whoever writes the outputs.
    fn tell(&mut self, images: &Counted, verdict: &str, objection: Option<String>, now: Timestamp) {
        let Ok(gate) = &self.request.gate else { return };
        let images_told = self.scanned(images, now);
        let is_strict = gate.outputs.as_ref().is_some_and(|outputs| outputs.strict);
        // What blocks is refused at once, and waits for no output.
        let waits_for_them = is_strict && !(verdict == "BLOCK" && gate.on_block == OnBlock::Fail);
        let has_waited = waits_for_them || matches!(self.run, Run::Woken { .. });
        let objection = objection.filter(|_| self.known.rolling_back != Some(true));
        self.known.told = Some(Told {
            digest: images.digest.clone(),
            images: images_told,
            verdict: verdict.to_owned(),
            decided_at: now,
            has_waited,
            objection,
            signature: self.signature_told(gate),
            by_signature_alone: gate.scan == AskedScan::SignatureOnly,
        });
    }

    /// Whoever writes a row has on-scan see to what follows from it: who is to be told, and by what it is found. Then the mark.
    fn have_it_read(&mut self) -> Do {
        let gate = self.request.gate.as_ref().ok();
        if let Some((gate, digest)) = gate.zip(self.remembered.pop()) {
            self.doing = Doing::HavingItRead;
            return Do::LookAgain { repository: gate.repository.clone(), digest, n: 0, after: SignedDuration::ZERO, request_id: None };
        }
        self.doing = Doing::Marking;
        Do::MarkAnswered { request_id: self.request.request_id.clone() }
    }

    fn put(&mut self, answer: Answer) -> Do {
        self.doing = Doing::Putting { mark: true };
        Do::Put { url: self.url.clone(), answer }
    }

    /// An earlier delivery of this request has stored it, and come this far.
    fn go_on_from(&mut self, stage: Stage, record: Option<Box<Record>>) -> Do {
        match stage {
            Stage::Answered => Do::Finish(Outcome::Done("answered before".to_owned())),
            // It has decided: its bytes are the answer, whatever is true by now and whoever holds the lease.
            Stage::Claimed { answer, .. } => {
                // Whether it has told of itself nobody knows here; a message too many finds nothing to tell.
                self.has_notice = self.home.is_heard;
                self.verdict = "the answer stored before".to_owned();
                self.put(answer)
            }
            Stage::Open => match record {
                Some(record) => {
                    self.run = Run::Registered;
                    self.doing = Doing::Claiming(record.clone());
                    Do::Claim { request: Box::new(self.request.clone()), record }
                }
                None => self.give_up("an open request without a decision"),
            },
        }
    }

    /// A newer request of this resource has been decided meanwhile. This one is answered, and changes nothing.
    fn superseded(&mut self, now: Timestamp) -> Do {
        self.known.told = None;
        self.known.superseded = true;
        self.record(Record::refused(&self.request, message::superseded(), "SUPERSEDED", now))
    }

    fn stack_first(&self) -> (Asked, Do) {
        (Asked::Stack, Do::ReadStack(self.request.stack_id.clone()))
    }

    fn ask_stack(&mut self) -> Do {
        let (asked, effect) = self.stack_first();
        self.ask(asked, effect)
    }

    /// Only an Update can be a rollback, and nothing in the request says so.
    fn must_ask_stack(&self) -> bool {
        self.is_update() && self.known.rolling_back.is_none()
    }

    fn is_at_home(&self, gate: &Gate) -> bool {
        gate.repository.account == self.home.account && gate.repository.region == self.home.region
    }

    fn is_update(&self) -> bool {
        self.request.kind == RequestKind::Update
    }

    /// Files what was seen; `Some` is what follows at once.
    fn absorb(&mut self, asked: Asked, saw: Saw, now: Timestamp) -> Option<Do> {
        match (asked, saw) {
            (Asked::Nothing, Saw::Start) => {}
            (Asked::Stored, Saw::Request(None)) => self.known.stored = Some(false),
            (Asked::Stored, Saw::Request(Some(stored))) => return Some(self.found(*stored, now)),
            (Asked::Open, Saw::Waiting(waiting)) => self.known.older = Some(self.older(waiting)),
            (Asked::Rows, Saw::Rows(rows)) => self.known.rows = Some(rows),
            (Asked::Stack, Saw::Stack { rolling_back }) => self.known.rolling_back = Some(rolling_back),
            // Not allowed to look at the stack. (Throttling is no answer, and comes again.)
            (Asked::Stack, Saw::Failed(why)) if why.denied => self.known.stack_denied = true,
            (Asked::Forward, Saw::Forward(forward)) => self.known.rolling_back = Some(forward.is_some_and(|forward| self.undoes(&forward))),
            (Asked::Image, Saw::Image(resolved)) => self.known.resolved = Some(Ok(resolved)),
            (Asked::ImageAgain(digest), Saw::Image(Resolved::Image(found) | Resolved::Index(found, _))) if found == digest => self.known.checked_again = true,
            (Asked::ImageAgain(digest), Saw::Image(_)) => {
                let Ok(gate) = &self.request.gate else { return None };
                let reason = message::tag_moved_while_waiting(gate, &digest);
                return Some(self.refuse(reason, "REFUSED", now));
            }
            // A rollback does not depend on ECR's answer.
            (Asked::Image, Saw::Failed(why)) if self.known.data == Some(None) => self.known.resolved = Some(Err(why)),
            (Asked::Heads(digests), Saw::Heads(heads)) => self.known.heads.extend(digests.into_iter().zip(heads)),
            (Asked::Facts(digest, hash), Saw::Facts(facts)) => {
                self.known.facts.insert(digest, (hash, facts));
            }
            // Its counts block it already: the findings were only for the message.
            (Asked::Facts(digest, hash), Saw::Failed(_)) if self.blocks_by_record(&digest, now) => {
                self.known.facts.insert(digest, (hash, None));
            }
            (Asked::Signatures(digest), Saw::Signed(Some(verdict))) => {
                self.known.signed.insert(digest, Found::Verdict(verdict));
            }
            (Asked::Signatures(_), Saw::Signed(None)) => {
                let Ok(gate) = &self.request.gate else { return None };
                let reason = message::image_not_found(gate);
                return Some(self.refuse(reason, "REFUSED", now));
            }
            (Asked::Signatures(digest), Saw::Failed(why)) => {
                self.known.signed.insert(digest, Found::CouldNotLook { why: why.text, is_for_good: why.denied });
            }
            (Asked::Registry, Saw::Registry(source)) => self.known.registry = Some(source),
            (Asked::Frequency, Saw::Frequency { on_demand_only }) => self.known.on_demand_only = Some(on_demand_only),
            // Not knowing it costs nothing but time.
            (Asked::Frequency, Saw::Failed(_)) => self.known.on_demand_only = Some(false),
            (Asked::Glass, Saw::Glass(glass)) => self.known.glass = Some(glass),
            (Asked::Data, Saw::Failed(why)) if why.denied => self.known.data = Some(None),
            (Asked::Data, Saw::Data(data)) => self.known.data = Some(data),
            (Asked::Look(digest), Saw::Answer(answer)) => {
                self.known.looked.insert(digest.clone());
                return self.remember(digest, understand(answer));
            }
            // on-scan reads the rest, and wakes who waits.
            (Asked::Look(digest), Saw::MoreToRead(from)) => {
                self.known.looked.insert(digest.clone());
                let Ok(gate) = &self.request.gate else { return None };
                let effect = Do::ReadOn { repository: gate.repository.clone(), digest, from };
                return Some(self.ask(Asked::ReadOn, effect));
            }
            (Asked::ReadOn | Asked::ToLook, Saw::Done) => {}
            (Asked::Start(digest), Saw::Started(started)) => return self.started(digest, started, now),
            (_, Saw::Failed(why)) => return Some(Do::Finish(Outcome::Redeliver(why))),
            (asked, saw) => return Some(stray(&asked, &saw)),
        }
        None
    }

    /// The older ones among the open requests of this resource, the oldest last.
    fn older(&self, mut waiting: Vec<Waiting>) -> Vec<String> {
        waiting.retain(|waiting| waiting.request_id != self.request.request_id && waiting.asked_at <= self.request.asked_at);
        waiting.sort_by_key(|waiting| std::cmp::Reverse(waiting.asked_at));
        waiting.into_iter().map(|waiting| waiting.request_id).collect()
    }

    /// Whether this request takes back exactly what that one did, soon enough for a rollback.
    fn undoes(&self, forward: &Forward) -> bool {
        forward.properties_hash == self.request.old_properties_hash.clone().unwrap_or_default()
            && forward.old_properties_hash.as_ref() == Some(&self.request.properties_hash)
            && self.request.asked_at.duration_since(forward.at) < ROLLS_BACK_WITHIN
    }

    /// A request that Lambda gave up had been stored before that.
    fn found(&mut self, stored: Stored, now: Timestamp) -> Do {
        match (stored.stage, stored.images) {
            // It waits, and perhaps the one thing that failed was to set its timer.
            (Stage::Open, Some(images)) => {
                let unknown = images.images.iter().map(|image| image.digest.clone()).collect();
                self.set_timer(images, unknown, now)
            }
            (stage, _) => self.go_on_from(stage, None),
        }
    }

    fn started(&mut self, digest: ImageDigest, started: Started, now: Timestamp) -> Option<Do> {
        let state = match started {
            Started::Yes => {
                let after = self.head(&digest).and_then(Head::valid_result).map(|result| result.completed_at);
                return self.remember_news(digest, News::ScanAskedFor(AskedFor { at: now, after }));
            }
            // Scanned within a day, says ECR: what there is, or is on its way, counts. On its way is what somebody else has asked for
            // since the row was read.
            Started::Already => {
                self.known.heads.remove(&digest);
                self.known.scanned_lately.insert(digest);
                return None;
            }
            Started::RegistryIsEnhanced => return Some(self.refuse(message::start_scan_is_disabled(), "REFUSED", now)),
            Started::Unsupported => ScanState::Unsupported,
            Started::Archived => ScanState::Archived,
            Started::NoImage => ScanState::Deleted,
        };
        self.remember(digest, Reading::without_result(ScanSource::Basic, state, "StartImageScan".to_owned(), now))
    }

    fn blocks_by_record(&self, digest: &ImageDigest, now: Timestamp) -> bool {
        let head = self.head(digest);
        let gate = self.request.gate.as_ref().ok();
        head.zip(gate).and_then(|(head, gate)| head.blocking_under(&gate.policy, now)).is_some_and(|blocking| blocking > 0)
    }

    /// What we have seen ourselves: merged and written as on-scan would, so that whoever asks next finds it.
    fn remember(&mut self, digest: ImageDigest, reading: Reading) -> Option<Do> {
        let Ok(gate) = self.request.gate.clone() else { return None };
        let facts_are_gone = self.facts(&digest) == Some(None);
        if let Some(facts) = &reading.facts {
            self.known.facts.insert(digest.clone(), (facts.hash().clone(), Some(facts.clone())));
        }
        self.remember_with(digest, News::Scan(reading), gate, facts_are_gone)
    }

    fn remember_news(&mut self, digest: ImageDigest, news: News) -> Option<Do> {
        let Ok(gate) = self.request.gate.clone() else { return None };
        self.remember_with(digest, news, gate, false)
    }

    fn remember_with(&mut self, digest: ImageDigest, news: News, gate: Gate, facts_are_gone: bool) -> Option<Do> {
        let head = self.known.heads.get(&digest).cloned().flatten();
        let policies = vec![self.pipelines.clone(), gate.policy];
        let mut remember = Remember::new(&gate.repository, &digest, head, vec![news], policies);
        if facts_are_gone {
            remember = remember.storing_them_again();
        }
        let next = remember.start();
        self.doing = Doing::Remembering(digest, Box::new(remember));
        self.remembering(next)
    }

    fn remembering(&mut self, next: Next) -> Option<Do> {
        match next {
            Next::Do(effect) => Some(effect),
            Next::GaveUp(why) => Some(Do::Finish(Outcome::Redeliver(why))),
            Next::Remembered(head) => {
                if let Doing::Remembering(digest, _) = &self.doing {
                    if !self.remembered.contains(digest) {
                        self.remembered.push(digest.clone());
                    }
                    self.known.heads.insert(digest.clone(), head.map(|head| *head));
                }
                None
            }
        }
    }
}

enum Images {
    Counted(Vec<Child>),
    Refused(Reason),
}

enum Source {
    Ask,
    Outdated,
    Refused(Reason),
}

/// What is deployed from now on: the digest in the template, then, for an index, its counted images.
fn admission(gate: &Gate, images: &Counted, data: Data) -> Admission {
    let children = images.images.iter().map(|image| image.digest.clone()).filter(|child| *child != images.digest);
    let digests = std::iter::once(images.digest.clone()).chain(children).collect();
    // Where no scan was asked for, later findings are no objection of this gate.
    let policy = Some(gate.policy.clone()).filter(|_| gate.scan != AskedScan::SignatureOnly);
    Admission { repository: Some(gate.repository.clone()), digests, policy, data }
}

/// A digest for a refusal, where nothing was resolved; the refusal does not show it.
fn digest_or_none(image: &ImageRef) -> ImageDigest {
    match image {
        ImageRef::Digest(digest) => digest.clone(),
        ImageRef::Tag(tag) => ImageDigest::of(tag.as_bytes()),
    }
}

fn stray(at: &impl std::fmt::Debug, saw: &Saw) -> Do {
    Do::Finish(Outcome::Redeliver(Why::new(format!("{saw:?} in {at:?}"))))
}

impl Protocol for Deploy {
    fn next(&mut self, saw: Saw, now: Timestamp) -> Do {
        match (std::mem::replace(&mut self.doing, Doing::Gathering(Asked::Nothing)), saw) {
            // An older request of a resource that is gone: best effort, and the Delete has been answered.
            (Doing::Gathering(Asked::Open), saw) if self.request.kind == RequestKind::Delete => match saw {
                Saw::Waiting(waiting) => {
                    self.known.older = Some(self.older(waiting));
                    self.after_delete(now)
                }
                _ => self.after_delete(now),
            },
            (Doing::Gathering(asked), saw) => match self.absorb(asked, saw, now) {
                Some(effect) => effect,
                None => self.decide(now),
            },
            (Doing::Remembering(digest, mut remember), saw) => {
                let next = remember.next(saw);
                self.doing = Doing::Remembering(digest, remember);
                match self.remembering(next) {
                    Some(effect) => effect,
                    None => self.decide(now),
                }
            }
            (Doing::Superseding(mut wake), saw) => match wake.next(saw, now) {
                // What could not be answered now has a timer of its own; and what this request records, no older one undoes.
                Do::Finish(_) if self.request.kind == RequestKind::Delete => self.after_delete(now),
                Do::Finish(_) => self.decide(now),
                effect => {
                    self.doing = Doing::Superseding(wake);
                    effect
                }
            },
            (Doing::Registering(images, unknown), Saw::Done) => self.set_timer(images, unknown, now),
            (Doing::Registering(images, unknown), Saw::AlreadyStored(Stage::Open)) => self.set_timer(images, unknown, now),
            (Doing::Registering(..), Saw::AlreadyStored(stage)) => self.go_on_from(stage, None),
            (Doing::Telling, Saw::Done) => self.ask_for_outputs(),
            (Doing::Telling, Saw::Lost) => Do::Finish(Outcome::Done("somebody else has answered".to_owned())),
            (Doing::AskingForOutputs, Saw::Done) => Do::Finish(Outcome::Done("waits for its outputs".to_owned())),
            (Doing::SendingTimer(images, unknown), Saw::Done) => self.ask_to_look(images, unknown, now),
            // The timer looks at every image anyway.
            (Doing::AskingToLook(images, unknown), Saw::Done) => self.ask_to_look(images, unknown, now),
            (Doing::AskingToLook(images, _), Saw::Failed(_)) => self.ask_to_look(images, Vec::new(), now),
            (Doing::Recording(record) | Doing::Claiming(record), Saw::Done) => self.put(record.answer),
            (Doing::Recording(record), Saw::AlreadyStored(stage)) => self.go_on_from(stage, Some(record)),
            (Doing::Recording(_) | Doing::Claiming(_), Saw::Superseded) if !self.known.superseded => self.superseded(now),
            (Doing::Recording(_) | Doing::Claiming(_), Saw::RowsChanged) => {
                self.known.rows = None;
                self.decide(now)
            }
            (Doing::Recording(_) | Doing::Claiming(_), Saw::NoGlass) => {
                self.known.glass = Some(None);
                self.decide(now)
            }
            (Doing::Claiming(_), Saw::AlreadyStored(_)) => Do::Finish(Outcome::Done("somebody else has answered".to_owned())),
            // Before the mark: until then somebody comes again.
            (Doing::Putting { mark: true }, Saw::Done) if self.has_notice => {
                self.doing = Doing::SendingNotice;
                Do::SendNotice { request_id: self.request.request_id.clone() }
            }
            (Doing::Putting { mark: true } | Doing::SendingNotice, Saw::Done) if self.has_outputs() => {
                self.doing = Doing::SendingOutputs;
                Do::SendOutputs { request_id: self.request.request_id.clone(), after: SignedDuration::ZERO }
            }
            (Doing::Putting { mark: true } | Doing::SendingNotice | Doing::SendingOutputs | Doing::HavingItRead, Saw::Done) => self.have_it_read(),
            // What is not announced now is with the image's next event.
            (Doing::HavingItRead, Saw::Failed(_)) => self.have_it_read(),
            (Doing::Putting { mark: false }, Saw::Done) => self.ask(Asked::Open, Do::ReadOpen { stack_key: self.request.stack_key() }),
            // CloudFormation has its answer; an unmarked row means that the same bytes are sent once more.
            (Doing::Marking | Doing::Closing, Saw::Done | Saw::Failed(_)) => Do::Finish(Outcome::Done(self.verdict.clone())),
            (_, Saw::Failed(why)) => Do::Finish(Outcome::Redeliver(why)),
            (doing, saw) => stray(&doing, &saw),
        }
    }
}

impl Deploy {
    /// The Delete is answered. What still waits for this resource is answered too, and nothing of it is deployed any more.
    fn after_delete(&mut self, now: Timestamp) -> Do {
        match self.known.older.as_mut().and_then(Vec::pop) {
            Some(older) => self.supersede(older, now),
            None => {
                self.doing = Doing::Closing;
                Do::CloseDeployments { stack_key: self.request.stack_key(), asked_at: self.request.asked_at }
            }
        }
    }
}

/// When a request's patience ends: counted from the moment in which it was asked, so that a late or doubled delivery does not
/// move it.
pub fn due(asked_at: Timestamp, polling_timeout_s: u32) -> Timestamp {
    asked_at.saturating_add(SignedDuration::from_secs(i64::from(polling_timeout_s))).unwrap_or(Timestamp::MAX)
}

/// When CloudFormation asked: its signature says so, else the arrival has to do.
pub fn asked_at(signed_at: Option<Timestamp>, arrived_at: Timestamp) -> Timestamp {
    signed_at.filter(|signed| *signed <= arrived_at).unwrap_or(arrived_at)
}
