//! A deployment asks: answer it.
//!
//! The machine gathers only what it needs, in the order of cost: for a known verdict by digest one read, one transaction, the
//! answer, and the mark after it. [`Deploy::decide`] looks at what is known and names the one thing that is missing, or rules.
//!
//! An image without a complete verdict is refused at once, after one look of our own at the scanner's API. Parking such a
//! request instead belongs where [`Deploy::refuse_without_result`] is.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::remember::{Next, Remember};
use super::{Depth, Do, Outcome, Protocol, Resolved, Saw, Why};
use crate::domain::finding::Counts;
use crate::domain::head::{Child, Head, Kind, News};
use crate::domain::image::{ImageDigest, ImageRef};
use crate::domain::judge::judge;
use crate::domain::message::{self, Blocked, NotYet};
use crate::domain::policy::Policy;
use crate::domain::request::{Admission, Answer, AskedScan, Data, Gate, OnBlock, Reason, Record, Request, RequestKind, Rows, Ruling, image_row};
use crate::domain::scan::{Facts, ScanSource, ScanState, Standing, understand};

/// So many images of an index are judged together; their heads come in one read, their rows in one transaction.
pub const MOST_IMAGES: usize = 40;
/// So many images are looked at in passing; more is work for on-scan.
const MOST_LOOKS: usize = 5;

/// Where the function runs: it judges images of this account and region alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    pub account: String,
    pub region: String,
}

#[derive(Clone, Debug)]
pub struct Deploy {
    request: Request,
    home: Home,
    /// The pipeline's own policy, whose verdict stands in every row.
    pipelines: Policy,
    due: Timestamp,
    known: Known,
    doing: Doing,
    /// What the decision was, in a word, for the log.
    verdict: String,
}

/// What has been seen so far. `None` is "not asked yet", everywhere.
#[derive(Clone, Debug, Default)]
struct Known {
    rows: Option<Rows>,
    rolling_back: Option<bool>,
    resolved: Option<Result<Resolved, Why>>,
    heads: BTreeMap<ImageDigest, Option<Head>>,
    facts: BTreeMap<ImageDigest, Option<Facts>>,
    registry: Option<ScanSource>,
    looked: BTreeSet<ImageDigest>,
    data: Option<Option<Data>>,
}

#[derive(Clone, Debug)]
enum Doing {
    Gathering(Asked),
    Remembering(ImageDigest, Box<Remember>),
    Recording(Answer),
    Putting { mark: bool },
    Marking,
    Closing,
}

/// The effect whose outcome is awaited.
#[derive(Clone, Debug)]
enum Asked {
    Nothing,
    Rows,
    Stack,
    Image,
    Heads(Vec<ImageDigest>),
    Facts(ImageDigest),
    Registry,
    Look(ImageDigest),
    Data,
}

/// What one image's record says under the gate's policy.
enum Seen {
    Missing(Box<(Asked, Do)>),
    Pass(Option<Timestamp>),
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

enum PendingWhy {
    State(ScanState),
    Unsettled,
    FindingsGone,
}

impl Deploy {
    pub fn new(request: Request, home: Home, pipelines: Policy, due: Timestamp) -> Self {
        Self { request, home, pipelines, due, known: Known::default(), doing: Doing::Gathering(Asked::Nothing), verdict: String::new() }
    }

    fn ask(&mut self, asked: Asked, effect: Do) -> Do {
        self.doing = Doing::Gathering(asked);
        effect
    }

    /// The next thing to find out, or the ruling.
    fn decide(&mut self, now: Timestamp) -> Do {
        if self.request.kind == RequestKind::Delete {
            // From the event alone: nothing that we could read makes a Delete wrong.
            self.verdict = "DELETE".to_owned();
            self.doing = Doing::Putting { mark: false };
            return Do::Put(Answer::new(&self.request, &Ruling::Success(None)));
        }
        if self.is_update() && self.known.rows.is_none() {
            let stack_key = self.request.stack_key();
            return self.ask(Asked::Rows, Do::ReadRows { stack_key });
        }
        let gate = match &self.request.gate {
            Ok(gate) if !self.is_at_home(gate) => {
                let reason = message::foreign_repository(gate, &self.home.account, &self.home.region);
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
            Images::Counted(images) => images,
            Images::Refused(reason) => return self.refuse(reason, "REFUSED", now),
        };
        let unread: Vec<ImageDigest> = images.iter().map(|image| &image.digest).filter(|digest| !self.known.heads.contains_key(digest)).cloned().collect();
        if !unread.is_empty() {
            let effect = Do::ReadHeads { repository: gate.repository.clone(), digests: unread.clone() };
            return self.ask(Asked::Heads(unread), effect);
        }

        let mut seen = Vec::with_capacity(images.len());
        for image in &images {
            match self.see(gate, image, images.len()) {
                Seen::Missing(missing) => {
                    let (asked, effect) = *missing;
                    return self.ask(asked, effect);
                }
                known => seen.push((image, known)),
            }
        }
        self.rule(gate, &digest, &images, &seen, now)
    }

    /// Every image is judged: the worst one decides.
    fn rule(&mut self, gate: &Gate, digest: &ImageDigest, images: &[Child], seen: &[(&Child, Seen)], now: Timestamp) -> Do {
        let find = |wanted: fn(&Seen) -> bool| seen.iter().find(|(_, seen)| wanted(seen));
        if let Some((_, Seen::Refused(reason))) = find(|seen| matches!(seen, Seen::Refused(_))) {
            return self.refuse(reason.clone(), "REFUSED", now);
        }
        // With `failOnVulnerability: false` a Block decides nothing; an image that is not judged still does.
        if gate.on_block == OnBlock::Fail
            && let Some((image, Seen::Block { source, blocking, .. })) = find(|seen| matches!(seen, Seen::Block { .. }))
        {
            if let Some(effect) = self.facts_for_message(gate, image) {
                return effect;
            }
            let also = seen.iter().filter(|(_, seen)| matches!(seen, Seen::Block { .. })).count() - 1;
            let reason = self.blocked(gate, image, *source, *blocking, also);
            return self.refuse(reason, "BLOCK", now);
        }
        if let Some((image, Seen::Unscanned(state))) = find(|seen| matches!(seen, Seen::Unscanned(_))) {
            return self.refuse(message::unscanned(gate, image, state), "UNSCANNED", now);
        }
        if let Some((image, Seen::NotYet(why))) = find(|seen| matches!(seen, Seen::NotYet(_))) {
            return self.refuse_without_result(gate, image, why, now);
        }
        let blocks = seen.iter().any(|(_, seen)| matches!(seen, Seen::Block { .. }));
        // The oldest scan of an index's images is how old the whole verdict is.
        let scanned_at = seen.iter().filter_map(|(_, seen)| match seen {
            Seen::Pass(at) => *at,
            Seen::Block { at, .. } => Some(*at),
            _ => None,
        });
        let data = Data::admitted(gate, digest, if blocks { "BLOCK" } else { "PASS" }, scanned_at.min());
        let mut digests = vec![digest.clone()];
        digests.extend(images.iter().map(|image| image.digest.clone()).filter(|child| child != digest));
        let admission = Admission { repository: Some(gate.repository.clone()), digests, policy: Some(gate.policy.clone()), data };
        self.admit(admission, now)
    }

    /// The digest that is asked for and the images that count for it, or what has to be found out first.
    fn images(&self, gate: &Gate) -> Result<(ImageDigest, Images), Box<(Asked, Do)>> {
        let one = |digest: &ImageDigest| Images::Counted(vec![Child { digest: digest.clone(), platform: String::new() }]);
        let resolve = || {
            let effect = Do::ResolveImage { repository: gate.repository.clone(), image: gate.image.clone(), expected: gate.expected.clone() };
            Box::new(if self.must_ask_stack() { self.stack_first() } else { (Asked::Image, effect) })
        };
        let many = |children: &[Child]| match children.len() {
            0 => Images::Refused(message::index_without_images(gate)),
            1..=MOST_IMAGES => Images::Counted(children.to_vec()),
            more => Images::Refused(message::index_too_large(gate, more, MOST_IMAGES)),
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
            (Some(Ok(Resolved::NotAnImage(digest, media_type))), _) => Ok((digest.clone(), Images::Refused(message::not_an_image(gate, media_type)))),
            (Some(Ok(Resolved::NotFound)), image) => Ok((digest_or_none(image), Images::Refused(message::image_not_found(gate)))),
            (Some(Ok(Resolved::OtherDigest)), image) => {
                let expected = gate.expected.clone().unwrap_or_else(|| digest_or_none(image));
                Ok((expected.clone(), Images::Refused(message::tag_moved(gate, &expected))))
            }
            // The driver gives up before a failed look gets here, except in a rollback, which does not judge.
            (Some(Err(_)), _) => Err(resolve()),
            // A tag that is given beside a known digest has to be checked against it by ECR.
            (None, ImageRef::Tag(_)) => Err(resolve()),
            (None, ImageRef::Digest(digest)) => match self.known.heads.get(digest) {
                None => {
                    let effect = Do::ReadHeads { repository: gate.repository.clone(), digests: vec![digest.clone()] };
                    Err(Box::new((Asked::Heads(vec![digest.clone()]), effect)))
                }
                Some(Some(Head { kind: Kind::Index(children), .. })) => Ok((digest.clone(), many(children))),
                Some(Some(head)) if head.kind == Kind::Image => Ok((digest.clone(), one(digest))),
                // Nobody has looked at its manifest: it may be an index, or not there at all.
                Some(_) => Err(resolve()),
            },
        }
    }

    /// What is known of one image, or what has to be found out first.
    fn see(&self, gate: &Gate, image: &Child, of: usize) -> Seen {
        let head = self.known.heads.get(&image.digest).and_then(Option::as_ref);
        let may_look = self.may_look(gate) && of <= MOST_LOOKS && !self.known.looked.contains(&image.digest);
        let look = || {
            let depth = Depth::FirstPage;
            let pushed_at = head.and_then(|head| head.pushed_at);
            let effect = Do::Look { repository: gate.repository.clone(), digest: image.digest.clone(), depth, pushed_at };
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
        let Some((result, settled)) = head.and_then(Head::complete) else {
            if may_look {
                return look();
            }
            let state = head.map_or(ScanState::NotFound, Head::state);
            return if state.standing() == Standing::Unscanned { Seen::Unscanned(state) } else { Seen::NotYet(PendingWhy::State(state)) };
        };
        let by_facts = |facts: &Facts| judge(facts.findings(), &gate.policy).blocking.len() as u64;
        let loaded = self.known.facts.get(&image.digest).map(|facts| facts.as_ref().filter(|facts| *facts.hash() == result.facts));
        let blocking = match (head.and_then(|head| head.blocking_under(&gate.policy)), loaded) {
            (Some(blocking), _) => blocking,
            (None, Some(Some(facts))) => by_facts(facts),
            (None, None) => {
                let effect = Do::ReadFacts { repository: gate.repository.clone(), digest: image.digest.clone(), facts: result.facts.clone() };
                return Seen::Missing(Box::new((Asked::Facts(image.digest.clone()), effect)));
            }
            (None, Some(None)) if may_look => return look(),
            (None, Some(None)) => return Seen::NotYet(PendingWhy::FindingsGone),
        };
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

    /// A rollback is judged from the record alone; it never waits for anything.
    fn may_look(&self, gate: &Gate) -> bool {
        self.known.rolling_back != Some(true) || gate.suppress_on_rollback
    }

    /// The findings for the message of a blocked image; without them it is blocked all the same.
    fn facts_for_message(&mut self, gate: &Gate, image: &Child) -> Option<Do> {
        if self.known.facts.contains_key(&image.digest) {
            return None;
        }
        let head = self.known.heads.get(&image.digest).and_then(Option::as_ref)?;
        let facts = head.valid_result()?.facts.clone();
        let effect = Do::ReadFacts { repository: gate.repository.clone(), digest: image.digest.clone(), facts };
        Some(self.ask(Asked::Facts(image.digest.clone()), effect))
    }

    fn blocked(&self, gate: &Gate, image: &Child, source: ScanSource, blocking: u64, also: usize) -> Reason {
        let head = self.known.heads.get(&image.digest).and_then(Option::as_ref);
        let facts = self.known.facts.get(&image.digest).and_then(Option::as_ref);
        let judgement = facts.map(|facts| judge(facts.findings(), &gate.policy));
        let recorded = head.and_then(Head::valid_result).map(|result| result.counts.clone()).unwrap_or_default();
        let counts = judgement.as_ref().map_or(recorded, |judgement| judgement.counts.clone());
        let unrated = judgement.as_ref().map(|judgement| Counts::of(judgement.tolerated.iter().copied().filter(|finding| !finding.severity.is_rated())));
        message::found_vulnerabilities(&Blocked {
            gate,
            image,
            source,
            counts: &counts,
            blocking,
            list: judgement.as_ref().map(|judgement| judgement.blocking.clone()).unwrap_or_default(),
            ignored: judgement.as_ref().map_or(0, |judgement| judgement.ignored.len()),
            unrated: &unrated.unwrap_or_default(),
            also,
        })
    }

    /// No complete result, and waiting for one is not built yet: refused at once.
    fn refuse_without_result(&mut self, gate: &Gate, image: &Child, why: &PendingWhy, now: Timestamp) -> Do {
        if self.known.rolling_back == Some(true) {
            return self.refuse(message::rollback_without_record(gate), "PENDING", now);
        }
        let not_yet = match why {
            PendingWhy::State(state) => NotYet::State(state),
            PendingWhy::Unsettled => NotYet::Unsettled,
            PendingWhy::FindingsGone => NotYet::FindingsGone,
        };
        self.refuse(message::no_complete_result(gate, image, not_yet), "PENDING", now)
    }

    /// Answers FAILED, unless this is a rollback: that one never fails because of us.
    fn refuse(&mut self, reason: Reason, verdict: &str, now: Timestamp) -> Do {
        if self.must_ask_stack() {
            return self.ask_stack();
        }
        let suppresses = self.request.gate.as_ref().map_or(true, |gate| gate.suppress_on_rollback);
        if self.known.rolling_back == Some(true) && suppresses {
            return self.roll_back(now);
        }
        let why = reason.opening.lines().next().unwrap_or_default().to_owned();
        let answer = Answer::new(&self.request, &Ruling::Failed(reason));
        self.record(Record { answer, due: self.due, decided_at: now, admitted: None, replaced: Vec::new(), verdict: verdict.to_owned(), why })
    }

    /// Answers a rollback from the record: what it returns to has been let through before.
    fn roll_back(&mut self, now: Timestamp) -> Do {
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
            (Some(None), _, _) => Data::unknown_image(&self.request.named, policy.as_ref().map(Policy::hash)),
        };
        let digests = data.image_digest.parse().into_iter().collect();
        let repository = gate.map(|gate| gate.repository);
        self.admit_as("ROLLBACK", Admission { repository, digests, policy, data }, now)
    }

    fn admit(&mut self, admission: Admission, now: Timestamp) -> Do {
        let verdict = admission.data.verdict.clone();
        self.admit_as(&verdict, admission, now)
    }

    fn admit_as(&mut self, verdict: &str, admission: Admission, now: Timestamp) -> Do {
        let keys: BTreeSet<String> = match &admission.repository {
            Some(repository) => admission.digests.iter().map(|digest| image_row(digest, repository)).collect(),
            None => BTreeSet::new(),
        };
        let rows = self.known.rows.clone().unwrap_or_default().admitted;
        // A rollback names the image in the template alone. Where that one is still admitted (the update was refused), so are
        // the images of its index; and where nobody can say which image it is, nothing is known to be replaced.
        let nothing_changes = verdict == "ROLLBACK" && (keys.is_empty() || keys.iter().any(|key| rows.contains_key(key)));
        let replaced = if nothing_changes { Vec::new() } else { rows.into_keys().filter(|key| !keys.contains(key)).collect() };
        let answer = Answer::new(&self.request, &Ruling::Success(Some(admission.data.clone())));
        self.record(Record { answer, due: self.due, decided_at: now, admitted: Some(admission), replaced, verdict: verdict.to_owned(), why: String::new() })
    }

    fn record(&mut self, record: Record) -> Do {
        self.verdict = record.verdict.clone();
        self.doing = Doing::Recording(record.answer.clone());
        Do::Record(Box::new(record))
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
    fn absorb(&mut self, asked: Asked, saw: Saw) -> Option<Do> {
        match (asked, saw) {
            (Asked::Nothing, Saw::Start) => {}
            (Asked::Rows, Saw::Rows(rows)) => self.known.rows = Some(rows),
            (Asked::Stack, Saw::Stack { rolling_back }) => self.known.rolling_back = Some(rolling_back),
            // Not allowed to look at the stack: then it is judged like any other. (Throttling is no answer, and comes again.)
            (Asked::Stack, Saw::Failed(why)) if why.denied => self.known.rolling_back = Some(false),
            (Asked::Image, Saw::Image(resolved)) => self.known.resolved = Some(Ok(resolved)),
            // A rollback does not depend on ECR's answer.
            (Asked::Image, Saw::Failed(why)) if self.known.data == Some(None) => self.known.resolved = Some(Err(why)),
            (Asked::Heads(digests), Saw::Heads(heads)) => self.known.heads.extend(digests.into_iter().zip(heads)),
            (Asked::Facts(digest), Saw::Facts(facts)) => {
                self.known.facts.insert(digest, facts);
            }
            // Its counts block it already: the findings were only for the message.
            (Asked::Facts(digest), Saw::Failed(_)) if self.blocks_by_record(&digest) => {
                self.known.facts.insert(digest, None);
            }
            (Asked::Registry, Saw::Registry(source)) => self.known.registry = Some(source),
            (Asked::Data, Saw::Failed(why)) if why.denied => self.known.data = Some(None),
            (Asked::Data, Saw::Data(data)) => self.known.data = Some(data),
            (Asked::Look(digest), Saw::Answer(answer)) => return self.looked(digest, answer),
            (_, Saw::Failed(why)) => return Some(Do::Finish(Outcome::Redeliver(why))),
            (asked, saw) => return Some(stray(&asked, &saw)),
        }
        None
    }

    fn blocks_by_record(&self, digest: &ImageDigest) -> bool {
        let head = self.known.heads.get(digest).and_then(Option::as_ref);
        let gate = self.request.gate.as_ref().ok();
        head.zip(gate).and_then(|(head, gate)| head.blocking_under(&gate.policy)).is_some_and(|blocking| blocking > 0)
    }

    /// One page of our own: merged and written as on-scan would, so that whoever asks next finds it.
    fn looked(&mut self, digest: ImageDigest, answer: crate::domain::scan::Answer) -> Option<Do> {
        let Ok(gate) = self.request.gate.clone() else { return None };
        self.known.looked.insert(digest.clone());
        self.known.registry = Some(answer.source);
        let facts_are_gone = self.known.facts.get(&digest) == Some(&None);
        let reading = understand(answer);
        if let Some(facts) = &reading.facts {
            self.known.facts.insert(digest.clone(), Some(facts.clone()));
        }
        let head = self.known.heads.get(&digest).cloned().flatten();
        let policies = vec![self.pipelines.clone(), gate.policy];
        let mut remember = Remember::new(&gate.repository, &digest, head, vec![News::Scan(reading)], policies);
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

/// A digest for a refusal, where nothing was resolved; the refusal does not show it.
fn digest_or_none(image: &ImageRef) -> ImageDigest {
    match image {
        ImageRef::Digest(digest) => digest.clone(),
        ImageRef::Tag(tag) => ImageDigest::of(tag.as_bytes()),
    }
}

fn stray(at: &impl std::fmt::Debug, saw: &Saw) -> Do {
    Do::Finish(Outcome::Redeliver(Why { text: format!("{saw:?} in {at:?}"), denied: false }))
}

impl Protocol for Deploy {
    fn next(&mut self, saw: Saw, now: Timestamp) -> Do {
        match (std::mem::replace(&mut self.doing, Doing::Gathering(Asked::Nothing)), saw) {
            (Doing::Gathering(asked), saw) => match self.absorb(asked, saw) {
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
            (Doing::Recording(answer), Saw::Done) => {
                self.doing = Doing::Putting { mark: true };
                Do::Put(answer)
            }
            // An earlier delivery has decided: its bytes are the answer, whatever is true by now.
            (Doing::Recording(_), Saw::AlreadyRecorded { answered: true, .. }) => Do::Finish(Outcome::Done("answered before".to_owned())),
            (Doing::Recording(_), Saw::AlreadyRecorded { answer, answered: false }) => {
                self.verdict = "the answer stored before".to_owned();
                self.doing = Doing::Putting { mark: true };
                Do::Put(answer)
            }
            (Doing::Putting { mark: true }, Saw::Done) => {
                self.doing = Doing::Marking;
                Do::MarkAnswered
            }
            (Doing::Putting { mark: false }, Saw::Done) => {
                self.doing = Doing::Closing;
                Do::CloseDeployments { stack_key: self.request.stack_key() }
            }
            // CloudFormation has its answer; an unmarked row means that the same bytes are sent once more.
            (Doing::Marking | Doing::Closing, Saw::Done | Saw::Failed(_)) => Do::Finish(Outcome::Done(self.verdict.clone())),
            (_, Saw::Failed(why)) => Do::Finish(Outcome::Redeliver(why)),
            (doing, saw) => stray(&doing, &saw),
        }
    }
}

/// When a request's patience ends: counted from the signing of its ResponseURL, so that a late or doubled delivery does not
/// move it, else from its arrival.
pub fn due(signed_at: Option<Timestamp>, arrived_at: Timestamp, polling_timeout_s: u32) -> Timestamp {
    let from = signed_at.filter(|signed| *signed <= arrived_at).unwrap_or(arrived_at);
    from.saturating_add(SignedDuration::from_secs(i64::from(polling_timeout_s))).unwrap_or(Timestamp::MAX)
}
