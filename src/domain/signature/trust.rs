//! Who has to have signed an image: keys, AWS Signer for a profile, an authority of one's own; all of them, or any.

use serde::{Deserialize, Serialize};

use super::certificate::Certificate;
use super::key::{CosignKey, pem_blocks};
use super::notation::Scheme;
use super::signer::Identities;
use crate::domain::image::sha256_hex;

/// One deployment names a handful; each costs signature checks for each candidate.
pub const MOST_SIGNERS: usize = 20;
const LONGEST_PEM: usize = 64 * 1024;
/// Counted up when a rule of this module changes, so that no verdict of the old rules is used again.
const RULES: &str = "v1";

/// The rule that an image has to keep. It always names somebody: "all of nobody" would let everything pass.
#[derive(Clone, Debug)]
pub struct Trust {
    pub(super) rule: Rule,
    pub(super) signers: Vec<Signer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    AllOf,
    AnyOf,
}

/// Somebody whose signature counts, under the name by which people know them.
#[derive(Clone, Debug)]
pub struct Signer {
    pub name: String,
    pub who: Who,
}

#[derive(Clone, Debug)]
pub enum Who {
    /// Any of these keys; there is always one.
    Cosign(Vec<CosignKey>),
    Notation(Authority),
    /// Its key could not be had (KMS does not answer): what it signed is not known, which is not the same as not signed.
    Unknown {
        kind: Kind,
        why: String,
    },
}

/// Which kind of signatures a signer makes. Signatures of the other kind are nothing to it, neither good nor bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Cosign,
    Notation,
}

/// Whoever has a certificate under one of these roots, for one signing scheme.
#[derive(Clone, Debug)]
pub struct Authority {
    pub scheme: Scheme,
    pub roots: Vec<Root>,
    /// `None`: everybody under the roots. `Some`: AWS Signer, for one of these profiles.
    pub profiles: Option<Identities>,
}

/// A certificate that is trusted to name signers, known by the SHA-256 of its DER: every chain brings its own copy along.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Root(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTrust {
    #[error("nobody is named whose signature would count: name at least one signer")]
    Nobody,
    #[error("{0} signers are named, and {MOST_SIGNERS} is the most")]
    TooMany(usize),
    #[error(
        "no root certificate of AWS Signer is known for the partition `{0}`, so its signatures cannot be verified there. Give the root that AWS publishes for it in `trustedRoots`, or verify with Cosign"
    )]
    NoRoot(String),
    #[error("`trustedRoots`: {0}. Expected one or more certificates, each as `-----BEGIN CERTIFICATE-----`")]
    Root(String),
    #[error("`trustedIdentities` has `*`, and anybody who may use AWS Signer would do: name the ARNs of signing profiles")]
    Wildcard,
    #[error("`trustedIdentities` has no ARN of a signing profile ({0}): expected `arn:PARTITION:signer:REGION:ACCOUNT:/signing-profiles/NAME`")]
    NoProfile(String),
}

/// The roots of AWS Signer, as AWS publishes them and every public signature of it shows them. Where there is none, there is no guess:
/// the original construct takes the commercial one everywhere else.
const AWS_SIGNER: [(&str, &str); 2] = [
    ("aws", "90a87d0543c3f094dbff9589b6649affe2f3d6e0f308799be2258461c686473f"), // AWS Signer Code Signing Root CA G1
    ("aws-us-gov", "673653ab76f41a10546cdeb4107ecd6df2c15c2c9a0d32ed97d271b4436fc3e8"), // AWS Signer Code Signing GovCloud (US) Root CA G1
];

impl Trust {
    pub fn new(rule: Rule, signers: Vec<Signer>) -> Result<Self, BadTrust> {
        match signers.len() {
            0 => Err(BadTrust::Nobody),
            1..=MOST_SIGNERS => Ok(Self { rule, signers }),
            n => Err(BadTrust::TooMany(n)),
        }
    }

    pub fn names(&self) -> Vec<&str> {
        self.signers.iter().map(|signer| signer.name.as_str()).collect()
    }

    /// Under what a verdict may be kept and used again: the same digest, and the same word here. Everything is in it that could
    /// change a verdict, and the names, which verdicts hold. Without one where somebody's key is not known.
    pub fn fingerprint(&self) -> Option<String> {
        let signer = |Signer { name, who }: &Signer| match who {
            Who::Cosign(keys) => {
                let keys: Vec<String> = keys.iter().map(|CosignKey { key, algorithms }| format!("{} {algorithms:?}", key.id)).collect();
                Some(format!("{name:?} cosign {}", keys.join(" or ")))
            }
            Who::Notation(Authority { scheme, roots, profiles }) => Some(format!("{name:?} notation {} {roots:?} {profiles:?}", scheme.text())),
            Who::Unknown { .. } => None,
        };
        let signers: Vec<String> = self.signers.iter().map(signer).collect::<Option<_>>()?;
        Some(sha256_hex(format!("{RULES} {:?}\n{}", self.rule, signers.join("\n")).as_bytes()))
    }
}

impl Signer {
    pub fn cosign(name: impl Into<String>, key: CosignKey) -> Self {
        Self { name: name.into(), who: Who::Cosign(vec![key]) }
    }

    /// The owner of any of these keys.
    pub fn cosign_with_any(name: impl Into<String>, keys: Vec<CosignKey>) -> Result<Self, BadTrust> {
        if keys.is_empty() { Err(BadTrust::Nobody) } else { Ok(Self { name: name.into(), who: Who::Cosign(keys) }) }
    }

    /// AWS Signer, for one of these profiles. `partition`: where we run, and where revocation is asked. Roots of one's own take
    /// the place of AWS's.
    pub fn aws_signer(name: impl Into<String>, partition: &str, identities: &[String], roots: &[Root]) -> Result<Self, BadTrust> {
        let profiles = Identities::new(partition, identities)?;
        let roots = if roots.is_empty() { vec![Root::of_aws_signer(partition)?] } else { roots.to_vec() };
        let authority = Authority { scheme: Scheme::SigningAuthority, roots, profiles: Some(profiles) };
        Ok(Self { name: name.into(), who: Who::Notation(authority) })
    }

    /// Everybody with a certificate under one of these roots.
    pub fn authority(name: impl Into<String>, scheme: Scheme, roots: Vec<Root>) -> Result<Self, BadTrust> {
        if roots.is_empty() {
            return Err(BadTrust::Root("it is empty".to_owned()));
        }
        Ok(Self { name: name.into(), who: Who::Notation(Authority { scheme, roots, profiles: None }) })
    }

    pub fn unknown(name: impl Into<String>, kind: Kind, why: impl Into<String>) -> Self {
        Self { name: name.into(), who: Who::Unknown { kind, why: why.into() } }
    }

    pub fn kind(&self) -> Kind {
        match &self.who {
            Who::Cosign(_) => Kind::Cosign,
            Who::Notation(_) => Kind::Notation,
            Who::Unknown { kind, .. } => *kind,
        }
    }
}

impl Root {
    pub fn of_aws_signer(partition: &str) -> Result<Self, BadTrust> {
        let known = AWS_SIGNER.iter().find(|(known, _)| *known == partition);
        known.map(|(_, fingerprint)| Self((*fingerprint).to_owned())).ok_or_else(|| BadTrust::NoRoot(format!("{partition:.40}")))
    }

    /// The certificates of a PEM text. Each has to be one that we can read: a root that matches nothing would be found out late.
    pub fn from_pem(text: &str) -> Result<Vec<Self>, BadTrust> {
        if text.len() > LONGEST_PEM {
            return Err(BadTrust::Root(format!("it has {} bytes, and {LONGEST_PEM} is the most", text.len())));
        }
        let blocks = pem_blocks(text).map_err(BadTrust::Root)?;
        if blocks.is_empty() {
            return Err(BadTrust::Root("it holds no certificate".to_owned()));
        }
        blocks
            .iter()
            .map(|(label, der)| match label.as_str() {
                "CERTIFICATE" => Self::from_der(der),
                other => Err(BadTrust::Root(format!("it holds a `{other:.40}`"))),
            })
            .collect()
    }

    pub fn from_der(der: &[u8]) -> Result<Self, BadTrust> {
        let certificate = Certificate::read(der).map_err(|error| BadTrust::Root(error.to_string()))?;
        Ok(Self(certificate.fingerprint()))
    }

    pub fn is(&self, certificate: &Certificate<'_>) -> bool {
        self.0 == certificate.fingerprint()
    }
}
