//! One state of the world, and what an effect does to it.
//!
//! The tables have the conditions of the real ones (`src/aws/requests.rs`, `verdicts.rs`, `deployments.rs`), item by item.
//! Where the real one takes several calls for one effect, so does this one: between them others may come. What is asked of
//! AWS and never changes here (which image a tag names, which scanner is in charge, whether a stack is rolling back) is
//! answered at once: to die before or after it is the same.

use ecr_scan_verifier::domain::head::{Head, Kind};
use ecr_scan_verifier::domain::plan::is_for_sweep;
use ecr_scan_verifier::domain::protocol::wake::lease;

use crate::alerts::Telling;
use crate::parking::Parking;
use crate::seeds::Seed;
use crate::setting::{FILLS_WITHIN, IMAGES, Left, REQUESTS, RESOURCES, Second, Word, at, second};

/// The sweep leaves a request alone for so long after its time (`domain::protocol::wake`), and comes every minute.
pub const GRACE: Second = 30;
pub const SWEEPS_EVERY: Second = 60;

/// A message that is under way, or whoever works on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// CloudFormation's request, as Lambda delivers it.
    Request(usize),
    /// The record that Lambda leaves of a request whose every delivery failed.
    GivenUp(usize),
    /// The scanner has told of a stage of an image's scan.
    Event {
        image: usize,
        stage: usize,
        at: Second,
    },
    Timer(usize, u32),
    LookAgain {
        image: usize,
        n: u32,
        for_a_request: bool,
    },
    /// Somebody has signed an image, and on-push has passed that on.
    Signed(usize),
    /// Somebody may have to be told of an image.
    Announce(usize),
    /// The sweep comes to this request.
    Sweep(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Message {
    pub what: What,
    /// Hidden until then.
    pub from: Second,
    /// How often it has been delivered in vain.
    pub failed: u8,
}

/// A function that is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process {
    pub of: What,
    pub failed: u8,
    /// The machine, and the effect that it waits for.
    pub runs: u32,
    /// How many calls of this effect have been made.
    pub part: u8,
    /// No two that run at once have the same: no two of them read the same time, to the microsecond, when they take a lease.
    pub turn: u8,
    /// Not seen by the machine: for which request (third bit by bit) which image's row let it through at some moment of this run.
    pub justified: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    Open,
    Claimed { answer: u32, lease_until: Second },
    Answered,
}

/// A request in its table. What it asks, and the images it waits for, stand in the setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    pub stage: Stage,
    pub timer: u8,
    /// Whether the images are there: only of a request that has been registered, and until it is answered.
    pub has_images: bool,
    /// Rows of their own, removed after the answer was marked.
    pub has_pointers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    pub of: u8,
    pub is_admitted: bool,
    /// Not in the table: whose request has admitted it last.
    pub by: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kept {
    pub image: usize,
    pub facts: u32,
    pub for_version: u64,
    /// Whether it has a `ttl`.
    pub goes: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scanner {
    pub stage: u8,
    pub completed: Second,
}

/// A property of a step that was broken: kept, since a state does not say how it came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Broken {
    pub two_answers: bool,
    pub too_early: bool,
    pub unsigned: bool,
    pub too_late: bool,
    pub surprised: bool,
    /// Something was crossed out that nobody had heard.
    pub unsent: bool,
    /// Somebody has heard what has not arisen.
    pub made_up: bool,
    /// Somebody has heard what was crossed out.
    pub told_again: bool,
    /// Somebody has heard the same twice, and nobody has failed.
    pub told_twice: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub now: Second,
    pub scanner: [Scanner; IMAGES],
    /// Bit by bit which images are signed.
    pub signed: u8,
    pub heads: [Option<u32>; IMAGES],
    pub facts: Vec<Kept>,
    pub items: [Option<Item>; REQUESTS],
    /// By resource: when the newest request that was let through, or the newest Delete, was asked.
    pub newest: [Option<Second>; RESOURCES],
    /// By resource: the request whose images are deployed.
    pub stands: [Option<u8>; RESOURCES],
    /// By resource and image.
    pub rows: [[Option<Row>; IMAGES]; RESOURCES],
    /// By resource and image in the template, which is all that properties differ in: the data last answered.
    pub data: [[Option<u32>; IMAGES]; RESOURCES],
    pub messages: Vec<Message>,
    pub running: Vec<Process>,
    /// The first answer that CloudFormation got.
    pub sent: [Option<u32>; REQUESTS],
    pub telling: Telling,
    pub broken: Broken,
    pub left: Left,
    /// By how much an answer may be late on account of what has gone wrong.
    pub excused: Second,
}

/// An effect, in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    ReadHeads(Vec<usize>),
    WriteHead { image: usize, expect: u64, head: u32 },
    PutFacts { image: usize, facts: u32, for_version: u64 },
    ExpireFacts { image: usize, facts: u32, since_version: u64 },
    ReadFacts { image: usize, facts: u32 },
    Look(usize),
    Verify(usize),
    ReadPolicies(usize),
    ReadRows(usize),
    ReadData { resource: usize, of: usize },
    ReadRequest(usize),
    ReadWaiting(usize),
    ReadOpen(usize),
    Record { request: usize, record: u32 },
    Register(usize),
    Claim { request: usize, record: u32 },
    TakeLease { request: usize, until: Second },
    Put { request: usize, answer: u32 },
    MarkAnswered(usize),
    CloseDeployments { resource: usize, asked: Second },
    LookAgain { image: usize, n: u32, after: Second, for_a_request: bool },
    SendTimer { request: usize, n: u32, after: Second },
    AdvanceTimer { request: usize, to: u32 },
    ReadTold(usize),
    WriteTold { audience: usize, expect: u64, told: u32 },
    Publish { audience: usize, message: u32 },
    AnnounceAgain { image: usize, after: Second },
}

/// A decision, in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    pub answer: u32,
    pub decided: Second,
    pub verdict: String,
    /// The images that are let through, the one in the template first, and the data.
    pub admitted: Option<(Vec<usize>, u32)>,
    pub replaced: Vec<usize>,
    /// Where the rows were read: who was let through last then.
    pub after: Option<Option<u8>>,
}

/// What came of an effect, in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    Done,
    Lost,
    Superseded,
    RowsChanged,
    Failed,
    Stored(Stage),
    Heads(Vec<Option<u32>>),
    Conflict(Option<u32>),
    Facts(Option<u32>),
    Answer { image: usize, stage: usize, completed: Second },
    Signed(bool),
    Policies(Vec<usize>),
    Rows(usize, [Option<Row>; IMAGES], Option<u8>),
    Data(Option<u32>),
    Request(usize, Option<Item>),
    Waiting(Vec<usize>),
    Told(Option<u32>),
}

/// Which bit of [`Process::justified`] it is.
pub fn bit(request: usize, image: usize) -> u16 {
    1 << (request * IMAGES + image)
}

impl World {
    pub fn new(parking: &Parking) -> Self {
        let setting = &parking.setting;
        let first = setting.asked.iter().enumerate().filter(|(_, asked)| asked.after.is_none());
        Self {
            now: 0,
            scanner: Default::default(),
            signed: 0,
            heads: Default::default(),
            facts: Vec::new(),
            items: Default::default(),
            newest: Default::default(),
            stands: Default::default(),
            rows: Default::default(),
            data: Default::default(),
            messages: first.map(|(n, asked)| Message { what: What::Request(n), from: asked.at, failed: 0 }).collect(),
            running: Vec::new(),
            sent: Default::default(),
            telling: Telling::default(),
            broken: Broken::default(),
            left: setting.left,
            excused: 0,
        }
    }

    /// Two bags are one bag.
    pub fn sort(&mut self) {
        self.messages.sort_unstable();
        self.running.sort_unstable();
        self.facts.sort_unstable();
        self.telling.sort();
    }

    pub fn send(&mut self, what: What, after: Second) {
        self.messages.push(Message { what, from: self.now + after, failed: 0 });
    }

    /// Carries out one call of an effect; `None`: there are more.
    pub fn perform(&mut self, parking: &Parking, effect: &Effect, process: &mut Process) -> Option<Seen> {
        let setting = &parking.setting;
        Some(match *effect {
            Effect::ReadHeads(ref images) => Seen::Heads(images.iter().map(|image| self.heads[*image]).collect()),
            Effect::WriteHead { image, expect, head } => {
                let current = self.heads[image];
                if current.map_or(0, |current| parking.heads.of(current).version) != expect {
                    return Some(Seen::Conflict(current));
                }
                self.heads[image] = Some(head);
                let lets_through = parking.lets_through(image, head);
                self.running.iter_mut().chain(std::iter::once(process)).for_each(|process| process.justified |= lets_through);
                Seen::Done
            }
            Effect::PutFacts { image, facts, for_version } => {
                match self.facts.iter_mut().find(|kept| (kept.image, kept.facts) == (image, facts)) {
                    None => self.facts.push(Kept { image, facts, for_version, goes: false }),
                    Some(kept) if kept.for_version < for_version || kept.goes => (kept.for_version, kept.goes) = (for_version, false),
                    Some(_) => {}
                }
                Seen::Done
            }
            Effect::ExpireFacts { image, facts, since_version } => {
                let kept = self.facts.iter_mut().find(|kept| (kept.image, kept.facts) == (image, facts));
                if let Some(kept) = kept.filter(|kept| kept.for_version <= since_version) {
                    kept.goes = true;
                }
                Seen::Done
            }
            // They stay a day after they were let go, which is longer than any world here lasts.
            Effect::ReadFacts { image, facts } => Seen::Facts(self.facts.iter().any(|kept| (kept.image, kept.facts) == (image, facts)).then_some(facts)),
            Effect::Look(image) => {
                let Scanner { stage, completed } = self.scanner[image];
                Seen::Answer { image, stage: usize::from(stage), completed }
            }
            Effect::Verify(image) => Seen::Signed(self.is_signed(image)),
            Effect::ReadPolicies(image) => {
                let lives = |rows: &[Option<Row>; IMAGES]| rows[image].filter(|row| row.is_admitted).map(|row| usize::from(row.by));
                Seen::Policies(self.rows.iter().filter_map(lives).collect())
            }
            Effect::ReadRows(resource) => Seen::Rows(resource, self.rows[resource], self.stands[resource]),
            Effect::ReadData { resource, of } => Seen::Data(self.data[resource][of]),
            Effect::ReadRequest(request) => Seen::Request(request, self.items[request].map(|item| self.shown(parking, item))),
            Effect::ReadWaiting(image) => {
                let is_of = |n: &usize| setting.asked[*n].root == image || setting.asked[*n].images.contains(&image);
                Seen::Waiting(self.pointed_to().filter(is_of).collect())
            }
            Effect::ReadOpen(resource) => Seen::Waiting(self.pointed_to().filter(|n| setting.asked[*n].resource == resource).collect()),
            Effect::Record { request, record } => match self.items[request] {
                Some(item) => Seen::Stored(self.shown(parking, item).stage),
                None => self.decide(
                    parking,
                    request,
                    &parking.decisions.of(record),
                    Item { stage: Stage::Open, timer: 0, has_images: false, has_pointers: false },
                    process,
                ),
            },
            Effect::Register(request) => match self.items[request] {
                Some(item) => Seen::Stored(self.shown(parking, item).stage),
                None => {
                    self.items[request] = Some(Item { stage: Stage::Open, timer: 1, has_images: true, has_pointers: true });
                    Seen::Done
                }
            },
            Effect::Claim { request, record } => match self.items[request].map(|item| self.shown(parking, item)) {
                Some(item) if item.stage == Stage::Open => self.decide(parking, request, &parking.decisions.of(record), item, process),
                item => Seen::Stored(item.map_or(Stage::Answered, |item| item.stage)),
            },
            Effect::TakeLease { request, until } => match &mut self.items[request] {
                Some(Item { stage: Stage::Claimed { lease_until, .. }, .. }) if *lease_until <= self.now => {
                    *lease_until = until;
                    Seen::Done
                }
                _ => Seen::Lost,
            },
            Effect::Put { request, answer } => {
                self.put(parking, request, answer);
                Seen::Done
            }
            Effect::MarkAnswered(request) => match &mut self.items[request] {
                // The item first. The pointers are found by what it held: who marks it again finds none.
                Some(item) if process.part == 0 => {
                    let had_images = item.has_images;
                    (item.stage, item.has_images) = (Stage::Answered, false);
                    if had_images {
                        return None;
                    }
                    Seen::Done
                }
                Some(item) => {
                    item.has_pointers = false;
                    Seen::Done
                }
                None => Seen::Failed,
            },
            Effect::CloseDeployments { resource, asked } => {
                if process.part == 0 {
                    if self.newest[resource].is_some_and(|newest| newest > asked) {
                        return Some(Seen::Done);
                    }
                    (self.newest[resource], self.stands[resource]) = (Some(asked), None);
                    return None;
                }
                let is_older = |row: &&mut Row| setting.asked[usize::from(row.by)].at <= asked || setting.seed == Some(Seed::ClosesAll);
                self.rows[resource].iter_mut().flatten().filter(is_older).for_each(|row| row.is_admitted = false);
                Seen::Done
            }
            Effect::LookAgain { image, n, after, for_a_request } => {
                if setting.own_messages {
                    self.send(What::LookAgain { image, n, for_a_request }, after);
                }
                Seen::Done
            }
            Effect::SendTimer { request, n, after } => {
                if setting.own_messages {
                    self.send(What::Timer(request, n), after);
                }
                Seen::Done
            }
            Effect::AdvanceTimer { request, to } => match &mut self.items[request] {
                // A request that never waited has no number.
                Some(item) if item.timer > 0 && u32::from(item.timer) < to => {
                    item.timer = u8::try_from(to).expect("not so many");
                    Seen::Done
                }
                _ => Seen::Lost,
            },
            Effect::ReadTold(audience) => Seen::Told(self.telling.records[audience]),
            Effect::WriteTold { audience, expect, told } => self.write_told(parking, audience, expect, told),
            Effect::Publish { audience, message } => {
                self.publish(parking, audience, message);
                Seen::Done
            }
            Effect::AnnounceAgain { image, after } => {
                if setting.seed != Some(Seed::NobodyComes) {
                    self.send(What::Announce(image), after);
                }
                Seen::Done
            }
        })
    }

    pub fn is_signed(&self, image: usize) -> bool {
        self.signed & 1 << image != 0
    }

    fn pointed_to(&self) -> impl Iterator<Item = usize> {
        (0..REQUESTS).filter(|n| self.items[*n].is_some_and(|item| item.has_pointers))
    }

    /// The item as a reader finds it. Where the answer is not stored, nothing is left of a claim when its lease is over.
    fn shown(&self, parking: &Parking, item: Item) -> Item {
        match item.stage {
            Stage::Claimed { lease_until, .. } if parking.setting.seed == Some(Seed::AnswerNotStored) && lease_until <= self.now => {
                Item { stage: Stage::Open, ..item }
            }
            _ => item,
        }
    }

    /// One transaction: the request, then which request of the resource is the newest, then the deployments.
    fn decide(&mut self, parking: &Parking, request: usize, decision: &Decision, before: Item, process: &Process) -> Seen {
        let asked = &parking.setting.asked[request];
        let resource = asked.resource;
        if let Some((images, data)) = &decision.admitted {
            if self.newest[resource].is_some_and(|newest| newest > asked.at) {
                return Seen::Superseded;
            }
            let has_changed = decision.after.is_some_and(|after| after != self.stands[resource]);
            if has_changed && parking.setting.seed != Some(Seed::RowsOfThen) {
                return Seen::RowsChanged;
            }
            (self.newest[resource], self.stands[resource]) = (Some(asked.at), Some(request as u8));
            self.data[resource][asked.root] = Some(*data);
            let (root, by) = (images[0] as u8, request as u8);
            images.iter().for_each(|image| self.rows[resource][*image] = Some(Row { of: root, is_admitted: true, by }));
        }
        for image in &decision.replaced {
            if let Some(row) = &mut self.rows[resource][*image] {
                row.is_admitted = false;
            }
        }
        if decision.verdict == "PASS" {
            self.broken.too_early |= !self.is_justified(parking, request, decision, process.justified);
            // Nobody takes a signature back here, so it has to be there still.
            let is_signed = self.is_signed(asked.root) || asked.images.iter().all(|image| self.is_signed(*image));
            self.broken.unsigned |= parking.setting.wants_a_signature(request) && !is_signed;
        }
        let lease_until = if parking.setting.seed == Some(Seed::EndlessLease) { Second::MAX } else { second(lease(at(decision.decided))) };
        self.items[request] = Some(Item { stage: Stage::Claimed { answer: decision.answer, lease_until }, ..before });
        Seen::Done
    }

    /// Whether what counts for this request, and nothing else, was let through on whole lists of what the scanner has found.
    fn is_justified(&self, parking: &Parking, request: usize, decision: &Decision, justified: u16) -> bool {
        let asked = &parking.setting.asked[request];
        let images = decision.admitted.as_ref().map(|(images, _)| images.as_slice()).unwrap_or_default();
        let mut expected = vec![asked.root];
        expected.extend(asked.images.iter().filter(|image| **image != asked.root));
        let by_signature_alone = parking.setting.is_by_signature_alone(request);
        images == expected.as_slice()
            && asked.images.iter().all(|image| {
                let scanned = parking.setting.has_listed_what_passes(request, *image, usize::from(self.scanner[*image].stage));
                by_signature_alone || scanned && justified & bit(request, *image) != 0
            })
    }

    fn put(&mut self, parking: &Parking, request: usize, answer: u32) {
        let asked = &parking.setting.asked[request];
        match self.sent[request] {
            Some(first) => self.broken.two_answers |= first != answer,
            None => {
                self.sent[request] = Some(answer);
                self.broken.too_late |= self.now > asked.due + GRACE + SWEEPS_EVERY + self.excused;
                for (n, next) in parking.setting.asked.iter().enumerate().filter(|(_, next)| next.after == Some(request)) {
                    self.messages.push(Message { what: What::Request(n), from: next.at.max(self.now), failed: 0 });
                }
            }
        }
    }

    /// From when on a sweep finds something to do with this request. Before that it passes it over, or finds that its time is
    /// not quite over.
    fn is_swept_from(&self, parking: &Parking, request: usize) -> Option<Second> {
        match self.items[request]?.stage {
            Stage::Open => Some(parking.setting.asked[request].due + GRACE),
            Stage::Claimed { lease_until, .. } => Some(lease_until).filter(|lease_until| *lease_until < Second::MAX),
            Stage::Answered => None,
        }
    }

    /// When the next of these sweeps comes.
    pub fn next_sweep(&self, parking: &Parking, request: usize) -> Option<Second> {
        let first = parking.setting.sweep?;
        let from = self.is_swept_from(parking, request)?.max(self.now + 1);
        let minutes = (from - first).max(0) + SWEEPS_EVERY - 1;
        Some(first + minutes / SWEEPS_EVERY * SWEEPS_EVERY)
    }

    /// The clock moves on, and the sweeps on the way begin.
    pub fn pass_until(&mut self, parking: &Parking, moment: Second) {
        let began = std::mem::replace(&mut self.now, moment);
        let Some(first) = parking.setting.sweep else { return };
        for sweep in (first..=moment).step_by(SWEEPS_EVERY as usize).filter(|sweep| *sweep > began) {
            for request in 0..parking.setting.asked.len() {
                let Some(from) = self.is_swept_from(parking, request) else { continue };
                let lease_until = match self.items[request].map(|item| item.stage) {
                    Some(Stage::Claimed { lease_until, .. }) => Some(at(lease_until)),
                    _ => None,
                };
                let message = Message { what: What::Sweep(request), from: sweep, failed: 0 };
                if from <= sweep && is_for_sweep(Some(at(parking.setting.asked[request].due)), lease_until, at(sweep)) {
                    self.messages.push(message);
                }
            }
        }
    }

    /// Until when the scanner may leave an image as it is.
    pub fn scanner_is_slow_at(&self, parking: &Parking) -> Option<Second> {
        let images = parking.setting.images.iter().zip(&self.scanner);
        let filling = images.filter(|(image, scanner)| matches!(image.script[usize::from(scanner.stage)].word, Word::Filling(_)));
        filling.map(|(_, scanner)| scanner.completed + FILLS_WITHIN).min()
    }
}

/// Which requests' bits a head of that image sets: complete, its list proven whole, and nothing in it blocks.
pub fn lets_through(parking: &Parking, image: usize, head: &Head) -> u16 {
    let Some((result, true)) = head.complete() else { return 0 };
    let requests = 0..parking.setting.asked.len();
    let passes = requests.filter(|request| parking.setting.lets_facts_through(*request, image, result.facts.as_str()));
    passes.map(|request| bit(request, image)).sum()
}

/// What a head says, for a person who reads a counterexample.
pub fn describe(head: &Head) -> String {
    let kind = if matches!(head.kind, Kind::Index(_)) { " index" } else { "" };
    format!("v{}{kind} {}", head.version, head.state().word())
}
