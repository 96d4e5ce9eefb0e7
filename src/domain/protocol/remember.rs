//! Puts news of one image into its row: facts first, then the head by compare-and-set.
//!
//! Facts come first, under their hash, so that a head never refers to findings that are not there. Who loses the race for
//! the head is handed the row as it is now and merges again; [`merge`] makes the order of the winners immaterial.

use jiff::Timestamp;

use super::{Do, Outcome, Protocol, Saw, Why};
use crate::domain::head::{Change, Head, News, merge};
use crate::domain::image::{ImageDigest, Repository};
use crate::domain::policy::Policy;
use crate::domain::scan::{Facts, FactsHash};

/// So often the row may change under our hands before the queue has to bring the news again.
const TRIES: u32 = 5;

/// The part of a protocol that remembers; [`super::scan`] and [`super::deploy`] have it run to its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remember {
    repository: Repository,
    digest: ImageDigest,
    news: Vec<News>,
    policies: Vec<Policy>,
    head: Option<Head>,
    conflicts: u32,
    /// The facts that the row refers to are not there any more.
    facts_are_gone: bool,
    /// The facts that we stored, and the version of the head for which we did.
    put: Option<(FactsHash, u64)>,
    /// The facts that counted in the rows of others that came in our way.
    met: Vec<FactsHash>,
    at: At,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    Merging,
    Writing(Box<Head>),
    /// The head is written; facts that nobody refers to any more can go.
    Expiring,
    Over,
}

/// What remembering needs next, or what came of it.
#[derive(Clone, Debug)]
pub enum Next {
    Do(Do),
    /// The row as it is now.
    Remembered(Option<Box<Head>>),
    GaveUp(Why),
}

impl Remember {
    /// `head` is the row as it was read; a stale one costs a conflict, nothing else.
    pub fn new(repository: &Repository, digest: &ImageDigest, head: Option<Head>, news: Vec<News>, policies: Vec<Policy>) -> Self {
        Self {
            repository: repository.clone(),
            digest: digest.clone(),
            news,
            policies,
            head,
            conflicts: 0,
            facts_are_gone: false,
            put: None,
            met: Vec::new(),
            at: At::Merging,
        }
    }

    /// Has the findings stored although the row refers to the very same: somebody looked, and they are gone.
    pub fn storing_them_again(mut self) -> Self {
        self.facts_are_gone = true;
        self
    }

    pub fn start(&mut self) -> Next {
        self.merge()
    }

    pub fn met(&self) -> &[FactsHash] {
        &self.met
    }

    pub fn next(&mut self, saw: Saw) -> Next {
        match (std::mem::replace(&mut self.at, At::Merging), saw) {
            // The facts are there: merge again, which now writes the head.
            (At::Merging, Saw::Done) => self.merge(),
            (At::Writing(head), Saw::Done) => {
                let replaced = self.head.as_ref().and_then(|old| old.result.as_ref()).map(|result| result.facts.clone());
                self.head = Some(*head);
                self.expire(replaced)
            }
            (At::Writing(_), Saw::Conflict(current)) => {
                self.conflicts += 1;
                if self.conflicts > TRIES {
                    return Next::GaveUp(Why { text: format!("the row of {} was changed by others {TRIES} times in a row", self.digest), denied: false });
                }
                self.head = current.map(|head| *head);
                self.met.extend(self.head.as_ref().and_then(Head::valid_result).map(|result| result.facts.clone()));
                self.merge()
            }
            // Facts that stay a little longer than they must harm nobody.
            (At::Expiring, _) => self.over(),
            (_, Saw::Failed(why)) => Next::GaveUp(why),
            (at, saw) => Next::GaveUp(Why { text: format!("remembering {}: {saw:?} in {at:?}", self.digest), denied: false }),
        }
    }

    fn merge(&mut self) -> Next {
        match merge(self.head.as_ref(), &self.digest, &self.repository, &self.news, &self.policies) {
            Change::Same => {
                let ours = self.put.take().map(|(facts, _)| facts);
                self.expire(ours)
            }
            Change::Write(head) => match self.facts_of(&head) {
                Some(facts) => {
                    let put =
                        Do::PutFacts { repository: self.repository.clone(), digest: self.digest.clone(), facts: facts.clone(), for_version: head.version };
                    self.put = Some((facts.hash().clone(), head.version));
                    self.at = At::Merging;
                    Next::Do(put)
                }
                None => {
                    let expect = head.version - 1;
                    self.at = At::Writing(head.clone());
                    Next::Do(Do::WriteHead { expect, head })
                }
            },
        }
    }

    /// The facts of our news that `head` refers to and that are not stored yet.
    fn facts_of(&self, head: &Head) -> Option<&Facts> {
        let wanted = &head.result.as_ref()?.facts;
        let known = !self.facts_are_gone && self.head.as_ref().and_then(|old| old.result.as_ref()).is_some_and(|result| result.facts == *wanted);
        // Stored for an older version does not count: whoever replaced that version may have let them go.
        let stored = known || self.put.as_ref().is_some_and(|(facts, version)| facts == wanted && *version == head.version);
        let ours = self.news.iter().find_map(|news| match news {
            News::Scan(reading) => reading.facts.as_ref().filter(|facts| facts.hash() == wanted),
            _ => None,
        });
        ours.filter(|_| !stored)
    }

    /// Lets facts go that the row does not refer to: the ones it referred to before, or ours that lost.
    fn expire(&mut self, facts: Option<FactsHash>) -> Next {
        let kept = self.head.as_ref().and_then(|head| head.result.as_ref()).map(|result| &result.facts);
        match (facts, &self.head) {
            (Some(facts), Some(head)) if kept != Some(&facts) => {
                self.at = At::Expiring;
                Next::Do(Do::ExpireFacts { repository: self.repository.clone(), digest: self.digest.clone(), facts, since_version: head.version })
            }
            _ => self.over(),
        }
    }

    fn over(&mut self) -> Next {
        self.at = At::Over;
        Next::Remembered(self.head.clone().map(Box::new))
    }
}

/// Remembering alone, for news that nobody waits for.
impl Protocol for Remember {
    fn next(&mut self, saw: Saw, _now: Timestamp) -> Do {
        let next = match saw {
            Saw::Start => self.start(),
            saw => Remember::next(self, saw),
        };
        match next {
            Next::Do(effect) => effect,
            Next::Remembered(_) => Do::Finish(Outcome::Done("remembered".to_owned())),
            Next::GaveUp(why) => Do::Finish(Outcome::Redeliver(why)),
        }
    }
}
