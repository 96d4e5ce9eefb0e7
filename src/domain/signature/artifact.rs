//! What a signature's manifest says: which blobs are the signatures, and how each is to be read.
//!
//! A manifest or blob is what was asked for when its SHA-256 is, and nothing else is looked at: registries, proxies and SDKs are
//! believed in nothing.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::cosign::{SIGNATURE_ANNOTATION, SIMPLE_SIGNING};
use super::notation::{ARTIFACT, COSE, JWS};
use super::trust::Kind;
use super::verdict::Reason;
use super::{LARGEST_MANIFEST, LARGEST_SIGNATURE, MOST_SIGNATURES, bundle};
use crate::domain::image::ImageDigest;
use crate::domain::manifest::media_type;

/// A signature of an image, fetched or not.
#[derive(Clone, Debug)]
pub enum Signature {
    Cosign {
        payload: Vec<u8>,
        annotations: BTreeMap<String, String>,
    },
    Bundle(Vec<u8>),
    Jws(Vec<u8>),
    Cose(Vec<u8>),
    /// It is there, and its content is not, or is not what it says.
    /// Without a kind, where not even that can be told: then it may be the one that any signer made.
    Unusable {
        kind: Option<Kind>,
        reason: Reason,
    },
}

/// A blob that has to be fetched, since it is a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub digest: ImageDigest,
    pub size: u64,
    form: Form,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Cosign(BTreeMap<String, String>),
    Bundle,
    Jws,
    Cose,
}

/// What a manifest is, as far as signatures go.
#[derive(Clone, Debug)]
pub enum Found {
    /// To be fetched.
    Wanted(Vec<Wanted>),
    /// A signature that cannot be had.
    Unusable(Signature),
    /// Something else about the image: an SBOM, a scan, a log.
    NotASignature,
}

/// By what the manifest was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundBy {
    /// Cosign's tag, `sha256-HEX.sig`: each layer is a signature.
    Tag,
    /// The registry's list of what refers to the image.
    Referrer,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    artifact_type: Option<String>,
    config: Option<Config>,
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    media_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    annotations: Option<BTreeMap<String, String>>,
}

/// Reads the manifest of something about an image. `digest` is the one under which it was asked for or listed.
pub fn read(manifest: &[u8], digest: &ImageDigest, by: FoundBy) -> Found {
    let unusable = |kind, reason| Found::Unusable(Signature::Unusable { kind, reason });
    let unread = if by == FoundBy::Tag { Some(Kind::Cosign) } else { None };
    if manifest.len() > LARGEST_MANIFEST {
        return unusable(unread, Reason::Malformed(format!("its manifest has {} bytes, and {LARGEST_MANIFEST} is the most", manifest.len())));
    }
    if ImageDigest::of(manifest) != *digest {
        return unusable(unread, Reason::Tampered(format!("its manifest is not {digest}")));
    }
    let manifest: Manifest = match serde_json::from_slice(manifest) {
        Ok(manifest) => manifest,
        Err(error) => return unusable(unread, Reason::unreadable("its manifest cannot be read", &error)),
    };
    let config = manifest.config.map(|config| config.media_type).unwrap_or_default();
    // Older clients of Notation have no artifact type, and say it by the config's.
    if manifest.artifact_type.as_deref() == Some(ARTIFACT) || config == ARTIFACT {
        return match manifest.layers.as_slice() {
            [layer] => match media_type(&layer.media_type).as_str() {
                JWS => wanted(layer, Form::Jws),
                COSE => wanted(layer, Form::Cose),
                other => Err(Reason::Unsupported(format!("its layer is a `{other:.80}`, which is no envelope"))),
            },
            layers => Err(Reason::Malformed(format!("its manifest has {} layers, where an envelope is one", layers.len()))),
        }
        .map_or_else(|reason| unusable(Some(Kind::Notation), reason), |wanted| Found::Wanted(vec![wanted]));
    }
    // Under Cosign's tag too: a registry may list a manifest once, by whichever name somebody gave it last.
    if let [layer] = manifest.layers.as_slice()
        && layer.media_type.starts_with(bundle::MEDIA_TYPES)
    {
        return wanted(layer, Form::Bundle).map_or_else(|reason| unusable(Some(Kind::Cosign), reason), |wanted| Found::Wanted(vec![wanted]));
    }
    if manifest.layers.len() > MOST_SIGNATURES {
        let why = format!("its manifest has {} signatures, and {MOST_SIGNATURES} is the most", manifest.layers.len());
        return unusable(Some(Kind::Cosign), Reason::CouldNotCheck(why));
    }
    // Cosign does not ask for the media type of a layer under its tag; one with neither mark is no signature.
    let is_signature = |layer: &&Layer| {
        let annotated = layer.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(SIGNATURE_ANNOTATION));
        layer.media_type == SIMPLE_SIGNING || by == FoundBy::Tag && annotated
    };
    let layers: Vec<&Layer> = manifest.layers.iter().filter(is_signature).collect();
    if layers.is_empty() {
        return Found::NotASignature;
    }
    let form = |layer: &Layer| Form::Cosign(layer.annotations.clone().unwrap_or_default());
    // One layer that cannot be had does not hide the others.
    let good: Vec<Wanted> = layers.iter().filter_map(|layer| wanted(layer, form(layer)).ok()).collect();
    match layers.iter().find_map(|layer| wanted(layer, form(layer)).err()) {
        Some(reason) if good.is_empty() => unusable(Some(Kind::Cosign), reason),
        _ => Found::Wanted(good),
    }
}

fn wanted(layer: &Layer, form: Form) -> Result<Wanted, Reason> {
    if layer.size > LARGEST_SIGNATURE as u64 {
        return Err(Reason::Malformed(format!("it has {} bytes, and {LARGEST_SIGNATURE} is the most", layer.size)));
    }
    let digest = layer.digest.parse().map_err(|_| Reason::Malformed(format!("its manifest names the blob `{:.100}`, which is no digest", layer.digest)))?;
    Ok(Wanted { digest, size: layer.size, form })
}

impl Wanted {
    pub fn kind(&self) -> Kind {
        match self.form {
            Form::Cosign(_) | Form::Bundle => Kind::Cosign,
            Form::Jws | Form::Cose => Kind::Notation,
        }
    }

    /// What came when it was fetched.
    pub fn holds(self, bytes: Vec<u8>) -> Signature {
        if bytes.len() as u64 != self.size || ImageDigest::of(&bytes) != self.digest {
            let reason = Reason::Tampered(format!("the registry gave other bytes than {}", self.digest));
            return Signature::Unusable { kind: Some(self.kind()), reason };
        }
        match self.form {
            Form::Cosign(annotations) => Signature::Cosign { payload: bytes, annotations },
            Form::Bundle => Signature::Bundle(bytes),
            Form::Jws => Signature::Jws(bytes),
            Form::Cose => Signature::Cose(bytes),
        }
    }

    /// It could not be fetched, and might have been the good one.
    pub fn could_not_be_fetched(self, why: &str) -> Signature {
        Signature::Unusable {
            kind: Some(self.kind()),
            reason: Reason::CouldNotCheck(format!("the signature {} could not be fetched: {why:.300}", self.digest)),
        }
    }
}

impl Signature {
    /// Whether a signer of this kind may have made it.
    pub fn may_be(&self, kind: Kind) -> bool {
        match self {
            Self::Cosign { .. } | Self::Bundle(_) => kind == Kind::Cosign,
            Self::Jws(_) | Self::Cose(_) => kind == Kind::Notation,
            Self::Unusable { kind: known, .. } => known.is_none_or(|known| known == kind),
        }
    }
}
