//! Who signs, and puts the signature beside the image as the tools do.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ecr_scan_verifier::domain::signature::notation::{ARTIFACT, JWS, Subject};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::json;

use crate::local::images::{Image, MANIFEST, Manifest};
use crate::local::story::Story;
use crate::making::{Draft, target};
use crate::pki::{Chain, pem};

const EMPTY: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

/// Who signs with Cosign, and the file with the public key.
pub struct Cosign {
    key: EcdsaKeyPair,
    pub spki: Vec<u8>,
    pub file: String,
}

impl Cosign {
    pub fn new(story: &Story, name: &str) -> Self {
        let (random, how) = (SystemRandom::new(), &ECDSA_P256_SHA256_ASN1_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(how, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(how, pkcs8.as_ref(), &random).expect("a key");
        // SubjectPublicKeyInfo of P-256: a fixed beginning, then the uncompressed point.
        let mut spki = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00".to_vec();
        spki.extend_from_slice(key.public_key().as_ref());
        let file = story.file(&format!("{name}.pub"));
        std::fs::write(&file, format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&spki))).expect("a file");
        Self { key, spki, file: file.to_str().expect("a path").to_owned() }
    }

    pub fn sign(&self, message: &[u8]) -> String {
        STANDARD.encode(self.key.sign(&SystemRandom::new(), message).expect("a signature").as_ref())
    }

    pub async fn sign_classic(&self, story: &Story, image: &Image) -> (String, Image) {
        let payload = payload(image);
        put_classic(story, image, &payload, &self.sign(payload.as_bytes())).await
    }

    /// As Cosign 3 does: a bundle that refers to the image.
    pub async fn sign_with_a_bundle(&self, story: &Story, image: &Image) -> Image {
        let hex = image.digest().trim_start_matches("sha256:");
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1", "subject": [{ "digest": { "sha256": hex }, "annotations": {} }],
            "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {},
        });
        let (kind, statement) = ("application/vnd.in-toto+json", statement.to_string());
        let signed = format!("DSSEv1 {} {kind} {} {statement}", kind.len(), statement.len());
        let bundle = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": { "publicKey": { "hint": "" } },
            "dsseEnvelope": { "payload": STANDARD.encode(&statement), "payloadType": kind, "signatures": [{ "sig": self.sign(signed.as_bytes()) }] },
        });
        refer(story, image, "application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.dev.sigstore.bundle.v0.3+json", &bundle.to_string()).await
    }
}

/// AWS Signer, as far as anybody can be it: a chain of its shape under a root of our own.
pub struct AwsSigner {
    chain: Chain,
    /// The root, in PEM.
    pub root: String,
}

impl AwsSigner {
    pub fn new() -> Self {
        let chain = Chain::of_aws_signer();
        let root = pem("CERTIFICATE", chain.root());
        Self { chain, root }
    }

    /// What Notation puts beside the image, or ECR when it signs by itself.
    pub async fn sign(&self, story: &Story, image: &Image) -> Image {
        let mut draft = Draft::of_aws_signer(&self.chain);
        draft.payload = target(&Subject::of(image.manifest.text.as_bytes(), image.manifest.kind));
        let envelope = draft.jws(&self.chain.key).to_string();
        refer(story, image, ARTIFACT, JWS, &envelope).await
    }
}

pub fn payload(image: &Image) -> String {
    let critical = json!({
        "identity": { "docker-reference": image.repository() }, "image": { "docker-manifest-digest": image.digest() },
        "type": "cosign container image signature",
    });
    json!({ "critical": critical, "optional": null }).to_string()
}

/// As `cosign sign --key` did until its third version: under a tag. Says the payload's digest, and what was put there.
pub async fn put_classic(story: &Story, image: &Image, payload: &str, signature: &str) -> (String, Image) {
    let digest = story.scans.keep_blob(payload.as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": EMPTY, "size": 2 },
        "layers": [{ "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": digest, "size": payload.len(),
                     "annotations": { "dev.cosignproject.cosign/signature": signature } }],
    });
    let tag = format!("{}.sig", image.digest().replace(':', "-"));
    (digest, story.put(image.repository(), Some(&tag), &Manifest::artifact(&manifest)).await)
}

/// Puts something beside an image that refers to it.
pub async fn refer(story: &Story, image: &Image, artifact: &str, kind: &str, content: &str) -> Image {
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": artifact,
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": EMPTY, "size": 2 },
        "layers": [{ "mediaType": kind, "digest": story.scans.keep_blob(content.as_bytes()), "size": content.len() }],
        "subject": { "mediaType": image.manifest.kind, "digest": image.digest(), "size": image.manifest.text.len() },
    });
    story.put(image.repository(), None, &Manifest::artifact(&manifest)).await
}
