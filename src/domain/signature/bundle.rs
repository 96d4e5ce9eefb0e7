//! Cosign 3's signature: a sigstore bundle with one in-toto statement about the image, in a DSSE envelope.
//!
//! The envelope's type and payload are signed together, so neither can be moved to another. A statement about the image that is
//! not a signature (an SBOM, a scan, provenance) says less than approval: the predicate has to be Cosign's own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::LARGEST_SIGNATURE;
use super::key::CosignKey;
use super::verdict::Reason;
use crate::domain::image::ImageDigest;

/// How the media types of all versions begin.
pub const MEDIA_TYPES: &str = "application/vnd.dev.sigstore.bundle";
const VERSIONS: [&str; 2] = ["application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.dev.sigstore.bundle+json;version=0.3"];
const IN_TOTO: &str = "application/vnd.in-toto+json";
const STATEMENTS: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
/// sigstore-go's limits.
const MOST_SUBJECTS: usize = 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Option<Envelope>,
    message_signature: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: Option<Hint>,
    certificate: Option<IgnoredAny>,
    x509_certificate_chain: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Hint {
    #[serde(default)]
    hint: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    #[serde(default)]
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    r#type: String,
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    digest: Digests,
}

#[derive(Deserialize)]
struct Digests {
    sha256: Option<String>,
}

/// Whether this key signed a statement of approval of this image.
pub fn check(key: &CosignKey, image: &ImageDigest, bundle: &[u8]) -> Result<(), Reason> {
    if bundle.len() > LARGEST_SIGNATURE {
        return Err(Reason::Malformed(format!("it has {} bytes, and {LARGEST_SIGNATURE} is the most", bundle.len())));
    }
    let bundle: Bundle = serde_json::from_slice(bundle).map_err(|error| Reason::unreadable("it is not a sigstore bundle", &error))?;
    if !VERSIONS.contains(&bundle.media_type.as_str()) {
        return Err(Reason::Unsupported(format!("it is a `{:.80}`, and version 0.3 is what can be read", bundle.media_type)));
    }
    let material = bundle.verification_material;
    let Some(hint) = material.public_key else { return Err(Reason::Keyless) };
    if material.certificate.is_some() || material.x509_certificate_chain.is_some() {
        return Err(Reason::Malformed("it names a key and a certificate, where one of them would do".to_owned()));
    }
    let Some(envelope) = bundle.dsse_envelope.filter(|_| bundle.message_signature.is_none()) else {
        return Err(Reason::Unsupported("it signs a file and not an image (a messageSignature, where an image has a dsseEnvelope)".to_owned()));
    };
    let [signature] = envelope.signatures.as_slice() else {
        return Err(Reason::Malformed(format!("its envelope has {} signatures, where a bundle has exactly one", envelope.signatures.len())));
    };
    let payload = decode(&envelope.payload, "payload")?;
    let signature = decode(&signature.sig, "signature")?;
    if !key.signed(&pre_authentication(&envelope.payload_type, &payload), &signature) {
        // The hint is nobody's word; it only says which of the two is more likely.
        let is_ours = key.hint() == hint.hint;
        return Err(if is_ours { Reason::Tampered("its signature does not fit what it signs".to_owned()) } else { Reason::WrongKey });
    }
    // Only now is any of it somebody's word.
    if envelope.payload_type != IN_TOTO {
        return Err(Reason::Unsupported(format!("its payload is a `{:.80}`, and `{IN_TOTO}` is what counts", envelope.payload_type)));
    }
    let statement: Statement = serde_json::from_slice(&payload).map_err(|error| Reason::unreadable("its statement cannot be read", &error))?;
    if !STATEMENTS.contains(&statement.r#type.as_str()) {
        return Err(Reason::Unsupported(format!("its statement is a `{:.80}`", statement.r#type)));
    }
    if statement.predicate_type != SIGN {
        return Err(Reason::Unsupported(format!("it says `{:.80}` of the image, and only `{SIGN}` is approval", statement.predicate_type)));
    }
    if statement.subject.len() > MOST_SUBJECTS {
        return Err(Reason::Malformed(format!("its statement is about {} things, and {MOST_SUBJECTS} is the most", statement.subject.len())));
    }
    let named: Vec<&str> = statement.subject.iter().filter_map(|subject| subject.digest.sha256.as_deref()).collect();
    if !named.iter().any(|hex| image.as_str().strip_prefix("sha256:") == Some(*hex)) {
        return Err(Reason::WrongDigest { names: named.first().map_or("nothing".to_owned(), |hex| format!("sha256:{hex:.64}")) });
    }
    Ok(())
}

fn decode(text: &str, what: &str) -> Result<Vec<u8>, Reason> {
    STANDARD.decode(text).map_err(|error| Reason::Malformed(format!("its {what} is not base64: {error}")))
}

/// What DSSE signs: type and payload, each with its length before it, so that no other pair has the same bytes.
fn pre_authentication(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}
