//! AWS Signer's own rules, which Notation leaves to its plugin: which profile signed, and what has to be asked about revocation.

use std::fmt::Write as _;

use jiff::Timestamp;
use ring::digest;
use serde::{Deserialize, Serialize};

use super::chain;
use super::notation::{Checked, PLUGIN, PLUGIN_VERSION};
use super::trust::BadTrust;
use super::verdict::{By, Reason};

const NAME: &str = "com.amazonaws.signer.notation.plugin";
/// The plugin whose rules these are.
const VERSION: [u64; 3] = [1, 0, 350];
const PROFILE_VERSION: &str = "com.amazonaws.signer.signingProfileVersion";
const JOB: &str = "com.amazonaws.signer.signingJob";
const PLATFORM: &str = "Notation-OCI-SHA384-ECDSA";

/// What these rules judge of a signature's attributes.
pub const UNDERSTOOD: [&str; 4] = [PLUGIN, PLUGIN_VERSION, PROFILE_VERSION, JOB];

/// The signing profiles (or single versions of them) whose signatures count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identities {
    partition: String,
    profiles: Vec<String>,
}

impl Identities {
    /// What is no ARN of a profile is left out, as AWS's plugin does; nothing left is an error, and `*` is one.
    pub fn new(partition: &str, identities: &[String]) -> Result<Self, BadTrust> {
        if identities.iter().any(|identity| identity.trim() == "*") {
            return Err(BadTrust::Wildcard);
        }
        let profiles: Vec<String> = identities.iter().map(|one| one.trim()).filter(|one| profile_arn(one).is_some()).map(str::to_owned).collect();
        if profiles.is_empty() {
            return Err(BadTrust::NoProfile(format!("{:.200}", identities.join(", "))));
        }
        Ok(Self { partition: partition.to_owned(), profiles })
    }

    /// Whether one of them is this version of a profile: by its profile, or by itself. ARNs are compared without case, as the plugin does.
    pub fn include(&self, version_arn: &str) -> bool {
        let profile = version_arn.rsplit_once('/').map(|(profile, _)| profile).unwrap_or_default();
        self.profiles.iter().any(|trusted| match profile_arn(trusted) {
            Some(Part::Profile) => trusted.eq_ignore_ascii_case(profile),
            Some(Part::Version) => trusted.eq_ignore_ascii_case(version_arn),
            None => false,
        })
    }
}

enum Part {
    Profile,
    Version,
}

/// `arn:PARTITION:signer:REGION:ACCOUNT:/signing-profiles/NAME[/VERSION]`.
fn profile_arn(text: &str) -> Option<Part> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", partition, "signer", region, account, resource] = parts.as_slice() else { return None };
    if [partition, region, account].iter().any(|part| part.is_empty()) {
        return None;
    }
    match resource.split('/').collect::<Vec<_>>().as_slice() {
        ["", "signing-profiles", name] if !name.is_empty() => Some(Part::Profile),
        ["", "signing-profiles", name, version] if !name.is_empty() && !version.is_empty() => Some(Part::Version),
        _ => None,
    }
}

fn partition_of(arn: &str) -> &str {
    arn.split(':').nth(1).unwrap_or_default()
}

/// What AWS Signer has to be asked before its signature counts: GetRevocationStatus, in the region where we run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevocationQuestion {
    pub signature_timestamp: Timestamp,
    pub platform_id: String,
    pub profile_version_arn: String,
    pub job_arn: String,
    /// Of each certificate, the signer's first: its hash and its issuer's, in one text.
    pub certificate_hashes: Vec<String>,
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationAnswer {
    /// What is revoked of what was asked about; nothing is the good answer.
    Revoked(Vec<String>),
    /// There was none. It fails closed: a revoked signature must not pass because somebody cut a wire.
    None(String),
}

impl RevocationAnswer {
    pub(super) fn objection(self) -> Option<Reason> {
        match self {
            Self::Revoked(entities) if entities.is_empty() => None,
            Self::Revoked(entities) => Some(Reason::Revoked { what: entities.iter().take(4).map(|entity| describe(entity)).collect() }),
            Self::None(why) => Some(Reason::CouldNotCheck(format!("AWS Signer did not say whether the signature is revoked: {why:.500}"))),
        }
    }
}

fn describe(entity: &str) -> String {
    match entity {
        arn if arn.contains(":/signing-jobs/") => format!("the signing job {arn:.200}"),
        arn if arn.starts_with("arn") => format!("the signing profile version {arn:.200}"),
        hash => format!("a certificate ({hash:.16}...)"),
    }
}

/// Judges who signed, and says what is left to ask.
pub fn check(signature: &Checked, trusted: &Identities) -> Result<(By, RevocationQuestion), Reason> {
    let text = |name: &str| signature.extended.get(name).and_then(Option::as_deref);
    match text(PLUGIN) {
        Some(NAME) => {}
        Some(other) => return Err(Reason::WrongIdentity { says: format!("a signature for the plugin `{other:.80}`, and not by AWS Signer") }),
        None => return Err(Reason::WrongIdentity { says: "a signature that is not by AWS Signer (it names no plugin)".to_owned() }),
    }
    if signature.extended.contains_key(PLUGIN_VERSION) {
        let asked = text(PLUGIN_VERSION).ok_or_else(|| Reason::Malformed(format!("its header `{PLUGIN_VERSION}` is no text")))?;
        match is_newer(asked) {
            Some(false) => {}
            Some(true) => {
                return Err(Reason::CouldNotCheck(format!(
                    "it asks for AWS Signer's rules of version {asked:.40}, and these are those of 1.0.350: update ecr-scan-verifier"
                )));
            }
            None => return Err(Reason::Malformed(format!("its header `{PLUGIN_VERSION}` is `{asked:.40}`, which is no version"))),
        }
    }
    let attribute = |name: &str| text(name).map(str::to_owned).ok_or_else(|| Reason::Malformed(format!("its attribute `{name}` is missing")));
    let (version_arn, job_arn) = (attribute(PROFILE_VERSION)?, attribute(JOB)?);
    if !matches!(profile_arn(&version_arn), Some(Part::Version)) {
        return Err(Reason::WrongIdentity { says: format!("`{version_arn:.200}`, which is no version of a signing profile") });
    }
    if !trusted.include(&version_arn) {
        return Err(Reason::WrongIdentity { says: format!("{version_arn:.200}") });
    }
    // Revocation is known within one partition alone, so nobody here could ask.
    if partition_of(&version_arn) != trusted.partition {
        return Err(Reason::WrongIdentity { says: format!("{version_arn:.200}, of another partition than `{:.40}`", trusted.partition) });
    }
    let question = RevocationQuestion {
        signature_timestamp: signature.signed_at,
        platform_id: PLATFORM.to_owned(),
        profile_version_arn: version_arn.clone(),
        job_arn: job_arn.clone(),
        certificate_hashes: certificate_hashes(&signature.chain)?,
    };
    Ok((By::Profile { version_arn, job_arn }, question))
}

/// Of each certificate, the signer's first: SHA-384 of what was signed of it, then of its issuer; the last one is its own issuer.
pub fn certificate_hashes(chain: &[Vec<u8>]) -> Result<Vec<String>, Reason> {
    let hash = |tbs: &[u8]| {
        digest::digest(&digest::SHA384, tbs).as_ref().iter().fold(String::with_capacity(96), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    };
    let hashes: Vec<String> = chain::read(chain)?.iter().map(|certificate| hash(certificate.tbs)).collect();
    Ok(hashes.iter().enumerate().map(|(at, own)| format!("{own}{}", hashes.get(at + 1).unwrap_or(own))).collect())
}

/// Whether a version comes after the one whose rules these are. One that precedes a release (`-alpha`) is no later than it.
fn is_newer(version: &str) -> Option<bool> {
    let core = version.split(['-', '+']).next()?;
    let numbers: Vec<u64> =
        core.split('.').map(|part| if part.bytes().all(|byte| byte.is_ascii_digit()) { part.parse().ok() } else { None }).collect::<Option<_>>()?;
    let numbers: [u64; 3] = numbers.try_into().ok()?;
    Some(numbers > VERSION)
}

/// What of a signature's attributes only AWS Signer's rules could judge. Under roots of one's own there is nobody to do so.
pub fn needs_a_plugin(signature: &Checked) -> Option<&str> {
    UNDERSTOOD.iter().find(|name| signature.extended.contains_key(**name) && (**name == PLUGIN || signature.critical.iter().any(|one| one == *name))).copied()
}
