//! The machines that ship, in a world of numbers.
//!
//! A state holds a machine's number; what the machine does next is asked of the machine itself, once for every outcome and
//! moment, and then remembered. So is the translation between its effects, which are made of texts, and the model's.

use ecr_scan_verifier::domain::alert::{Announced, Audience};
use ecr_scan_verifier::domain::head::Head;
use ecr_scan_verifier::domain::outputs::Message;
use ecr_scan_verifier::domain::plan::Started;
use ecr_scan_verifier::domain::policy::Policy;
use ecr_scan_verifier::domain::protocol::deploy::Deploy;
use ecr_scan_verifier::domain::protocol::scan::{Hints, Scan};
use ecr_scan_verifier::domain::protocol::wake::{By as WokenBy, Wake};
use ecr_scan_verifier::domain::protocol::{Do, Outcome, Protocol, Saw, Why};
use ecr_scan_verifier::domain::request::{self, Answer, Data, Record, Rows, Stored, Waiting, image_row};
use ecr_scan_verifier::domain::scan::{Answer as ScanAnswer, Facts};
use ecr_scan_verifier::domain::signature::key::KeyId;
use ecr_scan_verifier::domain::signature::verdict::{By, Format, Reason, Refused, Verdict, Verified};
use jiff::SignedDuration;

use crate::alerts::{Outbox, Says};
use crate::names::{Memory, Names};
use crate::seeds::{ByPosition, CrossesOutFirst, LooksFirst, Seed, TimerLast};
use crate::setting::{Asked, IMAGES, Second, Setting, at, home, repository, second};
use crate::world::{Decision, Effect, Item, Row, Seen, Stage, What, lets_through};

/// Why an effect of the model has failed. A machine that gives up in other words was surprised by what it saw.
const FAULT: &str = "a fault";

/// What runs in a process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Machine {
    Deploy(Box<Deploy>),
    Scan(Box<Scan>),
    Wake(Box<Wake>),
    LooksFirst(Box<LooksFirst<Deploy>>),
    TimerLast(Box<TimerLast<Wake>>),
    CrossesOutFirst(Box<CrossesOutFirst<Scan>>),
    ByPosition(Box<ByPosition<Scan>>),
}

impl Protocol for Machine {
    fn next(&mut self, saw: Saw, now: jiff::Timestamp) -> Do {
        match self {
            Self::Deploy(machine) => machine.next(saw, now),
            Self::Scan(machine) => machine.next(saw, now),
            Self::Wake(machine) => machine.next(saw, now),
            Self::LooksFirst(machine) => machine.next(saw, now),
            Self::TimerLast(machine) => machine.next(saw, now),
            Self::CrossesOutFirst(machine) => machine.next(saw, now),
            Self::ByPosition(machine) => machine.next(saw, now),
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
pub enum Next {
    Runs(u32),
    Done,
    Redeliver { surprised: bool },
}

pub struct Parking {
    pub setting: Setting,
    pub heads: Names<Head>,
    pub facts: Names<Facts>,
    pub answers: Names<Answer>,
    pub data: Names<Data>,
    pub decisions: Names<Decision>,
    pub running: Names<Running>,
    pub told: Names<Announced>,
    pub messages: Names<Message>,
    pub outboxes: Names<Outbox>,
    starts: Memory<(What, bool, Second), Next>,
    goes_on: Memory<(u32, Seen, Second, u8), Next>,
    pub outbox_of: Memory<u32, u32>,
    pub lease_of: Memory<u32, Option<Second>>,
    pub says: Memory<u32, Says>,
    passing: Memory<(usize, u32), u16>,
    refers: Memory<u32, Option<u32>>,
    pub kinds: Memory<u32, &'static str>,
}

impl Parking {
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
            told: Names::default(),
            messages: Names::default(),
            outboxes: Names::default(),
            starts: Memory::default(),
            goes_on: Memory::default(),
            outbox_of: Memory::default(),
            lease_of: Memory::default(),
            says: Memory::default(),
            passing: Memory::default(),
            refers: Memory::default(),
            kinds: Memory::default(),
        }
    }

    pub fn lets_through(&self, image: usize, head: u32) -> u16 {
        self.passing.recall((image, head), |_| lets_through(self, image, &self.heads.of(head)))
    }

    /// The findings that a head refers to, by their number.
    pub fn refers_to(&self, head: u32) -> Option<u32> {
        self.refers.recall(head, |head| self.heads.of(*head).result.as_ref().map(|result| self.facts_named(result.facts.as_str())))
    }

    fn machine(&self, what: What, is_said_again: bool) -> Machine {
        let asked = |request: usize| &self.setting.asked[request];
        let scan = |image: usize, hints: Hints| {
            // As `handlers::scan` does: whoever had it before may have died before anybody was told.
            let hints = Hints { must_look: hints.must_look || is_said_again && !hints.signed, ..hints };
            let scan = Scan::new(repository(), self.setting.images[image].digest.clone(), hints, Policy::default(), home());
            let scan = scan.telling(self.setting.alerting.clone().unwrap_or_default());
            match self.setting.seed {
                Some(Seed::CrossesOutFirst) => Machine::CrossesOutFirst(Box::new(CrossesOutFirst::new(scan))),
                Some(Seed::ByPosition) => Machine::ByPosition(Box::new(ByPosition::new(scan))),
                _ => Machine::Scan(Box::new(scan)),
            }
        };
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
            What::Signed(image) => scan(image, Hints { signed: true, can_wait: true, looked_again: u32::MAX, ..Hints::default() }),
            What::Announce(image) => scan(image, Hints { announce: true, can_wait: true, looked_again: u32::MAX, ..Hints::default() }),
            What::Timer(request, n) => {
                let wake = wake(request, WokenBy::Timer(n));
                if self.setting.seed == Some(Seed::TimerLast) { Machine::TimerLast(Box::new(TimerLast::new(wake))) } else { Machine::Wake(Box::new(wake)) }
            }
            What::Sweep(request) => Machine::Wake(Box::new(wake(request, WokenBy::Sweep))),
        }
    }

    /// What a function does first that this is delivered to.
    pub fn start(&self, what: What, is_said_again: bool, now: Second) -> Next {
        self.starts.recall((what, is_said_again, now), |(what, is_said_again, now)| self.drive(self.machine(*what, *is_said_again), Saw::Start, *now, 0))
    }

    /// What it does when its effect has come to this.
    pub fn go_on(&self, runs: u32, seen: Seen, now: Second, turn: u8) -> Next {
        self.goes_on.recall((runs, seen, now, turn), |(runs, seen, now, turn)| {
            let running = self.running.of(*runs);
            self.drive(running.machine.clone(), self.saw(seen, *now), *now, *turn)
        })
    }

    /// On to the next effect whose outcome depends on the world.
    fn drive(&self, mut machine: Machine, mut saw: Saw, now: Second, turn: u8) -> Next {
        let moment = at(now) + SignedDuration::from_micros(turn.into());
        let is_heard = self.setting.alerting.is_some();
        loop {
            let effect = match machine.next(saw, moment) {
                Do::Finish(Outcome::Done(_) | Outcome::Checked(_)) => return Next::Done,
                Do::Finish(Outcome::Redeliver(why)) => return Next::Redeliver { surprised: why.text != FAULT },
                Do::ResolveImage { image, .. } => {
                    saw = Saw::Image(self.setting.resolve(&image));
                    continue;
                }
                Do::ReadStack(stack_id) => {
                    let rolls_back = |asked: &Asked| asked.rolls_back && asked.request.stack_id == stack_id && asked.at <= now;
                    saw = Saw::Stack { rolling_back: self.setting.asked.iter().any(rolls_back) };
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
                Do::ReadGlass { .. } => {
                    saw = Saw::Glass(None);
                    continue;
                }
                Do::ReadFrequency { .. } => {
                    saw = Saw::Frequency { on_demand_only: false };
                    continue;
                }
                // Nobody starts a scan here, and counts need no verdicts of their own.
                Do::StartScan { .. } => {
                    saw = Saw::Started(Started::Already);
                    continue;
                }
                Do::ReadDeployed { .. } if !self.setting.lives.is_empty() || !self.setting.needs_findings() && !is_heard => {
                    saw = Saw::Deployed(self.setting.lives.clone());
                    continue;
                }
                // A look after an answer is for whoever is to be told. Who waits has a look of his own coming, and his timers.
                Do::LookAgain { n: 0, request_id: None, .. } if !is_heard => {
                    saw = Saw::Done;
                    continue;
                }
                Do::AnnounceAgain { .. } if !is_heard => {
                    saw = Saw::Done;
                    continue;
                }
                // By what findings are found decides nothing.
                Do::Index { .. } => {
                    saw = Saw::Done;
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
            Do::Verify { digest, .. } => Effect::Verify(setting.image_of(&digest)),
            Do::ReadDeployed { digest, .. } => Effect::ReadPolicies(setting.image_of(&digest)),
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
            Do::ReadAnnounced { audience, .. } => Effect::ReadTold(setting.audience_of(&audience)),
            Do::WriteAnnounced { audience, expect, announced, .. } => {
                Effect::WriteTold { audience: setting.audience_of(&audience), expect, told: self.told.name(*announced) }
            }
            Do::PublishOwn { message, .. } | Do::PutEvent { message } => Effect::Publish { audience: 0, message: self.messages.name(message) },
            Do::Publish { message, topic_arn, .. } => {
                let is_its = |audience: &Audience| matches!(audience, Audience::Topic { arn, .. } if *arn == topic_arn);
                let audience = setting.audiences().iter().position(is_its).expect("nobody else's topic");
                Effect::Publish { audience, message: self.messages.name(message) }
            }
            // As `aws::queue`: never too early.
            Do::AnnounceAgain { digest, after, .. } => Effect::AnnounceAgain { image: setting.image_of(&digest), after: at_least(after) },
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
            after: record.after.map(|after| after.map(|id| setting.request_of(&id) as u8)),
        })
    }

    /// Only ever asked of facts that a machine has stored or read before.
    fn facts_named(&self, hash: &str) -> u32 {
        self.facts.find(|facts| facts.hash().as_str() == hash).expect("facts of ours")
    }

    fn saw(&self, seen: &Seen, now: Second) -> Saw {
        let setting = &self.setting;
        let head = |head: &u32| (*self.heads.of(*head)).clone();
        match seen {
            Seen::Done => Saw::Done,
            Seen::Lost => Saw::Lost,
            Seen::Superseded => Saw::Superseded,
            Seen::RowsChanged => Saw::RowsChanged,
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
            Seen::Told(told) => Saw::Announced(Box::new(self.told_as_read(*told))),
            Seen::Signed(true) => {
                let by = By::Key(KeyId("the key".into()));
                let verified = Verified { signer: "Cosign".into(), by, format: Format::CosignBundle, signed_at: None, expires_at: None };
                Saw::Signed(Some(Verdict::Verified(vec![verified])))
            }
            Seen::Signed(false) => {
                let refused = Refused { signer: "Cosign".into(), reason: Reason::Unsigned { others: 0 } };
                Saw::Signed(Some(Verdict::Refused(vec![refused])))
            }
            Seen::Policies(requests) => Saw::Deployed(requests.iter().map(|request| setting.live(*request)).collect()),
            Seen::Rows(_, rows, stands) => {
                let digest = |image: usize| setting.images[image].digest.clone();
                let row = |(image, row): (usize, &Option<Row>)| {
                    let Row { of, is_admitted, .. } = (*row)?;
                    Some((image_row(&digest(image), &repository()), request::Row { digest: digest(image), of: digest(usize::from(of)), is_admitted }))
                };
                Saw::Rows(Rows {
                    images: rows.iter().enumerate().filter_map(row).collect(),
                    newest: stands.map(|n| setting.asked[usize::from(n)].request.request_id.clone()),
                })
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
            told: None,
            progress: Default::default(),
            notice: None,
        }
    }

    fn stage(&self, stage: Stage) -> request::Stage {
        match stage {
            Stage::Open => request::Stage::Open,
            Stage::Claimed { answer, lease_until } => request::Stage::Claimed { answer: (*self.answers.of(answer)).clone(), lease_until: at(lease_until) },
            Stage::Answered => request::Stage::Answered,
        }
    }
}

/// In whole seconds, never too short.
pub fn at_least(after: SignedDuration) -> Second {
    Second::try_from(after.as_secs() + i64::from(after.subsec_nanos() > 0)).expect("not so long")
}
