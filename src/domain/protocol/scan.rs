//! A scan ended, or may have: read the facts, judge, remember.
//!
//! The event is a hint; what the API says is true. Whoever waits for this image is woken after remembering, and in every case:
//! also when the row was the same already, or was lost to a newer one. The one who wrote it may have died before waking anybody.

use jiff::{SignedDuration, Timestamp};

use super::announce::{self, Announce};
use super::deploy::Home;
use super::remember::{self, Remember};
use super::wake::{By, Wake};
use super::{Depth, Do, Outcome, PageToken, Protocol, Saw, Why};
use crate::domain::alert::{self, Alerting, Live};
use crate::domain::head::{EventCounts, Head, News};
use crate::domain::image::{ImageDigest, Repository};
use crate::domain::policy::Policy;
use crate::domain::scan::{Facts, FactsHash, ScanState, understand};

/// An event older than the last reading by more than this needs no reading of its own.
const OUTDATED: SignedDuration = SignedDuration::from_secs(60);
/// What happens to findings one by one is read at most so often: a first scan tells of hundreds.
const GATHERED_FOR: SignedDuration = SignedDuration::from_secs(60);
/// How soon a reading can come that somebody else is asked for.
const SOON: SignedDuration = SignedDuration::from_secs(5);
/// A deployment can be on its way into the record while findings of its image change; it is seen by then.
const DEPLOYED_BY: SignedDuration = SignedDuration::from_secs(90);

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
    /// Whether these are news that come in bursts, finding by finding: they can be gathered.
    pub can_wait: bool,
    /// Whether somebody has to be told, perhaps.
    pub announce: bool,
    /// Whether somebody has signed it: that is news for those who wait, and none of a scan.
    pub signed: bool,
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
            can_wait: self.can_wait && other.can_wait,
            announce: self.announce || other.announce,
            signed: self.signed || other.signed,
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
    alerting: Alerting,
    home: Home,
    news: Vec<News>,
    head: Option<Head>,
    /// The version that was read before anything else, and the row, as long as it has only just been written.
    read_version: u64,
    fresh: Option<Head>,
    lives: Vec<Live>,
    has_looked: bool,
    /// The findings that were read.
    facts: Option<Facts>,
    /// The findings that the row referred to when it was read, and what others made of it until it was written.
    old_facts: Vec<FactsHash>,
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
    Gathering(Timestamp),
    Looking,
    ReadingOn,
    Deployed,
    Remembering(Box<Remember>),
    LookingAgain,
    Waiting,
    Waking(Box<Wake>),
    Indexing,
    ComingAgain,
    Announcing(Box<Announce>),
}

/// When the API is asked about an image.
enum Reading {
    Now,
    /// It has been since, or will be.
    None,
    /// Not so soon again.
    At(Timestamp),
}

impl Scan {
    pub fn new(repository: Repository, digest: ImageDigest, hints: Hints, policy: Policy, home: Home) -> Self {
        let news = hints.counts.clone().map(News::ScanEnded).into_iter().collect();
        Self {
            repository,
            digest,
            hints,
            policy,
            alerting: Alerting::default(),
            home,
            news,
            head: None,
            read_version: 0,
            fresh: None,
            lives: Vec::new(),
            has_looked: false,
            facts: None,
            old_facts: Vec::new(),
            waiting: Vec::new(),
            failed: None,
            at: At::Start,
        }
    }

    /// Where the pipeline has somebody to tell.
    pub fn telling(self, alerting: Alerting) -> Self {
        Self { alerting, ..self }
    }

    /// At most one reading a batch, none for what is older than the last one, and of bursts one in a while.
    fn reading(&self, now: Timestamp) -> Reading {
        let read_at = self.head.as_ref().and_then(|head| head.seen_at);
        let is_known = |newest: Timestamp| read_at.is_some_and(|read| read.duration_since(newest) > OUTDATED);
        if self.hints.must_look {
            return Reading::Now;
        }
        match (self.hints.newest, read_at) {
            (None, _) => Reading::None,
            (Some(newest), _) if is_known(newest) => Reading::None,
            (Some(_), Some(read)) if self.hints.can_wait => {
                if self.head.as_ref().is_some_and(|head| head.is_about_to_be_read(now)) {
                    return Reading::None;
                }
                let next = read.checked_add(GATHERED_FOR).unwrap_or(Timestamp::MAX);
                if next <= now { Reading::Now } else { Reading::At(next.max(now.checked_add(SOON).unwrap_or(Timestamp::MAX))) }
            }
            _ => Reading::Now,
        }
    }

    fn begin(&mut self, now: Timestamp) -> Do {
        self.old_facts.extend(self.head.as_ref().and_then(Head::valid_result).map(|result| result.facts.clone()));
        match self.reading(now) {
            Reading::Now => {
                self.at = At::Looking;
                self.has_looked = true;
                let pushed_at = self.head.as_ref().and_then(|head| head.pushed_at);
                let epss = self.policy.needs_epss() || self.head.as_ref().is_some_and(Head::needs_epss);
                let (repository, digest, from) = (self.repository.clone(), self.digest.clone(), self.hints.from.clone());
                Do::Look { repository, digest, depth: Depth::Whole, pushed_at, from, epss }
            }
            // Somebody has to come, and then it may stand in the row.
            Reading::At(at) => {
                self.at = At::Gathering(at);
                self.look_again(0, at.duration_since(now))
            }
            // Of its scan nothing is new, and it may never have had one.
            Reading::None if self.hints.signed && !self.hints.announce => self.ask_who_waits(),
            Reading::None if self.head.is_none() => Do::Finish(Outcome::Done("nothing is recorded of it".to_owned())),
            Reading::None => self.remember(Vec::new(), now),
        }
    }

    fn look_again(&self, n: u32, after: SignedDuration) -> Do {
        Do::LookAgain { repository: self.repository.clone(), digest: self.digest.clone(), n, after, request_id: None }
    }

    fn read_deployed(&mut self) -> Do {
        self.at = At::Deployed;
        Do::ReadDeployed { repository: self.repository.clone(), digest: self.digest.clone() }
    }

    fn remember(&mut self, policies: Vec<Policy>, now: Timestamp) -> Do {
        let policies = std::iter::once(self.policy.clone()).chain(policies.into_iter().filter(|policy| *policy != self.policy)).collect();
        let mut remember = Remember::new(&self.repository, &self.digest, self.head.take(), std::mem::take(&mut self.news), policies);
        if self.hints.for_a_request {
            remember = remember.storing_them_again();
        }
        let next = remember.start();
        self.at = At::Remembering(Box::new(remember));
        self.continue_with(next, now)
    }

    fn continue_with(&mut self, next: remember::Next, now: Timestamp) -> Do {
        match next {
            remember::Next::Do(effect) => effect,
            remember::Next::GaveUp(why) => Do::Finish(Outcome::Redeliver(why)),
            remember::Next::Remembered(head) => self.remembered(head, now),
        }
    }

    /// The row is true now. First the next look, so that it comes whatever happens; then those who wait.
    fn remembered(&mut self, head: Option<Box<Head>>, now: Timestamp) -> Do {
        self.head = head.map(|head| *head);
        self.fresh = self.head.clone().filter(|head| head.version != self.read_version);
        if let At::Remembering(remember) = &self.at {
            self.old_facts.extend_from_slice(remember.met());
        }
        let n = self.hints.looked_again;
        let after = self.head.as_ref().and_then(|head| head.look_again_after(n).filter(|_| self.has_looked || !head.is_about_to_be_read(now)));
        match after {
            Some(after) => {
                self.at = At::LookingAgain;
                self.look_again(n + 1, after)
            }
            None => self.ask_who_waits(),
        }
    }

    fn ask_who_waits(&mut self) -> Do {
        self.at = At::Waiting;
        Do::ReadWaiting { repository: self.repository.clone(), digest: self.digest.clone() }
    }

    fn wake_the_next(&mut self, now: Timestamp) -> Do {
        match self.waiting.pop() {
            Some(request_id) => {
                let mut wake = Wake::new(request_id, By::News, self.home.clone(), self.policy.clone());
                // The first one alone: while many are answered, the row can change.
                if let Some(head) = self.fresh.take() {
                    wake = wake.knowing(head);
                }
                let effect = wake.next(Saw::Start, now);
                self.at = At::Waking(Box::new(wake));
                effect
            }
            None => self.index(),
        }
    }

    /// Where the findings that were read are those of the row, they can be found by their ids; and those of a deleted image by
    /// none.
    fn index(&mut self) -> Do {
        if !self.has_looked {
            return if self.hints.announce { self.read_deployed() } else { self.end() };
        }
        let Some(head) = self.head.as_ref() else { return self.end() };
        let facts = self.facts.clone().filter(|facts| head.valid_result().is_some_and(|result| result.facts == *facts.hash()));
        if facts.is_none() && head.state() != ScanState::Deleted {
            return self.come_again();
        }
        let version = head.version;
        self.at = At::Indexing;
        Do::Index { repository: self.repository.clone(), digest: self.digest.clone(), version, facts }
    }

    /// Findings that change may meet a deployment that is just being recorded.
    fn come_again(&mut self) -> Do {
        let facts = self.head.as_ref().and_then(Head::valid_result).map(|result| &result.facts);
        let have_changed = facts.is_some_and(|facts| self.old_facts.iter().any(|old| old != facts));
        if have_changed {
            self.at = At::ComingAgain;
            return Do::AnnounceAgain { repository: self.repository.clone(), digest: self.digest.clone(), after: DEPLOYED_BY };
        }
        self.announce()
    }

    fn announce(&mut self) -> Do {
        let Some(head) = self.head.clone() else { return self.end() };
        let lives = std::mem::take(&mut self.lives);
        let mut announce = Announce::new(head, lives, self.alerting.clone(), self.policy.clone(), self.facts.take());
        let next = announce.start();
        self.at = At::Announcing(Box::new(announce));
        self.continue_announcing(next)
    }

    fn continue_announcing(&mut self, next: announce::Next) -> Do {
        match next {
            announce::Next::Do(effect) => effect,
            announce::Next::Over(why) => {
                self.failed = self.failed.take().or(why);
                self.end()
            }
        }
    }

    fn end(&mut self) -> Do {
        Do::Finish(match self.failed.take() {
            Some(why) => Outcome::Redeliver(why),
            None => Outcome::Done(self.head.as_ref().map_or_else(String::new, |head| head.verdict.clone())),
        })
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
                self.read_version = self.head.as_ref().map_or(0, |head| head.version);
                self.begin(now)
            }
            (At::Gathering(at), Saw::Done) => {
                self.news.push(News::WillBeRead(*at));
                self.remember(Vec::new(), now)
            }
            (At::Looking, Saw::Answer(answer)) => {
                let reading = understand(answer);
                self.facts = reading.facts.clone();
                let was_read = News::WasRead { n: self.hints.looked_again, began_at: reading.read_at, at: now };
                self.news.extend([News::Scan(reading), was_read]);
                self.read_deployed()
            }
            (At::Looking, Saw::MoreToRead(from)) => {
                self.at = At::ReadingOn;
                Do::ReadOn { repository: self.repository.clone(), digest: self.digest.clone(), from }
            }
            (At::ReadingOn, Saw::Done) => Do::Finish(Outcome::Done("goes on reading in the next message".to_owned())),
            (At::Deployed, Saw::Deployed(lives)) => {
                self.lives = lives;
                if self.has_looked { self.remember(alert::policies(&self.lives), now) } else { self.announce() }
            }
            (At::Remembering(remember), saw) => {
                let next = remember.next(saw);
                self.continue_with(next, now)
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
            // Who waits has been answered, and who is to be told does not suffer from it.
            (At::Indexing, saw @ (Saw::Done | Saw::Failed(_))) => {
                if let Saw::Failed(why) = saw {
                    self.failed = Some(why);
                }
                self.come_again()
            }
            (At::ComingAgain, Saw::Done) => self.announce(),
            (At::Announcing(announce), saw) => {
                let next = announce.next(saw, now);
                self.continue_announcing(next)
            }
            (_, Saw::Failed(why)) => Do::Finish(Outcome::Redeliver(why)),
            (at, saw) => Do::Finish(Outcome::Redeliver(Why::new(format!("{saw:?} in {at:?}")))),
        }
    }
}
