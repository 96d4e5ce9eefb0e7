//! Somebody may have to be told of an image: what is true is compared with what each audience was told.
//!
//! What is to be told is written into the audience's record first, then sent, then taken out again. Whoever sends has a lease on
//! the record, so that two who bring the same news send it once; one that dies is followed by whoever comes next. So a notice
//! is sent at least once, and once where nobody dies.

use jiff::{SignedDuration, Timestamp};

use super::{Do, Saw, Why};
use crate::domain::alert::{self, AlertOn, Alerting, Announced, Audience, Live, NoticeKind, Scene, Weighing, weigh};
use crate::domain::head::Head;
use crate::domain::image::{ImageDigest, ImageRef};
use crate::domain::policy::Policy;
use crate::domain::protocol::Resolved;
use crate::domain::scan::Facts;

/// Longer than the function that sends runs.
const LEASE: SignedDuration = SignedDuration::from_secs(130);
/// So often a record may change under our hands before the queue has to bring the news again.
const TRIES: u32 = 5;
/// After so long what could not be sent to a gate's topic is tried again: as long as SQS delays a message.
const TRIED_AGAIN: SignedDuration = SignedDuration::from_secs(900);
/// Of so many tags it is asked whether they still name the image.
const TAGS: usize = 10;
/// So many indexes are named in a text.
const INDEXES: usize = 20;

/// The part of a protocol that announces; [`super::scan`] has it run to its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Announce {
    head: Head,
    /// The version for which it was read again.
    read_for: u64,
    lives: Vec<Live>,
    alerting: Alerting,
    pipelines: Policy,
    /// Those that are still to be looked after; the last one is next.
    audiences: Vec<Audience>,
    /// The findings that the head refers to: unread, or gone.
    facts: Option<Option<Facts>>,
    /// The findings that a gate of the current audience has judged, where nobody has told that audience anything yet.
    judged: Option<Option<Facts>>,
    judged_at: Timestamp,
    /// The indexes that the image is part of.
    part_of: Option<Vec<Head>>,
    /// Whether one of its tags still names it.
    is_newest: Option<bool>,
    tags: Vec<String>,
    /// What was sent of the current record's outbox, what could not be, and until when sending it is ours.
    sent: Vec<String>,
    tried: Vec<String>,
    lease: Option<Timestamp>,
    conflicts: u32,
    failed: Option<Why>,
    at: At,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    Between,
    Reading(Audience),
    ReadingAgain(Audience, Announced),
    Facts(Audience, Announced),
    Judged(Audience, Announced),
    Indexes(Audience, Announced),
    Tag(Audience, Announced),
    ComingAgain(Audience, Announced),
    Writing(Audience, Announced),
    Sending(Audience, Announced, String),
    ComingForTheRest(Audience, Announced),
    LettingGo(Audience),
    LeftToAnother,
}

/// What announcing needs next, or that it is over, and what could not be done.
#[derive(Clone, Debug)]
pub enum Next {
    Do(Do),
    Over(Option<Why>),
}

impl Announce {
    /// `facts`: those that the head refers to, where somebody has them at hand.
    pub fn new(head: Head, lives: Vec<Live>, alerting: Alerting, pipelines: Policy, facts: Option<Facts>) -> Self {
        let mut audiences = alert::audiences(&alerting, &pipelines, &lives);
        audiences.reverse();
        let tags = head.tags.iter().take(TAGS).rev().cloned().collect();
        let facts = facts.filter(|facts| head.valid_result().is_some_and(|result| result.facts == *facts.hash())).map(Some);
        Self {
            head,
            read_for: 0,
            lives,
            alerting,
            pipelines,
            audiences,
            facts,
            judged: None,
            judged_at: Timestamp::MIN,
            part_of: None,
            is_newest: None,
            tags,
            sent: Vec::new(),
            tried: Vec::new(),
            lease: None,
            conflicts: 0,
            failed: None,
            at: At::Between,
        }
    }

    pub fn start(&mut self) -> Next {
        self.next_audience()
    }

    fn next_audience(&mut self) -> Next {
        (self.sent, self.tried, self.lease, self.conflicts, self.judged) = (Vec::new(), Vec::new(), None, 0, None);
        match self.audiences.pop() {
            Some(audience) => self.read(audience),
            None => Next::Over(self.failed.take()),
        }
    }

    fn read(&mut self, audience: Audience) -> Next {
        let (repository, digest, id) = (self.head.repository.clone(), self.head.digest.clone(), audience.id());
        self.at = At::Reading(audience);
        Next::Do(Do::ReadAnnounced { repository, digest, audience: id })
    }

    fn scene(&self, now: Timestamp) -> Scene<'_> {
        Scene { head: &self.head, lives: &self.lives, alerting: &self.alerting, pipelines: &self.pipelines, now }
    }

    fn consider(&mut self, audience: Audience, announced: Announced, now: Timestamp) -> Next {
        if self.scene(now).is_weighed(&audience, &announced) {
            return self.send(audience, announced, now);
        }
        // Somebody was told by a newer row: by ours, they would be told again, or the contrary.
        if announced.head_version > self.head.version.max(self.read_for) {
            self.read_for = announced.head_version;
            let effect = Do::ReadHeads { repository: self.head.repository.clone(), digests: vec![self.head.digest.clone()] };
            self.at = At::ReadingAgain(audience, announced);
            return Next::Do(effect);
        }
        if self.facts.is_none()
            && let Some(facts) = self.scene(now).needs_facts()
        {
            let effect = Do::ReadFacts { repository: self.head.repository.clone(), digest: self.head.digest.clone(), facts: facts.clone() };
            self.at = At::Facts(audience, announced);
            return Next::Do(effect);
        }
        if announced.version == 0
            && self.judged.is_none()
            && let Some((judged, at)) = self.scene(now).judged_by_gate(&audience)
        {
            let (judged, at) = (judged.clone(), at);
            self.judged_at = at;
            let known = self.facts.clone().flatten().filter(|facts| *facts.hash() == judged);
            if known.is_none() {
                let effect = Do::ReadFacts { repository: self.head.repository.clone(), digest: self.head.digest.clone(), facts: judged };
                self.at = At::Judged(audience, announced);
                return Next::Do(effect);
            }
            self.judged = Some(known);
        }
        let mut announced = announced;
        if let Some(Some(judged)) = self.judged.take() {
            announced.told = self.scene(now).told_by_gate(&audience, &judged, self.judged_at);
            self.judged = Some(None);
        }
        let facts = self.facts.clone().flatten();
        if facts.is_none() && self.scene(now).needs_facts().is_some() {
            // Gone: whoever reads the image next stores them again, and comes here.
            return self.send(audience, announced, now);
        }
        // What more has to be known for a text is asked only where there is one.
        let trial = weigh(&self.scene(now), &audience, &announced, facts.as_ref(), true, &[]);
        if trial.announced == announced {
            // There is no room for more before what is in the outbox has gone.
            return self.send(audience, announced, now);
        }
        let has_news = trial.come_again.is_some() || trial.announced.outbox != announced.outbox;
        let is_heard_by_tag = audience == Audience::Pipeline && self.alerting.options.on == AlertOn::NewestOfTag && self.lives.is_empty();
        if has_news && self.part_of.is_none() {
            let indexes = self.indexes();
            if !indexes.is_empty() {
                self.at = At::Indexes(audience, announced);
                return Next::Do(Do::ReadHeads { repository: self.head.repository.clone(), digests: indexes });
            }
            self.part_of = Some(Vec::new());
        }
        if has_news && is_heard_by_tag && self.is_newest.is_none() {
            let Some(tag) = self.tags.pop() else {
                self.is_newest = Some(false);
                return self.consider(audience, announced, now);
            };
            self.at = At::Tag(audience, announced);
            return Next::Do(Do::ResolveImage { repository: self.head.repository.clone(), image: ImageRef::Tag(tag), expected: None });
        }
        let (is_newest, part_of) = (self.is_newest.unwrap_or(!is_heard_by_tag), self.part_of.clone().unwrap_or_default());
        let Weighing { announced: next, come_again } = weigh(&self.scene(now), &audience, &announced, facts.as_ref(), is_newest, &part_of);
        match come_again {
            // First, so that somebody comes whatever happens here.
            Some(after) => {
                self.at = At::ComingAgain(audience, next);
                Next::Do(self.again(after))
            }
            None => self.write(audience, next, now),
        }
    }

    /// Where the image is known to be part of one.
    fn indexes(&self) -> Vec<ImageDigest> {
        let deployed = self.lives.iter().map(|live| &live.of).filter(|of| **of != self.head.digest);
        let mut indexes: Vec<ImageDigest> = deployed.chain(self.head.parents.iter().filter(|_| self.lives.is_empty())).cloned().collect();
        indexes.sort_unstable();
        indexes.dedup();
        indexes.truncate(INDEXES);
        indexes
    }

    fn again(&self, after: SignedDuration) -> Do {
        Do::AnnounceAgain { repository: self.head.repository.clone(), digest: self.head.digest.clone(), after }
    }

    /// Writes the record, and takes the lease where something is to be sent and nobody else is at it.
    fn write(&mut self, audience: Audience, mut announced: Announced, now: Timestamp) -> Next {
        let expect = announced.version;
        announced.version += 1;
        if announced.outbox.is_empty() {
            announced.lease_until = None;
        } else if announced.lease_until.is_none_or(|until| until <= now || Some(until) == self.lease) {
            announced.lease_until = now.checked_add(LEASE).ok();
            self.lease = announced.lease_until;
        }
        let (repository, digest, id) = (self.head.repository.clone(), self.head.digest.clone(), audience.id());
        self.at = At::Writing(audience, announced.clone());
        Next::Do(Do::WriteAnnounced { repository, digest, audience: id, expect, announced: Box::new(announced) })
    }

    fn send(&mut self, audience: Audience, mut announced: Announced, now: Timestamp) -> Next {
        let before = announced.outbox.len();
        announced.outbox.retain(|notice| !self.sent.contains(&notice.id));
        announced.let_go(now);
        if announced.outbox.len() < before {
            return self.write(audience, announced, now);
        }
        // One that cannot be sent does not stand in the way of the others.
        let next = announced.outbox.iter().find(|notice| !self.tried.contains(&notice.id)).cloned();
        match (next, announced.lease_until) {
            (None, _) if announced.outbox.is_empty() => self.next_audience(),
            (None, _) => self.leave(audience, announced, now),
            (Some(notice), Some(until)) if Some(until) == self.lease && until > now => {
                let message = notice.message.clone();
                let effect = match &audience {
                    Audience::Topic { arn, role, .. } => Do::Publish { role: role.clone(), topic_arn: arn.clone(), message },
                    Audience::Pipeline if notice.kind == NoticeKind::VerdictChanged => Do::PutEvent { message },
                    Audience::Pipeline => Do::PublishOwn { kind: notice.kind, message },
                };
                self.at = At::Sending(audience, announced, notice.id);
                Next::Do(effect)
            }
            // Whoever is at it may have died over it.
            (Some(_), Some(until)) if until > now => {
                self.at = At::LeftToAnother;
                Next::Do(self.again(until.duration_since(now)))
            }
            (Some(_), _) => self.write(audience, announced, now),
        }
    }

    /// What could not be sent stays in the outbox, and whoever comes next may try at once.
    fn leave(&mut self, audience: Audience, mut announced: Announced, now: Timestamp) -> Next {
        // Somebody else is at it by now.
        if announced.lease_until != self.lease {
            return self.next_audience();
        }
        if audience == Audience::Pipeline || announced.comes_again_at.is_some_and(|at| at > now) {
            return self.let_the_lease_go(audience, announced);
        }
        announced.comes_again_at = now.checked_add(TRIED_AGAIN).ok();
        self.at = At::ComingForTheRest(audience, announced);
        Next::Do(self.again(TRIED_AGAIN))
    }

    fn let_the_lease_go(&mut self, audience: Audience, mut announced: Announced) -> Next {
        let expect = announced.version;
        (announced.version, announced.lease_until) = (expect + 1, None);
        let (repository, digest, id) = (self.head.repository.clone(), self.head.digest.clone(), audience.id());
        self.at = At::LettingGo(audience);
        Next::Do(Do::WriteAnnounced { repository, digest, audience: id, expect, announced: Box::new(announced) })
    }

    fn failed(&mut self, why: Why) {
        self.failed.get_or_insert(why);
    }

    pub fn next(&mut self, saw: Saw, now: Timestamp) -> Next {
        match (std::mem::replace(&mut self.at, At::Between), saw) {
            (At::Reading(audience), Saw::Announced(announced)) => self.consider(audience, *announced, now),
            (At::ReadingAgain(audience, announced), Saw::Heads(heads)) => {
                if let Some(head) = heads.into_iter().flatten().next() {
                    (self.head, self.facts, self.part_of) = (head, None, None);
                }
                self.consider(audience, announced, now)
            }
            (At::Facts(audience, announced), Saw::Facts(facts)) => {
                self.facts = Some(facts);
                self.consider(audience, announced, now)
            }
            // Gone, it is told of all that is true.
            (At::Judged(audience, announced), Saw::Facts(judged)) => {
                self.judged = Some(judged);
                self.consider(audience, announced, now)
            }
            (At::Indexes(audience, announced), Saw::Heads(heads)) => {
                self.part_of = Some(heads.into_iter().flatten().collect());
                self.consider(audience, announced, now)
            }
            (At::Tag(audience, announced), Saw::Image(found)) => {
                if matches!(found, Resolved::Image(found) | Resolved::Index(found, _) if found == self.head.digest) {
                    self.is_newest = Some(true);
                }
                self.consider(audience, announced, now)
            }
            (At::ComingAgain(audience, announced), Saw::Done) => self.write(audience, announced, now),
            (At::Writing(audience, announced), Saw::Done) => self.send(audience, announced, now),
            // Whoever has changed it in between has left the lease as it was.
            (At::Writing(audience, _) | At::LettingGo(audience), Saw::Lost) => {
                self.conflicts += 1;
                if self.conflicts > TRIES {
                    self.failed(Why::new(format!("what was told of {} was changed by others {TRIES} times in a row", self.head.digest)));
                    return self.next_audience();
                }
                self.read(audience)
            }
            (At::Sending(audience, announced, id), Saw::Done) => {
                self.sent.push(id);
                self.send(audience, announced, now)
            }
            // The others do not suffer from it. It stays in the outbox, and whoever comes next may try at once.
            (At::Sending(audience, announced, id), Saw::Failed(why)) => {
                // A gate's topic is its own stack's business: that is no reason to do all of this again. Somebody comes again.
                if audience == Audience::Pipeline {
                    self.failed(why);
                }
                self.tried.push(id);
                self.send(audience, announced, now)
            }
            (At::ComingForTheRest(audience, announced), Saw::Done) => self.let_the_lease_go(audience, announced),
            (At::LettingGo(_), _) | (At::LeftToAnother, Saw::Done) => self.next_audience(),
            (_, Saw::Failed(why)) => {
                self.failed(why);
                self.next_audience()
            }
            (at, saw) => {
                self.failed(Why::new(format!("announcing: {saw:?} in {at:?}")));
                self.next_audience()
            }
        }
    }
}
