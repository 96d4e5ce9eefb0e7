//! Whose signature a gate asks for, as its properties say it and as it is kept with a request that waits: texts that were read
//! once, with KMS's keys still to be fetched.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::key::{BadKey, CosignKey};
use super::trust::{BadTrust, Kind, Root, Rule, Signer, Trust};

/// The rule, and what becomes of an image that does not keep it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Asked {
    pub rule: Rule,
    pub signers: Vec<AskedSigner>,
    pub on_unsigned: OnUnsigned,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AskedSigner {
    /// One or several public keys in PEM, any of which counts.
    PublicKey(String),
    Kms(KmsKey),
    /// AWS Signer, for one of these profiles; without roots, under its own.
    Profiles {
        identities: Vec<String>,
        roots: Vec<Root>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OnUnsigned {
    Fail,
    /// `failOnUnsigned: false`: let through as far as signatures go, and told. An image that could not be checked is not.
    Warn,
}

/// What came of asking KMS for a key; or why it could not be had, in words.
pub type KmsKeys = BTreeMap<KmsKey, Result<CosignKey, String>>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAsked {
    #[error("`publicKey`: {0}")]
    Key(#[from] BadKey),
    #[error("{0}")]
    Trust(#[from] BadTrust),
}

impl Asked {
    /// The keys that have to be fetched, each once.
    pub fn kms_keys(&self) -> Vec<&KmsKey> {
        let mut keys: Vec<&KmsKey> = self.signers.iter().filter_map(AskedSigner::kms_key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Those who have to have signed, `partition` being where we run. What can be wrong with it was refused when the gate was
    /// read: that asked the same of keys that nobody had fetched.
    pub fn trust(&self, partition: &str, keys: &KmsKeys) -> Result<Trust, BadAsked> {
        let mut signers: Vec<Signer> = Vec::with_capacity(self.signers.len());
        for asked in &self.signers {
            let mut signer = asked.signer(partition, keys)?;
            // A verdict tells them apart by their names.
            let same = signers.iter().filter(|other| other.name.starts_with(&signer.name)).count();
            if same > 0 {
                signer.name = format!("{} ({})", signer.name, same + 1);
            }
            signers.push(signer);
        }
        Ok(Trust::new(self.rule, signers)?)
    }

    /// The original construct's word for it, where it has one.
    pub fn kind(&self) -> &'static str {
        match (self.signers.as_slice(), self.rule) {
            ([AskedSigner::Profiles { .. }], _) => "NOTATION",
            ([_], _) => "COSIGN",
            (_, Rule::AllOf) => "ALL_OF",
            (_, Rule::AnyOf) => "ANY_OF",
        }
    }
}

impl AskedSigner {
    fn kms_key(&self) -> Option<&KmsKey> {
        match self {
            Self::Kms(key) => Some(key),
            Self::PublicKey(_) | Self::Profiles { .. } => None,
        }
    }

    fn signer(&self, partition: &str, keys: &KmsKeys) -> Result<Signer, BadAsked> {
        match self {
            Self::PublicKey(pem) => {
                let keys = CosignKey::all_from_pem(pem)?;
                let ids: Vec<String> = keys.iter().map(|key| format!("{:.16}...", key.key.id.0)).collect();
                let noun = if ids.len() == 1 { "the public key" } else { "any of the public keys" };
                Ok(Signer::cosign_with_any(format!("{noun} {}", ids.join(", ")), keys)?)
            }
            Self::Kms(key) => {
                let name = format!("the KMS key {key}");
                Ok(match keys.get(key) {
                    Some(Ok(found)) => Signer::cosign(name, found.clone()),
                    // What it signed is not known then, which is not the same as not signed.
                    Some(Err(why)) => Signer::unknown(name, Kind::Cosign, why.as_str()),
                    None => Signer::unknown(name, Kind::Cosign, "it was not asked for"),
                })
            }
            Self::Profiles { identities, roots } => {
                Ok(Signer::aws_signer(format!("AWS Signer for {:.300}", identities.join(" or ")), partition, identities, roots)?)
            }
        }
    }
}

/// A key in KMS, by its ARN: an id alone does not say in which account and region. With an alias, whoever can move that decides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KmsKey(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0:.200}` is no ARN of a KMS key: expected arn:PARTITION:kms:REGION:ACCOUNT:key/ID, or alias/NAME in the place of key/ID")]
pub struct BadKmsKey(String);

impl KmsKey {
    pub fn arn(&self) -> &str {
        &self.0
    }

    pub fn region(&self) -> &str {
        self.0.split(':').nth(3).unwrap_or_default()
    }
}

impl std::str::FromStr for KmsKey {
    type Err = BadKmsKey;

    fn from_str(text: &str) -> Result<Self, BadKmsKey> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        match parts.as_slice() {
            ["arn", partition, "kms", region, account, resource]
                if ![partition, region, account].iter().any(|part| part.is_empty())
                    && ["key/", "alias/"].iter().any(|kind| resource.strip_prefix(kind).is_some_and(|name| !name.is_empty())) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(BadKmsKey(text.to_owned())),
        }
    }
}

impl TryFrom<String> for KmsKey {
    type Error = BadKmsKey;

    fn try_from(text: String) -> Result<Self, BadKmsKey> {
        text.parse()
    }
}

impl From<KmsKey> for String {
    fn from(key: KmsKey) -> Self {
        key.0
    }
}

impl std::fmt::Display for KmsKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_kms_is_named_by_its_whole_arn() {
        for good in ["arn:aws:kms:eu-west-1:123456789012:key/1234", "arn:aws-us-gov:kms:us-gov-west-1:123456789012:alias/team/cosign"] {
            let key: KmsKey = good.parse().unwrap();
            assert_eq!((key.arn(), key.region()), (good, good.split(':').nth(3).unwrap()));
        }
        for bad in [
            "",
            "1234",
            "alias/cosign",
            "awskms:///arn:aws:kms:eu-west-1:123456789012:key/1234",
            "arn:aws:kms:eu-west-1:123456789012:key/",
            "arn:aws:kms::123456789012:key/1234",
            "arn:aws:kms:eu-west-1:123456789012:grant/1",
            "arn:aws:s3:eu-west-1:123456789012:key/1234",
        ] {
            assert!(bad.parse::<KmsKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn signers_that_would_have_one_name_have_two() {
        let profile = AskedSigner::Profiles { identities: vec!["arn:aws:signer:eu-west-1:123456789012:/signing-profiles/main".into()], roots: Vec::new() };
        let asked = Asked { rule: Rule::AllOf, signers: vec![profile.clone(), profile], on_unsigned: OnUnsigned::Fail };
        let trust = asked.trust("aws", &KmsKeys::new()).unwrap();
        assert_eq!(
            trust.names(),
            [
                "AWS Signer for arn:aws:signer:eu-west-1:123456789012:/signing-profiles/main",
                "AWS Signer for arn:aws:signer:eu-west-1:123456789012:/signing-profiles/main (2)"
            ]
        );
    }

    #[test]
    fn a_key_that_nobody_has_fetched_is_not_known() {
        let key: KmsKey = "arn:aws:kms:eu-west-1:123456789012:key/1234".parse().unwrap();
        let asked = Asked { rule: Rule::AllOf, signers: vec![AskedSigner::Kms(key.clone()), AskedSigner::Kms(key)], on_unsigned: OnUnsigned::Fail };
        assert_eq!(asked.kms_keys().len(), 1);
        assert_eq!(asked.trust("aws", &KmsKeys::new()).unwrap().fingerprint(), None, "no verdict is kept under it");
    }
}
