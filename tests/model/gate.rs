//! The gate as a model: which steps a world can take, and what must be true in all of them.

use ecr_scan_verifier::domain::head::Head;
use ecr_scan_verifier::domain::plan::Started;
use ecr_scan_verifier::domain::policy::Policy;
use ecr_scan_verifier::domain::protocol::deploy::Deploy;
use ecr_scan_verifier::domain::protocol::scan::{Hints, Scan};
use ecr_scan_verifier::domain::protocol::wake::{By, Wake};
use ecr_scan_verifier::domain::protocol::{Do, Outcome, Protocol, Saw, Why};
use ecr_scan_verifier::domain::request::{self, Answer, Data, Record, RequestKind, Rows, Stored, Waiting, image_row};
use ecr_scan_verifier::domain::scan::{Answer as ScanAnswer, Facts};
use jiff::SignedDuration;
use stateright::{Model, Property};

use crate::names::{Memory, Names};
use crate::seeds::{LooksFirst, Seed, TimerLast};
use crate::setting::{IMAGES, Second, Setting, at, home, repository, second};
use crate::world::{Broken, Decision, Effect, Item, Message, Process, Row, Seen, Stage, What, World, bit, describe, lets_through};

/// The sweep leaves a request alone for so long after its time, and comes every minute.
pub const GRACE: Second = 30;
const SWEEPS_EVERY: Second = 60;
/// After a crash or a failure a lease may have to end first, and then a sweep has to come.
const EXCUSED: Second = 60 + SWEEPS_EVERY;
/// What Lambda and SQS do with what has failed (design: "2. Parts and numbers"); a message of a function that died is hidden
/// until its visibility ends.
const LAMBDA_RETRIES_S: [Second; 2] = [60, 120];
const SQS_RETRIES_S: [Second; 4] = [5, 15, 60, 240];
const VISIBILITY_S: Second = 150;
const RECEIVED_AT_MOST: u8 = 8;

/// Why a model's effect has failed. A machine that ends with other words was surprised by what it saw.
const FAULT: &str = "a fault";

pub const ANSWERED: &str = "every request is answered";
pub const ONE_ANSWER: &str = "never two different answers for one request";
pub const COMPLETE: &str = "no Pass without complete facts of exactly the image";
pub const IN_TIME: &str = "no answer later than due plus grace and one sweep";
pub const NOT_FORGOTTEN: &str = "nothing parked is forgotten in a quiet world";
pub const NEWEST: &str = "the deployments are those of the newest request";
pub const FACTS_KEPT: &str = "a row refers to findings that are kept";
pub const NO_STRAY: &str = "no machine sees what it does not expect";

pub const PASSES: &str = "a request is let through";
pub const BLOCKS: &str = "a request is blocked";
pub const TIMES_OUT: &str = "a request's time is up";
pub const SUPERSEDED: &str = "a request is superseded";
pub const GIVEN_UP: &str = "a request is given up";

/// What runs in a process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Machine {
    Deploy(Box<Deploy>),
    Scan(Box<Scan>),
    Wake(Box<Wake>),
    LooksFirst(Box<LooksFirst<Deploy>>),
    TimerLast(Box<TimerLast<Wake>>),
}

impl Protocol for Machine {
    fn next(&mut self, saw: Saw, now: jiff::Timestamp) -> Do {
        match self {
            Self::Deploy(machine) => machine.next(saw, now),
            Self::Scan(machine) => machine.next(saw, now),
            Self::Wake(machine) => machine.next(saw, now),
            Self::LooksFirst(machine) => machine.next(saw, now),
            Self::TimerLast(machine) => machine.next(saw, now),
        }
    }
}

/// A machine, and the effect whose outcome it waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Running {
    machine: Machine,
    pub effect: Effect,
}

/// What a machine does when it has seen something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Runs(u32),
    Done,
    Redeliver { surprised: bool },
}

pub struct Gate {
    pub setting: Setting,
    pub heads: Names<Head>,
    pub facts: Names<Facts>,
    pub answers: Names<Answer>,
    pub data: Names<Data>,
    pub decisions: Names<Decision>,
    running: Names<Running>,
    starts: Memory<(What, Second), Next>,
    goes_on: Memory<(u32, Seen, Second), Next>,
    passing: Memory<(usize, u32), u16>,
}

/// How an effect goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum How {
    Well,
    /// It is not carried out.
    Fails,
    /// It is, and nobody hears of it.
    FailsAfterwards,
    /// It is carried out twice, as by an SDK whose first answer got lost, and the second outcome is seen.
    Twice,
    /// It is, and the process dies before it can say that it has finished.
    DiesAtTheEnd,
}

/// Messages and processes go by their place in the bag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Deliver(usize),
    Step(usize, How),
    Dies(usize),
    Lose(usize),
    Double(usize),
    /// The scanner's next word on this image.
    Scanner(usize),
    WaitUntil(Second),
}

impl Gate {
    pub fn new(setting: Setting) -> Self {
        assert!(setting.images.len() <= IMAGES && setting.asked.len() <= crate::setting::REQUESTS);
        Self {
            setting,
            heads: Names::default(),
            facts: Names::default(),
            answers: Names::default(),
            data: Names::default(),
            decisions: Names::default(),
            running: Names::default(),
            starts: Memory::default(),
            goes_on: Memory::default(),
            passing: Memory::default(),
        }
    }

    /// By how much a request may be late where nothing but messages was lost.
    pub fn grace(&self) -> Second {
        GRACE + SWEEPS_EVERY
    }

    pub fn lets_through(&self, image: usize, head: u32) -> u16 {
        self.passing.recall((image, head), |_| lets_through(self, image, &self.heads.of(head)))
    }

    /// What an answer says, in a word.
    fn kind_of(&self, answer: u32) -> &'static str {
        let answer = self.answers.of(answer);
        let text = answer.as_str();
        let kinds = [
            ("\"SUCCESS\"", PASSES),
            ("superseded by a later request", SUPERSEDED),
            ("found vulnerabilities", BLOCKS),
            ("timed out", TIMES_OUT),
            ("No scan results", TIMES_OUT),
            ("could not be judged", GIVEN_UP),
        ];
        kinds.iter().find(|(part, _)| text.contains(part)).unwrap_or_else(|| panic!("an answer that no setting expects: {text}")).1
    }

    fn machine(&self, what: What, now: Second) -> Machine {
        let asked = |request: usize| &self.setting.asked[request];
        let scan =
            |image: usize, hints| Machine::Scan(Box::new(Scan::new(repository(), self.setting.images[image].digest.clone(), hints, Policy::default(), home())));
        let wake = |request: usize, by| Wake::new(asked(request).request.request_id.clone(), by, home(), Policy::default());
        match what {
            What::Request(n) => {
                let deploy = Deploy::new(asked(n).request.clone(), asked(n).url.clone(), home(), Policy::default(), at(asked(n).due));
                if self.setting.seed == Some(Seed::LooksFirst) {
                    Machine::LooksFirst(Box::new(LooksFirst::new(deploy)))
                } else {
                    Machine::Deploy(Box::new(deploy))
                }
            }
            What::GivenUp(n) => Machine::Deploy(Box::new(Deploy::given_up(
                asked(n).request.clone(),
                asked(n).url.clone(),
                home(),
                Policy::default(),
                at(asked(n).due),
                FAULT.into(),
            ))),
            What::Event { image, stage, at: told } => {
                scan(image, Hints { newest: Some(at(told)), counts: self.setting.counts(image, stage, told), ..Hints::default() })
            }
            What::LookAgain { image, n, for_a_request } => scan(image, Hints { looked_again: n, must_look: true, for_a_request, ..Hints::default() }),
            What::Timer(request, n) => {
                let wake = wake(request, By::Timer(n));
                if self.setting.seed == Some(Seed::TimerLast) { Machine::TimerLast(Box::new(TimerLast::new(wake))) } else { Machine::Wake(Box::new(wake)) }
            }
            What::Sweep(request) => {
                let _ = now;
                Machine::Wake(Box::new(wake(request, By::Sweep)))
            }
        }
    }

    fn start(&self, what: What, now: Second) -> Next {
        self.starts.recall((what, now), |(what, now)| self.drive(self.machine(*what, *now), Saw::Start, *now))
    }

    fn go_on(&self, runs: u32, seen: Seen, now: Second) -> Next {
        self.goes_on.recall((runs, seen, now), |(runs, seen, now)| {
            let running = self.running.of(*runs);
            self.drive(running.machine.clone(), self.saw(seen, *now), *now)
        })
    }

    /// On to the next effect whose outcome depends on the world.
    fn drive(&self, mut machine: Machine, mut saw: Saw, now: Second) -> Next {
        loop {
            let effect = match machine.next(saw, at(now)) {
                Do::Finish(Outcome::Done(_)) => return Next::Done,
                Do::Finish(Outcome::Redeliver(why)) => return Next::Redeliver { surprised: why.text != FAULT },
                Do::ResolveImage { image, .. } => {
                    saw = Saw::Image(self.setting.resolve(&image));
                    continue;
                }
                Do::ReadStack(stack_id) => {
                    let asked = self.setting.asked.iter().filter(|asked| asked.request.stack_id == stack_id);
                    saw = Saw::Stack { rolling_back: asked.clone().any(|asked| asked.rolling_back) };
                    continue;
                }
                Do::ReadRegistry => {
                    saw = Saw::Registry(self.setting.registry);
                    continue;
                }
                Do::ReadForward { .. } => {
                    saw = Saw::Forward(None);
                    continue;
                }
                // Nobody starts a scan here, and counts need no verdicts of their own.
                Do::StartScan { .. } => {
                    saw = Saw::Started(Started::Already);
                    continue;
                }
                Do::ReadPolicies { .. } if !self.setting.needs_findings() => {
                    saw = Saw::Policies(Vec::new());
                    continue;
                }
                effect => self.effect(effect),
            };
            return Next::Runs(self.running.name(Running { machine, effect }));
        }
    }

    fn effect(&self, effect: Do) -> Effect {
        let setting = &self.setting;
        let seconds = |after: SignedDuration| Second::try_from(after.as_secs()).expect("not so long");
        let request = |id: &str| setting.request_of(id);
        match effect {
            Do::ReadHeads { digests, .. } => Effect::ReadHeads(digests.iter().map(|digest| setting.image_of(digest)).collect()),
            Do::WriteHead { expect, head } => Effect::WriteHead { image: setting.image_of(&head.digest), expect, head: self.heads.name(*head) },
            Do::PutFacts { digest, facts, for_version, .. } => {
                Effect::PutFacts { image: setting.image_of(&digest), facts: self.facts.name(facts), for_version }
            }
            Do::ExpireFacts { digest, facts, since_version, .. } => {
                Effect::ExpireFacts { image: setting.image_of(&digest), facts: self.facts_named(facts.as_str()), since_version }
            }
            Do::ReadFacts { digest, facts, .. } => Effect::ReadFacts { image: setting.image_of(&digest), facts: self.facts_named(facts.as_str()) },
            Do::Look { digest, .. } => Effect::Look(setting.image_of(&digest)),
            Do::ReadPolicies { digest, .. } => Effect::ReadPolicies(setting.image_of(&digest)),
            Do::ReadRows { stack_key } => Effect::ReadRows(setting.resource_of(&stack_key)),
            Do::ReadData { stack_key, properties_hash } => {
                let of = setting.asked.iter().find(|asked| asked.request.properties_hash == properties_hash).expect("somebody has asked so").root;
                Effect::ReadData { resource: setting.resource_of(&stack_key), of }
            }
            Do::ReadRequest(id) => Effect::ReadRequest(request(&id)),
            Do::ReadWaiting { digest, .. } => Effect::ReadWaiting(setting.image_of(&digest)),
            Do::ReadOpen { stack_key } => Effect::ReadOpen(setting.resource_of(&stack_key)),
            Do::Record { request: asked, url, due, record } => {
                let n = request(&asked.request_id);
                assert!(url == setting.asked[n].url && due == at(setting.asked[n].due), "stored as it was asked");
                Effect::Record { request: n, record: self.decision(n, *record) }
            }
            Do::Register { request: asked, url, due, images, .. } => {
                let n = request(&asked.request_id);
                assert!(url == setting.asked[n].url && due == at(setting.asked[n].due) && images == setting.asked[n].counted, "stored as it was asked");
                Effect::Register(n)
            }
            Do::Claim { request: asked, record } => {
                let n = request(&asked.request_id);
                Effect::Claim { request: n, record: self.decision(n, *record) }
            }
            Do::TakeLease { request_id, until } => Effect::TakeLease { request: request(&request_id), until: second(until) },
            Do::Put { url, answer } => {
                let n = setting.asked.iter().position(|asked| asked.url == url).expect("nobody else's address");
                assert!(answer.as_str().contains(&setting.asked[n].request.request_id), "an answer goes to its own address");
                Effect::Put { request: n, answer: self.answers.name(answer) }
            }
            Do::MarkAnswered { request_id } => Effect::MarkAnswered(request(&request_id)),
            Do::CloseDeployments { stack_key, asked_at } => Effect::CloseDeployments { resource: setting.resource_of(&stack_key), asked: second(asked_at) },
            Do::LookAgain { digest, n, after, request_id, .. } => {
                Effect::LookAgain { image: setting.image_of(&digest), n, after: seconds(after), for_a_request: request_id.is_some() }
            }
            Do::SendTimer { request_id, n, after } => Effect::SendTimer { request: request(&request_id), n, after: seconds(after) },
            Do::AdvanceTimer { request_id, to } => Effect::AdvanceTimer { request: request(&request_id), to },
            effect => unreachable!("answered at once: {effect:?}"),
        }
    }

    fn decision(&self, request: usize, record: Record) -> u32 {
        let setting = &self.setting;
        let admitted = record.admitted.map(|admission| {
            let images = admission.digests.iter().map(|digest| setting.image_of(digest)).collect();
            (images, self.data.name(admission.data))
        });
        let of_row = |row: &String| setting.images.iter().position(|image| image_row(&image.digest, &repository()) == *row).expect("a row of ours");
        assert!(record.answer.as_str().contains(&setting.asked[request].request.request_id), "its own answer");
        self.decisions.name(Decision {
            answer: self.answers.name(record.answer),
            decided: second(record.decided_at),
            verdict: record.verdict,
            admitted,
            replaced: record.replaced.iter().map(of_row).collect(),
        })
    }

    /// Only ever asked of facts that a machine has stored or read before.
    fn facts_named(&self, hash: &str) -> u32 {
        (0..).find(|name| self.facts.of(*name).hash().as_str() == hash).expect("known facts")
    }

    fn saw(&self, seen: &Seen, now: Second) -> Saw {
        let setting = &self.setting;
        let head = |head: &u32| (*self.heads.of(*head)).clone();
        match seen {
            Seen::Start => Saw::Start,
            Seen::Done => Saw::Done,
            Seen::Lost => Saw::Lost,
            Seen::Superseded => Saw::Superseded,
            Seen::Failed => Saw::Failed(Why::new(FAULT)),
            Seen::Stored(stage) => Saw::AlreadyStored(self.stage(*stage)),
            Seen::Heads(heads) => Saw::Heads(heads.iter().map(|name| name.as_ref().map(head)).collect()),
            Seen::Conflict(current) => Saw::Conflict(current.as_ref().map(head).map(Box::new)),
            Seen::Facts(facts) => Saw::Facts(facts.map(|facts| (*self.facts.of(facts)).clone())),
            Seen::Answer { image, stage, completed } => Saw::Answer(ScanAnswer {
                source: setting.registry,
                what: setting.answer(*image, *stage, *completed),
                coverage: None,
                pushed_at: None,
                read_at: at(now),
            }),
            Seen::Policies(requests) => Saw::Policies(requests.iter().map(|request| setting.policy(*request).clone()).collect()),
            Seen::Rows(_, rows) => {
                let digest = |image: usize| setting.images[image].digest.clone();
                let row = |(image, row): (usize, &Option<Row>)| {
                    let Row { of, is_admitted, .. } = (*row)?;
                    Some((image_row(&digest(image), &repository()), request::Row { digest: digest(image), of: digest(of), is_admitted }))
                };
                Saw::Rows(Rows(rows.iter().enumerate().filter_map(row).collect()))
            }
            Seen::Data(data) => Saw::Data(data.map(|data| (*self.data.of(data)).clone())),
            Seen::Request(request, item) => Saw::Request(item.map(|item| Box::new(self.stored(*request, item)))),
            Seen::Waiting(requests) => {
                let asked = requests.iter().map(|request| &setting.asked[*request].request);
                Saw::Waiting(asked.map(|request| Waiting { request_id: request.request_id.clone(), asked_at: request.asked_at }).collect())
            }
        }
    }

    fn stored(&self, request: usize, item: Item) -> Stored {
        let asked = &self.setting.asked[request];
        Stored {
            request: asked.request.clone(),
            url: (item.stage != Stage::Answered).then(|| asked.url.clone()),
            due: at(asked.due),
            stage: self.stage(item.stage),
            images: item.has_images.then(|| asked.counted.clone()),
            timer: u32::from(item.timer),
        }
    }

    fn stage(&self, stage: Stage) -> request::Stage {
        match stage {
            Stage::Open => request::Stage::Open,
            Stage::Claimed { answer, lease_until } => request::Stage::Claimed { answer: (*self.answers.of(answer)).clone(), lease_until: at(lease_until) },
            Stage::Answered => request::Stage::Answered,
        }
    }

    fn is_ready(&self, world: &World, message: &Message) -> bool {
        message.from <= world.now
    }

    /// Moments at which something will happen by itself.
    fn moments(&self, world: &World) -> Vec<Second> {
        let messages = world.messages.iter().map(|message| message.from);
        let sweeps = (0..self.setting.asked.len()).filter_map(|request| world.next_sweep(self, request));
        messages.chain(sweeps).filter(|moment| *moment > world.now).collect()
    }

    /// CloudFormation waits for nobody.
    fn is_asked_at(&self, world: &World, moment: Second) -> bool {
        world.messages.iter().any(|message| message.failed == 0 && message.from == moment && matches!(message.what, What::Request(_)))
    }

    /// Moments that change what a machine decides.
    fn turns(&self, world: &World) -> Vec<Second> {
        let of_request = |(n, item): (usize, &Option<Item>)| {
            let due = self.setting.asked.get(n).map(|asked| asked.due);
            let lease_until = match item {
                Some(Item { stage: Stage::Claimed { lease_until, .. }, .. }) => Some(*lease_until),
                _ => None,
            };
            [due, due.map(|due| due + GRACE), lease_until]
        };
        let turns = world.items.iter().enumerate().flat_map(of_request).flatten();
        turns.filter(|moment| *moment > world.now && *moment < Second::MAX).collect()
    }

    /// Nothing is under way, nobody is at work, and nothing will start by itself.
    fn is_quiet(&self, world: &World) -> bool {
        let scanner_is_silent = || self.setting.images.iter().zip(&world.scanner).all(|(image, scanner)| usize::from(scanner.stage) + 1 == image.script.len());
        world.running.is_empty()
            && world.messages.is_empty()
            && (0..self.setting.asked.len()).all(|request| world.next_sweep(self, request).is_none())
            && (self.setting.own_messages || scanner_is_silent())
    }

    /// Whoever delivered this has to deliver it again.
    fn put_back(&self, world: &mut World, process: &Process, died: bool) {
        let failed = process.failed + 1;
        let nth = |waits: &[Second]| waits[usize::from(process.failed).min(waits.len() - 1)];
        let (what, after) = match process.of {
            // The next one comes anyway.
            What::Sweep(_) => return,
            What::Request(request) if usize::from(failed) > LAMBDA_RETRIES_S.len() => {
                world.send(What::GivenUp(request), 0);
                return;
            }
            What::Request(_) => (process.of, nth(&LAMBDA_RETRIES_S)),
            // Its queue has no dead letters.
            What::GivenUp(_) => (process.of, if died { VISIBILITY_S } else { nth(&SQS_RETRIES_S) }),
            _ if failed >= RECEIVED_AT_MOST => return,
            _ => (process.of, if died { VISIBILITY_S } else { nth(&SQS_RETRIES_S) }),
        };
        world.messages.push(Message { what, from: world.now + after, failed });
    }

    fn follow(&self, world: &mut World, mut process: Process, next: Next, how: How) {
        match next {
            Next::Runs(runs) => {
                (process.runs, process.part) = (runs, 0);
                world.running.push(process);
            }
            Next::Done if how == How::DiesAtTheEnd => self.put_back(world, &process, true),
            Next::Done => {}
            Next::Redeliver { surprised } => {
                world.broken.stray |= surprised;
                self.put_back(world, &process, false);
            }
        }
    }

    fn step(&self, world: &mut World, place: usize, how: How) -> Option<()> {
        let mut process = world.running.remove(place);
        let running = self.running.of(process.runs);
        let perform = |world: &mut World, process: &mut Process| {
            let seen = world.perform(self, &running.effect, process);
            process.part += u8::from(seen.is_none());
            seen
        };
        let seen = match how {
            How::Fails => Some(Seen::Failed),
            How::Well | How::DiesAtTheEnd => perform(world, &mut process),
            How::FailsAfterwards => perform(world, &mut process).map(|_| Seen::Failed),
            How::Twice => perform(world, &mut process).and_then(|_| perform(world, &mut process)),
        };
        let Some(seen) = seen else {
            // More calls, and those can fail on their own.
            world.running.push(process);
            return (how == How::Well).then_some(());
        };
        let next = self.go_on(process.runs, seen, world.now);
        if how == How::DiesAtTheEnd && next != Next::Done {
            return None;
        }
        self.follow(world, process, next, how);
        Some(())
    }

    fn may_fail(&self, world: &World, process: &Process) -> bool {
        world.left.faults > 0 && world.now <= self.setting.fails_until && (self.setting.fails)(&process.of)
    }

    /// Effects that only read fail once, not before and after.
    fn writes(&self, process: &Process) -> bool {
        !matches!(
            self.running.of(process.runs).effect,
            Effect::ReadHeads(_)
                | Effect::ReadFacts { .. }
                | Effect::Look(_)
                | Effect::ReadPolicies(_)
                | Effect::ReadRows(_)
                | Effect::ReadData { .. }
                | Effect::ReadRequest(_)
                | Effect::ReadWaiting(_)
                | Effect::ReadOpen(_)
        )
    }

    /// What happens next on a way that led somewhere it should not, in words.
    pub fn tell(&self, world: &World, action: &Action) -> String {
        let process = |place: &usize| {
            let process = &world.running[*place];
            let effect = &self.running.of(process.runs).effect;
            let more = match effect {
                Effect::WriteHead { head, .. } => format!(" ({})", describe(&self.heads.of(*head))),
                Effect::Record { record, .. } | Effect::Claim { record, .. } => format!(" ({})", self.decisions.of(*record).verdict),
                Effect::Put { answer, .. } => format!(" ({})", self.kind_of(*answer)),
                _ => String::new(),
            };
            format!("{:?}: {effect:?}{more}", process.of)
        };
        let told = match action {
            Action::Deliver(place) => format!("deliver {:?}", world.messages[*place].what),
            Action::Step(place, How::Well) => process(place),
            Action::Step(place, how) => format!("{} -- {how:?}", process(place)),
            Action::Dies(place) => format!("{} -- dies before it", process(place)),
            Action::Lose(place) => format!("lose {:?}", world.messages[*place].what),
            Action::Double(place) => format!("double {:?}", world.messages[*place].what),
            Action::Scanner(image) => {
                format!("the scanner says of image {image}: {:?}", self.setting.images[*image].script[usize::from(world.scanner[*image].stage) + 1].word)
            }
            Action::WaitUntil(moment) => format!("wait until {moment}"),
        };
        format!("{:>4} s  {told}", world.now)
    }
}

impl Model for Gate {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let is_first_of_its_kind = |place: usize| place == 0 || world.messages[place] != world.messages[place - 1];
        let mut ready = false;
        for (place, message) in world.messages.iter().enumerate().filter(|(place, _)| is_first_of_its_kind(*place)) {
            if self.is_ready(world, message) {
                ready = true;
                if world.running.len() < self.setting.at_once {
                    actions.push(Action::Deliver(place));
                }
            }
            if world.left.lost > 0 && (self.setting.loses)(&message.what) {
                actions.push(Action::Lose(place));
            }
            if world.left.doubled > 0 && !matches!(message.what, What::Sweep(_)) {
                actions.push(Action::Double(place));
            }
        }
        for (place, process) in world.running.iter().enumerate() {
            if place > 0 && *process == world.running[place - 1] {
                continue;
            }
            actions.push(Action::Step(place, How::Well));
            if self.may_fail(world, process) {
                actions.push(Action::Dies(place));
                actions.push(Action::Step(place, How::Fails));
                if self.writes(process) {
                    actions.extend([How::FailsAfterwards, How::Twice].map(|how| Action::Step(place, how)));
                }
                actions.push(Action::Step(place, How::DiesAtTheEnd));
            }
        }
        for (n, image) in self.setting.images.iter().enumerate() {
            if usize::from(world.scanner[n].stage) + 1 < image.script.len() {
                actions.push(Action::Scanner(n));
            }
        }
        let limit = world.scanner_is_slow_at(self).unwrap_or(Second::MAX);
        let moments = self.moments(world);
        let next = moments.iter().min().filter(|moment| **moment <= limit);
        if world.running.is_empty() && !ready || next.is_some_and(|next| self.is_asked_at(world, *next)) {
            actions.extend(next.map(|moment| Action::WaitUntil(*moment)));
        } else if world.left.slow > 0 {
            let mut later = self.turns(world);
            later.extend(moments.iter().min());
            later.sort_unstable();
            later.dedup();
            actions.extend(later.into_iter().filter(|moment| *moment <= limit).map(Action::WaitUntil));
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Deliver(place) => {
                let Message { what, failed, .. } = world.messages.remove(place);
                let heads = world.heads.iter().enumerate();
                let justified = heads.filter_map(|(image, head)| head.map(|head| self.lets_through(image, head))).fold(0, |all, some| all | some);
                let process = Process { of: what, failed, runs: 0, part: 0, justified };
                let next = self.start(what, world.now);
                self.follow(&mut world, process, next, How::Well);
            }
            Action::Step(place, how) => {
                if how != How::Well {
                    world.left.faults -= 1;
                    world.excused += EXCUSED;
                }
                self.step(&mut world, place, how)?;
            }
            Action::Dies(place) => {
                world.left.faults -= 1;
                world.excused += EXCUSED;
                let process = world.running.remove(place);
                self.put_back(&mut world, &process, true);
            }
            Action::Lose(place) => {
                world.left.lost -= 1;
                world.messages.remove(place);
            }
            Action::Double(place) => {
                world.left.doubled -= 1;
                let message = world.messages[place];
                world.messages.push(message);
            }
            Action::Scanner(image) => {
                let script = &self.setting.images[image].script;
                let scanner = &mut world.scanner[image];
                let was = script[usize::from(scanner.stage)].word;
                scanner.stage += 1;
                let says = &script[usize::from(scanner.stage)];
                // A list that has been filled is of the scan that was called complete before.
                if !matches!(was, crate::setting::Word::Filling(_)) {
                    scanner.completed = world.now;
                }
                if says.tells {
                    let stage = usize::from(scanner.stage);
                    let told = world.now;
                    world.send(What::Event { image, stage, at: told }, 0);
                }
            }
            Action::WaitUntil(moment) => {
                if !world.running.is_empty() || world.messages.iter().any(|message| self.is_ready(&world, message)) {
                    world.left.slow -= u8::from(!self.is_asked_at(&world, moment));
                    world.excused += moment - world.now;
                }
                world.pass_until(self, moment);
            }
        }
        world.sort();
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(ANSWERED, |gate: &Gate, world: &World| {
                !gate.is_quiet(world) || world.sent[..gate.setting.asked.len()].iter().all(Option::is_some)
            }),
            Property::always(ONE_ANSWER, |_: &Gate, world: &World| !world.broken.two_answers),
            Property::always(COMPLETE, |_: &Gate, world: &World| !world.broken.too_early),
            Property::always(NOT_FORGOTTEN, |gate: &Gate, world: &World| {
                let is_settled = |(n, item): (usize, &Option<Item>)| match item {
                    None => true,
                    Some(item) => item.stage != Stage::Open && (item.stage == Stage::Answered || world.sent[n].is_some()),
                };
                !gate.is_quiet(world) || world.items.iter().enumerate().all(is_settled)
            }),
            Property::always(NEWEST, |gate: &Gate, world: &World| (0..crate::setting::REQUESTS).all(|resource| gate.reflects_the_newest(world, resource))),
            Property::always(FACTS_KEPT, |gate: &Gate, world: &World| {
                let is_kept = |(image, head): (usize, &Option<u32>)| {
                    let Some(result) = head.and_then(|head| gate.heads.of(head).result.clone()) else { return true };
                    world.facts.iter().any(|kept| kept.image == image && !kept.goes && *gate.facts.of(kept.facts).hash() == result.facts)
                };
                world.heads.iter().enumerate().all(is_kept)
            }),
            Property::always(NO_STRAY, |_: &Gate, world: &World| !world.broken.stray),
        ];
        if self.setting.own_messages {
            properties.push(Property::always(IN_TIME, |_: &Gate, world: &World| !world.broken.too_late));
        }
        let sent = |gate: &Gate, world: &World, kind: &str| world.sent.iter().flatten().any(|answer| gate.kind_of(*answer) == kind);
        let _ = sent;
        for kind in &self.setting.sometimes {
            properties.push(match *kind {
                PASSES => Property::sometimes(PASSES, |gate, world| gate.has_sent(world, PASSES)),
                BLOCKS => Property::sometimes(BLOCKS, |gate, world| gate.has_sent(world, BLOCKS)),
                TIMES_OUT => Property::sometimes(TIMES_OUT, |gate, world| gate.has_sent(world, TIMES_OUT)),
                SUPERSEDED => Property::sometimes(SUPERSEDED, |gate, world| gate.has_sent(world, SUPERSEDED)),
                GIVEN_UP => Property::sometimes(GIVEN_UP, |gate, world| gate.has_sent(world, GIVEN_UP)),
                other => unreachable!("{other}"),
            });
        }
        properties
    }
}

impl Gate {
    fn has_sent(&self, world: &World, kind: &str) -> bool {
        world.sent.iter().flatten().any(|answer| self.kind_of(*answer) == kind)
    }

    /// While a Delete is under way, its rows may still be there.
    fn reflects_the_newest(&self, world: &World, resource: usize) -> bool {
        let deletes = |what: &What| matches!(what, What::Request(n) | What::GivenUp(n) if self.setting.asked[*n].resource == resource && self.setting.asked[*n].request.kind == RequestKind::Delete);
        let is_being_deleted = world.running.iter().map(|process| &process.of).chain(world.messages.iter().map(|message| &message.what)).any(deletes);
        let stands = world.stands[resource];
        let only_its_own = || world.rows[resource].iter().flatten().all(|row| !row.is_admitted || Some(row.by) == stands);
        let all_its_own = || {
            stands.is_none_or(|request| {
                let asked = &self.setting.asked[request];
                let images = std::iter::once(&asked.root).chain(&asked.images);
                images.into_iter().all(|image| world.rows[resource][*image].is_some_and(|row| row.is_admitted))
            })
        };
        is_being_deleted || (only_its_own() && all_its_own())
    }
}

#[allow(unused)]
fn unused(_: Broken, _: fn(usize, usize) -> u16) {
    let _ = bit;
}
