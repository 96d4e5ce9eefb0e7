//! What comes out: by whom a digest is signed, or why it does not count as signed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::key::KeyId;
use super::notation::Scheme;

/// One signer's signature of the digest, found good.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// The signer, as `Trust` names it.
    pub signer: String,
    pub by: By,
    pub format: Format,
    /// Said under the signature; Cosign does not say it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signed_at: Option<Timestamp>,
    /// From when on this signature does not count any more.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    Key(KeyId),
    /// AWS Signer, for this version of a signing profile, in this job.
    #[serde(rename_all = "camelCase")]
    Profile {
        version_arn: String,
        job_arn: String,
    },
    /// A certificate under a root of one's own, by its SHA-256.
    Certificate(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    CosignClassic,
    CosignBundle,
    Notation(Scheme),
}

/// Why a signature does not count, or why there is none. One variant a cause that a person can do something about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// No signature of the kind that the signer makes; so many of another kind.
    Unsigned {
        others: usize,
    },
    /// Made by another key, or altered: with a bare key the two look the same.
    WrongKey,
    /// A good signature, of something else; what it names.
    WrongDigest {
        names: String,
    },
    /// What was signed, or the signature, is not what the signer made.
    Tampered(String),
    /// It cannot be read.
    Malformed(String),
    /// It can be read, and asks for what we do not do.
    Unsupported(String),
    /// Made with a certificate where only a key counts.
    Keyless,
    /// The chain ends in a certificate that is not trusted; its fingerprint.
    UntrustedRoot {
        root: String,
    },
    /// Made by somebody else under a trusted root; what it says.
    WrongIdentity {
        says: String,
    },
    Expired {
        what: Ended,
        at: Timestamp,
    },
    Revoked {
        what: Vec<String>,
    },
    /// It may be good: we could not find out.
    CouldNotCheck(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    Signature,
    Certificate,
}

impl Reason {
    /// The error of a reader may quote what it read, however long that is.
    pub(super) fn unreadable(what: &str, error: &dyn std::fmt::Display) -> Self {
        Self::Malformed(format!("{what}: {:.200}", error.to_string()))
    }

    /// For logs and records.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unsigned { .. } => "unsigned",
            Self::WrongKey => "wrong-key",
            Self::WrongDigest { .. } => "wrong-digest",
            Self::Tampered(_) => "tampered",
            Self::Malformed(_) => "malformed",
            Self::Unsupported(_) => "unsupported",
            Self::Keyless => "keyless",
            Self::UntrustedRoot { .. } => "untrusted-root",
            Self::WrongIdentity { .. } => "wrong-identity",
            Self::Expired { .. } => "expired",
            Self::Revoked { .. } => "revoked",
            Self::CouldNotCheck(_) => "could-not-check",
        }
    }

    /// Whether `failOnUnsigned: false` lets it pass: an image without a good signature yes, one about which we know nothing no.
    pub fn is_forgivable(&self) -> bool {
        !matches!(self, Self::CouldNotCheck(_))
    }

    /// Of several signatures that do not count, the one that came nearest is what a person wants to read about; and what could
    /// not be checked comes before all, since it may be good.
    pub(super) fn nearness(&self) -> u8 {
        match self {
            Self::Unsigned { .. } => 0,
            Self::Malformed(_) => 1,
            Self::Unsupported(_) => 2,
            Self::Keyless => 3,
            Self::WrongKey => 4,
            Self::Tampered(_) => 5,
            Self::UntrustedRoot { .. } => 6,
            Self::WrongIdentity { .. } => 7,
            Self::WrongDigest { .. } => 8,
            Self::Expired { .. } => 9,
            Self::Revoked { .. } => 10,
            Self::CouldNotCheck(_) => 11,
        }
    }
}

/// Of each signer, what it came to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The rule is kept. Never empty.
    Verified(Vec<Verified>),
    /// It is not; the signers that are missing. Never empty.
    Refused(Vec<Refused>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Refused {
    pub signer: String,
    pub reason: Reason,
}

impl Verdict {
    /// Not even what is there could be seen.
    pub fn nobody_could_look(why: &str) -> Self {
        let reason = Reason::CouldNotCheck(format!("{why:.500}"));
        Self::Refused(vec![Refused { signer: "those who are asked for".to_owned(), reason }])
    }

    pub fn is_verified(&self) -> bool {
        matches!(self, Self::Verified(_))
    }

    /// Whether `failOnUnsigned: false` lets the image pass.
    pub fn is_forgivable(&self) -> bool {
        match self {
            Self::Verified(_) => true,
            Self::Refused(refused) => refused.iter().all(|refused| refused.reason.is_forgivable()),
        }
    }

    /// The reason that comes first: what could not be checked, else what came nearest.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Verified(_) => None,
            Self::Refused(refused) => refused.iter().map(|refused| &refused.reason).max_by_key(|reason| reason.nearness()),
        }
    }

    /// The moment from which on this verdict may not be used again, where it has one.
    pub fn holds_until(&self) -> Option<Timestamp> {
        match self {
            Self::Verified(verified) => verified.iter().filter_map(|verified| verified.expires_at).min(),
            Self::Refused(_) => None,
        }
    }
}
