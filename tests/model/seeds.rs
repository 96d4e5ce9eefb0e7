//! Ways to get it wrong, put around the machines that ship or into the tables of the model. Each has to be found; some once
//! shipped, and were.

use ecr_scan_verifier::domain::alert::{Announced, Notice};
use ecr_scan_verifier::domain::protocol::{Do, Outcome, Protocol, Saw};
use jiff::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seed {
    /// on-deploy looks, then registers.
    LooksFirst,
    /// The claim only keeps others out for a while: whoever comes after that judges again.
    AnswerNotStored,
    /// The next timer is sent when everything else is done, and only if the request still waits.
    TimerLast,
    /// Nobody takes over from a claimer that died.
    EndlessLease,
    /// A decision replaces the rows that it has read, whatever was let through since. This once shipped, and was found.
    RowsOfThen,
    /// A Delete closes every row that it finds, also those of a request that is newer. So did this.
    ClosesAll,
    /// A notice is crossed out, then sent.
    CrossesOutFirst,
    /// What was sent is crossed out by its place in the outbox.
    ByPosition,
    /// Whoever finds something in an outbox sends it, whoever else is at it.
    NoLease,
    /// Who writes a record does not take over the outbox that he has read.
    DropsOutbox,
    /// A record is written whatever others have written since it was read.
    Overwrites,
    /// What people were told is compared with whatever row somebody has in hand. This once shipped, and was found.
    OlderRow,
    /// Nobody is called for the moment in which a lease ends, or a deployment has been recorded.
    NobodyComes,
}

/// Exchanges [`Do::Register`] and the look at the rows after it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LooksFirst<P> {
    machine: P,
    at: Look,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Look {
    NotYet,
    /// The look has been asked for in place of this.
    Early(Box<Do>),
    /// What it saw.
    Seen(Box<Saw>),
    Over,
}

impl<P> LooksFirst<P> {
    pub fn new(machine: P) -> Self {
        Self { machine, at: Look::NotYet }
    }
}

impl<P: Protocol> Protocol for LooksFirst<P> {
    fn next(&mut self, saw: Saw, now: Timestamp) -> Do {
        if let Look::Early(register) = &self.at {
            let register = (**register).clone();
            self.at = Look::Seen(Box::new(saw));
            return register;
        }
        let effect = self.machine.next(saw, now);
        match (std::mem::replace(&mut self.at, Look::Over), effect) {
            (Look::NotYet, Do::Register { request, url, due, images, since, told }) => {
                let gate = request.gate.as_ref().expect("what registers is well formed");
                let look = Do::ReadHeads { repository: gate.repository.clone(), digests: images.digests().cloned().collect() };
                self.at = Look::Early(Box::new(Do::Register { request, url, due, images, since, told }));
                look
            }
            (Look::Seen(seen), Do::ReadHeads { .. }) => self.machine.next(*seen, now),
            (at, effect) => {
                self.at = at;
                effect
            }
        }
    }
}

/// Keeps [`Do::SendTimer`] and [`Do::AdvanceTimer`] back until the machine has finished.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TimerLast<P> {
    machine: P,
    kept: Vec<Do>,
    /// How the machine has finished, as soon as it has.
    outcome: Option<Outcome>,
}

impl<P> TimerLast<P> {
    pub fn new(machine: P) -> Self {
        Self { machine, kept: Vec::new(), outcome: None }
    }

    fn send_or_finish(&mut self) -> Do {
        if self.kept.is_empty() { Do::Finish(self.outcome.take().expect("it has finished")) } else { self.kept.remove(0) }
    }
}

impl<P: Protocol> Protocol for TimerLast<P> {
    fn next(&mut self, saw: Saw, now: Timestamp) -> Do {
        if self.outcome.is_some() {
            return self.send_or_finish();
        }
        let mut effect = self.machine.next(saw, now);
        loop {
            match effect {
                Do::SendTimer { .. } | Do::AdvanceTimer { .. } => {
                    self.kept.push(effect);
                    effect = self.machine.next(Saw::Done, now);
                }
                Do::Finish(outcome) => {
                    if !matches!(&outcome, Outcome::Done(what) if what.starts_with("waits for")) {
                        self.kept.clear();
                    }
                    self.outcome = Some(outcome);
                    return self.send_or_finish();
                }
                effect => return effect,
            }
        }
    }
}

/// Keeps what is to be sent back until it is crossed out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CrossesOutFirst<P> {
    machine: P,
    kept: Option<Do>,
}

impl<P> CrossesOutFirst<P> {
    pub fn new(machine: P) -> Self {
        Self { machine, kept: None }
    }
}

impl<P: Protocol> Protocol for CrossesOutFirst<P> {
    fn next(&mut self, saw: Saw, now: Timestamp) -> Do {
        if saw == Saw::Done
            && let Some(message) = self.kept.take()
        {
            return message;
        }
        self.kept = None;
        let effect = self.machine.next(saw, now);
        if !matches!(effect, Do::Publish { .. } | Do::PublishOwn { .. } | Do::PutEvent { .. }) {
            return effect;
        }
        self.kept = Some(effect);
        self.machine.next(Saw::Done, now)
    }
}

/// Has as many of the first notices crossed out as were sent, where somebody else has changed the record meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ByPosition<P> {
    machine: P,
    /// The record as it was read or written last, and the one that is being written.
    record: Announced,
    writing: Option<Announced>,
    sending: Option<String>,
    sent: Vec<String>,
}

impl<P> ByPosition<P> {
    pub fn new(machine: P) -> Self {
        Self { machine, record: Announced::default(), writing: None, sending: None, sent: Vec::new() }
    }
}

impl<P: Protocol> Protocol for ByPosition<P> {
    fn next(&mut self, saw: Saw, now: Timestamp) -> Do {
        let saw = match (saw, self.writing.take(), self.sending.take()) {
            (Saw::Done, Some(written), _) => {
                (self.record, self.sent) = (written, Vec::new());
                Saw::Done
            }
            (Saw::Done, _, Some(id)) => {
                self.sent.push(id);
                Saw::Done
            }
            (Saw::Announced(mut record), ..) => {
                record.outbox.iter_mut().zip(&self.sent).for_each(|(notice, sent)| notice.id.clone_from(sent));
                self.record = (*record).clone();
                Saw::Announced(record)
            }
            (saw, ..) => saw,
        };
        let effect = self.machine.next(saw, now);
        match &effect {
            Do::WriteAnnounced { announced, .. } => self.writing = Some((**announced).clone()),
            Do::Publish { message, .. } | Do::PublishOwn { message, .. } | Do::PutEvent { message } => {
                let is_it = |notice: &&Notice| notice.message == *message && !self.sent.contains(&notice.id);
                self.sending = self.record.outbox.iter().find(is_it).map(|notice| notice.id.clone());
            }
            _ => {}
        }
        effect
    }
}
