//! Laws: no byte of what is signed, of a signature, a certificate or a manifest can be changed; and no input makes a reader fall over.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ecr_scan_verifier::domain::image::ImageDigest;
use ecr_scan_verifier::domain::signature::artifact::{self, FoundBy, Signature};
use ecr_scan_verifier::domain::signature::certificate::Certificate;
use ecr_scan_verifier::domain::signature::key::{Algorithm, CosignKey, Hash, PublicKey, pem_blocks};
use ecr_scan_verifier::domain::signature::notation::{Scheme, Subject};
use ecr_scan_verifier::domain::signature::signer::{Identities, RevocationAnswer};
use ecr_scan_verifier::domain::signature::trust::{Root, Rule, Signer, Trust};
use ecr_scan_verifier::domain::signature::verify::Verification;
use ecr_scan_verifier::domain::signature::{cose, jws};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use crate::making::{Draft, MANIFEST, MANIFEST_TYPE, PROFILE, as_bundle, as_jws, bundle, classic, now, subject};
use crate::pki::{Chain, Key, pem};
use crate::runner::Test;

pub fn tests() -> Vec<Test> {
    crate::tests!["laws": no_byte_of_a_manifest_can_be_changed, no_byte_of_a_classic_signature_can_be_changed, no_byte_of_a_bundle_can_be_changed,
        no_byte_of_an_envelope_can_be_changed, no_letter_of_an_envelope_can_be_changed, no_byte_of_cose_can_be_changed, no_byte_of_a_certificate_can_be_changed,
        any_bytes_are_read_or_refused, mangled_signatures_are_read_or_refused, any_names_are_read_or_refused]
}

/// One signer, what it signed, in every form.
struct Signed {
    name: &'static str,
    signer: Signer,
    signature: Signature,
}

static CHAIN: LazyLock<Chain> = LazyLock::new(Chain::of_aws_signer);
static SHORT: LazyLock<Chain> = LazyLock::new(|| Chain::short(Key::p256()));
static KEYS: LazyLock<Vec<(Key, Algorithm)>> = LazyLock::new(|| {
    vec![
        (Key::p256(), Algorithm::Ecdsa(Hash::Sha256)),
        (Key::p384(), Algorithm::Ecdsa(Hash::Sha384)),
        (Key::p521(), Algorithm::Ecdsa(Hash::Sha512)),
        (Key::rsa(2048), Algorithm::RsaPkcs1(Hash::Sha256)),
        (Key::ed25519(), Algorithm::Ed25519),
    ]
});
static ALL: LazyLock<Vec<Signed>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for (key, how) in KEYS.iter() {
        let signer = || Signer::cosign("Cosign", CosignKey::from_pem(&key.pem()).unwrap());
        all.push(Signed { name: "classic", signer: signer(), signature: classic(key, *how) });
        all.push(Signed { name: "bundle", signer: signer(), signature: as_bundle(&bundle(key, *how)) });
    }
    all.push(Signed { name: "AWS Signer", signer: crate::aws_signer::signer(&CHAIN), signature: as_jws(&Draft::of_aws_signer(&CHAIN).jws(&CHAIN.key)) });
    let own = Signer::authority("ours", Scheme::X509, vec![Root::from_der(SHORT.root()).unwrap()]).unwrap();
    let draft = Draft::new(&SHORT, Scheme::X509);
    all.push(Signed { name: "JWS", signer: own.clone(), signature: as_jws(&draft.jws(&SHORT.key)) });
    all.push(Signed { name: "COSE", signer: own, signature: Signature::Cose(draft.cose(&SHORT.key).sign(&SHORT.key)) });
    for signed in &all {
        assert!(is_good(&signed.signer, &signed.signature, &subject()), "{} is not good to begin with", signed.name);
    }
    all
});

fn is_good(signer: &Signer, signature: &Signature, subject: &Subject) -> bool {
    let trust = Trust::new(Rule::AllOf, vec![signer.clone()]).unwrap();
    let mut verification = Verification::begin(&trust, subject, std::slice::from_ref(signature), now());
    while verification.question().is_some() {
        verification.hear(RevocationAnswer::Revoked(vec![]));
    }
    verification.verdict().is_verified()
}

fn named(name: &str) -> Vec<&'static Signed> {
    ALL.iter().filter(|signed| signed.name == name).collect()
}

/// One byte, changed in some bits.
fn flip(bytes: &[u8], at: Index, mask: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = at.index(bytes.len());
    bytes[at] ^= mask;
    bytes
}

/// The same of a text in base64, so that what is changed is a byte and not a letter.
fn flip_base64(text: &mut Value, at: Index, mask: u8) {
    let bytes = STANDARD.decode(text.as_str().unwrap()).unwrap();
    *text = json!(STANDARD.encode(flip(&bytes, at, mask)));
}

fn flip_url(text: &mut Value, at: Index, mask: u8) {
    let bytes = URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap();
    *text = json!(URL_SAFE_NO_PAD.encode(flip(&bytes, at, mask)));
}

/// As many as take a few seconds in a debug build.
fn often() -> ProptestConfig {
    ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(often())]

    fn no_byte_of_a_manifest_can_be_changed(at: Index, mask in 1u8..) {
        let manifest = flip(MANIFEST, at, mask);
        for signed in ALL.iter() {
            prop_assert!(!is_good(&signed.signer, &signed.signature, &Subject::of(&manifest, MANIFEST_TYPE)), "{}", signed.name);
        }
        // Nor of the manifest that says where a signature is.
        let listed = json!({"layers": [{"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": subject().digest, "size": 1}]}).to_string();
        let found = artifact::read(&flip(listed.as_bytes(), at, mask), &ImageDigest::of(listed.as_bytes()), FoundBy::Tag);
        prop_assert!(matches!(found, artifact::Found::Unusable(_)));
    }

    fn no_byte_of_a_classic_signature_can_be_changed(at: Index, mask in 1u8.., in_payload: bool) {
        for signed in named("classic") {
            let Signature::Cosign { payload, annotations } = signed.signature.clone() else { unreachable!() };
            let changed = if in_payload {
                Signature::Cosign { payload: flip(&payload, at, mask), annotations }
            } else {
                let annotations: BTreeMap<String, String> = annotations.into_iter().map(|(name, value)| {
                    let mut value = json!(value);
                    flip_base64(&mut value, at, mask);
                    (name, value.as_str().unwrap().to_owned())
                }).collect();
                Signature::Cosign { payload, annotations }
            };
            prop_assert!(!is_good(&signed.signer, &changed, &subject()));
        }
    }

    fn no_byte_of_a_bundle_can_be_changed(at: Index, mask in 1u8.., part in 0..3usize) {
        for signed in named("bundle") {
            let Signature::Bundle(bytes) = &signed.signature else { unreachable!() };
            let mut json: Value = serde_json::from_slice(bytes).unwrap();
            let envelope = &mut json["dsseEnvelope"];
            match part {
                0 => flip_base64(&mut envelope["payload"], at, mask),
                1 => flip_base64(&mut envelope["signatures"][0]["sig"], at, mask),
                _ => {
                    let text = flip(envelope["payloadType"].as_str().unwrap().as_bytes(), at, mask);
                    envelope["payloadType"] = json!(String::from_utf8_lossy(&text));
                }
            }
            prop_assert!(!is_good(&signed.signer, &as_bundle(&json), &subject()));
        }
    }

    fn no_byte_of_an_envelope_can_be_changed(at: Index, mask in 1u8.., part in 0..3usize) {
        for signed in named("AWS Signer").into_iter().chain(named("JWS")) {
            let Signature::Jws(bytes) = &signed.signature else { unreachable!() };
            let mut json: Value = serde_json::from_slice(bytes).unwrap();
            flip_url(&mut json[["payload", "protected", "signature"][part]], at, mask);
            prop_assert!(!is_good(&signed.signer, &as_jws(&json), &subject()));
        }
    }

    /// Base64 has letters whose last bits mean nothing: these count too.
    fn no_letter_of_an_envelope_can_be_changed(at: Index, mask in 1u8..0x80, part in 0..3usize) {
        for signed in named("AWS Signer").into_iter().chain(named("JWS")) {
            let Signature::Jws(bytes) = &signed.signature else { unreachable!() };
            let mut json: Value = serde_json::from_slice(bytes).unwrap();
            let text = &mut json[["payload", "protected", "signature"][part]];
            // Half of the time the last letter, which is the one.
            let letters = text.as_str().unwrap().as_bytes().to_vec();
            let changed = if mask % 2 == 0 { flip(&letters, at, mask) } else { [&letters[..letters.len() - 1], &[letters[letters.len() - 1] ^ mask]].concat() };
            *text = json!(String::from_utf8_lossy(&changed));
            prop_assert!(!is_good(&signed.signer, &as_jws(&json), &subject()));
        }
    }

    fn no_byte_of_cose_can_be_changed(at: Index, mask in 1u8..) {
        // Every byte of it: even what nobody signed is a head or a certificate here.
        let signed = named("COSE")[0];
        let Signature::Cose(bytes) = &signed.signature else { unreachable!() };
        prop_assert!(!is_good(&signed.signer, &Signature::Cose(flip(bytes, at, mask)), &subject()));
    }

    fn no_byte_of_a_certificate_can_be_changed(at: Index, mask in 1u8.., which in 0..4usize) {
        let signed = named("AWS Signer")[0];
        let Signature::Jws(bytes) = &signed.signature else { unreachable!() };
        let mut json: Value = serde_json::from_slice(bytes).unwrap();
        flip_base64(&mut json["header"]["x5c"][which], at, mask);
        prop_assert!(!is_good(&signed.signer, &as_jws(&json), &subject()));
    }

    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600), tag in 0u8..8) {
        // Some begin as the format does, or nothing gets far.
        let starts: [&[u8]; 8] = [b"", &[0xd2, 0x84], &[0x30, 0x82, 1, 0], b"{", &[0x30, 0x59, 0x30, 0x13], b"-----BEGIN PUBLIC KEY-----", b"{\"layers\":[", &[0xd2, 0x84, 0x43, 0xa1]];
        read_all(&[starts[usize::from(tag)], &bytes].concat());
    }

    fn mangled_signatures_are_read_or_refused(which: Index, edits in proptest::collection::vec((any::<Index>(), any::<u8>(), 0..4u8), 1..6)) {
        let mut inputs: Vec<Vec<u8>> = CHAIN.certificates.clone();
        inputs.extend(KEYS.iter().flat_map(|(key, _)| [key.spki(), key.pem().into_bytes()]));
        inputs.push(pem("CERTIFICATE", CHAIN.root()).into_bytes());
        inputs.extend(ALL.iter().map(|signed| match &signed.signature {
            Signature::Cosign { payload, .. } => payload.clone(),
            Signature::Bundle(bytes) | Signature::Jws(bytes) | Signature::Cose(bytes) => bytes.clone(),
            Signature::Unusable { .. } => Vec::new(),
        }));
        let mut bytes = inputs.swap_remove(which.index(inputs.len()));
        for (at, value, edit) in edits {
            let at = at.index(bytes.len().max(1)).min(bytes.len());
            match edit {
                0 if at < bytes.len() => bytes[at] = value,
                1 => bytes.insert(at, value),
                2 if at < bytes.len() => { bytes.remove(at); }
                _ => bytes.truncate(bytes.len() - usize::from(value) % (bytes.len() + 1) / 8),
            }
        }
        read_all(&bytes);
    }

    fn any_names_are_read_or_refused(names in proptest::collection::vec("[ -~*:/éarnsige]{0,40}", 0..4), version in ".{0,60}") {
        if let Ok(identities) = Identities::new("aws", &names) {
            identities.include(&version);
        }
        let with_prefix: Vec<String> = names.iter().map(|name| format!("arn:aws:signer:{name}")).collect();
        if let Ok(identities) = Identities::new("aws", &[with_prefix, vec![PROFILE.to_owned()]].concat()) {
            identities.include(&version);
        }
    }
}

/// Every reader there is.
fn read_all(bytes: &[u8]) {
    let _ = jws::read(bytes);
    let _ = cose::read(bytes);
    let _ = Certificate::read(bytes);
    let _ = PublicKey::from_der(bytes);
    let _ = CosignKey::from_kms(bytes, &["ECDSA_SHA_256"]);
    let text = String::from_utf8_lossy(bytes);
    let _ = CosignKey::from_pem(&text);
    let _ = Root::from_pem(&text);
    let _ = pem_blocks(&text);
    for by in [FoundBy::Tag, FoundBy::Referrer] {
        let _ = artifact::read(bytes, &ImageDigest::of(bytes), by);
    }
    let annotations = BTreeMap::from([("dev.cosignproject.cosign/signature".to_owned(), text.into_owned())]);
    let all = [
        Signature::Cosign { payload: bytes.to_vec(), annotations },
        Signature::Bundle(bytes.to_vec()),
        Signature::Jws(bytes.to_vec()),
        Signature::Cose(bytes.to_vec()),
    ];
    for signed in [named("classic")[0], named("AWS Signer")[0], named("COSE")[0]] {
        for signature in &all {
            is_good(&signed.signer, signature, &subject());
        }
    }
}
