//! A deployment whose image has to be signed: who has signed it is found out before its scan counts for anything.
//!
//! ECR's own signing, and that of many builds, comes after the push. So an image that is refused for its signature a moment after
//! it was pushed waits for one, as others wait for a scan; and the two are waited for together. What could not be looked at waits
//! as long as there is time, and is never let through.

use jiff::{SignedDuration, Timestamp};

use super::{ASK_AGAIN, Asked, Deploy, Doing, Run};
use crate::domain::check::Verdict;
use crate::domain::head::{Counted, Head};
use crate::domain::message;
use crate::domain::outputs::{SignatureTold, Told};
use crate::domain::protocol::{Do, Outcome};
use crate::domain::request::Gate;
use crate::domain::signature::standing::{Refusal, Signed, Standing, stand};

/// So long after the push, or after the request where nobody knows when that was, a signature may still come.
const SIGNED_WITHIN: SignedDuration = SignedDuration::from_secs(120);

impl Deploy {
    /// Finds out how the images stand with their signatures; `Some` is what has to be asked first.
    pub(super) fn stand(&mut self, gate: &Gate, images: &Counted, now: Timestamp) -> Option<Do> {
        let signers = gate.signatures.as_ref()?;
        self.known.refusal = match stand(images, &self.known.signed) {
            Standing::Verified => None,
            Standing::Refused(refusal) => Some(refusal),
            Standing::Look(digest) => {
                let effect = Do::Verify { repository: gate.repository.clone(), digest: digest.clone(), signers: Box::new(signers.clone()) };
                return Some(self.ask(Asked::Signatures(digest), effect));
            }
        };
        // When it was pushed is in its row.
        let is_unsigned = self.known.refusal.as_ref().is_some_and(|refusal| !gate.forgives(refusal) && refusal.is_forgivable && now < self.ends());
        if is_unsigned { self.read_heads(gate, images) } else { None }
    }

    pub(super) fn read_heads(&mut self, gate: &Gate, images: &Counted) -> Option<Do> {
        let unread: Vec<_> = images.digests().filter(|digest| !self.known.heads.contains_key(digest)).cloned().collect();
        if unread.is_empty() {
            return None;
        }
        let effect = Do::ReadHeads { repository: gate.repository.clone(), digests: unread.clone() };
        Some(self.ask(Asked::Heads(unread), effect))
    }

    /// Whether it is refused for its signature, and waiting changes nothing.
    pub(super) fn is_unsigned_for_good(&self, gate: &Gate, images: &Counted, now: Timestamp) -> bool {
        let Some(refusal) = self.known.refusal.as_ref().filter(|refusal| !gate.forgives(refusal)) else { return false };
        // A rollback is judged at once.
        if refusal.is_for_good || now >= self.ends() || self.known.rolling_back == Some(true) {
            return true;
        }
        // Who only asks is told how it is, unless it is known that a signature may be on its way: he would ask for ever.
        let pushed_at = images.digests().filter_map(|digest| self.head(digest).and_then(|head: &Head| head.pushed_at)).max();
        let from = pushed_at.or((self.run != Run::Checked).then_some(self.request.asked_at)).unwrap_or(Timestamp::MIN);
        let signed_by = from.saturating_add(SIGNED_WITHIN).unwrap_or(Timestamp::MAX);
        refusal.is_forgivable && now >= signed_by
    }

    /// Until when it may wait. A check waits for nothing, and says what a deployment would do.
    fn ends(&self) -> Timestamp {
        if self.run == Run::Checked { Timestamp::MAX } else { self.due }
    }

    pub(super) fn refuse_unsigned(&mut self, gate: &Gate, images: &Counted, refusal: &Refusal, now: Timestamp) -> Do {
        self.known.told = Some(Told {
            digest: images.digest.clone(),
            images: Vec::new(),
            verdict: "SIGNATURE_FAILED".to_owned(),
            decided_at: now,
            has_waited: matches!(self.run, Run::Woken { .. }),
            objection: None,
            signature: self.signature_told(gate),
            by_signature_alone: true,
        });
        self.refuse(message::unsigned(gate, refusal), "SIGNATURE_FAILED", now)
    }

    /// Nothing else is in the way: it waits for a signature, or for whoever can say.
    pub(super) fn wait_for_signature(&mut self, gate: &Gate, images: &Counted, refusal: &Refusal, now: Timestamp) -> Do {
        if self.must_ask_stack() {
            return self.ask_stack();
        }
        match self.run {
            Run::Checked => self.checked(Verdict::Pending, false, message::would_wait_for_signature(gate, refusal), Some(ASK_AGAIN), now),
            Run::Delivered | Run::GivenUp { .. } => {
                self.doing = Doing::Registering(images.clone(), Vec::new());
                self.register(images.clone(), None, now)
            }
            Run::Registered | Run::Woken { .. } => Do::Finish(Outcome::Done(format!("waits for a signature of {}", refusal.image.digest))),
        }
    }

    /// What the decision rests on, where somebody has looked.
    pub(super) fn signed(&self) -> Option<Signed> {
        let gate = self.request.gate.as_ref().ok()?;
        let kind = gate.signatures.as_ref()?.kind();
        match (&self.known.refusal, &self.known.counted) {
            (Some(refusal), _) => Some(Signed::refused(kind, refusal)),
            (None, Some(images)) => Some(Signed::verified(kind, images, &self.known.signed)).filter(|signed| !signed.images.is_empty()),
            (None, None) => None,
        }
    }

    /// The same for logs and messages. A rollback tells nobody.
    pub(super) fn signature_told(&self, gate: &Gate) -> Option<SignatureTold> {
        let signed = self.signed()?;
        let Some(refusal) = &self.known.refusal else {
            return Some(SignatureTold { signed, message: message::SIGNED.to_owned(), objection: None });
        };
        let objection =
            if gate.forgives(refusal) { message::unsigned_and_let_through(gate, refusal) } else { message::unsigned_in_the_originals_words(gate, refusal) };
        let objection = Some(objection).filter(|_| self.known.rolling_back != Some(true));
        Some(SignatureTold { signed, message: message::cause(gate, refusal), objection })
    }
}
