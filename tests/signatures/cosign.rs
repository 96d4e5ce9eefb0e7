//! Cosign: the classic payload and the bundle, by every kind of key.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ecr_scan_verifier::domain::image::ImageDigest;
use ecr_scan_verifier::domain::signature::artifact::Signature;
use ecr_scan_verifier::domain::signature::key::{Algorithm, BadKey, CosignKey, Hash, KeyId};
use ecr_scan_verifier::domain::signature::trust::Signer;
use ecr_scan_verifier::domain::signature::verdict::{By, Format, Reason};
use serde_json::{Value, json};

use crate::making::{as_bundle, bundle, bundle_of, classic, classic_of, payload, statement, subject, verify};
use crate::pki::{Key, bits, oid, pem, seq, tlv};
use crate::runner::Test;

pub fn tests() -> Vec<Test> {
    crate::tests!["cosign": every_kind_of_key_verifies_what_it_signed, a_key_in_kms_signs_with_what_kms_lists, kms_keys_that_we_cannot_verify_are_refused,
        key_files_that_are_none_say_what_they_are, a_key_has_one_id_in_all_its_forms, a_key_may_be_as_long_as_the_construct_takes_it, one_good_signature_is_enough, a_certificate_beside_a_key_is_not_looked_at,
        notes_in_the_payload_are_anybodys, a_payload_of_another_type_is_no_approval, a_signature_without_a_signature_is_malformed,
        both_formats_are_looked_at, a_bundle_has_exactly_one_signature, a_bundle_by_a_certificate_is_keyless,
        another_statement_about_the_image_is_no_approval, a_bundle_may_be_about_several_things, a_bundle_of_another_version_is_not_read,
        a_bundle_whose_hint_is_ours_was_altered, a_bundle_that_is_too_large_is_not_read, a_name_twice_is_refused]
}

fn by(key: &Key) -> Signer {
    Signer::cosign("Cosign", CosignKey::from_pem(&key.pem()).unwrap())
}

const SHA_256: Algorithm = Algorithm::Ecdsa(Hash::Sha256);

fn every_kind_of_key_verifies_what_it_signed() {
    use Hash::{Sha256, Sha384, Sha512};
    let stranger = Key::p256();
    for (key, good, bad) in [
        (Key::p256(), vec![Algorithm::Ecdsa(Sha256)], vec![]),
        (Key::p384(), vec![Algorithm::Ecdsa(Sha256), Algorithm::Ecdsa(Sha384)], vec![Algorithm::Ecdsa(Sha512), Algorithm::EcdsaFixed(Sha384)]),
        (Key::p521(), vec![Algorithm::Ecdsa(Sha256), Algorithm::Ecdsa(Sha512)], vec![Algorithm::Ecdsa(Sha384), Algorithm::EcdsaFixed(Sha512)]),
        (Key::rsa(2048), vec![Algorithm::RsaPkcs1(Sha256)], vec![Algorithm::RsaPkcs1(Sha512), Algorithm::RsaPss(Sha256)]),
        (Key::rsa(3072), vec![Algorithm::RsaPkcs1(Sha256)], vec![Algorithm::RsaPss(Sha384)]),
        (Key::rsa(4096), vec![Algorithm::RsaPkcs1(Sha256)], vec![Algorithm::RsaPss(Sha512)]),
        (Key::ed25519(), vec![Algorithm::Ed25519], vec![]),
    ] {
        for how in good {
            for (signature, format) in [(classic(&key, how), Format::CosignClassic), (as_bundle(&bundle(&key, how)), Format::CosignBundle)] {
                let verified = verify(by(&key), std::slice::from_ref(&signature)).unwrap();
                assert_eq!(verified.format, format);
                assert_eq!(verified.by, By::Key(CosignKey::from_pem(&key.pem()).unwrap().key.id));
                assert_eq!(verify(by(&stranger), &[signature]), Err(Reason::WrongKey), "{how:?}");
            }
        }
        for how in bad {
            assert_eq!(verify(by(&key), &[classic(&key, how)]), Err(Reason::WrongKey), "{how:?}");
        }
    }
}

fn a_key_in_kms_signs_with_what_kms_lists() {
    use Hash::{Sha256, Sha384, Sha512};
    let rsa = [
        "RSASSA_PKCS1_V1_5_SHA_256",
        "RSASSA_PKCS1_V1_5_SHA_384",
        "RSASSA_PKCS1_V1_5_SHA_512",
        "RSASSA_PSS_SHA_256",
        "RSASSA_PSS_SHA_384",
        "RSASSA_PSS_SHA_512",
    ];
    let all: Vec<Algorithm> = [Sha256, Sha384, Sha512].into_iter().flat_map(|hash| [Algorithm::RsaPkcs1(hash), Algorithm::RsaPss(hash)]).collect();
    for (key, names, good, bad) in [
        (Key::p256(), vec!["ECDSA_SHA_256"], vec![Algorithm::Ecdsa(Sha256)], vec![]),
        // Unlike a file's, a KMS key's hash follows the curve.
        (Key::p384(), vec!["ECDSA_SHA_384"], vec![Algorithm::Ecdsa(Sha384)], vec![Algorithm::Ecdsa(Sha256)]),
        (Key::p521(), vec!["ECDSA_SHA_512"], vec![Algorithm::Ecdsa(Sha512)], vec![Algorithm::Ecdsa(Sha256)]),
        (Key::ed25519(), vec!["ED25519_PH_SHA_512", "ED25519_SHA_512"], vec![Algorithm::Ed25519], vec![]),
        (Key::rsa(2048), rsa.to_vec(), all.clone(), vec![]),
        (Key::rsa(3072), rsa.to_vec(), all.clone(), vec![]),
        (Key::rsa(4096), rsa.to_vec(), all, vec![]),
        (Key::rsa(2048), vec!["RSASSA_PSS_SHA_256"], vec![Algorithm::RsaPss(Sha256)], vec![Algorithm::RsaPkcs1(Sha256)]),
    ] {
        let signer = || Signer::cosign("KMS", CosignKey::from_kms(&key.spki(), &names).unwrap());
        for how in good {
            assert!(verify(signer(), &[classic(&key, how)]).is_ok(), "{names:?} {how:?}");
            assert!(verify(signer(), &[as_bundle(&bundle(&key, how))]).is_ok(), "{names:?} {how:?}");
        }
        for how in bad {
            assert_eq!(verify(signer(), &[classic(&key, how)]), Err(Reason::WrongKey), "{names:?} {how:?}");
        }
    }
}

fn kms_keys_that_we_cannot_verify_are_refused() {
    let p256 = Key::p256().spki();
    assert_eq!(CosignKey::from_kms(&p256, &["SM2DSA", "ECDSA_SHA_512"]), Err(BadKey::NoAlgorithm("SM2DSA, ECDSA_SHA_512".into())));
    assert!(matches!(CosignKey::from_kms::<&str>(&p256, &[]), Err(BadKey::NoAlgorithm(_))));
    let koblitz = seq(&[seq(&[oid("1.2.840.10045.2.1"), oid("1.3.132.0.10")]), tlv(3, &[&[0, 4][..], &[1; 64]].concat())]);
    assert_eq!(CosignKey::from_kms(&koblitz, &["ECDSA_SHA_256"]), Err(BadKey::Kind("ECDSA on the curve 1.3.132.0.10".into())));
    assert!(matches!(CosignKey::from_kms(b"", &["ECDSA_SHA_256"]), Err(BadKey::Damaged(_))));
}

fn key_files_that_are_none_say_what_they_are() {
    let good = Key::p256().pem();
    let short = |length: usize| {
        let modulus = [&[0, 0x80][..], &vec![1; length / 8 - 1]].concat();
        pem("RSA PUBLIC KEY", &seq(&[tlv(2, &modulus), tlv(2, &[1, 0, 1])]))
    };
    for (text, expected) in [
        (String::new(), "it is no PEM"),
        ("ssh-ed25519 AAAA".into(), "it is no PEM"),
        (format!("{good}{good}"), "it holds 2 PEM blocks"),
        (pem("ENCRYPTED SIGSTORE PRIVATE KEY", b"secret"), "it is a private key (`ENCRYPTED SIGSTORE PRIVATE KEY`)"),
        ("-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n!!!\n-----END EC PRIVATE KEY-----".into(), "it is a private key"),
        // As OpenSSL writes them, and beside the public one.
        (format!("{}{}", pem("EC PARAMETERS", b"x"), pem("EC PRIVATE KEY", b"secret")), "it is a private key (`EC PRIVATE KEY`)"),
        (format!("{good}{}", pem("PGP PRIVATE KEY BLOCK", b"secret")), "it is a private key (`PGP PRIVATE KEY BLOCK`)"),
        ("-----BEGIN PRIVATE KEY----\nsecret\n-----END PRIVATE KEY-----".into(), "it is damaged: its first line"),
        ("-----BEGIN PRIVATE KEY----secret-----END PRIVATE KEY-----".into(), "it is damaged: its first line"),
        (pem("CERTIFICATE", b"x"), "it is a `CERTIFICATE`"),
        (good.replacen("MFk", "M!k", 1), "it is damaged"),
        (good.replace("-----END PUBLIC KEY-----", ""), "it is damaged"),
        (pem("PUBLIC KEY", &Key::p256().spki()[..80]), "it is damaged"),
        (pem("PUBLIC KEY", &[Key::p256().spki(), vec![0]].concat()), "it is damaged"),
        (pem("PUBLIC KEY", &seq(&[seq(&[oid("1.3.101.112"), tlv(5, &[])]), bits(&[1; 32])])), "it is damaged: an Ed25519 key"),
        (pem("RSA PUBLIC KEY", &seq(&[tlv(2, &[&[0x40][..], &[1; 255]].concat()), tlv(2, &[3]), tlv(2, &[1])])), "it is damaged"),
        (short(1024), "it is an RSA key of 1024 bits"),
        (short(2040), "it is an RSA key of 2040 bits"),
        (short(8200), "it is an RSA key of 8200 bits"),
        (" ".repeat(20_000), "it is 20000 bytes long"),
    ] {
        let error = CosignKey::from_pem(&text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}, where `{expected}` was expected");
        assert!(!error.contains("secret") && !error.contains(&STANDARD.encode("secret")), "{error}");
    }
}

fn a_key_has_one_id_in_all_its_forms() {
    let Key::Rsa(_, pair) = &Key::rsa(2048) else { unreachable!() };
    let key = Key::rsa(2048);
    let pkcs1 = pem("RSA PUBLIC KEY", ring::signature::KeyPair::public_key(&**pair).as_ref());
    let id = CosignKey::from_pem(&key.pem()).unwrap().key.id;
    assert_eq!(CosignKey::from_pem(&pkcs1).unwrap().key.id, id);
    assert_eq!(CosignKey::from_kms(&key.spki(), &["RSASSA_PSS_SHA_256"]).unwrap().key.id, id);
    assert_eq!(id, KeyId(ImageDigest::of(&key.spki()).as_str()[7..].to_owned()));
    assert!(verify(Signer::cosign("Cosign", CosignKey::from_pem(&pkcs1).unwrap()), &[classic(&key, Algorithm::RsaPkcs1(Hash::Sha256))]).is_ok());
}

/// Made with OpenSSL: what we sign with knows no longer ones than 4096 bits.
fn a_key_may_be_as_long_as_the_construct_takes_it() {
    let key = CosignKey::from_pem(include_str!("keys/rsa-8192.pub")).unwrap();
    let signature = include_bytes!("keys/rsa-8192.sig");
    assert!(key.signed(b"one message", signature));
    assert!(!key.signed(b"another message", signature));
}

fn one_good_signature_is_enough() {
    let (ours, theirs) = (Key::p256(), Key::p256());
    let broken = Signature::Cosign { payload: b"{".to_vec(), annotations: BTreeMap::new() };
    let signatures = [broken, classic(&theirs, SHA_256), Signature::Bundle(b"[]".to_vec()), classic(&ours, SHA_256)];
    assert!(verify(by(&ours), &signatures).is_ok());
    // Without it, what came nearest is what a person reads about.
    assert_eq!(verify(by(&ours), &signatures[..3]), Err(Reason::WrongKey));
    let elsewhere = classic_of(&ours, SHA_256, payload(&ImageDigest::of(b"another image")));
    let named = ImageDigest::of(b"another image").to_string();
    assert_eq!(verify(by(&ours), &[elsewhere, classic(&theirs, SHA_256)]), Err(Reason::WrongDigest { names: named }));
}

fn a_certificate_beside_a_key_is_not_looked_at() {
    let (ours, theirs) = (Key::p256(), Key::p256());
    let beside = |signature: Signature| {
        let Signature::Cosign { payload, mut annotations } = signature else { unreachable!() };
        annotations.insert("dev.sigstore.cosign/certificate".into(), "-----BEGIN CERTIFICATE-----\nended long ago\n-----END CERTIFICATE-----".into());
        annotations.insert("dev.sigstore.cosign/bundle".into(), "{".into());
        Signature::Cosign { payload, annotations }
    };
    assert!(verify(by(&ours), &[beside(classic(&ours, SHA_256))]).is_ok());
    assert_eq!(verify(by(&ours), &[beside(classic(&theirs, SHA_256))]), Err(Reason::Keyless));
}

fn notes_in_the_payload_are_anybodys() {
    let key = Key::p256();
    let digest = subject().digest;
    for (reference, optional) in [(json!(""), json!({"creator": {"deep": [1, 2]}})), (json!("elsewhere/else:tag"), json!("text")), (json!(7), Value::Null)] {
        let payload = json!({"critical": {"identity": {"docker-reference": reference}, "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature"}, "optional": optional});
        assert!(verify(by(&key), &[classic_of(&key, SHA_256, payload.to_string().into_bytes())]).is_ok(), "{payload}");
    }
}

fn a_payload_of_another_type_is_no_approval() {
    let key = Key::p256();
    let of = |payload: Value| verify(by(&key), &[classic_of(&key, SHA_256, payload.to_string().into_bytes())]).unwrap_err();
    let image = json!({"docker-manifest-digest": subject().digest});
    assert!(matches!(of(json!({"critical": {"image": image, "type": "atomic container signature"}})), Reason::Unsupported(_)));
    for payload in [json!({}), json!({"critical": {"image": image}}), json!({"critical": {"image": {}, "type": "cosign container image signature"}}), json!([])]
    {
        assert!(matches!(of(payload.clone()), Reason::Malformed(_)), "{payload}");
    }
}

fn a_signature_without_a_signature_is_malformed() {
    let key = Key::p256();
    let with = |annotations: &[(&str, &str)]| {
        let annotations = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        verify(by(&key), &[Signature::Cosign { payload: payload(&subject().digest), annotations }]).unwrap_err()
    };
    assert!(matches!(with(&[]), Reason::Malformed(_)));
    assert!(matches!(with(&[("dev.sigstore.cosign/signature", "AAAA")]), Reason::Malformed(_)));
    assert!(matches!(with(&[("dev.cosignproject.cosign/signature", "not base64")]), Reason::Malformed(_)));
    assert_eq!(with(&[("dev.cosignproject.cosign/signature", "")]), Reason::WrongKey);
    // Its lines may be broken; it may not be cut.
    let respelled = |spell: &dyn Fn(&str) -> String| {
        let Signature::Cosign { payload, mut annotations } = classic(&key, SHA_256) else { unreachable!() };
        annotations.values_mut().for_each(|value| *value = spell(value));
        verify(by(&key), &[Signature::Cosign { payload, annotations }])
    };
    assert!(respelled(&|text| format!("{}\r\n{}\n", &text[..64], &text[64..])).is_ok());
    assert!(matches!(respelled(&|text| format!("{text}=")), Err(Reason::Malformed(_))));
    let large = Signature::Cosign { payload: vec![b' '; 1024 * 1024 + 1], annotations: BTreeMap::new() };
    assert!(verify(by(&key), &[large]).unwrap_err() == Reason::Malformed("its payload has 1048577 bytes, and 1048576 is the most".into()));
}

/// Cosign itself looks at classic signatures only where there is no bundle of anybody.
fn both_formats_are_looked_at() {
    let (ours, theirs) = (Key::p256(), Key::p256());
    assert!(verify(by(&ours), &[as_bundle(&bundle(&theirs, SHA_256)), classic(&ours, SHA_256)]).is_ok());
    assert!(verify(by(&ours), &[classic(&theirs, SHA_256), as_bundle(&bundle(&ours, SHA_256))]).is_ok());
}

fn a_bundle_has_exactly_one_signature() {
    let key = Key::p256();
    let good = bundle(&key, SHA_256);
    let one = good["dsseEnvelope"]["signatures"][0].clone();
    for signatures in [json!([]), json!([one, one]), Value::Null] {
        let mut bundle = good.clone();
        bundle["dsseEnvelope"]["signatures"] = signatures;
        assert!(matches!(verify(by(&key), &[as_bundle(&bundle)]), Err(Reason::Malformed(_))), "{bundle}");
    }
}

fn a_bundle_by_a_certificate_is_keyless() {
    let key = Key::p256();
    let mut bundle = bundle(&key, SHA_256);
    bundle["verificationMaterial"] = json!({"certificate": {"rawBytes": "AAAA"}});
    assert_eq!(verify(by(&key), &[as_bundle(&bundle)]), Err(Reason::Keyless));
    bundle["verificationMaterial"]["publicKey"] = json!({});
    assert!(matches!(verify(by(&key), &[as_bundle(&bundle)]), Err(Reason::Malformed(_))));
    for beside in ["certificate", "x509CertificateChain"] {
        let mut bundle = crate::making::bundle(&key, SHA_256);
        bundle["verificationMaterial"][beside] = json!({});
        assert!(matches!(verify(by(&key), &[as_bundle(&bundle)]), Err(Reason::Malformed(_))), "{beside}");
    }
}

fn another_statement_about_the_image_is_no_approval() {
    let key = Key::p256();
    let with = |name: &str, value: Value| {
        let mut statement = statement(&subject().digest);
        statement[name] = value;
        verify(by(&key), &[as_bundle(&bundle_of(&key, SHA_256, "application/vnd.in-toto+json", statement.to_string().as_bytes()))])
    };
    assert!(with("predicate", json!({"anything": 1})).is_ok());
    for predicate in ["https://slsa.dev/provenance/v1", "https://cyclonedx.org/bom", "https://cosign.sigstore.dev/attestation/vuln/v1", ""] {
        assert!(matches!(with("predicateType", json!(predicate)), Err(Reason::Unsupported(_))), "{predicate}");
    }
    assert!(with("_type", json!("https://in-toto.io/Statement/v0.1")).is_ok());
    assert!(matches!(with("_type", json!("https://in-toto.io/Link/v1")), Err(Reason::Unsupported(_))));
    // The type outside is signed with what is inside.
    let other = bundle_of(&key, SHA_256, "application/json", statement(&subject().digest).to_string().as_bytes());
    assert!(matches!(verify(by(&key), &[as_bundle(&other)]), Err(Reason::Unsupported(_))));
    let mut moved = other;
    moved["dsseEnvelope"]["payloadType"] = json!("application/vnd.in-toto+json");
    assert!(matches!(verify(by(&key), &[as_bundle(&moved)]), Err(Reason::Tampered(_))));
    let mut as_a_file = bundle(&key, SHA_256);
    as_a_file["messageSignature"] = json!({"signature": "AAAA"});
    assert!(matches!(verify(by(&key), &[as_bundle(&as_a_file)]), Err(Reason::Unsupported(_))));
}

fn a_bundle_may_be_about_several_things() {
    let key = Key::p256();
    let about = |subjects: Value| {
        let mut statement = statement(&subject().digest);
        statement["subject"] = subjects;
        verify(by(&key), &[as_bundle(&bundle_of(&key, SHA_256, "application/vnd.in-toto+json", statement.to_string().as_bytes()))])
    };
    let ours = json!({"digest": {"sha256": &subject().digest.as_str()[7..]}});
    let other = json!({"digest": {"sha256": "00".repeat(32), "sha512": &subject().digest.as_str()[7..]}});
    assert!(about(json!([other, ours])).is_ok());
    assert!(matches!(about(json!([other])), Err(Reason::WrongDigest { .. })));
    assert!(matches!(about(json!([{"digest": {"sha1": &subject().digest.as_str()[7..]}}])), Err(Reason::WrongDigest { .. })));
    assert!(matches!(about(json!([])), Err(Reason::WrongDigest { .. })));
    assert!(matches!(about(json!(vec![ours; 1025])), Err(Reason::Malformed(_))));
}

fn a_bundle_of_another_version_is_not_read() {
    let key = Key::p256();
    for (media_type, good) in [
        ("application/vnd.dev.sigstore.bundle.v0.3+json", true),
        ("application/vnd.dev.sigstore.bundle+json;version=0.3", true),
        ("application/vnd.dev.sigstore.bundle+json;version=0.2", false),
        ("application/vnd.dev.sigstore.bundle.v0.4+json", false),
        ("application/vnd.dev.sigstore.bundle.v0.3", false),
    ] {
        let mut bundle = bundle(&key, SHA_256);
        bundle["mediaType"] = json!(media_type);
        let verified = verify(by(&key), &[as_bundle(&bundle)]);
        assert!(if good { verified.is_ok() } else { matches!(verified, Err(Reason::Unsupported(_))) }, "{media_type}: {verified:?}");
    }
}

fn a_bundle_whose_hint_is_ours_was_altered() {
    let key = Key::p256();
    let mut bundle = bundle(&key, SHA_256);
    bundle["dsseEnvelope"]["payload"] = json!(STANDARD.encode(statement(&ImageDigest::of(b"another image")).to_string()));
    assert!(matches!(verify(by(&key), &[as_bundle(&bundle)]), Err(Reason::Tampered(_))));
    // A hint is nobody's word: that of another key changes nothing.
    let mut hinted = crate::making::bundle(&key, SHA_256);
    hinted["verificationMaterial"]["publicKey"]["hint"] = json!("somebody else");
    assert!(verify(by(&key), &[as_bundle(&hinted)]).is_ok());
}

fn a_bundle_that_is_too_large_is_not_read() {
    let key = Key::p256();
    let mut text = bundle(&key, SHA_256).to_string().into_bytes();
    text.extend(vec![b' '; 1024 * 1024]);
    assert!(matches!(verify(by(&key), &[Signature::Bundle(text)]), Err(Reason::Malformed(why)) if why.ends_with("is the most")));
}

/// Two readers could take different ones of a double, and the signature covers both.
fn a_name_twice_is_refused() {
    let key = Key::p256();
    let digest = subject().digest;
    let image = |digest: &str| format!(r#""image":{{"docker-manifest-digest":"{digest}"}}"#);
    let twice = format!(r#"{{"critical":{{{},{},"type":"cosign container image signature"}}}}"#, image("sha256:00"), image(digest.as_str()));
    assert!(matches!(verify(by(&key), &[classic_of(&key, SHA_256, twice.into_bytes())]), Err(Reason::Malformed(_))));
    let statement = statement(&digest).to_string().replacen("{", r#"{"predicateType":"https://sigstore.dev/cosign/sign/v1","#, 1);
    let bundle = bundle_of(&key, SHA_256, "application/vnd.in-toto+json", statement.as_bytes());
    assert!(matches!(verify(by(&key), &[as_bundle(&bundle)]), Err(Reason::Malformed(_))));
}
