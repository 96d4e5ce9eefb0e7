//! A gate has decided something that the pipeline's topic hears of: a deployment was blocked, or let through all the same.

use jiff::{SignedDuration, Timestamp};

use super::{Do, Outcome, Protocol, Saw, Why};
use crate::domain::alert::{Alerting, NoticeKind};
use crate::domain::notice::decided;

/// A sender that died is followed by another one after this: longer than the function runs.
const LEASE: SignedDuration = SignedDuration::from_secs(130);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notice {
    request_id: String,
    alerting: Alerting,
    /// Until when telling it is ours.
    lease_until: Timestamp,
    at: At,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    Start,
    Reading,
    Taking(Box<Do>),
    Sending,
    LettingGo(Why),
    Noting,
}

impl Notice {
    pub fn new(request_id: String, alerting: Alerting) -> Self {
        Self { request_id, alerting, lease_until: Timestamp::MIN, at: At::Start }
    }

    fn done(what: &str) -> Do {
        Do::Finish(Outcome::Done(what.to_owned()))
    }
}

impl Protocol for Notice {
    fn next(&mut self, saw: Saw, now: Timestamp) -> Do {
        match (std::mem::replace(&mut self.at, At::Start), saw) {
            (At::Start, Saw::Start) => {
                self.at = At::Reading;
                Do::ReadRequest(self.request_id.clone())
            }
            (At::Reading, Saw::Request(None)) => Self::done("nobody knows this request"),
            (At::Reading, Saw::Request(Some(stored))) => {
                let (Some(notice), Some(topic)) = (&stored.notice, &self.alerting.topic_arn) else { return Self::done("nobody is to be told") };
                // Where the gate's own topic is the pipeline's, the original's message has said it.
                let own = stored.request.gate.as_ref().ok().and_then(|gate| gate.outputs.as_ref()?.topic_arn.as_ref());
                let is_said = notice.kind == NoticeKind::DeploymentBlocked && notice.verdict == "BLOCK" || notice.kind == NoticeKind::SignatureFailed;
                if own == Some(topic) && is_said {
                    return Self::done("its gate's own topic is the same");
                }
                let message = decided(&stored.request, notice);
                self.at = At::Taking(Box::new(Do::PublishOwn { kind: notice.kind, message }));
                self.lease_until = now.checked_add(LEASE).unwrap_or(Timestamp::MAX);
                Do::TakeNotice { request_id: self.request_id.clone(), until: self.lease_until }
            }
            (At::Taking(publish), Saw::Done) => {
                self.at = At::Sending;
                *publish
            }
            // Told before, or somebody is at it; that one may die over it, and then this message comes again.
            (At::Taking(_), Saw::Lost) => Do::Finish(Outcome::Redeliver(Why::new("somebody else is telling of it"))),
            (At::Sending, Saw::Done) => {
                self.at = At::Noting;
                Do::NoteNotice { request_id: self.request_id.clone() }
            }
            // Whoever comes next need not wait until it is certain that we are dead.
            (At::Sending, Saw::Failed(why)) => {
                self.at = At::LettingGo(why);
                Do::LetNoticeGo { request_id: self.request_id.clone(), until: self.lease_until }
            }
            (At::LettingGo(why), _) => Do::Finish(Outcome::Redeliver(why)),
            (At::Noting, Saw::Done) => Self::done("told"),
            (_, Saw::Failed(why)) => Do::Finish(Outcome::Redeliver(why)),
            (at, saw) => Do::Finish(Outcome::Redeliver(Why::new(format!("{saw:?} in {at:?}")))),
        }
    }
}
