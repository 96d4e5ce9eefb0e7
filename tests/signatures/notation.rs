//! Notation under an authority of one's own: the envelope, its header, its chain, its time.

use ecr_scan_verifier::domain::image::ImageDigest;
use ecr_scan_verifier::domain::signature::artifact::Signature;
use ecr_scan_verifier::domain::signature::certificate::{Certificate, pss_parameters};
use ecr_scan_verifier::domain::signature::key::{Algorithm, Hash, pem_blocks};
use ecr_scan_verifier::domain::signature::notation::{Scheme, Subject};
use ecr_scan_verifier::domain::signature::trust::{BadTrust, Root, Signer};
use ecr_scan_verifier::domain::signature::verdict::{By, Ended, Format, Reason};
use serde_json::{Value, json};

use crate::making::{Draft, EXPIRES_AT, MANIFEST_TYPE, SIGNED_AT, as_jws, cbor_bytes, cbor_integer, cbor_text, now, subject, target, verify, verify_of};
use crate::pki::{Basic, CRL_SIGN, Chain, DIGITAL_SIGNATURE, KEY_CERT_SIGN, Key, Says, bits, extension, oid, pem, seq, time, tlv};
use crate::runner::Test;

pub fn tests() -> Vec<Test> {
    crate::tests!["notation": every_kind_of_key_signs_in_both_envelopes, the_algorithm_is_the_one_of_the_key, keys_that_notation_does_not_define_are_refused,
        what_was_signed_cannot_be_exchanged,
        digest_size_and_type_have_to_be_equal, a_root_is_trusted_for_one_scheme, another_root_is_not_trusted, a_self_signed_signer_may_be_the_root,
        what_has_to_be_critical_is, an_unknown_critical_attribute_is_refused, an_unknown_attribute_that_is_not_critical_is_ignored,
        a_header_that_is_there_twice_is_refused, a_header_of_a_wrong_type_is_refused, times_go_with_the_scheme, an_expired_signature_does_not_count,
        certificates_are_judged_at_the_time_that_the_scheme_says, a_certificate_without_an_end_is_valid, each_rule_of_a_signers_certificate, each_rule_of_an_authoritys_certificate,
        a_chain_is_one_line, certificates_may_be_signed_with_every_sound_algorithm, a_certificate_that_is_none_is_refused,
        a_certificate_has_one_reading, an_extension_that_nobody_knows_is_ignored, a_chain_has_an_end, a_signer_may_have_the_name_of_its_root,
        an_envelope_that_is_too_large_is_not_read, a_certificate_is_read_to_its_end, cose_has_one_reading, a_plugin_is_nothing_under_ones_own_root, roots_come_as_pem]
}

fn own(chain: &Chain, scheme: Scheme) -> Signer {
    Signer::authority("our authority", scheme, vec![Root::from_der(chain.root()).unwrap()]).unwrap()
}

fn short() -> Chain {
    Chain::short(Key::p256())
}

fn malformed(chain: &Chain, scheme: Scheme, signature: Signature) -> String {
    match verify(own(chain, scheme), &[signature]) {
        Err(Reason::Malformed(why) | Reason::Unsupported(why)) => why,
        other => panic!("{other:?}, where it should have been malformed"),
    }
}

fn every_kind_of_key_signs_in_both_envelopes() {
    for key in [Key::p256(), Key::p384(), Key::p521(), Key::rsa(2048), Key::rsa(3072), Key::rsa(4096)] {
        let chain = Chain::short(key);
        for scheme in [Scheme::X509, Scheme::SigningAuthority] {
            let draft = Draft::new(&chain, scheme);
            for signature in [as_jws(&draft.jws(&chain.key)), Signature::Cose(draft.cose(&chain.key).sign(&chain.key))] {
                let verified = verify(own(&chain, scheme), &[signature]).unwrap();
                assert_eq!(verified.by, By::Certificate(ImageDigest::of(&chain.certificates[0]).as_str()[7..].to_owned()));
                assert_eq!((verified.format, verified.signed_at), (Format::Notation(scheme), Some(time(SIGNED_AT))));
                // Where nobody vouches for the time, a verdict holds no longer than its certificates.
                let until = if scheme == Scheme::X509 { "2033-01-01T00:00:00Z" } else { EXPIRES_AT };
                assert_eq!(verified.expires_at, Some(time(until)));
            }
        }
    }
}

fn the_algorithm_is_the_one_of_the_key() {
    let chain = short();
    for alg in ["ES384", "PS256", "none", "HS256", ""] {
        let mut draft = Draft::new(&chain, Scheme::X509);
        draft.set("alg", json!(alg));
        assert!(malformed(&chain, Scheme::X509, as_jws(&draft.jws(&chain.key))).contains("algorithm"), "{alg}");
    }
    let mut draft = Draft::new(&chain, Scheme::X509);
    draft.without("alg");
    assert!(malformed(&chain, Scheme::X509, as_jws(&draft.jws(&chain.key))).contains("algorithm"));
}

fn keys_that_notation_does_not_define_are_refused() {
    let chain = Chain::short(Key::ed25519());
    let mut draft = Draft::new(&chain, Scheme::X509);
    draft.set("alg", json!("EdDSA"));
    assert!(malformed(&chain, Scheme::X509, as_jws(&draft.jws(&chain.key))).contains("Ed25519"));
    let (key, root) = (Key::p256(), Key::p256());
    let certificates = vec![Says::signer("web", "Our Root").certify(&key, &root), Says::authority("Our Root", "Our Root").certify(&Key::ed25519(), &root)];
    let chain = Chain { certificates, key };
    let draft = Draft::new(&chain, Scheme::X509);
    assert!(malformed(&chain, Scheme::X509, as_jws(&draft.jws(&chain.key))).contains("Ed25519"));
    let (long, root) = (Key::Public(pem_blocks(include_str!("keys/rsa-8192.pub")).unwrap().remove(0).1), Key::p256());
    let certificates = vec![Says::signer("web", "Our Root").certify(&long, &root), Says::authority("Our Root", "Our Root").certify(&root, &root)];
    let chain = Chain { certificates, key: Key::p256() };
    let mut draft = Draft::new(&chain, Scheme::X509);
    draft.set("alg", json!("PS256"));
    assert!(malformed(&chain, Scheme::X509, as_jws(&draft.jws(&chain.key))).contains("an RSA key of 8192 bits"));
}

/// A good signature of the same signer, around another payload or another header.
fn what_was_signed_cannot_be_exchanged() {
    let chain = short();
    let good = Draft::new(&chain, Scheme::X509);
    let mut other = Draft { payload: target(&Subject::of(b"another", MANIFEST_TYPE)), ..good.clone() };
    other.set("io.cncf.notary.signingTime", json!("2026-11-24T07:00:00Z"));
    for part in ["payload", "protected", "signature"] {
        let (mut jws, other) = (good.jws(&chain.key), other.jws(&chain.key));
        jws[part] = other[part].clone();
        assert!(matches!(verify(own(&chain, Scheme::X509), &[as_jws(&jws)]), Err(Reason::Tampered(_))), "{part}");
    }
    // By the same authority, and not by this signer.
    let stranger = Key::p256();
    for forged in [as_jws(&good.jws(&stranger)), Signature::Cose(good.cose(&stranger).sign(&stranger))] {
        assert!(matches!(verify(own(&chain, Scheme::X509), &[forged]), Err(Reason::Tampered(_))));
    }
}

fn digest_size_and_type_have_to_be_equal() {
    let chain = short();
    let signature = as_jws(&Draft::new(&chain, Scheme::X509).jws(&chain.key));
    let good = subject();
    for other in [
        Subject { digest: ImageDigest::of(b"another"), ..good.clone() },
        Subject { size: good.size + 1, ..good.clone() },
        Subject { media_type: "application/vnd.docker.distribution.manifest.v2+json".into(), ..good.clone() },
    ] {
        let refused = verify_of(own(&chain, Scheme::X509), &other, std::slice::from_ref(&signature), now()).unwrap_err();
        assert_eq!(refused, Reason::WrongDigest { names: format!("{} ({MANIFEST_TYPE}, {} bytes)", good.digest, good.size) });
    }
    for payload in
        [&b"{}"[..], b"", br#"{"targetArtifact":{"mediaType":"x","digest":"y","size":-1}}"#, br#"{"targetArtifact":{"mediaType":"x","digest":"y","size":"1"}}"#]
    {
        let draft = Draft { payload: payload.to_vec(), ..Draft::new(&chain, Scheme::X509) };
        assert!(malformed(&chain, Scheme::X509, as_jws(&draft.jws(&chain.key))).contains("names no image"));
    }
    let text = String::from_utf8(target(&good)).unwrap();
    let twice = text.replacen(r#""size""#, r#""size":1,"size""#, 1);
    let draft = Draft { payload: twice.into_bytes(), ..Draft::new(&chain, Scheme::X509) };
    assert!(malformed(&chain, Scheme::X509, as_jws(&draft.jws(&chain.key))).contains("names no image"));
}

fn a_root_is_trusted_for_one_scheme() {
    let chain = short();
    for (made, trusted) in [(Scheme::X509, Scheme::SigningAuthority), (Scheme::SigningAuthority, Scheme::X509)] {
        let signature = as_jws(&Draft::new(&chain, made).jws(&chain.key));
        assert!(matches!(verify(own(&chain, trusted), &[signature]), Err(Reason::UntrustedRoot { .. })));
    }
}

fn another_root_is_not_trusted() {
    let (chain, other) = (short(), short());
    let signature = as_jws(&Draft::new(&chain, Scheme::X509).jws(&chain.key));
    let named = format!("`Our Root`, SHA-256 {}", &ImageDigest::of(chain.root()).as_str()[7..]);
    assert_eq!(verify(own(&other, Scheme::X509), std::slice::from_ref(&signature)), Err(Reason::UntrustedRoot { root: named }));
    // A name that would speak to a terminal is not shown.
    let odd = Says::authority("\u{1b}[2J", "\u{1b}[2J");
    let loud = Chain::of(&[Says::signer("web", "\u{1b}[2J"), odd], vec![Key::p256(), Key::p256()]);
    let unnamed = format!("SHA-256 {}", &ImageDigest::of(loud.root()).as_str()[7..]);
    let signed = as_jws(&Draft::new(&loud, Scheme::X509).jws(&loud.key));
    assert_eq!(verify(own(&other, Scheme::X509), &[signed]), Err(Reason::UntrustedRoot { root: unnamed }));
    // The trusted root behind a chain that does not lead to it.
    let mut draft = Draft::new(&chain, Scheme::X509);
    draft.certificates = vec![chain.certificates[0].clone(), other.root().to_vec()];
    assert!(matches!(verify(own(&other, Scheme::X509), &[as_jws(&draft.jws(&chain.key))]), Err(Reason::Tampered(_))));
    // A certificate in the middle may be the trusted one.
    let long = Chain::of_aws_signer();
    let signature = as_jws(&Draft::new(&long, Scheme::SigningAuthority).jws(&long.key));
    let middle = Signer::authority("the middle", Scheme::SigningAuthority, vec![Root::from_der(&long.certificates[2]).unwrap()]).unwrap();
    assert!(verify(middle, &[signature]).is_ok());
}

fn a_self_signed_signer_may_be_the_root() {
    let says = Says { until: time("2033-01-01T00:00:00Z"), ..Says::signer("alone", "alone") };
    let chain = Chain::of(&[says], vec![Key::p256()]);
    let signature = as_jws(&Draft::new(&chain, Scheme::X509).jws(&chain.key));
    assert!(verify(own(&chain, Scheme::X509), &[signature]).is_ok());
    let as_authority = Chain::of(&[Says::authority("alone", "alone")], vec![Key::p256()]);
    assert!(malformed(&as_authority, Scheme::X509, as_jws(&Draft::new(&as_authority, Scheme::X509).jws(&as_authority.key))).contains("authority's"));
}

fn what_has_to_be_critical_is() {
    let chain = short();
    for (scheme, name) in [
        (Scheme::X509, "io.cncf.notary.signingScheme"),
        (Scheme::X509, "io.cncf.notary.expiry"),
        (Scheme::SigningAuthority, "io.cncf.notary.authenticSigningTime"),
        (Scheme::X509, "io.cncf.notary.verificationPlugin"),
        (Scheme::X509, "io.cncf.notary.verificationPluginMinVersion"),
    ] {
        let mut draft = Draft::new(&chain, scheme);
        if name.contains("Plugin") {
            draft.critical(name, json!("1.0.0"));
        }
        draft.not_critical(name);
        assert_eq!(malformed(&chain, scheme, as_jws(&draft.jws(&chain.key))), format!("`{name}` is not marked as critical"));
    }
    // What need not be critical may be, where it is one of Notation's own.
    let mut draft = Draft::new(&chain, Scheme::X509);
    draft.critical("io.cncf.notary.signingTime", json!(SIGNED_AT));
    assert!(verify(own(&chain, Scheme::X509), &[as_jws(&draft.jws(&chain.key))]).is_ok());
    let mut draft = Draft::new(&chain, Scheme::X509);
    draft.without("crit");
    assert!(malformed(&chain, Scheme::X509, as_jws(&draft.jws(&chain.key))).contains("not marked as critical"));
    let mut draft = Draft::new(&chain, Scheme::X509);
    draft.header["crit"].as_array_mut().unwrap().push(json!("absent"));
    assert!(malformed(&chain, Scheme::X509, as_jws(&draft.jws(&chain.key))).contains("`absent` is marked as critical and is not there"));
}

fn an_unknown_critical_attribute_is_refused() {
    let chain = short();
    let mut draft = Draft::new(&chain, Scheme::X509);
    draft.critical("com.example.condition", json!("only on Mondays"));
    for signature in [as_jws(&draft.jws(&chain.key)), Signature::Cose(draft.cose(&chain.key).sign(&chain.key))] {
        assert!(malformed(&chain, Scheme::X509, signature).contains("`com.example.condition`, which we do not know"));
    }
}

fn an_unknown_attribute_that_is_not_critical_is_ignored() {
    let chain = short();
    let mut draft = Draft::new(&chain, Scheme::X509);
    draft.set("com.example.note", json!("hello"));
    for signature in [as_jws(&draft.jws(&chain.key)), Signature::Cose(draft.cose(&chain.key).sign(&chain.key))] {
        assert!(verify(own(&chain, Scheme::X509), &[signature]).is_ok());
    }
}

fn a_header_that_is_there_twice_is_refused() {
    let chain = short();
    let draft = Draft::new(&chain, Scheme::X509);
    let header = Value::Object(draft.header.clone()).to_string();
    let twice = header.replacen('{', r#"{"io.cncf.notary.signingScheme":"notary.x509","#, 1);
    assert!(malformed(&chain, Scheme::X509, as_jws(&draft.jws_of(&chain.key, &twice))).contains("twice"));
    let mut cose = draft.cose(&chain.key);
    cose.members.push([cbor_text("io.cncf.notary.signingScheme"), cbor_text("notary.x509")].concat());
    assert!(malformed(&chain, Scheme::X509, Signature::Cose(cose.sign(&chain.key))).contains("twice"));
    let many: String = (0..70).map(|n| format!(r#""x{n}":1,"#)).collect();
    assert!(malformed(&chain, Scheme::X509, as_jws(&draft.jws_of(&chain.key, &header.replacen('{', &format!("{{{many}"), 1)))).contains("more than 64"));
}

fn a_header_of_a_wrong_type_is_refused() {
    let chain = short();
    for name in ["alg", "cty", "crit", "io.cncf.notary.signingScheme", "io.cncf.notary.signingTime", "io.cncf.notary.expiry"] {
        for value in [json!(1), json!(null), json!({"a": 1}), json!([1])] {
            let mut draft = Draft::new(&chain, Scheme::X509);
            draft.set(name, value.clone());
            let why = malformed(&chain, Scheme::X509, as_jws(&draft.jws(&chain.key)));
            assert!(why.contains("of a wrong type"), "{name} = {value}: {why}");
        }
    }
    let mut draft = Draft::new(&chain, Scheme::X509);
    draft.set("crit", json!(vec!["io.cncf.notary.signingScheme"; 65]));
    assert!(malformed(&chain, Scheme::X509, as_jws(&draft.jws(&chain.key))).contains("of a wrong type"));
    let mut draft = Draft::new(&chain, Scheme::X509);
    draft.set("cty", json!("application/json"));
    assert!(malformed(&chain, Scheme::X509, as_jws(&draft.jws(&chain.key))).contains("is what counts"));
    let mut draft = Draft::new(&chain, Scheme::X509);
    draft.set("io.cncf.notary.signingScheme", json!("notary.x509.other"));
    assert!(malformed(&chain, Scheme::X509, as_jws(&draft.jws(&chain.key))).contains("signing scheme"));
}

fn times_go_with_the_scheme() {
    let chain = short();
    for (scheme, own, other) in [
        (Scheme::X509, "io.cncf.notary.signingTime", "io.cncf.notary.authenticSigningTime"),
        (Scheme::SigningAuthority, "io.cncf.notary.authenticSigningTime", "io.cncf.notary.signingTime"),
    ] {
        let mut draft = Draft::new(&chain, scheme);
        draft.without(own);
        assert!(malformed(&chain, scheme, as_jws(&draft.jws(&chain.key))).contains("which is not there"));
        let mut draft = Draft::new(&chain, scheme);
        draft.critical(other, json!(SIGNED_AT));
        assert!(malformed(&chain, scheme, as_jws(&draft.jws(&chain.key))).contains("does not belong"));
        let mut draft = Draft::new(&chain, scheme);
        draft.set("io.cncf.notary.expiry", json!(SIGNED_AT));
        assert!(malformed(&chain, scheme, as_jws(&draft.jws(&chain.key))).contains("expires before"));
        let mut draft = Draft::new(&chain, scheme);
        draft.set(own, json!("yesterday"));
        assert!(malformed(&chain, scheme, as_jws(&draft.jws(&chain.key))).contains("no time"));
    }
}

fn an_expired_signature_does_not_count() {
    let chain = short();
    for scheme in [Scheme::X509, Scheme::SigningAuthority] {
        let mut draft = Draft::new(&chain, scheme);
        let expiry = time("2026-12-01T00:00:00Z");
        draft.set("io.cncf.notary.expiry", json!(expiry));
        let signature = [as_jws(&draft.jws(&chain.key))];
        let at = |text: &str| verify_of(own(&chain, scheme), &subject(), &signature, time(text));
        assert!(at("2026-11-30T23:59:59Z").is_ok());
        for late in ["2026-12-01T00:00:00Z", "2030-01-01T00:00:00Z"] {
            assert_eq!(at(late), Err(Reason::Expired { what: Ended::Signature, at: expiry }));
        }
        draft.without("io.cncf.notary.expiry");
        let for_ever = [as_jws(&draft.jws(&chain.key))];
        assert!(verify_of(own(&chain, scheme), &subject(), &for_ever, time("2032-01-01T00:00:00Z")).is_ok());
    }
}

fn certificates_are_judged_at_the_time_that_the_scheme_says() {
    // From November 23 to 26; signed on the 24th.
    let chain = Chain::of(&[Says::signer("web", "Our Root"), Says::authority("Our Root", "Our Root")], vec![Key::p256(), Key::p256()]);
    let at = |scheme, text: &str| verify_of(own(&chain, scheme), &subject(), &[as_jws(&Draft::new(&chain, scheme).jws(&chain.key))], time(text));
    let ended = Err(Reason::Expired { what: Ended::Certificate, at: time("2026-11-26T00:00:00Z") });
    for (text, is_valid) in [("2026-11-23T00:00:00Z", true), ("2026-11-26T00:00:00Z", true), ("2026-11-26T00:00:01Z", false), ("2027-11-26T00:00:01Z", false)] {
        assert!(at(Scheme::SigningAuthority, text).is_ok(), "{text}");
        assert_eq!(at(Scheme::X509, text).map(|_| ()), if is_valid { Ok(()) } else { ended.clone() }, "{text}");
    }
    assert!(matches!(at(Scheme::X509, "2026-11-22T23:59:59Z"), Err(Reason::Malformed(_))));
    // Signed outside of the certificate's time, by the authority's own word.
    for (signed, expected) in [("2026-11-26T00:00:01Z", "expired"), ("2026-11-22T23:59:59Z", "malformed")] {
        let mut draft = Draft::new(&chain, Scheme::SigningAuthority);
        draft.set("io.cncf.notary.authenticSigningTime", json!(signed));
        assert_eq!(verify(own(&chain, Scheme::SigningAuthority), &[as_jws(&draft.jws(&chain.key))]).unwrap_err().word(), expected);
    }
    // The root's time counts as well.
    let old = Says { until: time("2026-11-23T12:00:00Z"), ..Says::authority("Our Root", "Our Root") };
    let chain = Chain::of(&[Says::signer("web", "Our Root"), old], vec![Key::p256(), Key::p256()]);
    let signature = as_jws(&Draft::new(&chain, Scheme::SigningAuthority).jws(&chain.key));
    assert!(matches!(verify(own(&chain, Scheme::SigningAuthority), &[signature]), Err(Reason::Expired { .. })));
}

fn a_certificate_without_an_end_is_valid() {
    let root = Says { until: jiff::Timestamp::MAX, ..Says::authority("Our Root", "Our Root") };
    let chain = Chain::of(&[Says::signer("web", "Our Root"), root.clone()], vec![Key::p256(), Key::p256()]);
    let signature = as_jws(&Draft::new(&chain, Scheme::X509).jws(&chain.key));
    assert!(verify(own(&chain, Scheme::X509), &[signature]).is_ok());
    // One that begins there is never valid.
    let chain = Chain::of(&[Says::signer("web", "Our Root"), Says { from: jiff::Timestamp::MAX, ..root }], vec![Key::p256(), Key::p256()]);
    assert!(malformed(&chain, Scheme::X509, as_jws(&Draft::new(&chain, Scheme::X509).jws(&chain.key))).contains("too late"));
}

fn with_signer(says: Says) -> Result<(), Reason> {
    let chain = Chain::of(&[says, Says::authority("Our Root", "Our Root")], vec![Key::p256(), Key::p256()]);
    verify(own(&chain, Scheme::X509), &[as_jws(&Draft::new(&chain, Scheme::X509).jws(&chain.key))]).map(|_| ())
}

fn each_rule_of_a_signers_certificate() {
    let good = || Says::signer("web", "Our Root");
    let basic = |authority, path| Some(Basic { critical: true, authority, path });
    for (says, is_good) in [
        (good(), true),
        (Says { basic: None, ..good() }, true),
        (Says { extended: vec![], ..good() }, true),
        (Says { extended: vec!["1.3.6.1.5.5.7.3.3", "1.3.6.1.4.1.311.10.3.13"], ..good() }, true),
        (Says { usage: Some((DIGITAL_SIGNATURE | 0x4000, true)), ..good() }, true), // nonRepudiation
        (Says { basic: basic(true, None), ..good() }, false),
        (Says { usage: None, ..good() }, false),
        (Says { usage: Some((DIGITAL_SIGNATURE, false)), ..good() }, false),
        (Says { usage: Some((0x4000, true)), ..good() }, false),
        (Says { usage: Some((DIGITAL_SIGNATURE | 0x2000, true)), ..good() }, false), // keyEncipherment
        (Says { usage: Some((DIGITAL_SIGNATURE | 0x1000, true)), ..good() }, false), // dataEncipherment
        (Says { usage: Some((DIGITAL_SIGNATURE | 0x0800, true)), ..good() }, false), // keyAgreement
        (Says { usage: Some((DIGITAL_SIGNATURE | KEY_CERT_SIGN, true)), ..good() }, false),
        (Says { usage: Some((DIGITAL_SIGNATURE | CRL_SIGN, true)), ..good() }, false),
        (Says { usage: Some((DIGITAL_SIGNATURE | 0x0100, true)), ..good() }, false), // encipherOnly
        (Says { usage: Some((DIGITAL_SIGNATURE | 0x0080, true)), ..good() }, false), // decipherOnly
        (Says { extended: vec!["1.3.6.1.5.5.7.3.3", "1.3.6.1.5.5.7.3.1"], ..good() }, false),
        (Says { extended: vec!["1.3.6.1.5.5.7.3.2"], ..good() }, false),
        (Says { extended: vec!["1.3.6.1.5.5.7.3.4"], ..good() }, false),
        (Says { extended: vec!["1.3.6.1.5.5.7.3.8"], ..good() }, false),
        (Says { extended: vec!["1.3.6.1.5.5.7.3.9"], ..good() }, false),
        (Says { extended: vec!["2.5.29.37.0"], ..good() }, false),
        (Says { version: 1, ..good() }, false),
    ] {
        let said = (says.basic.map(|basic| basic.authority), says.usage, says.extended.clone(), says.version);
        let verified = with_signer(says);
        assert!(if is_good { verified.is_ok() } else { matches!(verified, Err(Reason::Malformed(_))) }, "{said:?}: {verified:?}");
    }
}

fn each_rule_of_an_authoritys_certificate() {
    let middle = || Says::authority("Middle", "Our Root");
    let basic = |critical, authority, path| Some(Basic { critical, authority, path });
    let of = |middle: Says, root: Says| {
        let chain = Chain::of(&[Says::signer("web", "Middle"), middle, root], vec![Key::p256(), Key::p256(), Key::p256()]);
        verify(own(&chain, Scheme::X509), &[as_jws(&Draft::new(&chain, Scheme::X509).jws(&chain.key))]).map(|_| ())
    };
    let root = || Says::authority("Our Root", "Our Root");
    for (middle, root, is_good) in [
        (middle(), root(), true),
        (Says { basic: basic(true, true, Some(0)), ..middle() }, Says { basic: basic(true, true, Some(1)), ..root() }, true),
        (middle(), Says { basic: basic(true, true, Some(0)), ..root() }, false),
        (Says { basic: None, ..middle() }, root(), false),
        (Says { basic: basic(true, false, None), ..middle() }, root(), false),
        (Says { basic: basic(false, true, None), ..middle() }, root(), false),
        (Says { usage: None, ..middle() }, root(), false),
        (Says { usage: Some((KEY_CERT_SIGN, false)), ..middle() }, root(), false),
        (Says { usage: Some((DIGITAL_SIGNATURE | CRL_SIGN, true)), ..middle() }, root(), false),
        (middle(), Says { usage: Some((CRL_SIGN, true)), ..root() }, false),
        (middle(), Says { basic: None, ..root() }, false),
    ] {
        let verified = of(middle, root);
        assert!(if is_good { verified.is_ok() } else { matches!(verified, Err(Reason::Malformed(_))) }, "{verified:?}");
    }
}

fn a_chain_is_one_line() {
    let chain = Chain::of_aws_signer();
    let says = Scheme::SigningAuthority;
    let of = |order: &[usize]| {
        let mut draft = Draft::new(&chain, says);
        draft.certificates = order.iter().map(|at| chain.certificates[*at].clone()).collect();
        verify(own(&chain, says), &[as_jws(&draft.jws(&chain.key))]).map(|_| ())
    };
    assert!(of(&[0, 1, 2, 3]).is_ok());
    for order in [&[0, 2, 1, 3][..], &[0, 1, 3], &[0, 1, 2], &[0, 1, 2, 3, 3], &[0, 0, 1, 2, 3], &[0], &[1, 2, 3], &[3], &[], &[0, 1, 2, 3, 2, 3]] {
        assert!(of(order).is_err(), "{order:?}");
    }
    assert!(matches!(of(&[3; 11]), Err(Reason::Malformed(why)) if why.contains("11 certificates")));
    // The right names, and another key: a chain hangs together by its signatures.
    let forger = Chain::of_aws_signer();
    let mut draft = Draft::new(&chain, says);
    draft.certificates = [&forger.certificates[..3], &chain.certificates[3..]].concat();
    assert!(matches!(verify(own(&chain, says), &[as_jws(&draft.jws(&forger.key))]), Err(Reason::Tampered(_))));
    // The right key, and another name.
    let keys = [Key::p256(), Key::p256()];
    let root = Says::authority("Our Root", "Our Root").certify(&keys[1], &keys[1]);
    let leaf = Says::signer("web", "Somebody Else").certify(&keys[0], &keys[1]);
    let [key, _] = keys;
    let chain = Chain { certificates: vec![leaf, root], key };
    assert!(malformed(&chain, Scheme::X509, as_jws(&Draft::new(&chain, Scheme::X509).jws(&chain.key))).contains("its issuer is not the next"));
    // One that signed itself has nobody above it.
    let keys = vec![Key::p256(), Key::p256()];
    let inner = Says::authority("Our Root", "Our Root").certify(&keys[1], &keys[1]);
    let signer = Says::signer("web", "Our Root").certify(&keys[0], &keys[1]);
    let chain = Chain { certificates: vec![signer, inner.clone(), inner], key: keys.into_iter().next().unwrap() };
    assert!(malformed(&chain, Scheme::X509, as_jws(&Draft::new(&chain, Scheme::X509).jws(&chain.key))).contains("signed itself"));
}

fn certificates_may_be_signed_with_every_sound_algorithm() {
    let pss = |hash: &str, salt| seq(&[oid("1.2.840.113549.1.1.10"), pss_parameters(der::asn1::ObjectIdentifier::new_unwrap(hash), salt)]);
    let rsa = |id: &str| seq(&[oid(id), tlv(5, &[])]);
    let sha1 = (Algorithm::RsaPkcs1(Hash::Sha256), rsa("1.2.840.113549.1.1.5"));
    for (by, signed_with, is_good) in [
        (Key::p256(), None, true),
        (Key::p384(), Some((Algorithm::Ecdsa(Hash::Sha256), seq(&[oid("1.2.840.10045.4.3.2")]))), true),
        (Key::p521(), None, true),
        (Key::rsa(2048), None, true),
        (Key::rsa(4096), Some((Algorithm::RsaPkcs1(Hash::Sha384), rsa("1.2.840.113549.1.1.12"))), true),
        (Key::rsa(4096), Some((Algorithm::RsaPkcs1(Hash::Sha512), rsa("1.2.840.113549.1.1.13"))), true),
        (Key::rsa(2048), Some((Algorithm::RsaPss(Hash::Sha256), pss("2.16.840.1.101.3.4.2.1", 32))), true),
        (Key::rsa(3072), Some((Algorithm::RsaPss(Hash::Sha384), pss("2.16.840.1.101.3.4.2.2", 48))), true),
        (Key::rsa(4096), Some((Algorithm::RsaPss(Hash::Sha512), pss("2.16.840.1.101.3.4.2.3", 64))), true),
        (Key::rsa(2048), Some((Algorithm::RsaPss(Hash::Sha256), pss("2.16.840.1.101.3.4.2.1", 20))), false),
        (Key::rsa(2048), Some(sha1), false),
    ] {
        let root = Says { signed_with: signed_with.clone(), ..Says::authority("Our Root", "Our Root") };
        let signer = Says { signed_with, ..Says::signer("web", "Our Root") };
        let key = Key::p256();
        let chain = Chain { certificates: vec![signer.certify(&key, &by), root.certify(&by, &by)], key };
        let trust = Root::from_der(chain.root());
        assert_eq!(trust.is_ok(), is_good);
        if let Ok(root) = trust {
            let signer = Signer::authority("ours", Scheme::X509, vec![root]).unwrap();
            assert!(verify(signer, &[as_jws(&Draft::new(&chain, Scheme::X509).jws(&chain.key))]).is_ok());
        }
    }
}

fn a_certificate_that_is_none_is_refused() {
    let chain = short();
    let good = chain.certificates[0].clone();
    for bad in [vec![], vec![0x30], good[..good.len() - 1].to_vec(), [good.clone(), vec![0]].concat(), b"-----BEGIN CERTIFICATE-----".to_vec()] {
        let mut draft = Draft::new(&chain, Scheme::X509);
        draft.certificates[0] = bad;
        assert!(malformed(&chain, Scheme::X509, as_jws(&draft.jws(&chain.key))).contains("certificate 1"));
    }
    let mut jws = Draft::new(&chain, Scheme::X509).jws(&chain.key);
    for bad in [json!([]), json!(["!"]), json!("x"), json!(null)] {
        jws["header"]["x5c"] = bad;
        malformed(&chain, Scheme::X509, as_jws(&jws));
    }
    for twice in [extension("2.5.29.15", true, &tlv(3, &[7, 0x80])), extension("2.5.29.19", true, &seq(&[]))] {
        let says = Says { more: vec![twice], ..Says::signer("web", "Our Root") };
        assert!(matches!(with_signer(says), Err(Reason::Malformed(why)) if why.contains("an extension twice")));
    }
}

/// A certificate that two readers could read in two ways is none.
fn a_certificate_has_one_reading() {
    let says = |after: Vec<u8>| Says { after: vec![after], ..Says::signer("web", "Our Root") };
    for (after, why) in [
        (tlv(0xa3, &seq(&[])), "out of order"),
        (tlv(0xa3, &seq(&[extension("2.5.29.19", true, &seq(&[tlv(1, &[0xff])]))])), "out of order"),
        (tlv(0x81, &[0, 1]), "out of order"),
        (tlv(0xa4, &seq(&[])), "does not belong"),
        (tlv(2, &[1]), "does not belong"),
    ] {
        assert!(matches!(with_signer(says(after)), Err(Reason::Malformed(found)) if found.contains(why)), "{why}");
    }
    // The algorithm is said twice, and signed once.
    let chain = short();
    let good = Certificate::read(&chain.certificates[0]).unwrap();
    let mut draft = Draft::new(&chain, Scheme::X509);
    draft.certificates[0] = seq(&[good.tbs.to_vec(), seq(&[oid("1.2.840.10045.4.3.2")]), bits(good.signature)]);
    assert!(malformed(&chain, Scheme::X509, as_jws(&draft.jws(&chain.key))).contains("two algorithms"));
}

fn a_certificate_is_read_to_its_end() {
    let moment = |year: &str| tlv(0x17, format!("{year}0101000000Z").as_bytes());
    let algorithm = seq(&[oid("1.2.840.10045.4.3.2")]);
    let key = Key::p256().spki();
    let fields = |extensions: &[Vec<u8>]| {
        let named = |parts: Vec<Vec<u8>>| seq(&parts);
        vec![
            tlv(0xa0, &[2, 1, 2]),
            tlv(2, &[1]),
            algorithm.clone(),
            named(vec![]),
            seq(&[moment("26"), moment("27")]),
            named(vec![]),
            key.clone(),
            tlv(0xa3, &seq(extensions)),
        ]
    };
    let with = |at: usize, other: Vec<u8>| {
        let mut fields = fields(&[]);
        fields[at] = other;
        fields
    };
    let of = |fields: Vec<Vec<u8>>| seq(&[seq(&fields), algorithm.clone(), bits(b"x")]);
    let basic = |value: &[Vec<u8>]| extension("2.5.29.19", true, &seq(value));
    assert!(Certificate::read(&of(fields(&[]))).is_ok());
    for (what, bad) in [
        ("a version under another tag", of(with(0, tlv(0xa1, &[2, 1, 2])))),
        ("a serial number that is none", of(with(1, tlv(4, &[1])))),
        ("three times", of(with(4, seq(&[moment("26"), moment("27"), moment("28")])))),
        ("extensions that are no list", of(with(7, tlv(0x83, &seq(&[]))))),
        ("an extension with two values", of(fields(&[seq(&[oid("1.2.3"), tlv(4, b""), tlv(4, b"")])]))),
        ("neither true nor false", of(fields(&[seq(&[oid("2.5.29.15"), tlv(1, &[1]), tlv(4, &tlv(3, &[7, 0x80]))])]))),
        ("an authority by neither true nor false", of(fields(&[basic(&[tlv(1, &[1])])]))),
        ("more of basicConstraints", of(fields(&[basic(&[tlv(1, &[0xff]), tlv(2, &[0]), tlv(2, &[0])])]))),
        ("a negative path", of(fields(&[basic(&[tlv(1, &[0xff]), tlv(2, &[0xff])])]))),
        ("a use said twice", of(fields(&[extension("2.5.29.37", false, &seq(&[])), extension("2.5.29.37", false, &seq(&[]))]))),
        ("more behind the signature", seq(&[seq(&fields(&[])), algorithm.clone(), bits(b"x"), tlv(5, &[])])),
    ] {
        assert!(Certificate::read(&bad).is_err(), "{what}");
    }
    // False may be said, though nobody has to.
    let not = |value: Vec<u8>| seq(&[oid("2.5.29.19"), tlv(1, &[0]), tlv(4, &value)]);
    let der = of(fields(&[not(seq(&[tlv(1, &[0])]))]));
    let basic_of = |der: &[u8]| Certificate::read(der).unwrap().basic.unwrap();
    assert!(!basic_of(&der).is_authority && !basic_of(&der).critical);
    // As many as nobody has, and not as many as its first byte says.
    assert_eq!(basic_of(&of(fields(&[basic(&[tlv(1, &[0xff]), tlv(2, &[1, 0])])]))).path_length, Some(u8::MAX));
}

fn an_extension_that_nobody_knows_is_ignored() {
    let long = extension("1.3.6.1.4.1.2147483647.2147483647.2147483647.1", true, b"anything");
    let says = Says { more: vec![extension("1.3.6.1.4.1.99999.1", true, &tlv(5, &[])), long], ..Says::signer("web", "Our Root") };
    assert_eq!(with_signer(says), Ok(()));
}

fn a_chain_has_an_end() {
    // The last one names itself as its issuer, and was signed by another.
    let (key, root, other) = (Key::p256(), Key::p256(), Key::p256());
    let chain =
        Chain { certificates: vec![Says::signer("web", "Our Root").certify(&key, &root), Says::authority("Our Root", "Our Root").certify(&root, &other)], key };
    let signature = as_jws(&Draft::new(&chain, Scheme::X509).jws(&chain.key));
    assert!(matches!(verify(own(&chain, Scheme::X509), &[signature]), Err(Reason::Tampered(_))));
    // It names another issuer, and was signed by itself.
    let (key, root) = (Key::p256(), Key::p256());
    let chain =
        Chain { certificates: vec![Says::signer("web", "Our Root").certify(&key, &root), Says::authority("Our Root", "Another").certify(&root, &root)], key };
    assert!(malformed(&chain, Scheme::X509, as_jws(&Draft::new(&chain, Scheme::X509).jws(&chain.key))).contains("did not sign itself"));
}

/// Self-signed is who signed himself, not who has the name of his issuer; nor who has its key under another name.
fn a_signer_may_have_the_name_of_its_root() {
    assert_eq!(with_signer(Says::signer("Our Root", "Our Root")), Ok(()));
    let (key, above) = (Key::p256(), Key::p256());
    let certificates = vec![
        Says::signer("web", "Middle").certify(&key, &above),
        Says::authority("Middle", "Our Root").certify(&above, &above),
        Says::authority("Our Root", "Our Root").certify(&above, &above),
    ];
    let chain = Chain { certificates, key };
    assert!(verify(own(&chain, Scheme::X509), &[as_jws(&Draft::new(&chain, Scheme::X509).jws(&chain.key))]).is_ok());
}

fn an_envelope_that_is_too_large_is_not_read() {
    let chain = short();
    let draft = Draft::new(&chain, Scheme::X509);
    let jws = [draft.jws(&chain.key).to_string().into_bytes(), vec![b' '; 1024 * 1024]].concat();
    for large in [Signature::Jws(jws), Signature::Cose(vec![0xd2; 1024 * 1024 + 1])] {
        assert!(malformed(&chain, Scheme::X509, large).contains("1048576 is the most"));
    }
}

fn cose_has_one_reading() {
    let chain = short();
    let draft = Draft::new(&chain, Scheme::X509);
    let good = draft.cose(&chain.key).sign(&chain.key);
    let bad = |bytes: Vec<u8>| malformed(&chain, Scheme::X509, Signature::Cose(bytes));
    assert!(bad([good.clone(), vec![0]].concat()).contains("follows"));
    assert!(bad(good[1..].to_vec()).contains("no COSE_Sign1"));
    assert!(bad(good[..good.len() - 1].to_vec()).contains("ends early"));
    assert!(bad([vec![0xd2], vec![0x81; 40], vec![0]].concat()).contains("nested"));
    assert!(bad(vec![0xd2, 0x9f, 0xff]).contains("not said"));
    assert!(bad(vec![0xd2, 0x9a, 0xff, 0xff, 0xff, 0xff]).contains("too many"));
    assert!(bad(vec![0xd2, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).contains("ends early"));
    // A critical number is no known name, and a text of its letters is not the number.
    let mut cose = draft.cose(&chain.key);
    cose.members.retain(|member| !member.starts_with(&cbor_integer(2)));
    let critical = [cbor_text("io.cncf.notary.signingScheme"), cbor_text("io.cncf.notary.expiry"), cbor_integer(99)];
    cose.members.extend([[cbor_integer(2), crate::making::cbor_array(&critical)].concat(), [cbor_integer(99), cbor_bytes(b"x")].concat()]);
    assert!(bad(cose.sign(&chain.key)).contains("`label 99`"));
    // A time that is a text, as JWS has it; and a number that is something else.
    for no_time in [cbor_text(SIGNED_AT), [vec![0xc2], cbor_integer(1)].concat()] {
        let mut cose = draft.cose(&chain.key);
        cose.members.retain(|member| !member.starts_with(&cbor_text("io.cncf.notary.signingTime")));
        cose.members.push([cbor_text("io.cncf.notary.signingTime"), no_time].concat());
        assert!(bad(cose.sign(&chain.key)).contains("no time"));
    }
    // Another kind of COSE, and a name of an algorithm where its number belongs.
    assert!(bad([&[0xd1], &good[1..]].concat()).contains("no COSE_Sign1"));
    let mut cose = draft.cose(&chain.key);
    cose.members.retain(|member| !member.starts_with(&cbor_integer(1)));
    cose.members.push([cbor_integer(1), cbor_text("ES256")].concat());
    assert!(bad(cose.sign(&chain.key)).contains("of a wrong type"));
}

fn a_plugin_is_nothing_under_ones_own_root() {
    let chain = short();
    for (name, value) in [("io.cncf.notary.verificationPlugin", "com.amazonaws.signer.notation.plugin"), ("com.amazonaws.signer.signingJob", "x")] {
        let mut draft = Draft::new(&chain, Scheme::X509);
        draft.critical(name, json!(value));
        assert!(malformed(&chain, Scheme::X509, as_jws(&draft.jws(&chain.key))).contains("plugin"), "{name}");
    }
}

fn roots_come_as_pem() {
    let chain = short();
    let text = pem("CERTIFICATE", chain.root());
    assert_eq!(Root::from_pem(&format!("{text}{text}")).unwrap().len(), 2);
    for bad in ["", "x", &pem("PUBLIC KEY", &chain.key.spki()), &pem("X509 CRL", chain.root()), &pem("CERTIFICATE", b"x"), &(text + &" ".repeat(70_000))] {
        assert!(matches!(Root::from_pem(bad), Err(BadTrust::Root(_))), "{bad:.40}");
    }
    assert!(matches!(Signer::authority("nobody", Scheme::X509, vec![]), Err(BadTrust::Root(_))));
}
