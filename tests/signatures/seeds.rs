//! What the fuzz targets for signatures begin with: one good signature in each format, by keys that nobody has afterwards, and whom to
//! trust for them. Asked for by name, since it writes: `cargo test --test signatures -- --ignored seeds`.

use std::fs;
use std::path::Path;

use ecr_scan_verifier::domain::image::ImageDigest;
use ecr_scan_verifier::domain::signature::artifact::Signature;
use ecr_scan_verifier::domain::signature::key::{Algorithm, Hash};
use ecr_scan_verifier::domain::signature::notation::Scheme;
use serde_json::{Value, json};

use crate::making::{Draft, MANIFEST, PROFILE, bundle, classic, payload, subject};
use crate::pki::{Chain, Key, pem};
use crate::runner::{Run, Test};

pub fn tests() -> Vec<Test> {
    vec![Test { name: "seeds::are_made_anew_with_whom_to_trust".into(), run: Run::WhenAsked(are_made_anew_with_whom_to_trust) }]
}

fn are_made_anew_with_whom_to_trust() -> String {
    let mut trusted = Vec::new();
    write("trust/manifest.json", MANIFEST);
    for (name, key, how) in [
        ("p256", Key::p256(), Algorithm::Ecdsa(Hash::Sha256)),
        ("p384", Key::p384(), Algorithm::Ecdsa(Hash::Sha384)),
        ("p521", Key::p521(), Algorithm::Ecdsa(Hash::Sha512)),
        ("rsa", Key::rsa(2048), Algorithm::RsaPkcs1(Hash::Sha256)),
        ("ed25519", Key::ed25519(), Algorithm::Ed25519),
    ] {
        trusted.push(key.pem());
        write(&format!("seeds/pem_key/{name}"), key.pem().as_bytes());
        write(&format!("seeds/public_key/{name}"), &key.spki());
        write(&format!("seeds/cosign_bundle/{name}"), bundle(&key, how).to_string().as_bytes());
        let Signature::Cosign { payload, annotations } = classic(&key, how) else { unreachable!() };
        let signature = annotations.values().next().unwrap();
        write(&format!("seeds/cosign_classic/{name}"), &[signature.as_bytes(), b"\n", &payload].concat());
        let layer = json!({"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": ImageDigest::of(&payload), "size": payload.len(), "annotations": annotations});
        with_manifest(&format!("cosign_{name}"), json!({"schemaVersion": 2, "layers": [layer]}), &payload);
    }
    let another = classic(&Key::p256(), Algorithm::Ecdsa(Hash::Sha256));
    let Signature::Cosign { annotations, .. } = another else { unreachable!() };
    write("seeds/cosign_classic/another_key", &[annotations.values().next().unwrap().as_bytes(), b"\n", &payload(&subject().digest)].concat());
    write("trust/cosign.pem", trusted.concat().as_bytes());

    let ours = [("es256", Chain::short(Key::p256())), ("es512", Chain::short(Key::p521())), ("ps256", Chain::short(Key::rsa(2048)))];
    for (name, chain) in &ours {
        let draft = Draft::new(chain, Scheme::X509);
        envelopes(name, &draft, chain);
    }
    let vouching = Chain::short(Key::p384());
    envelopes("vouched", &Draft::new(&vouching, Scheme::SigningAuthority), &vouching);
    let aws = Chain::of_aws_signer();
    envelopes("aws_signer", &Draft::of_aws_signer(&aws), &aws);
    let roots: String = ours.iter().map(|(_, chain)| pem("CERTIFICATE", chain.root())).collect();
    write("trust/signers.pem", roots.as_bytes());
    write("trust/authority.pem", pem("CERTIFICATE", vouching.root()).as_bytes());
    write("trust/aws_signer.pem", pem("CERTIFICATE", aws.root()).as_bytes());
    write("seeds/trusted_roots/three", roots.as_bytes());
    write("seeds/signer_profiles/profile", format!("{PROFILE}\n{}", crate::making::VERSION).as_bytes());
    write("seeds/certificate/root", aws.root());
    write("seeds/certificate/rsa", &ours[2].1.certificates[0]);
    write("seeds/certificate_chain/short", &ours[0].1.certificates.concat());
    write("seeds/certificate_chain/aws_signer", &aws.certificates.concat());
    String::new()
}

fn envelopes(name: &str, draft: &Draft, chain: &Chain) {
    let jws = draft.jws(&chain.key).to_string().into_bytes();
    let cose = draft.cose(&chain.key).sign(&chain.key);
    write(&format!("seeds/notation_jws/{name}"), &jws);
    write(&format!("seeds/notation_cose/{name}"), &cose);
    for (kind, media_type, envelope) in [("jws", "application/jose+json", jws), ("cose", "application/cose", cose)] {
        let layer = json!({"mediaType": media_type, "digest": ImageDigest::of(&envelope), "size": envelope.len()});
        with_manifest(&format!("notation_{kind}_{name}"), json!({"artifactType": "application/vnd.cncf.notary.signature", "layers": [layer]}), &envelope);
    }
}

/// A manifest and the one blob that it asks for, as the target takes them.
fn with_manifest(name: &str, manifest: Value, blob: &[u8]) {
    write(&format!("seeds/signature_manifest/{name}"), &[manifest.to_string().as_bytes(), b"\0", blob].concat());
}

fn write(name: &str, bytes: &[u8]) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, bytes).unwrap();
}
