//! Notation's signature: an envelope (JWS or COSE) that signs the image's descriptor, with the certificates of who signed.
//!
//! Both forms are read into one `Envelope`, and judged here by one set of rules: the header, the signature, the chain, the root,
//! the time, the descriptor. Who may sign is the next question (signer.rs); a countersignature of the time is not looked at.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::LARGEST_SIGNATURE;
use super::certificate::Certificate;
use super::chain;
use super::key::{Algorithm, Hash, KeyKind, PublicKey};
use super::trust::Root;
use super::verdict::{Ended, Reason};
use crate::domain::image::ImageDigest;

pub const ARTIFACT: &str = "application/vnd.cncf.notary.signature";
pub const JWS: &str = "application/jose+json";
pub const COSE: &str = "application/cose";
const PAYLOAD: &str = "application/vnd.cncf.notary.payload.v1+json";

pub const SCHEME: &str = "io.cncf.notary.signingScheme";
pub const SIGNING_TIME: &str = "io.cncf.notary.signingTime";
pub const AUTHENTIC_TIME: &str = "io.cncf.notary.authenticSigningTime";
pub const EXPIRY: &str = "io.cncf.notary.expiry";
pub const PLUGIN: &str = "io.cncf.notary.verificationPlugin";
pub const PLUGIN_VERSION: &str = "io.cncf.notary.verificationPluginMinVersion";

/// Who vouches for the signing time, and so for which time the certificates are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scheme {
    /// Nobody: the certificates have to be valid now.
    #[serde(rename = "notary.x509")]
    X509,
    /// The authority that signs, as AWS Signer does. Its certificates live for days, its signatures for years.
    #[serde(rename = "notary.x509.signingAuthority")]
    SigningAuthority,
}

impl Scheme {
    pub fn text(self) -> &'static str {
        match self {
            Self::X509 => "notary.x509",
            Self::SigningAuthority => "notary.x509.signingAuthority",
        }
    }
}

/// What an image's manifest is to the registry. All three are signed, and all three have to be equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub digest: ImageDigest,
    pub media_type: String,
    pub size: u64,
}

impl Subject {
    /// The descriptor of these very bytes.
    pub fn of(manifest: &[u8], media_type: &str) -> Self {
        Self { digest: ImageDigest::of(manifest), media_type: media_type.to_owned(), size: manifest.len() as u64 }
    }
}

/// An envelope, read and not yet believed.
#[derive(Debug)]
pub struct Envelope {
    pub header: Header,
    /// The certificates, the signer's first, as DER.
    pub chain: Vec<Vec<u8>>,
    /// The bytes that were signed, and the payload in them, if it can be taken out: where not, the signature is asked first,
    /// since what cannot be read was most likely altered.
    pub signed: Vec<u8>,
    pub payload: Option<Vec<u8>>,
    pub signature: Vec<u8>,
}

/// The protected header, in the words that both forms share.
#[derive(Debug, Default)]
pub struct Header {
    pub algorithm: Option<Algorithm>,
    pub content_type: String,
    pub critical: Vec<String>,
    pub scheme: String,
    pub signing_time: Option<Timestamp>,
    pub authentic_time: Option<Timestamp>,
    pub expiry: Option<Timestamp>,
    /// Every name that is there.
    pub names: BTreeSet<String>,
    /// What the specification does not define: plugins read it. `None`: it is there, and is no text.
    pub extended: BTreeMap<String, Option<String>>,
}

/// A signature that is good as far as Notation goes.
#[derive(Debug)]
pub struct Checked {
    pub scheme: Scheme,
    pub signed_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub extended: BTreeMap<String, Option<String>>,
    pub critical: Vec<String>,
    /// As it came: who asks about revocation needs the whole of it.
    pub chain: Vec<Vec<u8>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    target_artifact: Descriptor,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
}

pub fn too_large(envelope: &[u8]) -> Result<(), Reason> {
    if envelope.len() > LARGEST_SIGNATURE {
        return Err(Reason::Malformed(format!("its envelope has {} bytes, and {LARGEST_SIGNATURE} is the most", envelope.len())));
    }
    Ok(())
}

/// Judges an envelope: is it whole, by whom, under which of these roots, in time, and about this image? `understood`: the
/// extended attributes that whoever asks is going to judge; a critical one beyond these has nobody who would.
pub fn check(envelope: Envelope, scheme: Scheme, roots: &[Root], understood: &[&str], subject: &Subject, now: Timestamp) -> Result<Checked, Reason> {
    let Envelope { header, chain, signed, payload, signature } = envelope;
    let certificates = chain::read(&chain)?;
    let leaf = certificates.first().ok_or_else(|| Reason::Malformed("it has no certificate".to_owned()))?;
    let says = header_rules(&header, understood)?;

    let expected = algorithm_of(&leaf.key)?;
    if header.algorithm != Some(expected) {
        return Err(Reason::Malformed("its algorithm is not the one that goes with its certificate's key".to_owned()));
    }
    if !leaf.key.signed(expected, &signed, &signature) {
        return Err(Reason::Tampered("its signature does not fit what it signs".to_owned()));
    }
    chain::check(&certificates)?;
    // Roots are trusted for one scheme each: whoever may sign in the hour may not vouch for an hour years ago.
    if says.scheme != scheme {
        return Err(Reason::UntrustedRoot { root: format!("a root for the scheme `{}`, where only `{}` is trusted", says.scheme.text(), scheme.text()) });
    }
    if !certificates.iter().any(|certificate| roots.iter().any(|root| root.is(certificate))) {
        return Err(Reason::UntrustedRoot { root: certificates.last().map(Certificate::describe).unwrap_or_default() });
    }
    if let Some(expiry) = header.expiry
        && now >= expiry
    {
        return Err(Reason::Expired { what: Ended::Signature, at: expiry });
    }
    let judged_at = match says.scheme {
        Scheme::X509 => now,
        Scheme::SigningAuthority => says.signed_at,
    };
    chain::valid_at(&certificates, judged_at)?;
    about(payload.as_deref().unwrap_or_default(), subject)?;
    Ok(Checked {
        scheme: says.scheme,
        signed_at: says.signed_at,
        expires_at: match says.scheme {
            // Nobody vouches for the time, so the certificates' end is the signature's end too.
            Scheme::X509 => header.expiry.into_iter().chain(certificates.iter().map(|certificate| certificate.not_after)).min(),
            Scheme::SigningAuthority => header.expiry,
        },
        extended: header.extended,
        critical: header.critical,
        chain,
    })
}

struct Says {
    scheme: Scheme,
    signed_at: Timestamp,
}

/// What the specification asks of the protected header.
fn header_rules(header: &Header, understood: &[&str]) -> Result<Says, Reason> {
    let malformed = |why: String| Err(Reason::Malformed(why));
    if header.content_type != PAYLOAD {
        return Err(Reason::Unsupported(format!("its payload is a `{:.80}`, and `{PAYLOAD}` is what counts", header.content_type)));
    }
    let (scheme, time, other_time) = match header.scheme.as_str() {
        "notary.x509" => (Scheme::X509, SIGNING_TIME, AUTHENTIC_TIME),
        "notary.x509.signingAuthority" => (Scheme::SigningAuthority, AUTHENTIC_TIME, SIGNING_TIME),
        other => return Err(Reason::Unsupported(format!("its signing scheme is `{other:.80}`"))),
    };
    let signed_at = match scheme {
        Scheme::X509 => header.signing_time,
        Scheme::SigningAuthority => header.authentic_time,
    };
    let Some(signed_at) = signed_at else { return malformed(format!("its scheme asks for `{time}`, which is not there")) };
    if header.names.contains(other_time) {
        return malformed(format!("`{other_time}` does not belong into its scheme"));
    }
    if header.expiry.is_some_and(|expiry| expiry <= signed_at) {
        return malformed("it expires before it was made".to_owned());
    }
    let critical = |name: &str| header.critical.iter().any(|one| one == name);
    let mut must = vec![SCHEME];
    must.extend(header.expiry.map(|_| EXPIRY));
    must.extend((scheme == Scheme::SigningAuthority).then_some(AUTHENTIC_TIME));
    must.extend([PLUGIN, PLUGIN_VERSION].into_iter().filter(|name| header.names.contains(*name)));
    if let Some(missing) = must.into_iter().find(|name| !critical(name)) {
        return malformed(format!("`{missing}` is not marked as critical"));
    }
    for name in &header.critical {
        if !header.names.contains(name) {
            return malformed(format!("`{name:.80}` is marked as critical and is not there"));
        }
        let defined = [SCHEME, EXPIRY, AUTHENTIC_TIME, SIGNING_TIME].contains(&name.as_str());
        if !defined && !understood.contains(&name.as_str()) {
            return Err(Reason::Unsupported(format!("it has to be read with the critical attribute `{name:.80}`, which we do not know")));
        }
    }
    Ok(Says { scheme, signed_at })
}

/// The one algorithm that goes with a signing certificate's key.
fn algorithm_of(key: &PublicKey) -> Result<Algorithm, Reason> {
    match key.kind() {
        KeyKind::P256 => Ok(Algorithm::EcdsaFixed(Hash::Sha256)),
        KeyKind::P384 => Ok(Algorithm::EcdsaFixed(Hash::Sha384)),
        KeyKind::P521 => Ok(Algorithm::EcdsaFixed(Hash::Sha512)),
        KeyKind::Rsa(2048) => Ok(Algorithm::RsaPss(Hash::Sha256)),
        KeyKind::Rsa(3072) => Ok(Algorithm::RsaPss(Hash::Sha384)),
        KeyKind::Rsa(4096) => Ok(Algorithm::RsaPss(Hash::Sha512)),
        KeyKind::Rsa(bits) => Err(Reason::Unsupported(format!("its certificate has an RSA key of {bits} bits, where 2048, 3072 or 4096 are defined"))),
        KeyKind::Ed25519 => Err(Reason::Unsupported("its certificate has an Ed25519 key, which Notation does not define".to_owned())),
    }
}

fn about(payload: &[u8], subject: &Subject) -> Result<(), Reason> {
    let payload: Payload = serde_json::from_slice(payload).map_err(|error| Reason::unreadable("its payload names no image", &error))?;
    let Descriptor { media_type, digest, size } = payload.target_artifact;
    if digest != subject.digest.as_str() || size != subject.size || media_type != subject.media_type {
        return Err(Reason::WrongDigest { names: format!("{digest:.100} ({media_type:.80}, {size} bytes)") });
    }
    Ok(())
}
