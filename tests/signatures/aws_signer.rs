//! AWS Signer: its shape, who may sign, what is asked about revocation and what the answer means; and several signers together.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ecr_scan_verifier::domain::image::ImageDigest;
use ecr_scan_verifier::domain::signature::artifact::{self, Signature};
use ecr_scan_verifier::domain::signature::key::{Algorithm, CosignKey, Hash};
use ecr_scan_verifier::domain::signature::notation::Scheme;
use ecr_scan_verifier::domain::signature::signer::{Identities, RevocationAnswer, RevocationQuestion};
use ecr_scan_verifier::domain::signature::trust::{BadTrust, Kind, Root, Rule, Signer, Trust};
use ecr_scan_verifier::domain::signature::verdict::{By, Format, Reason, Verdict};
use ecr_scan_verifier::domain::signature::verify::{Good, Verification};
use ecr_scan_verifier::domain::signature::{certificate::Certificate, say};
use serde_json::json;

use crate::making::{Draft, EXPIRES_AT, JOB, PROFILE, SIGNED_AT, VERSION, as_bundle, as_jws, bundle, bundle_of, classic, now, subject, verify};
use crate::pki::{Chain, Key, time};
use crate::runner::Test;

pub fn tests() -> Vec<Test> {
    crate::tests!["aws_signer": a_signature_of_its_shape_counts_when_nothing_is_revoked, what_is_revoked_does_not_count, an_answer_that_does_not_come_is_no_good_answer,
        an_unanswered_question_is_no_good_answer, a_revoked_signature_does_not_hide_a_good_one,
        what_was_asked_once_is_not_asked_again, the_question_holds_each_certificate_with_its_issuer,
        a_profile_or_one_version_of_it_is_trusted, only_arns_of_profiles_are_identities, a_signature_without_its_attributes_is_not_by_aws_signer,
        a_newer_plugin_is_more_than_we_can_judge, an_authority_that_calls_itself_aws_signer_is_not, a_partition_without_a_root_is_refused,
        another_partitions_signature_does_not_count, its_certificates_may_have_ended, its_envelopes_are_jws_and_vouch_for_their_time,
        all_of_several_signers, any_of_several_signers, one_kind_does_not_hide_the_other, nobody_is_not_everybody, a_flood_of_signatures_is_cut,
        what_could_not_be_checked_is_never_forgiven, each_reason_has_a_sentence, what_a_signature_says_is_quoted_short_and_on_one_line,
        a_verdict_can_be_kept, what_was_found_good_is_asked_about_again_and_nothing_else, a_verdict_is_kept_under_all_that_could_change_it]
}

pub fn signer(chain: &Chain) -> Signer {
    signer_of(chain, PROFILE)
}

fn signer_of(chain: &Chain, profile: &str) -> Signer {
    Signer::aws_signer("AWS Signer", "aws", &[profile.to_owned()], &[Root::from_der(chain.root()).unwrap()]).unwrap()
}

fn signature(chain: &Chain) -> Signature {
    as_jws(&Draft::of_aws_signer(chain).jws(&chain.key))
}

/// Asks nobody, and gives each question the same answer.
fn ask(rule: Rule, signers: Vec<Signer>, signatures: &[Signature], mut answer: impl FnMut(&RevocationQuestion) -> RevocationAnswer) -> Verdict {
    let mut verification = Verification::begin(&Trust::new(rule, signers).unwrap(), &subject(), signatures, now());
    while let Some(question) = verification.question() {
        let answer = answer(question);
        verification.hear(answer);
    }
    verification.verdict()
}

fn nothing(_: &RevocationQuestion) -> RevocationAnswer {
    RevocationAnswer::Revoked(vec![])
}

fn reason(verdict: &Verdict) -> &Reason {
    verdict.reason().unwrap_or_else(|| panic!("{verdict:?}"))
}

/// Without the question: what the envelope alone comes to.
fn objection(chain: &Chain, draft: &Draft) -> Reason {
    match ask(Rule::AllOf, vec![signer(chain)], &[as_jws(&draft.jws(&chain.key))], |_| panic!("it should not come to a question")) {
        Verdict::Refused(mut refused) => refused.remove(0).reason,
        verified => panic!("{verified:?}"),
    }
}

fn a_signature_of_its_shape_counts_when_nothing_is_revoked() {
    let chain = Chain::of_aws_signer();
    let Verdict::Verified(verified) = ask(Rule::AllOf, vec![signer(&chain)], &[signature(&chain)], nothing) else { panic!("it is refused") };
    let [verified] = verified.as_slice() else { panic!("{verified:?}") };
    assert_eq!(verified.by, By::Profile { version_arn: VERSION.into(), job_arn: JOB.into() });
    assert_eq!(verified.format, Format::Notation(Scheme::SigningAuthority));
    assert_eq!((verified.signed_at, verified.expires_at), (Some(time(SIGNED_AT)), Some(time(EXPIRES_AT))));
}

fn what_is_revoked_does_not_count() {
    let chain = Chain::of_aws_signer();
    for (entity, named) in [
        (JOB, format!("the signing job {JOB}")),
        (VERSION, format!("the signing profile version {VERSION}")),
        (&*"ab".repeat(96), "a certificate (abababababababab...)".to_owned()),
    ] {
        let verdict = ask(Rule::AllOf, vec![signer(&chain)], &[signature(&chain)], |_| RevocationAnswer::Revoked(vec![entity.to_owned()]));
        assert_eq!(reason(&verdict), &Reason::Revoked { what: vec![named] });
        assert!(verdict.is_forgivable());
    }
}

fn an_answer_that_does_not_come_is_no_good_answer() {
    let chain = Chain::of_aws_signer();
    let verdict = ask(Rule::AllOf, vec![signer(&chain)], &[signature(&chain)], |_| RevocationAnswer::None("AccessDenied".into()));
    assert_eq!(reason(&verdict).word(), "could-not-check");
    assert!(!verdict.is_forgivable());
}

fn an_unanswered_question_is_no_good_answer() {
    let chain = Chain::of_aws_signer();
    let refused = verify(signer(&chain), &[signature(&chain)]).unwrap_err();
    assert_eq!(refused.word(), "could-not-check");
}

fn a_revoked_signature_does_not_hide_a_good_one() {
    let chain = Chain::of_aws_signer();
    let mut draft = Draft::of_aws_signer(&chain);
    let other_job = JOB.replace("97af3947", "00000000");
    draft.set("com.amazonaws.signer.signingJob", json!(other_job));
    let signatures = [signature(&chain), as_jws(&draft.jws(&chain.key))];
    for bad in [RevocationAnswer::Revoked(vec![JOB.into()]), RevocationAnswer::None("throttled".into())] {
        let answer = |question: &RevocationQuestion| if question.job_arn == JOB { bad.clone() } else { nothing(question) };
        let verdict = ask(Rule::AllOf, vec![signer(&chain)], &signatures, answer);
        let Verdict::Verified(verified) = verdict else { panic!("{verdict:?}") };
        assert_eq!(verified[0].by, By::Profile { version_arn: VERSION.into(), job_arn: other_job.clone() });
    }
    // One that is good is enough: about the others nobody is asked.
    let mut asked = 0;
    let verdict = ask(Rule::AllOf, vec![signer(&chain)], &signatures, |question| {
        asked += 1;
        nothing(question)
    });
    assert_eq!((asked, verdict.is_verified()), (1, true));
}

/// Whoever can push can put a good signature beside itself a hundred times, and each question may take half a minute.
fn what_was_asked_once_is_not_asked_again() {
    let chain = Chain::of_aws_signer();
    let copies = vec![signature(&chain); 100];
    for bad in [RevocationAnswer::Revoked(vec![JOB.into()]), RevocationAnswer::None("throttled".into())] {
        let mut asked = 0;
        let verdict = ask(Rule::AllOf, vec![signer(&chain)], &copies, |_| {
            asked += 1;
            bad.clone()
        });
        assert_eq!((asked, verdict.is_verified()), (1, false));
    }
}

fn the_question_holds_each_certificate_with_its_issuer() {
    let chain = Chain::of_aws_signer();
    let hash = |at: usize| {
        let certificate = Certificate::read(&chain.certificates[at]).unwrap();
        let hash = ring::digest::digest(&ring::digest::SHA384, certificate.tbs);
        hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let expected = RevocationQuestion {
        signature_timestamp: time(SIGNED_AT),
        platform_id: "Notation-OCI-SHA384-ECDSA".into(),
        profile_version_arn: VERSION.into(),
        job_arn: JOB.into(),
        certificate_hashes: vec![hash(0) + &hash(1), hash(1) + &hash(2), hash(2) + &hash(3), hash(3) + &hash(3)],
    };
    let mut asked = Vec::new();
    ask(Rule::AllOf, vec![signer(&chain)], &[signature(&chain)], |question| {
        asked.push(question.clone());
        nothing(question)
    });
    assert_eq!(asked, [expected]);
}

fn a_profile_or_one_version_of_it_is_trusted() {
    let chain = Chain::of_aws_signer();
    for (trusted, is_good) in [
        (PROFILE.to_owned(), true),
        (VERSION.to_owned(), true),
        (VERSION.to_uppercase().replace("ARN:AWS:SIGNER:", "arn:aws:signer:").replace("/SIGNING-PROFILES/", "/signing-profiles/"), true),
        (PROFILE.replace("web", "WEB"), true),
        (PROFILE.replace("web", "we"), false),
        (VERSION[..VERSION.len() - 1].to_owned(), false),
        (PROFILE.replace("web", "webb"), false),
        (PROFILE.replace("123456789012", "210987654321"), false),
        (PROFILE.replace("eu-west-1", "eu-west-2"), false),
        (VERSION.replace("Ab3d", "Xb3d"), false),
    ] {
        let verdict = ask(Rule::AllOf, vec![signer_of(&chain, &trusted)], &[signature(&chain)], nothing);
        assert_eq!(verdict.is_verified(), is_good, "{trusted}");
        if !is_good {
            assert_eq!(reason(&verdict), &Reason::WrongIdentity { says: VERSION.into() });
        }
    }
}

fn only_arns_of_profiles_are_identities() {
    let of = |identities: &[&str]| Identities::new("aws", &identities.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
    assert_eq!(of(&["*"]), Err(BadTrust::Wildcard));
    assert_eq!(of(&[PROFILE, " * "]), Err(BadTrust::Wildcard));
    for none in [
        &[][..],
        &["shop"],
        &["arn:aws:dynamodb:us-east-2:123456789012:table/x"],
        &[JOB],
        &["arn:aws:sts:eu-west-1:123456789012:/signing-profiles/a"],
        &["arn:aws:signer:eu-west-1:123456789012:/signing-profiles//Ab3dEf5hIj"],
        &["arn:aws:signer:eu-west-1:123456789012:/signing-profiles/"],
        &["arn:aws:signer:eu-west-1:123456789012:/signing-profiles/a/b/c"],
        &["arn:aws:signer:eu-west-1::/signing-profiles/a"],
        &["x509.subject: CN=AWS Signer"],
    ] {
        assert!(matches!(of(none), Err(BadTrust::NoProfile(_))), "{none:?}");
    }
    assert!(of(&["shop", PROFILE]).unwrap().include(VERSION));
}

fn a_signature_without_its_attributes_is_not_by_aws_signer() {
    let chain = Chain::of_aws_signer();
    for (name, expected) in [
        ("io.cncf.notary.verificationPlugin", "wrong-identity"),
        ("com.amazonaws.signer.signingProfileVersion", "malformed"),
        ("com.amazonaws.signer.signingJob", "malformed"),
    ] {
        let mut draft = Draft::of_aws_signer(&chain);
        draft.without(name);
        assert_eq!(objection(&chain, &draft).word(), expected, "{name}");
        for no_text in [json!(1), json!([VERSION])] {
            let mut draft = Draft::of_aws_signer(&chain);
            draft.set(name, no_text);
            assert_eq!(objection(&chain, &draft).word(), expected, "{name}");
        }
    }
    let mut draft = Draft::of_aws_signer(&chain);
    draft.set("io.cncf.notary.verificationPlugin", json!("com.example.plugin"));
    assert_eq!(objection(&chain, &draft).word(), "wrong-identity");
    for no_version in [PROFILE, "", "Ab3dEf5hIj", JOB, &format!("{VERSION}/x"), "arn:aws:signer:eu-west-1:123456789012:/signing-profiles/web/"] {
        let mut draft = Draft::of_aws_signer(&chain);
        draft.set("com.amazonaws.signer.signingProfileVersion", json!(no_version));
        assert_eq!(objection(&chain, &draft).word(), "wrong-identity", "{no_version}");
    }
    let mut draft = Draft::of_aws_signer(&chain);
    draft.critical("com.amazonaws.signer.somethingNew", json!("x"));
    assert_eq!(objection(&chain, &draft).word(), "unsupported");
}

fn a_newer_plugin_is_more_than_we_can_judge() {
    let chain = Chain::of_aws_signer();
    let asks_for = |version: &str| {
        let mut draft = Draft::of_aws_signer(&chain);
        draft.critical("io.cncf.notary.verificationPluginMinVersion", json!(version));
        ask(Rule::AllOf, vec![signer(&chain)], &[as_jws(&draft.jws(&chain.key))], nothing)
    };
    for older in ["1.0.298", "1.0.350", "1.0.350-alpha", "1.0.350+build", "0.9.9", "1.0.0"] {
        assert!(asks_for(older).is_verified(), "{older}");
    }
    for (version, word) in [
        ("1.0.351", "could-not-check"),
        ("1.1.0-alpha", "could-not-check"),
        ("2.0.0", "could-not-check"),
        ("1.0", "malformed"),
        ("new", "malformed"),
        ("1.0.-1", "malformed"),
    ] {
        assert_eq!(reason(&asks_for(version)).word(), word, "{version}");
    }
    let mut draft = Draft::of_aws_signer(&chain);
    draft.critical("io.cncf.notary.verificationPluginMinVersion", json!(1));
    assert_eq!(objection(&chain, &draft).word(), "malformed");
}

/// All names are those of AWS; the root is not.
fn an_authority_that_calls_itself_aws_signer_is_not() {
    let forged = Chain::of_aws_signer();
    for partition in ["aws", "aws-us-gov"] {
        let genuine = Signer::aws_signer("AWS Signer", partition, &[PROFILE.replace(":aws:", &format!(":{partition}:"))], &[]).unwrap();
        let verdict = ask(Rule::AllOf, vec![genuine], &[signature(&forged)], |_| panic!("it should not come to a question"));
        assert_eq!(reason(&verdict).word(), "untrusted-root");
    }
}

fn a_partition_without_a_root_is_refused() {
    for partition in ["aws-cn", "aws-eusc", "aws-iso", ""] {
        let identities = [PROFILE.to_owned()];
        let refused = Signer::aws_signer("AWS Signer", partition, &identities, &[]).unwrap_err();
        assert_eq!(refused, BadTrust::NoRoot(partition.into()));
        assert!(refused.to_string().contains("`trustedRoots`"));
        assert!(Signer::aws_signer("AWS Signer", partition, &identities, &[Root::from_der(Chain::of_aws_signer().root()).unwrap()]).is_ok());
    }
}

fn another_partitions_signature_does_not_count() {
    let chain = Chain::of_aws_signer();
    let roots = [Root::from_der(chain.root()).unwrap()];
    let here = Signer::aws_signer("AWS Signer", "aws-us-gov", &[PROFILE.to_owned()], &roots).unwrap();
    let verdict = ask(Rule::AllOf, vec![here], &[signature(&chain)], |_| panic!("nobody here could answer"));
    assert!(matches!(reason(&verdict), Reason::WrongIdentity { says } if says.ends_with("of another partition than `aws-us-gov`")), "{verdict:?}");
}

/// They live for three days; the signature for years.
fn its_certificates_may_have_ended() {
    let chain = Chain::of_aws_signer();
    let trust = Trust::new(Rule::AllOf, vec![signer(&chain)]).unwrap();
    let at = |text: &str| {
        let mut verification = Verification::begin(&trust, &subject(), &[signature(&chain)], time(text));
        verification.hear(RevocationAnswer::Revoked(vec![]));
        verification.verdict()
    };
    assert!(at("2030-01-01T00:00:00Z").is_verified());
    assert_eq!(at("2030-01-01T00:00:00Z").holds_until(), Some(time(EXPIRES_AT)));
    assert_eq!(reason(&at(EXPIRES_AT)).word(), "expired");
}

fn its_envelopes_are_jws_and_vouch_for_their_time() {
    let chain = Chain::of_aws_signer();
    let cose = Signature::Cose(Draft::of_aws_signer(&chain).cose(&chain.key).sign(&chain.key));
    assert_eq!(verify(signer(&chain), &[cose]).unwrap_err().word(), "unsupported");
    let mut draft = Draft::new(&chain, Scheme::X509);
    draft.critical("io.cncf.notary.verificationPlugin", json!("com.amazonaws.signer.notation.plugin"));
    assert_eq!(objection(&chain, &draft).word(), "untrusted-root");
}

fn cosign(key: &Key) -> Signer {
    Signer::cosign("Cosign", CosignKey::from_pem(&key.pem()).unwrap())
}

const SHA_256: Algorithm = Algorithm::Ecdsa(Hash::Sha256);

fn all_of_several_signers() {
    let (chain, one, other) = (Chain::of_aws_signer(), Key::p256(), Key::ed25519());
    let signers = || vec![cosign(&one), cosign(&other), signer(&chain)];
    let signatures = [signature(&chain), classic(&one, SHA_256), as_bundle(&bundle(&other, Algorithm::Ed25519))];
    let Verdict::Verified(verified) = ask(Rule::AllOf, signers(), &signatures, nothing) else { panic!("it is refused") };
    assert_eq!(verified.len(), 3);
    for missing in 0..3 {
        let mut signatures = signatures.to_vec();
        signatures.remove(missing);
        let verdict = ask(Rule::AllOf, signers(), &signatures, nothing);
        let Verdict::Refused(refused) = &verdict else { panic!("{missing} is missing: {verdict:?}") };
        assert_eq!(refused.len(), 1);
    }
    // One that is missing for good does not spare the others' answers: whether it is forgiven hangs on them.
    let verdict = ask(Rule::AllOf, signers(), &signatures[..1], |_| RevocationAnswer::None("throttled".into()));
    assert!(!verdict.is_forgivable());
}

fn any_of_several_signers() {
    let (chain, one, other) = (Chain::of_aws_signer(), Key::p256(), Key::p256());
    let signers = || vec![signer(&chain), cosign(&one)];
    let by_one = [signature(&chain), classic(&one, SHA_256)];
    // A good one is enough, and then nobody is asked.
    assert!(ask(Rule::AnyOf, signers(), &by_one, |_| panic!("it is known already")).is_verified());
    assert!(ask(Rule::AnyOf, signers(), &by_one[..1], nothing).is_verified());
    let verdict = ask(Rule::AnyOf, signers(), &[classic(&other, SHA_256)], nothing);
    assert_eq!(reason(&verdict), &Reason::WrongKey);
    assert!(matches!(&verdict, Verdict::Refused(refused) if refused.len() == 2));
    // What could not be checked may have been the good one.
    let verdict = ask(Rule::AnyOf, signers(), &[signature(&chain), classic(&other, SHA_256)], |_| RevocationAnswer::None("throttled".into()));
    assert!(!verdict.is_forgivable());
}

fn one_kind_does_not_hide_the_other() {
    let (chain, key) = (Chain::of_aws_signer(), Key::p256());
    let both = [signature(&chain), as_bundle(&bundle(&Key::p256(), SHA_256)), classic(&key, SHA_256)];
    assert!(verify(cosign(&key), &both).is_ok());
    assert!(ask(Rule::AllOf, vec![signer(&chain)], &both, nothing).is_verified());
    assert_eq!(verify(cosign(&key), &[signature(&chain)]), Err(Reason::Unsigned { others: 1 }));
    assert_eq!(verify(signer(&chain), &[classic(&key, SHA_256)]), Err(Reason::Unsigned { others: 1 }));
    assert_eq!(verify(cosign(&key), &[]), Err(Reason::Unsigned { others: 0 }));
}

fn nobody_is_not_everybody() {
    assert!(matches!(Trust::new(Rule::AllOf, vec![]), Err(BadTrust::Nobody)));
    assert!(matches!(Trust::new(Rule::AnyOf, vec![]), Err(BadTrust::Nobody)));
    let key = Key::p256();
    assert!(matches!(Trust::new(Rule::AnyOf, (0..21).map(|_| cosign(&key)).collect()), Err(BadTrust::TooMany(21))));
}

/// Whoever may push signatures must neither make a verification last for ever nor turn "we stopped looking" into "unsigned".
fn a_flood_of_signatures_is_cut() {
    let (ours, theirs) = (Key::p256(), Key::p256());
    // As many layers as Cosign's tag may have, and a bundle behind them.
    let mut layers = vec![classic(&theirs, SHA_256); 100];
    layers.push(as_bundle(&bundle(&ours, SHA_256)));
    assert!(verify(cosign(&ours), &layers).is_ok());
    let mut flood = vec![classic(&theirs, SHA_256); 200];
    assert_eq!(verify(cosign(&ours), &flood), Err(Reason::WrongKey));
    flood.push(classic(&ours, SHA_256));
    assert_eq!(verify(cosign(&ours), &flood).unwrap_err().word(), "could-not-check");
    flood.swap(0, 200);
    assert!(verify(cosign(&ours), &flood).is_ok());
}

fn what_could_not_be_checked_is_never_forgiven() {
    let key = Key::p256();
    let unknown = || Signer::unknown("KMS", Kind::Cosign, "KMS did not give the key: AccessDenied");
    let verdict = ask(Rule::AllOf, vec![unknown()], &[classic(&key, SHA_256)], nothing);
    assert!(!verdict.is_forgivable());
    // Even an image without a signature: whether it should have had one is not what is missing.
    assert!(!ask(Rule::AllOf, vec![unknown()], &[], nothing).is_forgivable());
    assert!(ask(Rule::AnyOf, vec![unknown(), cosign(&key)], &[classic(&key, SHA_256)], nothing).is_verified());
    for kind in [None, Some(Kind::Cosign)] {
        let lost = Signature::Unusable { kind, reason: Reason::CouldNotCheck("the signature could not be fetched".into()) };
        assert!(!ask(Rule::AllOf, vec![cosign(&key)], std::slice::from_ref(&lost), nothing).is_forgivable());
        assert!(ask(Rule::AllOf, vec![cosign(&key)], &[lost, classic(&key, SHA_256)], nothing).is_verified());
    }
    let of_the_other_kind = Signature::Unusable { kind: Some(Kind::Notation), reason: Reason::CouldNotCheck("x".into()) };
    assert_eq!(verify(cosign(&key), &[of_the_other_kind]), Err(Reason::Unsigned { others: 1 }));
    for reason in every_reason() {
        assert_eq!(reason.is_forgivable(), reason.word() != "could-not-check");
    }
}

fn every_reason() -> Vec<Reason> {
    use ecr_scan_verifier::domain::signature::verdict::Ended;
    let at = time(EXPIRES_AT);
    vec![
        Reason::Unsigned { others: 0 },
        Reason::Unsigned { others: 1 },
        Reason::Unsigned { others: 3 },
        Reason::WrongKey,
        Reason::WrongDigest { names: ImageDigest::of(b"another").to_string() },
        Reason::Tampered("its signature does not fit what it signs".into()),
        Reason::Malformed("its envelope is not a JWS".into()),
        Reason::Unsupported("its envelope is COSE, and AWS Signer's are JWS".into()),
        Reason::Keyless,
        Reason::UntrustedRoot { root: "`Our Root`, SHA-256 00".into() },
        Reason::WrongIdentity { says: VERSION.into() },
        Reason::Expired { what: Ended::Signature, at },
        Reason::Expired { what: Ended::Certificate, at },
        Reason::Revoked { what: vec![format!("the signing job {JOB}")] },
        Reason::CouldNotCheck("AWS Signer did not say whether the signature is revoked: throttled".into()),
    ]
}

/// Every sentence names the image and the signer, and says what to do; "could not look" shares none with "looked and refused".
fn each_reason_has_a_sentence() {
    use ecr_scan_verifier::domain::signature::verdict::Refused;
    let image = "team/web@sha256:4f0c";
    let said: Vec<String> =
        every_reason().into_iter().map(|reason| say::refused(image, &Refused { signer: "AWS Signer (profile web)".into(), reason })).collect();
    insta::with_settings!({snapshot_path => "../golden", prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("signature-reasons", said.join("\n\n"));
    });
}

fn what_was_found_good_is_asked_about_again_and_nothing_else() {
    let (chain, key) = (Chain::of_aws_signer(), Key::p256());
    let cosign = || Signer::cosign("a key", CosignKey::from_pem(&key.pem()).unwrap());
    let signatures = [signature(&chain), classic(&key, Algorithm::Ecdsa(Hash::Sha256))];
    for (rule, signers) in [(Rule::AllOf, vec![cosign(), signer(&chain)]), (Rule::AnyOf, vec![signer(&chain)]), (Rule::AllOf, vec![cosign()])] {
        let trust = Trust::new(rule, signers).unwrap();
        let mut verification = Verification::begin(&trust, &subject(), &signatures, now());
        while verification.question().is_some() {
            verification.hear(RevocationAnswer::Revoked(vec![]));
        }
        let verdict = verification.verdict();
        assert!(verdict.is_verified());
        let kept: Vec<Good> = serde_json::from_str(&serde_json::to_string(&verification.good()).unwrap()).unwrap();

        let resumed = |now, answer: RevocationAnswer| {
            let mut verification = Verification::resume(&trust, &kept, now);
            let mut asked = 0;
            while verification.question().is_some() {
                asked += 1;
                verification.hear(answer.clone());
            }
            (verification.verdict(), asked)
        };
        let by_aws_signer = kept.iter().any(|good| good.question.is_some());
        assert_eq!(resumed(now(), RevocationAnswer::Revoked(vec![])), (verdict, usize::from(by_aws_signer)));
        if by_aws_signer {
            // Each of these says: look at what is there now.
            assert!(!resumed(now(), RevocationAnswer::Revoked(vec![JOB.into()])).0.is_verified());
            assert!(!resumed(now(), RevocationAnswer::None("timeout".into())).0.is_verified());
            assert!(!resumed(time(EXPIRES_AT), RevocationAnswer::Revoked(vec![])).0.is_verified());
            assert!(!Verification::resume(&trust, &kept, now()).verdict().is_verified(), "nobody was asked");
        }
        // What is missing of what was kept is missing.
        assert!(!Verification::resume(&trust, &[], now()).verdict().is_verified());
    }
}

/// Whoever can push writes what is quoted here: it must not fill a record, nor speak to a terminal in our place.
fn what_a_signature_says_is_quoted_short_and_on_one_line() {
    use ecr_scan_verifier::domain::signature::verdict::Refused;
    let key = Key::p256();
    let long = "x".repeat(100_000);
    let own = Signer::authority("ours", Scheme::X509, vec![Root::from_der(Chain::of_aws_signer().root()).unwrap()]).unwrap();
    let manifest = json!({"layers": long}).to_string().into_bytes();
    let artifact::Found::Unusable(unread) = artifact::read(&manifest, &ImageDigest::of(&manifest), artifact::FoundBy::Tag) else { panic!() };
    let mut bundle = bundle(&key, SHA_256);
    bundle["verificationMaterial"] = json!(long);
    let envelope = |protected: &str| json!({"payload": "", "protected": URL_SAFE_NO_PAD.encode(protected), "header": {"x5c": []}, "signature": ""});
    let payload = json!({"critical": long}).to_string().into_bytes();
    for (signer, signature) in [
        (cosign(&key), unread),
        (cosign(&key), as_bundle(&bundle)),
        (cosign(&key), crate::making::classic_of(&key, SHA_256, payload)),
        (cosign(&key), as_bundle(&bundle_of(&key, SHA_256, "application/vnd.in-toto+json", json!({"subject": long}).to_string().as_bytes()))),
        (own.clone(), as_jws(&json!({"header": long}))),
        (own, as_jws(&envelope(&json!(long).to_string()))),
    ] {
        let reason = verify(signer, &[signature]).unwrap_err();
        assert!(format!("{reason:?}").len() < 500, "{reason:.200?}");
    }
    let reason = Reason::Unsupported("it is a `\u{1b}[2J\r\nteam/web is signed by AWS Signer`".to_owned());
    let said = say::refused("team/web", &Refused { signer: "AWS Signer".into(), reason });
    assert!(said.contains("it is a `?[2J??team/web is signed"), "{said}");
}

fn a_verdict_can_be_kept() {
    let chain = Chain::of_aws_signer();
    let verified = ask(Rule::AllOf, vec![signer(&chain)], &[signature(&chain)], nothing);
    let refused = Verdict::Refused(
        every_reason().into_iter().map(|reason| ecr_scan_verifier::domain::signature::verdict::Refused { signer: "x".into(), reason }).collect(),
    );
    for verdict in [verified, refused] {
        let text = serde_json::to_string(&verdict).unwrap();
        assert_eq!(serde_json::from_str::<Verdict>(&text).unwrap(), verdict, "{text}");
    }
}

fn a_verdict_is_kept_under_all_that_could_change_it() {
    let (chain, key) = (Chain::of_aws_signer(), Key::rsa(2048));
    let of = |rule, signers| Trust::new(rule, signers).unwrap().fingerprint();
    let kms = |names: &[&str]| Signer::cosign("Cosign", CosignKey::from_kms(&key.spki(), names).unwrap());
    let root = || vec![Root::from_der(chain.root()).unwrap()];
    let all = [
        of(Rule::AllOf, vec![kms(&["RSASSA_PSS_SHA_256"])]),
        of(Rule::AnyOf, vec![kms(&["RSASSA_PSS_SHA_256"])]),
        of(Rule::AllOf, vec![kms(&["RSASSA_PSS_SHA_512"])]),
        of(Rule::AllOf, vec![cosign(&Key::p256())]),
        of(Rule::AllOf, vec![cosign(&Key::p256())]),
        of(Rule::AllOf, vec![kms(&["RSASSA_PSS_SHA_256"]), signer(&chain)]),
        of(Rule::AllOf, vec![signer(&chain)]),
        of(Rule::AllOf, vec![signer_of(&chain, VERSION)]),
        of(Rule::AllOf, vec![signer(&Chain::of_aws_signer())]),
        of(Rule::AllOf, vec![Signer::aws_signer("AWS Signer", "aws-us-gov", &[PROFILE.to_owned()], &root()).unwrap()]),
        of(Rule::AllOf, vec![Signer::authority("AWS Signer", Scheme::SigningAuthority, root()).unwrap()]),
        of(Rule::AllOf, vec![Signer::authority("AWS Signer", Scheme::X509, root()).unwrap()]),
    ];
    assert!(all.iter().all(Option::is_some));
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
    assert_eq!(of(Rule::AllOf, vec![kms(&["RSASSA_PSS_SHA_256"])]), all[0]);
    assert_eq!(of(Rule::AllOf, vec![Signer::unknown("KMS", Kind::Cosign, "AccessDenied")]), None);
}
