//! What a signature's manifest asks to be fetched, and whether that came.

use ecr_scan_verifier::domain::image::ImageDigest;
use ecr_scan_verifier::domain::signature::artifact::{Found, FoundBy, Signature, Wanted, read};
use ecr_scan_verifier::domain::signature::key::{Algorithm, CosignKey, Hash};
use ecr_scan_verifier::domain::signature::trust::{Kind, Signer};
use ecr_scan_verifier::domain::signature::verdict::Reason;
use serde_json::{Value, json};

use crate::making::{classic, verify};
use crate::pki::Key;
use crate::runner::Test;

pub fn tests() -> Vec<Test> {
    crate::tests!["fetching": each_layer_under_cosigns_tag_is_a_signature, a_referrer_is_read_by_what_it_is, a_tag_does_not_hide_what_a_manifest_is,
        what_is_not_a_signature_is_left_alone,
        a_manifest_that_is_another_is_not_read, a_blob_that_is_another_is_no_signature, what_is_too_large_is_not_fetched,
        one_layer_that_cannot_be_had_does_not_hide_the_others, what_could_not_be_fetched_could_not_be_checked]
}

const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const NOTATION: &str = "application/vnd.cncf.notary.signature";

fn layer(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": ImageDigest::of(bytes), "size": bytes.len()})
}

fn found(manifest: &Value, by: FoundBy) -> Found {
    let bytes = manifest.to_string().into_bytes();
    read(&bytes, &ImageDigest::of(&bytes), by)
}

fn wanted(manifest: &Value, by: FoundBy) -> Vec<Wanted> {
    match found(manifest, by) {
        Found::Wanted(wanted) => wanted,
        other => panic!("{other:?}"),
    }
}

fn unusable(found: Found) -> (Option<Kind>, Reason) {
    match found {
        Found::Unusable(Signature::Unusable { kind, reason }) => (kind, reason),
        other => panic!("{other:?}"),
    }
}

/// A manifest of classic signatures and their payloads.
fn tagged(signatures: &[Signature]) -> (Value, Vec<Vec<u8>>) {
    let parts: Vec<(Value, Vec<u8>)> = signatures
        .iter()
        .map(|signature| {
            let Signature::Cosign { payload, annotations } = signature else { unreachable!() };
            let mut layer = layer(SIMPLE, payload);
            layer["annotations"] = json!(annotations);
            (layer, payload.clone())
        })
        .collect();
    let (layers, payloads): (Vec<Value>, Vec<Vec<u8>>) = parts.into_iter().unzip();
    (json!({"schemaVersion": 2, "config": {"mediaType": "application/vnd.oci.image.config.v1+json"}, "layers": layers}), payloads)
}

fn each_layer_under_cosigns_tag_is_a_signature() {
    let (one, other) = (Key::p256(), Key::p256());
    let how = Algorithm::Ecdsa(Hash::Sha256);
    let (mut manifest, payloads) = tagged(&[classic(&one, how), classic(&other, how)]);
    for media_type in [SIMPLE, "application/octet-stream"] {
        manifest["layers"][1]["mediaType"] = json!(media_type);
        let signatures: Vec<Signature> =
            wanted(&manifest, FoundBy::Tag).into_iter().zip(&payloads).map(|(wanted, bytes)| wanted.holds(bytes.clone())).collect();
        for key in [&one, &other] {
            assert!(verify(Signer::cosign("Cosign", CosignKey::from_pem(&key.pem()).unwrap()), &signatures).is_ok());
        }
    }
}

fn a_referrer_is_read_by_what_it_is() {
    for (manifest, kind) in [
        (
            json!({"artifactType": NOTATION, "config": {"mediaType": "application/vnd.oci.empty.v1+json"}, "layers": [layer("application/jose+json", b"x")]}),
            Kind::Notation,
        ),
        (json!({"config": {"mediaType": NOTATION}, "layers": [layer("application/cose", b"x")]}), Kind::Notation),
        (json!({"artifactType": BUNDLE, "layers": [layer(BUNDLE, b"x")]}), Kind::Cosign),
        (json!({"artifactType": "something newer", "layers": [layer("application/vnd.dev.sigstore.bundle.v0.9+json", b"x")]}), Kind::Cosign),
        (json!({"artifactType": "application/vnd.dev.cosign.artifact.sig.v1+json", "layers": [layer(SIMPLE, b"x")]}), Kind::Cosign),
    ] {
        let wanted = wanted(&manifest, FoundBy::Referrer);
        assert_eq!((wanted.len(), wanted[0].kind()), (1, kind), "{manifest}");
        assert_eq!((&wanted[0].digest, wanted[0].size), (&ImageDigest::of(b"x"), 1));
    }
    for layers in [
        json!([]),
        json!([layer("application/jose+json", b"x"), layer("application/jose+json", b"y")]),
        json!([layer("application/vnd.oci.image.layer.v1.tar", b"x")]),
    ] {
        let (kind, _) = unusable(found(&json!({"artifactType": NOTATION, "layers": layers}), FoundBy::Referrer));
        assert_eq!(kind, Some(Kind::Notation));
    }
}

/// Whoever can push can put Cosign's tag on a signature that refers to the image, and the registry may then list it once.
fn a_tag_does_not_hide_what_a_manifest_is() {
    for (manifest, kind) in [
        (json!({"artifactType": BUNDLE, "layers": [layer(BUNDLE, b"x")]}), Kind::Cosign),
        (json!({"artifactType": NOTATION, "layers": [layer("application/jose+json", b"x")]}), Kind::Notation),
    ] {
        assert_eq!(wanted(&manifest, FoundBy::Tag), wanted(&manifest, FoundBy::Referrer));
        assert_eq!(wanted(&manifest, FoundBy::Tag)[0].kind(), kind);
    }
}

fn what_is_not_a_signature_is_left_alone() {
    for manifest in [
        json!({"artifactType": "application/vnd.cyclonedx+json", "layers": [layer("application/vnd.cyclonedx+json", b"x")]}),
        json!({"artifactType": BUNDLE, "layers": [layer(BUNDLE, b"x"), layer(BUNDLE, b"y")]}),
        json!({"layers": []}),
        json!({"manifests": []}),
    ] {
        assert!(matches!(found(&manifest, FoundBy::Referrer), Found::NotASignature), "{manifest}");
    }
    assert!(matches!(found(&json!({"layers": [layer("application/octet-stream", b"x")]}), FoundBy::Tag), Found::NotASignature));
}

fn a_manifest_that_is_another_is_not_read() {
    let (manifest, _) = tagged(&[classic(&Key::p256(), Algorithm::Ecdsa(Hash::Sha256))]);
    let bytes = manifest.to_string().into_bytes();
    for (by, kind) in [(FoundBy::Tag, Some(Kind::Cosign)), (FoundBy::Referrer, None)] {
        let Found::Unusable(Signature::Unusable { kind: said, reason }) = read(&bytes, &ImageDigest::of(b"another"), by) else { panic!() };
        assert_eq!((said, reason.word()), (kind, "tampered"));
    }
    for text in ["", "[]", "{\"layers\": 1}", "not JSON"] {
        assert_eq!(unusable(read(text.as_bytes(), &ImageDigest::of(text.as_bytes()), FoundBy::Referrer)).1.word(), "malformed");
    }
}

fn a_blob_that_is_another_is_no_signature() {
    let (manifest, payloads) = tagged(&[classic(&Key::p256(), Algorithm::Ecdsa(Hash::Sha256))]);
    for bytes in [b"another".to_vec(), Vec::new(), [&payloads[0][..], b"\n"].concat(), vec![b' '; payloads[0].len()]] {
        let Signature::Unusable { kind, reason } = wanted(&manifest, FoundBy::Tag).remove(0).holds(bytes) else { panic!() };
        assert_eq!((kind, reason.word()), (Some(Kind::Cosign), "tampered"));
    }
    let mut other_size = manifest;
    other_size["layers"][0]["size"] = json!(payloads[0].len() + 1);
    assert!(matches!(wanted(&other_size, FoundBy::Tag).remove(0).holds(payloads[0].clone()), Signature::Unusable { .. }));
}

fn what_is_too_large_is_not_fetched() {
    let mut large = layer("application/jose+json", b"x");
    large["size"] = json!(1024 * 1024 + 1);
    assert_eq!(unusable(found(&json!({"artifactType": NOTATION, "layers": [large]}), FoundBy::Referrer)).1.word(), "malformed");
    let many = json!({"layers": vec![layer(SIMPLE, b"x"); 101]});
    assert_eq!(unusable(found(&many, FoundBy::Tag)).1.word(), "could-not-check");
    let bytes = vec![b' '; 4 * 1024 * 1024 + 1];
    let (_, reason) = unusable(read(&bytes, &ImageDigest::of(&bytes), FoundBy::Tag));
    assert_eq!(reason, Reason::Malformed("its manifest has 4194305 bytes, and 4194304 is the most".into()));
}

fn one_layer_that_cannot_be_had_does_not_hide_the_others() {
    let key = Key::p256();
    let (mut manifest, payloads) = tagged(&[classic(&key, Algorithm::Ecdsa(Hash::Sha256)), classic(&key, Algorithm::Ecdsa(Hash::Sha256))]);
    manifest["layers"][0]["digest"] = json!("sha512:00");
    let signatures: Vec<Signature> = wanted(&manifest, FoundBy::Tag).into_iter().map(|wanted| wanted.holds(payloads[1].clone())).collect();
    assert!(verify(Signer::cosign("Cosign", CosignKey::from_pem(&key.pem()).unwrap()), &signatures).is_ok());
    manifest["layers"][1]["digest"] = json!("");
    assert_eq!(unusable(found(&manifest, FoundBy::Tag)).1.word(), "malformed");
}

fn what_could_not_be_fetched_could_not_be_checked() {
    let (manifest, _) = tagged(&[classic(&Key::p256(), Algorithm::Ecdsa(Hash::Sha256))]);
    let Signature::Unusable { kind, reason } = wanted(&manifest, FoundBy::Tag).remove(0).could_not_be_fetched("timed out") else { panic!() };
    assert_eq!((kind, reason.word()), (Some(Kind::Cosign), "could-not-check"));
}
