//! A scan ended, or may have: read the facts, judge, remember.
//!
//! The event is a hint; what the API says is true. Whoever waits for this image is woken after remembering, and in every case:
//! also when the row was the same already, or was lost to a newer one. The one who wrote it may have died before waking anybody.

use jiff::{SignedDuration, Timestamp};

use super::deploy::Home;
use super::remember::{Next, Remember};
use super::wake::{By, Wake};
use super::{Depth, Do, Outcome, PageToken, Protocol, Saw, Why};
use crate::domain::head::{EventCounts, Head, Kind, News};
use crate::domain::image::{ImageDigest, Repository};
use crate::domain::policy::Policy;
use crate::domain::scan::{ScanState, Standing, understand};

/// An event older than the last reading by more than this needs no reading of its own.
const OUTDATED: SignedDuration = SignedDuration::from_secs(60);
/// After how long to look again, the first, second and third time. A fourth does not come: the chain ends by itself, and
/// the next event or deployment goes on from there.
const LOOK_AGAIN_S: [i64; 3] = [15, 30, 60];
/// Two readings that prove each other are 20 s apart, so the first look again at an unproven list is a little later.
const PROOF_S: i64 = 22;

/// What a batch of messages says of one image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hints {
    /// The newest event; `None` when only our own look-again speaks.
    pub newest: Option<Timestamp>,
    pub counts: Option<EventCounts>,
    /// How many times we have looked again already.
    pub looked_again: u32,
    /// Whether the API has to be asked whatever the row says: a look-again, or an event without a time.
    pub must_look: bool,
    /// An earlier reading ran out of time here.
    pub from: Option<PageToken>,
    /// Whether somebody waits who may have found the stored findings gone: they are stored again.
    pub for_a_request: bool,
}

impl Hints {
    /// Two messages about the same image are answered by one reading.
    pub fn and(self, other: Hints) -> Hints {
        let counts = match (self.counts, other.counts) {
            (Some(a), Some(b)) => Some(a.newer(b)),
            (a, b) => a.or(b),
        };
        Hints {
            newest: self.newest.max(other.newest),
            counts,
            // A new event begins a new chain; two look-agains are one.
            looked_again: self.looked_again.min(other.looked_again),
            must_look: self.must_look || other.must_look,
            // Of two readings one goes on; the other one begins again with the next event.
            from: self.from.or(other.from),
            for_a_request: self.for_a_request || other.for_a_request,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scan {
    repository: Repository,
    digest: ImageDigest,
    hints: Hints,
    /// The pipeline's own.
    policy: Policy,
    home: Home,
    news: Vec<News>,
    head: Option<Head>,
    /// The requests that are still to be woken.
    waiting: Vec<String>,
    /// What kept one of them from being answered. The others do not suffer from it.
    failed: Option<Why>,
    at: At,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    Start,
    Head,
    Looking,
    ReadingOn,
    Policies,
    Remembering(Box<Remember>),
    LookingAgain,
    Waiting,
    Waking(Box<Wake>),
}

impl Scan {
    pub fn new(repository: Repository, digest: ImageDigest, hints: Hints, policy: Policy, home: Home) -> Self {
        let news = hints.counts.clone().map(News::ScanEnded).into_iter().collect();
        Self { repository, digest, hints, policy, home, news, head: None, waiting: Vec::new(), failed: None, at: At::Start }
    }

    fn remember(&mut self, policies: Vec<Policy>) -> Do {
        let policies = std::iter::once(self.policy.clone()).chain(policies.into_iter().filter(|policy| *policy != self.policy)).collect();
        let mut remember = Remember::new(&self.repository, &self.digest, self.head.take(), std::mem::take(&mut self.news), policies);
        if self.hints.for_a_request {
            remember = remember.storing_them_again();
        }
        let next = remember.start();
        self.at = At::Remembering(Box::new(remember));
        self.continue_with(next)
    }

    fn continue_with(&mut self, next: Next) -> Do {
        match next {
            Next::Do(effect) => effect,
            Next::GaveUp(why) => Do::Finish(Outcome::Redeliver(why)),
            Next::Remembered(head) => self.remembered(head),
        }
    }

    /// The row is true now. First the next look, so that it comes whatever happens; then those who wait.
    fn remembered(&mut self, head: Option<Box<Head>>) -> Do {
        self.head = head.map(|head| *head);
        match self.head.as_ref().and_then(|head| look_again_after(head, self.hints.looked_again)) {
            Some(after) => {
                self.at = At::LookingAgain;
                let (repository, digest) = (self.repository.clone(), self.digest.clone());
                Do::LookAgain { repository, digest, n: self.hints.looked_again + 1, after, request_id: None }
            }
            None => self.ask_who_waits(),
        }
    }

    fn ask_who_waits(&mut self) -> Do {
        self.at = At::Waiting;
        Do::ReadWaiting { repository: self.repository.clone(), digest: self.digest.clone() }
    }

    fn wake_the_next(&mut self, now: Timestamp) -> Do {
        match (self.waiting.pop(), self.failed.take()) {
            (Some(request_id), failed) => {
                self.failed = failed;
                let mut wake = Wake::new(request_id, By::News, self.home.clone(), self.policy.clone());
                let effect = wake.next(Saw::Start, now);
                self.at = At::Waking(Box::new(wake));
                effect
            }
            (None, Some(why)) => Do::Finish(Outcome::Redeliver(why)),
            (None, None) => Do::Finish(Outcome::Done(self.head.as_ref().map_or_else(String::new, |head| head.verdict.clone()))),
        }
    }
}

/// When this row should be looked at again, after `looked_again` times.
fn look_again_after(head: &Head, looked_again: u32) -> Option<SignedDuration> {
    let wait_s = *LOOK_AGAIN_S.get(looked_again as usize)?;
    // An index is not scanned, so looking again finds nothing.
    if matches!(head.kind, Kind::Index(_)) {
        return None;
    }
    let unproven = head.complete().is_some_and(|(_, settled)| !settled);
    let pending = head.state().standing() == Standing::Pending && head.state() != ScanState::CountsDisagree;
    match (unproven, pending) {
        (true, _) => Some(SignedDuration::from_secs(wait_s.max(PROOF_S))),
        (false, true) => Some(SignedDuration::from_secs(wait_s)),
        (false, false) => None,
    }
}

impl Protocol for Scan {
    fn next(&mut self, saw: Saw, now: Timestamp) -> Do {
        match (&mut self.at, saw) {
            (At::Start, Saw::Start) => {
                self.at = At::Head;
                Do::ReadHeads { repository: self.repository.clone(), digests: vec![self.digest.clone()] }
            }
            (At::Head, Saw::Heads(heads)) => {
                self.head = heads.into_iter().next().flatten();
                let checked_at = self.head.as_ref().and_then(|head| head.last_read.newest());
                let is_known = |newest: Timestamp| checked_at.is_some_and(|checked| checked.duration_since(newest) > OUTDATED);
                if !self.hints.must_look && self.hints.newest.is_some_and(is_known) {
                    return self.remember(Vec::new());
                }
                self.at = At::Looking;
                let pushed_at = self.head.as_ref().and_then(|head| head.pushed_at);
                let epss = self.policy.needs_epss() || self.head.as_ref().is_some_and(Head::needs_epss);
                let (repository, digest, from) = (self.repository.clone(), self.digest.clone(), self.hints.from.clone());
                Do::Look { repository, digest, depth: Depth::Whole, pushed_at, from, epss }
            }
            (At::Looking, Saw::Answer(answer)) => {
                self.news.push(News::Scan(understand(answer)));
                self.at = At::Policies;
                Do::ReadPolicies { repository: self.repository.clone(), digest: self.digest.clone() }
            }
            (At::Looking, Saw::MoreToRead(from)) => {
                self.at = At::ReadingOn;
                Do::ReadOn { repository: self.repository.clone(), digest: self.digest.clone(), from }
            }
            (At::ReadingOn, Saw::Done) => Do::Finish(Outcome::Done("goes on reading in the next message".to_owned())),
            (At::Policies, Saw::Policies(policies)) => self.remember(policies),
            (At::Remembering(remember), saw) => {
                let next = remember.next(saw);
                self.continue_with(next)
            }
            (At::LookingAgain, Saw::Done) => self.ask_who_waits(),
            (At::Waiting, Saw::Waiting(waiting)) => {
                self.waiting = waiting.into_iter().rev().map(|waiting| waiting.request_id).collect();
                self.wake_the_next(now)
            }
            (At::Waking(wake), saw) => match wake.next(saw, now) {
                Do::Finish(outcome) => {
                    if let Outcome::Redeliver(why) = outcome {
                        self.failed = Some(why);
                    }
                    self.wake_the_next(now)
                }
                effect => effect,
            },
            (_, Saw::Failed(why)) => Do::Finish(Outcome::Redeliver(why)),
            (at, saw) => Do::Finish(Outcome::Redeliver(Why::new(format!("{saw:?} in {at:?}")))),
        }
    }
}
