//! Public cases: signatures that other tools made, and what they are worth.
//!
//! For Notation a case says what the envelope, its chain, the time, the root and the descriptor are worth; rules of a plugin come
//! on top, so each case is also held against AWS Signer's rules, under which none of them is good.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ecr_scan_verifier::domain::image::ImageDigest;
use ecr_scan_verifier::domain::signature::artifact::{self, Found, FoundBy, Signature};
use ecr_scan_verifier::domain::signature::key::CosignKey;
use ecr_scan_verifier::domain::signature::notation::{self, Scheme, Subject};
use ecr_scan_verifier::domain::signature::trust::{Root, Rule, Signer, Trust};
use ecr_scan_verifier::domain::signature::verdict::{Reason, Verdict};
use ecr_scan_verifier::domain::signature::verify::Verification;
use ecr_scan_verifier::domain::signature::{cose, jws, signer};
use jiff::Timestamp;
use serde::Deserialize;

use crate::runner::{Run, Test};

#[derive(Clone, Deserialize)]
struct Case {
    id: String,
    format: String,
    digest: ImageDigest,
    expect: String,
    reason: Option<String>,
    key: Option<String>,
    manifest: Option<String>,
    #[serde(default)]
    blobs: BTreeMap<ImageDigest, String>,
    #[serde(default)]
    layers: Vec<Layer>,
    bundle: Option<String>,
    envelope: Option<String>,
    subject: Option<Descriptor>,
    #[serde(default)]
    roots: Vec<String>,
    scheme: Option<Scheme>,
    now: Option<Timestamp>,
}

#[derive(Clone, Deserialize)]
struct Layer {
    payload: String,
    annotations: BTreeMap<String, String>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    size: u64,
}

/// Without the folder this is one test that is ignored.
pub fn tests() -> Vec<Test> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/signatures");
    let folder = std::env::var_os("SIGNATURE_VECTORS").map_or(default, PathBuf::from);
    let Ok(text) = std::fs::read(folder.join("cases.json")) else {
        let why = format!("there is no {} (SIGNATURE_VECTORS names the folder)", folder.join("cases.json").display());
        return vec![Test { name: "vectors".to_owned(), run: Run::Cannot(why) }];
    };
    let cases: Vec<Case> = serde_json::from_slice(&text).expect("cases.json is a list of cases");
    let test = |case: Case| {
        let folder = folder.clone();
        Test { name: format!("vectors::{}", case.id), run: Run::Always(Box::new(move || case.run(&folder))) }
    };
    let mut tests: Vec<Test> = cases.into_iter().map(test).collect();
    for (name, file, run) in [
        ("AS-1", "aws-signer-notation-plugin/revocation-input.json", revocation_input as fn(&Path)),
        ("AS-2", "aws-signer-notation-plugin/trusted-identities.json", trusted_identities),
        ("roots", "aws-signer-notation-root.crt", aws_signers_roots),
    ] {
        let folder = folder.clone();
        let run = if folder.join(file).exists() {
            Run::Always(Box::new(move || {
                run(&folder);
                String::new()
            }))
        } else {
            Run::Cannot(format!("there is no {file} beside the cases"))
        };
        tests.push(Test { name: format!("vectors::{name}"), run });
    }
    tests
}

impl Case {
    fn run(self, folder: &Path) -> String {
        let got = self.judge(folder);
        let expected = self.reason.as_ref().map_or(self.expect.clone(), |reason| format!("{} ({reason})", self.expect));
        let said = got.as_ref().err().map_or("verified".to_owned(), |reason| format!("rejected ({})", reason.word()));
        let line = format!("expected {expected}, got {said}");
        assert_eq!(got.is_ok(), self.expect == "verified", "{line}: {got:?}");
        if let (Some(expected), Err(got)) = (&self.reason, &got) {
            // To a verifier another key and an altered signature look the same; what nobody supports need not be readable.
            let alike = [["wrong-key", "tampered"], ["unsupported", "malformed"]];
            let same = expected == got.word() || alike.iter().any(|words| words.contains(&expected.as_str()) && words.contains(&got.word()));
            assert!(same, "{line}: {got:?}");
        }
        if self.format.starts_with("notation") {
            self.is_not_by_aws_signer(folder);
        }
        line
    }

    fn judge(&self, folder: &Path) -> Result<(), Reason> {
        match self.format.as_str() {
            "cosign-legacy" | "cosign-bundle" => {
                let text = std::fs::read_to_string(folder.join(self.key.as_ref().expect("a case of Cosign names a key"))).unwrap();
                let key = CosignKey::from_pem(&text).map_err(|error| Reason::Unsupported(error.to_string()))?;
                self.verify(folder, Signer::cosign("the key", key))
            }
            "notation-jws" | "notation-cose" => {
                let mut reason = Reason::Unsigned { others: 0 };
                for signature in self.signatures(folder) {
                    match self.judge_envelope(folder, signature) {
                        Ok(()) => return Ok(()),
                        Err(why) => reason = why,
                    }
                }
                Err(reason)
            }
            other => panic!("a format that this program does not know: {other}"),
        }
    }

    fn judge_envelope(&self, folder: &Path, signature: Signature) -> Result<(), Reason> {
        let envelope = match signature {
            Signature::Jws(bytes) => jws::read(&bytes)?,
            Signature::Cose(bytes) => cose::read(&bytes)?,
            Signature::Unusable { reason, .. } => return Err(reason),
            other => panic!("{other:?} in a case of Notation"),
        };
        notation::check(envelope, self.scheme.unwrap(), &self.roots(folder), &signer::UNDERSTOOD, &self.subject(), self.now.unwrap()).map(|_| ())
    }

    fn is_not_by_aws_signer(&self, folder: &Path) {
        let profile = "arn:aws:signer:eu-west-1:123456789012:/signing-profiles/web".to_owned();
        let signer = Signer::aws_signer("AWS Signer", "aws", &[profile], &self.roots(folder)).unwrap();
        assert!(self.verify(folder, signer).is_err(), "good under AWS Signer's rules");
    }

    fn verify(&self, folder: &Path, signer: Signer) -> Result<(), Reason> {
        let trust = Trust::new(Rule::AllOf, vec![signer]).unwrap();
        let now = self.now.unwrap_or_else(|| "2026-11-24T00:00:00Z".parse().unwrap());
        match Verification::begin(&trust, &self.subject(), &self.signatures(folder), now).verdict() {
            Verdict::Verified(_) => Ok(()),
            Verdict::Refused(refused) => Err(refused[0].reason.clone()),
        }
    }

    fn subject(&self) -> Subject {
        let Descriptor { media_type, size } = self.subject.clone().unwrap_or(Descriptor { media_type: String::new(), size: 0 });
        Subject { digest: self.digest.clone(), media_type, size }
    }

    fn roots(&self, folder: &Path) -> Vec<Root> {
        self.roots.iter().flat_map(|file| Root::from_pem(&std::fs::read_to_string(folder.join(file)).unwrap()).unwrap()).collect()
    }

    fn signatures(&self, folder: &Path) -> Vec<Signature> {
        let read = |file: &String| std::fs::read(folder.join(file)).unwrap();
        let mut signatures = Vec::new();
        if let Some(manifest) = self.manifest.as_ref().map(read) {
            let by = if self.format == "cosign-legacy" { FoundBy::Tag } else { FoundBy::Referrer };
            match artifact::read(&manifest, &ImageDigest::of(&manifest), by) {
                Found::Wanted(all) => signatures.extend(all.into_iter().map(|wanted| {
                    let file = &self.blobs[&wanted.digest];
                    wanted.holds(read(file))
                })),
                Found::Unusable(signature) => signatures.push(signature),
                Found::NotASignature => {}
            }
        }
        signatures.extend(self.layers.iter().map(|layer| Signature::Cosign { payload: read(&layer.payload), annotations: layer.annotations.clone() }));
        signatures.extend(self.bundle.as_ref().map(|file| Signature::Bundle(read(file))));
        signatures
            .extend(self.envelope.as_ref().map(|file| if self.format == "notation-cose" { Signature::Cose(read(file)) } else { Signature::Jws(read(file)) }));
        signatures
    }
}

/// The hashes that AWS's own plugin sends for a chain.
fn revocation_input(folder: &Path) {
    let folder = folder.join("aws-signer-notation-plugin");
    let input: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("revocation-input.json")).unwrap()).unwrap();
    let file = |name: &serde_json::Value| std::fs::read_to_string(folder.join(name.as_str().unwrap())).unwrap();
    let pem: Vec<String> = input["chain"].as_array().unwrap().iter().map(file).collect();
    let chain: Vec<Vec<u8>> = pem.iter().map(|text| ecr_scan_verifier::domain::signature::key::pem_blocks(text).unwrap().remove(0).1).collect();
    let expected: Vec<&str> = input["expected"]["certificateHashes"].as_array().unwrap().iter().map(|hash| hash.as_str().unwrap()).collect();
    assert_eq!(signer::certificate_hashes(&chain).unwrap(), expected);
}

fn trusted_identities(folder: &Path) {
    let text = std::fs::read(folder.join("aws-signer-notation-plugin/trusted-identities.json")).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let version = file["signingProfileVersion"].as_str().unwrap();
    for case in file["cases"].as_array().unwrap() {
        let trusted: Vec<String> = case["trusted"].as_array().unwrap().iter().map(|arn| arn.as_str().unwrap().to_owned()).collect();
        let identities = signer::Identities::new("aws", &trusted);
        assert_eq!(identities.is_ok_and(|identities| identities.include(version)), case["match"] == true, "{trusted:?}");
    }
}

/// The fingerprints in the code are those of the certificates that AWS publishes.
fn aws_signers_roots(folder: &Path) {
    for (partition, file) in [("aws", "aws-signer-notation-root.crt"), ("aws-us-gov", "aws-us-gov-signer-notation-root.crt")] {
        let published = Root::from_pem(&std::fs::read_to_string(folder.join(file)).unwrap()).unwrap();
        assert_eq!(published, [Root::of_aws_signer(partition).unwrap()]);
    }
}
