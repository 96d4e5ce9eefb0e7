//! Signatures in all formats, made as the tools make them. What is signed can be changed before, and what was signed after.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ecr_scan_verifier::domain::image::ImageDigest;
use ecr_scan_verifier::domain::signature::artifact::Signature;
use ecr_scan_verifier::domain::signature::key::Algorithm;
use ecr_scan_verifier::domain::signature::notation::{Scheme, Subject};
use ecr_scan_verifier::domain::signature::trust::{Rule, Signer, Trust};
use ecr_scan_verifier::domain::signature::verdict::{Reason, Verdict, Verified};
use ecr_scan_verifier::domain::signature::verify::Verification;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::pki::{Chain, Key, time};

pub const MANIFEST: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}"#;
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const PROFILE: &str = "arn:aws:signer:eu-west-1:123456789012:/signing-profiles/web";
pub const VERSION: &str = "arn:aws:signer:eu-west-1:123456789012:/signing-profiles/web/Ab3dEf5hIj";
pub const JOB: &str = "arn:aws:signer:eu-west-1:123456789012:/signing-jobs/97af3947-e7b2-4533-8d9d-6741156f0b79";
pub const SIGNED_AT: &str = "2026-11-24T08:00:00Z";
pub const EXPIRES_AT: &str = "2037-11-24T08:00:00Z";

pub fn now() -> Timestamp {
    time("2026-11-24T09:00:00Z")
}

pub fn subject() -> Subject {
    Subject::of(MANIFEST, MANIFEST_TYPE)
}

/// One signer, no question: the verdict.
pub fn verify(signer: Signer, signatures: &[Signature]) -> Result<Verified, Reason> {
    verify_of(signer, &subject(), signatures, now())
}

pub fn verify_of(signer: Signer, subject: &Subject, signatures: &[Signature], now: Timestamp) -> Result<Verified, Reason> {
    let trust = Trust::new(Rule::AllOf, vec![signer]).unwrap();
    match Verification::begin(&trust, subject, signatures, now).verdict() {
        Verdict::Verified(mut verified) => Ok(verified.remove(0)),
        Verdict::Refused(mut refused) => Err(refused.remove(0).reason),
    }
}

/// What Cosign signs of an image.
pub fn payload(digest: &ImageDigest) -> Vec<u8> {
    let critical =
        json!({"identity": {"docker-reference": "registry/app"}, "image": {"docker-manifest-digest": digest}, "type": "cosign container image signature"});
    json!({"critical": critical, "optional": null}).to_string().into_bytes()
}

pub fn classic_of(key: &Key, how: Algorithm, payload: Vec<u8>) -> Signature {
    let signature = STANDARD.encode(key.sign(how, &payload));
    Signature::Cosign { payload, annotations: BTreeMap::from([("dev.cosignproject.cosign/signature".to_owned(), signature)]) }
}

pub fn classic(key: &Key, how: Algorithm) -> Signature {
    classic_of(key, how, payload(&subject().digest))
}

pub fn statement(digest: &ImageDigest) -> Value {
    json!({"_type": "https://in-toto.io/Statement/v1", "subject": [{"digest": {"sha256": &digest.as_str()[7..]}, "annotations": {}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {}})
}

/// Cosign 3's bundle, as JSON that a test can still change.
pub fn bundle_of(key: &Key, how: Algorithm, payload_type: &str, statement: &[u8]) -> Value {
    let signed = [format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), statement.len()).as_bytes(), statement].concat();
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": STANDARD.encode(ring::digest::digest(&ring::digest::SHA256, &key.spki()))}},
        "dsseEnvelope": {"payload": STANDARD.encode(statement), "payloadType": payload_type, "signatures": [{"sig": STANDARD.encode(key.sign(how, &signed))}]},
    })
}

pub fn bundle(key: &Key, how: Algorithm) -> Value {
    bundle_of(key, how, "application/vnd.in-toto+json", statement(&subject().digest).to_string().as_bytes())
}

pub fn as_bundle(json: &Value) -> Signature {
    Signature::Bundle(json.to_string().into_bytes())
}

/// An envelope before it is signed.
#[derive(Clone)]
pub struct Draft {
    pub header: Map<String, Value>,
    pub payload: Vec<u8>,
    pub certificates: Vec<Vec<u8>>,
}

impl Draft {
    pub fn new(chain: &Chain, scheme: Scheme) -> Self {
        let time = if scheme == Scheme::X509 { "io.cncf.notary.signingTime" } else { "io.cncf.notary.authenticSigningTime" };
        let mut critical = vec!["io.cncf.notary.signingScheme", "io.cncf.notary.expiry"];
        if scheme == Scheme::SigningAuthority {
            critical.push(time);
        }
        let header = json!({
            "alg": chain.key.envelope_algorithm().1, "cty": "application/vnd.cncf.notary.payload.v1+json", "crit": critical,
            "io.cncf.notary.signingScheme": scheme.text(), "io.cncf.notary.expiry": EXPIRES_AT, time: SIGNED_AT,
        });
        let Value::Object(header) = header else { unreachable!() };
        Self { header, payload: target(&subject()), certificates: chain.certificates.clone() }
    }

    /// As AWS Signer makes them.
    pub fn of_aws_signer(chain: &Chain) -> Self {
        let mut draft = Self::new(chain, Scheme::SigningAuthority);
        draft.critical("io.cncf.notary.verificationPlugin", json!("com.amazonaws.signer.notation.plugin"));
        draft.critical("com.amazonaws.signer.signingProfileVersion", json!(VERSION));
        draft.critical("com.amazonaws.signer.signingJob", json!(JOB));
        draft
    }

    pub fn set(&mut self, name: &str, value: Value) {
        self.header.insert(name.to_owned(), value);
    }

    pub fn critical(&mut self, name: &str, value: Value) {
        self.set(name, value);
        self.header["crit"].as_array_mut().unwrap().push(json!(name));
    }

    pub fn without(&mut self, name: &str) {
        self.header.remove(name);
        if let Some(critical) = self.header.get_mut("crit").and_then(Value::as_array_mut) {
            critical.retain(|one| one != name);
        }
    }

    pub fn not_critical(&mut self, name: &str) {
        self.header["crit"].as_array_mut().unwrap().retain(|one| one != name);
    }

    pub fn jws(&self, key: &Key) -> Value {
        self.jws_of(key, &Value::Object(self.header.clone()).to_string())
    }

    /// With a header of one's own making.
    pub fn jws_of(&self, key: &Key, header: &str) -> Value {
        let (protected, payload) = (URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&self.payload));
        let signature = key.sign(key.envelope_algorithm().0, format!("{protected}.{payload}").as_bytes());
        let x5c: Vec<String> = self.certificates.iter().map(|der| STANDARD.encode(der)).collect();
        json!({"payload": payload, "protected": protected, "header": {"x5c": x5c, "io.cncf.notary.signingAgent": "a test"}, "signature": URL_SAFE_NO_PAD.encode(signature)})
    }

    pub fn cose(&self, key: &Key) -> Cose {
        let mut members = Vec::new();
        for (name, value) in &self.header {
            let text = || value.as_str().unwrap_or_default();
            let (label, value) = match name.as_str() {
                "alg" => (cbor_integer(1), cbor_integer(key.envelope_algorithm().2)),
                "cty" => (cbor_integer(3), cbor_text(text())),
                "crit" => (cbor_integer(2), cbor_array(&value.as_array().unwrap().iter().map(|name| cbor_text(name.as_str().unwrap())).collect::<Vec<_>>())),
                name if name.ends_with("Time") || name.ends_with("expiry") => (cbor_text(name), [vec![0xc1], cbor_integer(time(text()).as_second())].concat()),
                name => (cbor_text(name), cbor_text(text())),
            };
            members.push([label, value].concat());
        }
        Cose { members, payload: self.payload.clone(), certificates: self.certificates.clone() }
    }
}

pub fn as_jws(json: &Value) -> Signature {
    Signature::Jws(json.to_string().into_bytes())
}

pub fn target(subject: &Subject) -> Vec<u8> {
    json!({"targetArtifact": {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size}}).to_string().into_bytes()
}

/// COSE before it is signed.
pub struct Cose {
    pub members: Vec<Vec<u8>>,
    pub payload: Vec<u8>,
    pub certificates: Vec<Vec<u8>>,
}

impl Cose {
    pub fn sign(&self, key: &Key) -> Vec<u8> {
        let protected = cbor_map(&self.members);
        let signed = cbor_array(&[cbor_text("Signature1"), cbor_bytes(&protected), cbor_bytes(&[]), cbor_bytes(&self.payload)]);
        let chain = cbor_array(&self.certificates.iter().map(|der| cbor_bytes(der)).collect::<Vec<_>>());
        let unprotected = cbor_map(&[[cbor_integer(33), chain].concat()]);
        let signature = key.sign(key.envelope_algorithm().0, &signed);
        [vec![0xd2], cbor_array(&[cbor_bytes(&protected), unprotected, cbor_bytes(&self.payload), cbor_bytes(&signature)])].concat()
    }
}

fn cbor_head(major: u8, number: u64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    match number {
        0..=23 => vec![major << 5 | number as u8],
        24..=0xff => vec![major << 5 | 24, number as u8],
        0x100..=0xffff => [&[major << 5 | 25], &bytes[6..]].concat(),
        _ => [&[major << 5 | 26], &bytes[4..]].concat(),
    }
}

pub fn cbor_integer(number: i64) -> Vec<u8> {
    if number < 0 { cbor_head(1, (-1 - number) as u64) } else { cbor_head(0, number as u64) }
}

pub fn cbor_text(text: &str) -> Vec<u8> {
    [cbor_head(3, text.len() as u64), text.as_bytes().to_vec()].concat()
}

pub fn cbor_bytes(bytes: &[u8]) -> Vec<u8> {
    [cbor_head(2, bytes.len() as u64), bytes.to_vec()].concat()
}

pub fn cbor_array(items: &[Vec<u8>]) -> Vec<u8> {
    [cbor_head(4, items.len() as u64), items.concat()].concat()
}

/// Of members that are a key and a value each.
pub fn cbor_map(members: &[Vec<u8>]) -> Vec<u8> {
    [cbor_head(5, members.len() as u64), members.concat()].concat()
}
