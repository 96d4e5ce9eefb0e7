//! The whole: the signatures that an image has, against those whose signatures count.
//!
//! Every signer looks at every signature of its kind until one is good; a bad one beside it changes nothing, since whoever may
//! push could put one there. AWS Signer's are good only when it was asked about revocation, which is the one question that
//! goes out: `question`, `hear`, and again, until there is none; then `verdict`.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::artifact::Signature;
use super::key::CosignKey;
use super::notation::{self, Subject};
use super::signer::{self, RevocationAnswer, RevocationQuestion};
use super::trust::{Authority, Rule, Signer, Trust, Who};
use super::verdict::{By, Format, Reason, Refused, Verdict, Verified};
use super::{MOST_SIGNATURES, bundle, cose, cosign, jws};

/// All that may be under Cosign's tag, and all that may refer to the image: neither can crowd out the other.
const MOST_LOOKED_AT: usize = 2 * MOST_SIGNATURES;

/// A verification that may have something to ask before it is over.
#[derive(Clone, Debug)]
pub struct Verification {
    rule: Rule,
    signers: Vec<Standing>,
}

/// A signature that is good, once AWS Signer has said that it is not revoked, where that is to be asked. It can be kept beside
/// the digest and the trust that it was judged by, and then the question is asked anew, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Good {
    pub verified: Verified,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<RevocationQuestion>,
}

/// How one signer stands.
#[derive(Clone, Debug)]
struct Standing {
    name: String,
    good: Option<Good>,
    /// Good as far as we can tell; AWS Signer has the last word on each.
    open: VecDeque<Good>,
    /// The reason that came nearest.
    reason: Reason,
}

impl Verification {
    pub fn begin(trust: &Trust, subject: &Subject, signatures: &[Signature], now: Timestamp) -> Self {
        let signers = trust.signers.iter().map(|signer| Standing::of(signer, subject, signatures, now)).collect();
        Self { rule: trust.rule, signers }
    }

    /// The same from what was found good before, of this digest and under this trust. Where that does not come to `Verified` any
    /// more, it says nothing: somebody may have signed since.
    pub fn resume(trust: &Trust, kept: &[Good], now: Timestamp) -> Self {
        let standing = |signer: &Signer| {
            let good = kept.iter().find(|good| good.verified.signer == signer.name && good.verified.expires_at.is_none_or(|end| now < end)).cloned();
            let (open, good) = match good {
                Some(good) if good.question.is_some() => (VecDeque::from([good]), None),
                good => (VecDeque::new(), good),
            };
            Standing { name: signer.name.clone(), good, open, reason: Reason::Unsigned { others: 0 } }
        };
        Self { rule: trust.rule, signers: trust.signers.iter().map(standing).collect() }
    }

    /// What may be kept of a verdict that is `Verified`.
    pub fn good(&self) -> Vec<Good> {
        self.signers.iter().filter_map(|standing| standing.good.clone()).collect()
    }

    /// What has to be asked next. Where all have to sign, all are asked about, also when one is missing already: whether that
    /// is forgiven hangs on what the others are.
    pub fn question(&self) -> Option<&RevocationQuestion> {
        let is_kept = self.rule == Rule::AnyOf && self.signers.iter().any(|standing| standing.good.is_some());
        if is_kept { None } else { self.asking().and_then(|at| self.signers[at].open.front()?.question.as_ref()) }
    }

    /// The answer to `question`.
    pub fn hear(&mut self, answer: RevocationAnswer) {
        let Some(at) = self.asking() else { return };
        let standing = &mut self.signers[at];
        let Some(good) = standing.open.pop_front() else { return };
        match answer.objection() {
            None => standing.good = Some(good),
            Some(reason) => standing.refuse(reason),
        }
    }

    fn asking(&self) -> Option<usize> {
        self.signers.iter().position(|standing| standing.good.is_none() && !standing.open.is_empty())
    }

    /// What it came to. A question that nobody answered counts as one that could not be asked.
    pub fn verdict(&self) -> Verdict {
        let verified: Vec<Verified> = self.signers.iter().filter_map(|standing| Some(standing.good.as_ref()?.verified.clone())).collect();
        let is_kept = match self.rule {
            Rule::AllOf => verified.len() == self.signers.len(),
            Rule::AnyOf => !verified.is_empty(),
        };
        if is_kept && !verified.is_empty() {
            return Verdict::Verified(verified);
        }
        let missing = self.signers.iter().filter(|standing| standing.good.is_none());
        Verdict::Refused(missing.map(|standing| Refused { signer: standing.name.clone(), reason: standing.last_reason() }).collect())
    }
}

impl Standing {
    fn of(signer: &Signer, subject: &Subject, signatures: &[Signature], now: Timestamp) -> Self {
        let others = signatures.iter().filter(|signature| !signature.may_be(signer.kind())).count();
        let mut standing = Self { name: signer.name.clone(), good: None, open: VecDeque::new(), reason: Reason::Unsigned { others } };
        if let Who::Unknown { why, .. } = &signer.who {
            standing.refuse(Reason::CouldNotCheck(format!("{why:.500}")));
            return standing;
        }
        let ours: Vec<&Signature> = signatures.iter().filter(|signature| signature.may_be(signer.kind())).collect();
        if ours.len() > MOST_LOOKED_AT {
            standing.refuse(Reason::CouldNotCheck(format!("the image has {} signatures, and the first {MOST_LOOKED_AT} are looked at", ours.len())));
        }
        for signature in ours.into_iter().take(MOST_LOOKED_AT) {
            match judge(signer, subject, signature, now) {
                Ok(good) if good.question.is_none() => {
                    standing.good = Some(good);
                    break;
                }
                // The same signature can be there many times, and has one answer.
                Ok(good) if standing.open.iter().any(|asked| asked.question == good.question) => {}
                Ok(good) => standing.open.push_back(good),
                Err(reason) => standing.refuse(reason),
            }
        }
        standing
    }

    fn refuse(&mut self, reason: Reason) {
        if reason.nearness() > self.reason.nearness() {
            self.reason = reason;
        }
    }

    fn last_reason(&self) -> Reason {
        if self.open.is_empty() { self.reason.clone() } else { Reason::CouldNotCheck("AWS Signer was not asked whether the signature is revoked".to_owned()) }
    }
}

fn judge(signer: &Signer, subject: &Subject, signature: &Signature, now: Timestamp) -> Result<Good, Reason> {
    let unlike = || Reason::Unsigned { others: 1 };
    match (&signer.who, signature) {
        (_, Signature::Unusable { reason, .. }) => Err(reason.clone()),
        (Who::Cosign(keys), Signature::Cosign { payload, annotations }) => {
            let key = any_of(keys, |key| cosign::check(key, &subject.digest, payload, annotations))?;
            Ok(Good { verified: by_key(signer, key, Format::CosignClassic), question: None })
        }
        (Who::Cosign(keys), Signature::Bundle(bytes)) => {
            let key = any_of(keys, |key| bundle::check(key, &subject.digest, bytes))?;
            Ok(Good { verified: by_key(signer, key, Format::CosignBundle), question: None })
        }
        (Who::Notation(authority), Signature::Jws(bytes)) => by_certificate(signer, authority, jws::read(bytes)?, subject, now),
        // AWS Signer makes none of these, and its plugin refuses them.
        (Who::Notation(Authority { profiles: Some(_), .. }), Signature::Cose(_)) => {
            Err(Reason::Unsupported("its envelope is COSE, and AWS Signer's are JWS".to_owned()))
        }
        (Who::Notation(authority), Signature::Cose(bytes)) => by_certificate(signer, authority, cose::read(bytes)?, subject, now),
        (Who::Cosign(_), Signature::Jws(_) | Signature::Cose(_)) | (Who::Notation(_), Signature::Cosign { .. } | Signature::Bundle(_)) => Err(unlike()),
        (Who::Unknown { why, .. }, _) => Err(Reason::CouldNotCheck(why.clone())),
    }
}

/// The key that made it, or the reason that came nearest.
fn any_of(keys: &[CosignKey], check: impl Fn(&CosignKey) -> Result<(), Reason>) -> Result<&CosignKey, Reason> {
    let mut nearest = Reason::Unsigned { others: 0 };
    for key in keys {
        match check(key) {
            Ok(()) => return Ok(key),
            Err(reason) if reason.nearness() > nearest.nearness() => nearest = reason,
            Err(_) => {}
        }
    }
    Err(nearest)
}

fn by_key(signer: &Signer, key: &CosignKey, format: Format) -> Verified {
    Verified { signer: signer.name.clone(), by: By::Key(key.key.id.clone()), format, signed_at: None, expires_at: None }
}

fn by_certificate(signer: &Signer, authority: &Authority, envelope: notation::Envelope, subject: &Subject, now: Timestamp) -> Result<Good, Reason> {
    let checked = notation::check(envelope, authority.scheme, &authority.roots, &signer::UNDERSTOOD, subject, now)?;
    let verified = |by| Verified {
        signer: signer.name.clone(),
        by,
        format: Format::Notation(checked.scheme),
        signed_at: Some(checked.signed_at),
        expires_at: checked.expires_at,
    };
    match &authority.profiles {
        Some(profiles) => {
            let (by, question) = signer::check(&checked, profiles)?;
            Ok(Good { verified: verified(by), question: Some(question) })
        }
        None => {
            if let Some(name) = signer::needs_a_plugin(&checked) {
                return Err(Reason::Unsupported(format!("its attribute `{name}` has to be judged by a plugin, which only AWS Signer's signatures have here")));
            }
            let leaf = checked.chain.first().map(|der| crate::domain::image::sha256_hex(der)).unwrap_or_default();
            Ok(Good { verified: verified(By::Certificate(leaf)), question: None })
        }
    }
}
