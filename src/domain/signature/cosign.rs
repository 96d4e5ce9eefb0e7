//! Cosign's classic signature: a small JSON that names the image, and beside it, in an annotation, the signature of its bytes.
//!
//! Only the key decides. Certificates, transparency logs and timestamps in other annotations are not looked at: whoever can push
//! can write them. Inside the payload only the digest and the type count; `docker-reference` and `optional` are anybody's notes.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::LARGEST_SIGNATURE;
use super::key::CosignKey;
use super::verdict::Reason;
use crate::domain::image::ImageDigest;

pub const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE_ANNOTATION: &str = "dev.sigstore.cosign/certificate";
pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const TYPE: &str = "cosign container image signature";

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    r#type: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// Whether this key signed this payload, and the payload names this image.
pub fn check(key: &CosignKey, image: &ImageDigest, payload: &[u8], annotations: &BTreeMap<String, String>) -> Result<(), Reason> {
    if payload.len() > LARGEST_SIGNATURE {
        return Err(Reason::Malformed(format!("its payload has {} bytes, and {LARGEST_SIGNATURE} is the most", payload.len())));
    }
    let text = annotations.get(SIGNATURE_ANNOTATION).ok_or_else(|| Reason::Malformed(format!("its layer has no annotation `{SIGNATURE_ANNOTATION}`")))?;
    // Some signers break the line, and Go's reader, Cosign's, does not mind.
    let text: String = text.chars().filter(|char| !matches!(char, '\r' | '\n')).collect();
    let signature = STANDARD.decode(text).map_err(|error| Reason::Malformed(format!("its signature is not base64: {error}")))?;
    if !key.signed(payload, &signature) {
        return Err(if annotations.contains_key(CERTIFICATE_ANNOTATION) { Reason::Keyless } else { Reason::WrongKey });
    }
    // Only now is the payload somebody's word.
    let payload: Payload = serde_json::from_slice(payload).map_err(|error| Reason::unreadable("its payload names no image", &error))?;
    if payload.critical.r#type != TYPE {
        return Err(Reason::Unsupported(format!("its payload is a `{:.80}`, and `{TYPE}` is what counts", payload.critical.r#type)));
    }
    if payload.critical.image.digest != image.as_str() {
        return Err(Reason::WrongDigest { names: format!("{:.100}", payload.critical.image.digest) });
    }
    Ok(())
}
