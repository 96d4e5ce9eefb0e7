//! Images whose digests are real, and what an index of them looks like.
use serde_json::{Value, json};

use crate::local::scan_plane::digest_of;
use crate::local::scans::Scanned;

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// What is pushed: a manifest, byte for byte.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub text: String,
    pub kind: &'static str,
    pub artifact: &'static str,
    platform: Value,
    about: Option<String>,
}

impl Manifest {
    /// One runnable image for linux/amd64; its content makes its digest.
    pub fn image(content: &str) -> Self {
        Self::image_for(content, "linux", "amd64")
    }

    pub fn image_for(content: &str, os: &str, architecture: &str) -> Self {
        let (config, layer) = (digest_of(&format!("config of {content} {architecture}")), digest_of(&format!("layer of {content} {architecture}")));
        let body = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": { "mediaType": CONFIG, "digest": config, "size": 1469 },
            "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer, "size": 32654 }],
        });
        Self { text: body.to_string(), kind: MANIFEST, artifact: CONFIG, platform: json!({ "os": os, "architecture": architecture }), about: None }
    }

    /// What BuildKit adds beside an image: where it comes from. It is not run and not scanned.
    pub fn attestation(of: &Manifest) -> Self {
        let (config, layer) = (digest_of(&format!("attestation config {}", of.text)), digest_of(&format!("attestation {}", of.text)));
        let body = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": { "mediaType": CONFIG, "digest": config, "size": 167 },
            "layers": [{ "mediaType": "application/vnd.in-toto+json", "digest": layer, "size": 1243,
                         "annotations": { "in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2" } }],
        });
        let platform = json!({ "os": "unknown", "architecture": "unknown" });
        Self { text: body.to_string(), kind: MANIFEST, artifact: CONFIG, platform, about: Some(of.digest()) }
    }

    pub fn index(children: &[Manifest]) -> Self {
        let manifests: Vec<_> = children
            .iter()
            .map(|child| {
                let mut entry = json!({ "mediaType": child.kind, "digest": child.digest(), "size": child.text.len(), "platform": child.platform });
                if let Some(about) = &child.about {
                    entry["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": about });
                }
                entry
            })
            .collect();
        let body = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        Self { text: body.to_string(), kind: INDEX, artifact: "", platform: json!({}), about: None }
    }

    /// A signature, an SBOM: any manifest that is no image.
    pub fn artifact(body: &Value) -> Self {
        Self { text: body.to_string(), kind: MANIFEST, artifact: "", platform: json!({}), about: None }
    }

    pub fn digest(&self) -> String {
        digest_of(&self.text)
    }
}

/// An image that lies in a repository.
#[derive(Clone, Debug)]
pub struct Image {
    pub scanned: Scanned,
    pub tag: Option<String>,
    pub manifest: Manifest,
}

impl Image {
    pub fn digest(&self) -> &str {
        &self.scanned.digest
    }

    pub fn repository(&self) -> &str {
        &self.scanned.repository
    }

    pub fn tag(&self) -> &str {
        self.tag.as_deref().unwrap_or_default()
    }
}
