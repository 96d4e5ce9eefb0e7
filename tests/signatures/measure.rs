//! How long one verification takes, of each kind. Asked for by name: `cargo test --release --test signatures -- --ignored measure`.

use std::time::Instant;

use ecr_scan_verifier::domain::signature::artifact::Signature;
use ecr_scan_verifier::domain::signature::key::{Algorithm, CosignKey, Hash};
use ecr_scan_verifier::domain::signature::notation::Scheme;
use ecr_scan_verifier::domain::signature::trust::{Root, Rule, Signer, Trust};
use ecr_scan_verifier::domain::signature::verify::Verification;

use crate::making::{Draft, as_bundle, as_jws, bundle, classic, now, subject};
use crate::pki::{Chain, Key};
use crate::runner::{Run, Test};

pub fn tests() -> Vec<Test> {
    vec![Test { name: "measure::one_verification_of_each_kind".into(), run: Run::WhenAsked(one_verification_of_each_kind) }]
}

fn one_verification_of_each_kind() -> String {
    let mut lines = Vec::new();
    for (name, key, how) in [
        ("P-256", Key::p256(), Algorithm::Ecdsa(Hash::Sha256)),
        ("P-384, SHA-256", Key::p384(), Algorithm::Ecdsa(Hash::Sha256)),
        ("P-384, SHA-384", Key::p384(), Algorithm::Ecdsa(Hash::Sha384)),
        ("P-521, SHA-512", Key::p521(), Algorithm::Ecdsa(Hash::Sha512)),
        ("RSA 2048", Key::rsa(2048), Algorithm::RsaPkcs1(Hash::Sha256)),
        ("RSA 4096", Key::rsa(4096), Algorithm::RsaPkcs1(Hash::Sha256)),
        ("Ed25519", Key::ed25519(), Algorithm::Ed25519),
    ] {
        let signer = || Signer::cosign("Cosign", CosignKey::from_pem(&key.pem()).unwrap());
        lines.push(measure(&format!("Cosign classic, {name}"), signer(), classic(&key, how)));
        lines.push(measure(&format!("Cosign bundle, {name}"), signer(), as_bundle(&bundle(&key, how))));
    }
    let chain = Chain::of_aws_signer();
    lines.push(measure("AWS Signer (ES384, four certificates)", crate::aws_signer::signer(&chain), as_jws(&Draft::of_aws_signer(&chain).jws(&chain.key))));
    for (name, key) in [("ES256", Key::p256()), ("ES512", Key::p521()), ("PS384", Key::rsa(3072))] {
        let chain = Chain::short(key);
        let signer = || Signer::authority("ours", Scheme::X509, vec![Root::from_der(chain.root()).unwrap()]).unwrap();
        let draft = Draft::new(&chain, Scheme::X509);
        lines.push(measure(&format!("Notation JWS, {name}, two certificates"), signer(), as_jws(&draft.jws(&chain.key))));
        lines.push(measure(&format!("Notation COSE, {name}, two certificates"), signer(), Signature::Cose(draft.cose(&chain.key).sign(&chain.key))));
    }
    format!("\n{}", lines.join("\n"))
}

/// The median of many, in microseconds.
fn measure(name: &str, signer: Signer, signature: Signature) -> String {
    let trust = Trust::new(Rule::AllOf, vec![signer]).unwrap();
    let (subject, signatures) = (subject(), [signature]);
    let mut took: Vec<u128> = (0..101)
        .map(|_| {
            let began = Instant::now();
            let verification = Verification::begin(&trust, &subject, &signatures, now());
            let took = began.elapsed().as_micros();
            assert!(verification.question().is_some() || verification.verdict().is_verified(), "{name}");
            took
        })
        .collect();
    took.sort_unstable();
    format!("  {:>6} us  {name}", took[took.len() / 2])
}
