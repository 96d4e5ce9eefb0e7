//! One waiting request is looked at.
//!
//! A request waits as an item in a table; nothing runs meanwhile. Whoever has a reason to look at it runs this machine: news
//! of its image, its own timer, a newer request of the same resource, or the sweep. Several may do so at once: the claim is
//! conditional, so one of them answers. A claimer that died has left its answer behind, and the next one sends these bytes.

use jiff::{SignedDuration, Timestamp};

use super::deploy::{Deploy, Home};
use super::{Do, LEASE, Outcome, Protocol, Saw, Why};
use crate::domain::head::Head;
use crate::domain::message;
use crate::domain::notice::Decided;
use crate::domain::policy::Policy;
use crate::domain::request::{Answer, Reason, Record, Ruling, Stage, Stored};
use crate::domain::response_url::ResponseUrl;

/// After how long a waiting request is looked at, time after time; from then on every [`EVERY`].
const TIMERS_S: [i64; 4] = [5, 10, 20, 40];
const EVERY: SignedDuration = SignedDuration::from_secs(60);
/// One look falls this long before the end, so that a scan which has just ended is not found out by the last one alone.
const BEFORE_DUE: SignedDuration = SignedDuration::from_secs(30);
/// The timer that is due with the request answers it. Only where that one was lost does the sweep.
const GRACE: SignedDuration = SignedDuration::from_secs(30);
/// A ResponseURL is good for two hours. Later nobody can be answered, and trying on would last for ever.
const URL_IS_GOOD_FOR: SignedDuration = SignedDuration::from_hours(2);

/// How long after `now` timer `n` (the first is 1) rings; `None` when the request's time is up.
pub fn timer_after(n: u32, now: Timestamp, due: Timestamp) -> Option<SignedDuration> {
    let left = due.duration_since(now);
    if left <= SignedDuration::ZERO {
        return None;
    }
    let wait = TIMERS_S.get(n.saturating_sub(1) as usize).map_or(EVERY, |seconds| SignedDuration::from_secs(*seconds));
    let before_due = left - BEFORE_DUE;
    let wait = if before_due > SignedDuration::ZERO { wait.min(before_due) } else { wait.min(left) };
    // Queues delay by whole seconds, and the last timer must not ring too early.
    let seconds = wait.as_secs() + i64::from(wait.subsec_nanos() > 0);
    Some(SignedDuration::from_secs(seconds))
}

/// Whether a request has had no answer although its last timer has rung.
pub fn is_overdue(due: Timestamp, now: Timestamp) -> bool {
    now >= due.saturating_add(GRACE).unwrap_or(Timestamp::MAX)
}

/// Why a waiting request is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// One of its images has news, and its row is true.
    News,
    Timer(u32),
    /// A newer request of the same resource, or its Delete.
    Newer,
    Sweep,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wake {
    request_id: String,
    home: Home,
    pipelines: Policy,
    by: By,
    at: At,
    /// The row that is the news.
    head: Option<Box<Head>>,
    /// Whether whoever claimed it may have died before it had its outputs written, or somebody told.
    has_outputs: bool,
    has_notice: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    Start,
    Reading,
    /// The next timer is being sent, before anything else: whatever happens here, somebody comes again.
    SendingTimer(Box<Stored>, u32),
    Advancing(Box<Stored>),
    Judging(Box<Deploy>),
    Claiming(Option<ResponseUrl>, Answer),
    TakingLease(Option<ResponseUrl>, Answer),
    Putting,
    SendingNotice,
    SendingOutputs,
    Marking,
}

impl Wake {
    pub fn new(request_id: String, by: By, home: Home, pipelines: Policy) -> Self {
        Self { request_id, home, pipelines, by, at: At::Start, head: None, has_outputs: false, has_notice: false }
    }

    /// Whoever has just written the news need not read it again.
    pub fn knowing(self, head: Head) -> Self {
        Self { head: Some(Box::new(head)), ..self }
    }

    fn read(&mut self, stored: Box<Stored>, now: Timestamp) -> Do {
        if stored.stage == Stage::Answered {
            return done("answered before");
        }
        if let By::Timer(n) = self.by
            // An old timer looks, but sends nothing: the newer one is under way.
            && stored.timer == n
            && let Some(after) = timer_after(n + 1, now, stored.due)
        {
            self.at = At::SendingTimer(stored, n + 1);
            return Do::SendTimer { request_id: self.request_id.clone(), n: n + 1, after };
        }
        self.look(stored, now)
    }

    fn look(&mut self, stored: Box<Stored>, now: Timestamp) -> Do {
        match &stored.stage {
            Stage::Answered => done("answered before"),
            Stage::Claimed { lease_until, .. } if now < *lease_until => done("somebody is sending the answer"),
            Stage::Claimed { .. } if now.duration_since(stored.due) > URL_IS_GOOD_FOR => self.mark(),
            Stage::Claimed { answer, .. } => {
                self.has_outputs = stored.told.is_some();
                self.has_notice = stored.notice.is_some();
                self.at = At::TakingLease(stored.url.clone(), answer.clone());
                Do::TakeLease { request_id: self.request_id.clone(), until: lease(now) }
            }
            Stage::Open => match self.by {
                By::Newer => self.refuse(&stored, message::superseded(), "SUPERSEDED", now),
                By::Sweep if !is_overdue(stored.due, now) => done("its timer has not rung yet"),
                By::Sweep => self.refuse(&stored, message::timed_out(&stored.request, None, None), "TIMED_OUT", now),
                By::News | By::Timer(_) => {
                    let looks = matches!(self.by, By::Timer(_));
                    let mut deploy = match Deploy::woken(*stored, self.home.clone(), self.pipelines.clone(), looks) {
                        Ok(deploy) => deploy,
                        Err(why) => return Do::Finish(Outcome::Redeliver(why)),
                    };
                    if let Some(head) = self.head.take() {
                        deploy = deploy.knowing(*head);
                    }
                    let effect = deploy.next(Saw::Start, now);
                    self.at = At::Judging(Box::new(deploy));
                    effect
                }
            },
        }
    }

    /// Answers from the item alone.
    fn refuse(&mut self, stored: &Stored, reason: Reason, verdict: &str, now: Timestamp) -> Do {
        let digest = stored.images.as_ref().map(|images| images.digest.clone());
        let mut record = Record { digest, ..Record::refused(&stored.request, reason, verdict, now) };
        record.notice = Decided::of(&stored.request, &record).filter(|_| self.home.is_heard);
        self.has_notice = record.notice.is_some();
        self.at = At::Claiming(stored.url.clone(), record.answer.clone());
        Do::Claim { request: Box::new(stored.request.clone()), record: Box::new(record) }
    }

    fn put(&mut self, url: Option<ResponseUrl>, answer: Answer) -> Do {
        let Some(url) = url else {
            return Do::Finish(Outcome::Redeliver(Why::new(format!("request {} has an answer and no place for it", self.request_id))));
        };
        self.at = At::Putting;
        Do::Put { url, answer }
    }

    fn mark(&mut self) -> Do {
        self.at = At::Marking;
        Do::MarkAnswered { request_id: self.request_id.clone() }
    }
}

impl Record {
    /// A refusal leaves what is deployed as it is.
    pub fn refused(request: &crate::domain::request::Request, reason: Reason, verdict: &str, now: Timestamp) -> Self {
        let why = reason.opening.lines().next().unwrap_or_default().to_owned();
        let answer = Answer::new(request, &Ruling::Failed(reason));
        Self {
            answer,
            decided_at: now,
            admitted: None,
            replaced: Vec::new(),
            after: None,
            verdict: verdict.to_owned(),
            why,
            glass: None,
            told: None,
            outputs_are_written: false,
            notice: None,
            digest: None,
            known: Vec::new(),
            signed: None,
        }
    }
}

/// Until when whoever claims now has time to send the answer.
pub fn lease(now: Timestamp) -> Timestamp {
    now.saturating_add(LEASE).unwrap_or(Timestamp::MAX)
}

fn done(what: &str) -> Do {
    Do::Finish(Outcome::Done(what.to_owned()))
}

impl Protocol for Wake {
    fn next(&mut self, saw: Saw, now: Timestamp) -> Do {
        match (std::mem::replace(&mut self.at, At::Start), saw) {
            (At::Start, Saw::Start) => {
                self.at = At::Reading;
                Do::ReadRequest(self.request_id.clone())
            }
            (At::Reading, Saw::Request(None)) => done("nobody knows this request"),
            (At::Reading, Saw::Request(Some(stored))) => self.read(stored, now),
            (At::SendingTimer(stored, to), Saw::Done) => {
                self.at = At::Advancing(stored);
                Do::AdvanceTimer { request_id: self.request_id.clone(), to }
            }
            (At::Advancing(stored), Saw::Done | Saw::Lost) => self.look(stored, now),
            (At::Judging(mut deploy), saw) => {
                let effect = deploy.next(saw, now);
                self.at = At::Judging(deploy);
                effect
            }
            (At::Claiming(url, answer), Saw::Done) => self.put(url, answer),
            (At::Claiming(..), Saw::AlreadyStored(_)) => done("somebody else has answered"),
            (At::TakingLease(url, answer), Saw::Done) => self.put(url, answer),
            (At::TakingLease(..), Saw::Lost) => done("somebody else sends the answer"),
            (At::Putting, Saw::Done) if self.has_notice => {
                self.at = At::SendingNotice;
                Do::SendNotice { request_id: self.request_id.clone() }
            }
            (At::Putting | At::SendingNotice, Saw::Done) if self.has_outputs => {
                self.at = At::SendingOutputs;
                Do::SendOutputs { request_id: self.request_id.clone(), after: SignedDuration::ZERO }
            }
            (At::Putting | At::SendingNotice | At::SendingOutputs, Saw::Done) => self.mark(),
            (At::Marking, Saw::Done | Saw::Failed(_)) => done("answered"),
            (_, Saw::Failed(why)) => Do::Finish(Outcome::Redeliver(why)),
            (at, saw) => Do::Finish(Outcome::Redeliver(Why::new(format!("{saw:?} in {at:?}")))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    /// When the timers of a request ring that is due after so long.
    fn rings(due_s: i64) -> Vec<i64> {
        let mut now = 0;
        let mut rings = Vec::new();
        for n in 1.. {
            let Some(after) = timer_after(n, at(now), at(due_s)) else { break };
            now += after.as_secs();
            rings.push(now);
        }
        rings
    }

    #[test]
    fn timers_ring_more_and_more_rarely_and_once_shortly_before_the_end() {
        assert_eq!(rings(840), [5, 15, 35, 75, 135, 195, 255, 315, 375, 435, 495, 555, 615, 675, 735, 795, 810, 840]);
        assert_eq!(rings(35), [5, 15, 35]);
        assert_eq!(rings(30), [5, 15, 30]);
        assert_eq!(rings(1), [1]);
        assert_eq!(rings(0), [0; 0]);
        assert!(rings(3480).len() < 70);
    }

    #[test]
    fn the_last_timer_never_rings_too_early() {
        let now = at(0) + SignedDuration::from_millis(300);
        assert_eq!(timer_after(9, now, at(20)), Some(SignedDuration::from_secs(20)));
    }
}
