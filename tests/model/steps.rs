//! Which steps a world can take: messages are delivered, effects carried out one at a time, and whatever may go wrong does.
//!
//! *Time.* A running function takes no time, and a message that can be delivered is, before the clock moves; so a world comes
//! to rest, and "in the end" can be asked of it. Everything else is paid for: each [`slow`](crate::setting::Left::slow) lets the clock jump although
//! somebody is at work or a message waits. CloudFormation alone asks when it likes.
//!
//! *Failure.* To die after an effect is to die before the next one, so there is one kind of death, and another after the last
//! effect. An effect that fails has been carried out, or has not, and both look the same to the machine.

use stateright::{Model, Property};

use crate::alerts::is_about_telling;
use crate::parking::{Next, Parking};
use crate::setting::{Asked, Second, Word};
use crate::world::{Effect, GRACE, Item, Message, Process, SWEEPS_EVERY, Scanner, Seen, Stage, What, World, describe};

/// How late one fault may make an answer: a lease has to end first, and then a sweep has to come.
const EXCUSED: Second = 60 + SWEEPS_EVERY;
/// What Lambda and SQS do with what has failed: Lambda delivers an asynchronous event twice more; `handlers::batch` asks for a
/// message again after so long; a message of a function that died is hidden until its visibility ends.
const LAMBDA_RETRIES_S: [Second; 2] = [60, 120];
const SQS_RETRIES_S: [Second; 4] = [5, 15, 60, 240];
const VISIBILITY_S: Second = 150;
/// When the walk comes after news that were lost. It is a day at most; here it is as late as anything else may be.
const WALKS_AFTER: Second = 1000;
const RECEIVED_AT_MOST: u8 = 8;
/// No setting takes nearly as long: a world that has not come to rest by then never will.
pub const THE_END: Second = 3600;

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

/// One step. Messages and processes go by their place in the bag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Deliver(usize),
    Step(usize, How),
    Dies(usize),
    Lose(usize),
    Double(usize),
    /// The scanner's next word on this image.
    Scanner(usize),
    Sign(usize),
    WaitUntil(Second),
}

impl Parking {
    /// Moments at which something will happen by itself.
    fn moments(&self, world: &World) -> impl Iterator<Item = Second> {
        let messages = world.messages.iter().map(|message| message.from);
        let sweeps = (0..self.setting.asked.len()).filter_map(|request| world.next_sweep(self, request));
        messages.chain(sweeps).filter(|moment| *moment > world.now)
    }

    /// Moments that change what a machine decides.
    fn turns(&self, world: &World) -> impl Iterator<Item = Second> {
        let of_request = |(asked, item): (&Asked, &Option<Item>)| {
            let lease_until = match item.map(|item| item.stage) {
                Some(Stage::Claimed { lease_until, .. }) => lease_until,
                _ => Second::MAX,
            };
            [asked.due, asked.due + GRACE, lease_until]
        };
        let turns = self.setting.asked.iter().zip(&world.items).flat_map(of_request).chain(self.leases_of_outboxes(world));
        turns.filter(|moment| *moment > world.now && *moment < Second::MAX)
    }

    fn is_at_rest(&self, world: &World) -> bool {
        world.running.is_empty() && world.messages.iter().all(|message| message.from > world.now)
    }

    /// CloudFormation asks when it likes.
    fn is_asked_at(&self, world: &World, moment: Second) -> bool {
        let asks = |message: &Message| matches!(message.what, What::Request(_)) && message.failed == 0 && message.from == moment;
        self.setting.overlaps && world.messages.iter().any(asks)
    }

    fn waits(&self, world: &World, actions: &mut Vec<Action>) {
        if world.now >= THE_END {
            return;
        }
        let limit = world.scanner_is_slow_at(self).unwrap_or(Second::MAX);
        let next = self.moments(world).min().filter(|moment| *moment <= limit);
        let is_free = self.is_at_rest(world) || next.is_some_and(|moment| self.is_asked_at(world, moment));
        if is_free {
            actions.extend(next.map(Action::WaitUntil));
        }
        if world.left.slow > 0 && !self.is_at_rest(world) {
            let mut later: Vec<Second> = self.turns(world).chain(next).filter(|moment| *moment <= limit && !(is_free && Some(*moment) == next)).collect();
            later.sort_unstable();
            later.dedup();
            actions.extend(later.into_iter().map(Action::WaitUntil));
        }
    }

    fn may_fail(&self, world: &World, process: &Process) -> bool {
        world.left.faults > 0 && world.now <= self.setting.fails_until && (self.setting.fails)(&process.of)
    }

    /// In which ways this effect can go wrong without killing the process.
    fn failures(&self, process: &Process) -> &'static [How] {
        if self.setting.only_dies {
            return &[];
        }
        match self.running.of(process.runs).effect {
            // What only reads fails once, not before and after.
            Effect::ReadHeads(_)
            | Effect::ReadFacts { .. }
            | Effect::Look(_)
            | Effect::Verify(_)
            | Effect::ReadPolicies(_)
            | Effect::ReadRows(_)
            | Effect::ReadData { .. }
            | Effect::ReadRequest(_)
            | Effect::ReadWaiting(_)
            | Effect::ReadOpen(_)
            | Effect::ReadTold(_) => &[How::Fails],
            // Best effort, once the Delete is answered: what fails here is not tried again, and its rows stay.
            Effect::CloseDeployments { .. } => &[],
            Effect::MarkAnswered(_) => &[How::Fails, How::FailsAfterwards],
            _ => &[How::Fails, How::FailsAfterwards, How::Twice],
        }
    }

    /// Whoever delivered this has to deliver it again.
    fn put_back(&self, world: &mut World, process: &Process, died: bool) {
        let failed = process.failed + 1;
        let nth = |waits: &[Second]| waits[usize::from(process.failed).min(waits.len() - 1)];
        let after = match process.of {
            // The next one comes anyway.
            What::Sweep(_) => return,
            What::Request(request) if usize::from(failed) > LAMBDA_RETRIES_S.len() => return world.send(What::GivenUp(request), 0),
            What::Request(_) => nth(&LAMBDA_RETRIES_S),
            // The queue of what on-deploy has failed on is the one without dead letters.
            What::GivenUp(_) => nth(&SQS_RETRIES_S),
            _ if failed >= RECEIVED_AT_MOST => return,
            _ if died => VISIBILITY_S,
            _ => nth(&SQS_RETRIES_S),
        };
        world.messages.push(Message { what: process.of, from: world.now + after, failed });
    }

    fn deliver(&self, world: &mut World, place: usize) {
        let Message { what, failed, .. } = world.messages.remove(place);
        let heads = world.heads.iter().enumerate();
        let justified = heads.filter_map(|(image, head)| head.map(|head| self.lets_through(image, head))).fold(0, |all, some| all | some);
        let turn = (0..).find(|turn| world.running.iter().all(|process| process.turn != *turn)).filter(|_| self.setting.alerting.is_some());
        let process = Process { of: what, failed, runs: 0, part: 0, turn: turn.unwrap_or_default(), justified };
        let next = self.start(what, failed > 0, world.now);
        self.follow(world, process, next, How::Well);
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
            // There are more calls to make, and those fail on their own.
            world.running.push(process);
            return (how == How::Well).then_some(());
        };
        let turn = if is_about_telling(&running.effect) { process.turn } else { 0 };
        let next = self.go_on(process.runs, seen, world.now, turn);
        if how == How::DiesAtTheEnd && next != Next::Done {
            return None;
        }
        self.follow(world, process, next, how);
        Some(())
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
                world.broken.surprised |= surprised;
                self.put_back(world, &process, false);
            }
        }
    }

    fn scanner_goes_on(&self, world: &mut World, image: usize) {
        let script = &self.setting.images[image].script;
        let Scanner { stage, completed } = &mut world.scanner[image];
        let was = script[usize::from(*stage)].word;
        *stage += 1;
        let stage = usize::from(*stage);
        // A list that has been filled is of the scan that was called complete before.
        if !matches!(was, Word::Filling(_)) {
            *completed = world.now;
        }
        if script[stage].tells {
            world.send(What::Event { image, stage, at: world.now }, 0);
        }
    }

    /// A step in words, for a person who reads a counterexample.
    pub fn tell(&self, world: &World, action: &Action) -> String {
        let process = |place: &usize| {
            let process = &world.running[*place];
            let effect = &self.running.of(process.runs).effect;
            let more = match effect {
                Effect::WriteHead { head, .. } => format!(" ({})", describe(&self.heads.of(*head))),
                Effect::Record { record, .. } | Effect::Claim { record, .. } => format!(" ({})", self.decisions.of(*record).verdict),
                Effect::Publish { message, .. } => format!(" ({})", self.message_of(*message)),
                Effect::WriteTold { told, .. } => format!(" ({})", self.told_in_words(*told)),
                Effect::Put { answer, .. } => format!(" ({})", self.kind_of(*answer)),
                _ => String::new(),
            };
            format!("{:?}: {effect:?}{more}", process.of)
        };
        let told = match action {
            Action::Deliver(place) => format!("{:?} is delivered", world.messages[*place].what),
            Action::Step(place, How::Well) => process(place),
            Action::Step(place, how) => format!("{}, and it {how:?}", process(place)),
            Action::Dies(place) => format!("{:?} dies before {:?}", world.running[*place].of, self.running.of(world.running[*place].runs).effect),
            Action::Lose(place) => format!("{:?} is lost", world.messages[*place].what),
            Action::Double(place) => format!("{:?} is doubled", world.messages[*place].what),
            Action::Scanner(image) => {
                let stage = usize::from(world.scanner[*image].stage) + 1;
                format!("the scanner says of image {image}: {:?}", self.setting.images[*image].script[stage].word)
            }
            Action::Sign(image) => format!("somebody signs image {image}"),
            Action::WaitUntil(moment) => format!("the clock moves to {moment}"),
        };
        format!("{:>4} s  {told}", world.now)
    }
}

impl Model for Parking {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (place, message) in world.messages.iter().enumerate() {
            // Of equal things it makes no difference which one moves.
            if place > 0 && world.messages[place - 1] == *message {
                continue;
            }
            if message.from <= world.now && world.running.len() < self.setting.at_once {
                actions.push(Action::Deliver(place));
            }
            if world.left.lost > 0 && (self.setting.loses)(&message.what) {
                actions.push(Action::Lose(place));
            }
            if world.left.doubled > 0 && (self.setting.doubles)(&message.what) {
                actions.push(Action::Double(place));
            }
        }
        for (place, process) in world.running.iter().enumerate() {
            if place > 0 && world.running[place - 1] == *process {
                continue;
            }
            actions.push(Action::Step(place, How::Well));
            if self.may_fail(world, process) {
                actions.extend([Action::Dies(place), Action::Step(place, How::DiesAtTheEnd)]);
                actions.extend(self.failures(process).iter().map(|how| Action::Step(place, *how)));
            }
        }
        let goes_on = |image: &usize| usize::from(world.scanner[*image].stage) + 1 < self.setting.images[*image].script.len();
        actions.extend((0..self.setting.images.len()).filter(goes_on).map(Action::Scanner));
        let may_be_signed = |image: &usize| self.setting.images[*image].is_to_be_signed && !world.is_signed(*image);
        actions.extend((0..self.setting.images.len()).filter(may_be_signed).map(Action::Sign));
        self.waits(world, actions);
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        if matches!(action, Action::Dies(_)) || matches!(action, Action::Step(_, how) if how != How::Well) {
            world.left.faults -= 1;
            world.excused += EXCUSED;
        }
        match action {
            Action::Deliver(place) => self.deliver(&mut world, place),
            Action::Step(place, how) => self.step(&mut world, place, how)?,
            Action::Dies(place) => {
                let process = world.running.remove(place);
                self.put_back(&mut world, &process, true);
            }
            Action::Lose(place) => {
                world.left.lost -= 1;
                let lost = world.messages.remove(place);
                if let (What::Event { image, .. }, true) = (lost.what, self.setting.alerting.is_some() && self.setting.walks) {
                    world.send(What::LookAgain { image, n: 0, for_a_request: false }, WALKS_AFTER);
                }
            }
            Action::Double(place) => {
                world.left.doubled -= 1;
                world.messages.push(world.messages[place]);
            }
            Action::Scanner(image) => self.scanner_goes_on(&mut world, image),
            Action::Sign(image) => {
                world.signed |= 1 << image;
                world.send(What::Signed(image), 0);
            }
            Action::WaitUntil(moment) => {
                if !self.is_at_rest(&world) {
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
        self.promises()
    }
}
