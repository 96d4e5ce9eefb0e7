//! Signatures, as they lie in ECR: found, fetched and judged by `verify-signature`.
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::local::faults::Fault;
use crate::local::images::{Image, Manifest};
use crate::local::profile;
use crate::local::story::Story;
use crate::local::wire::REGION;
use crate::signing::{Cosign, payload, put_classic, refer};

/// A person at the command line: exit code, the answer, standard error.
async fn verify(story: &Story, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let mut command = Command::new(profile().join("ecr-scan-verifier"));
    command.args(["verify-signature", "--format", "json"]).args(arguments);
    for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN"] {
        command.env_remove(name);
    }
    command.env("AWS_ACCESS_KEY_ID", &story.account).env("AWS_SECRET_ACCESS_KEY", "x").env("AWS_REGION", REGION);
    command.env("AWS_ENDPOINT_URL", story.scans.origin()).env("TEST_DOWNLOAD_ORIGIN", story.scans.origin());
    // Beside the story, which goes on telling.
    let output = tokio::task::spawn_blocking(move || command.output().expect("the command runs")).await.expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), stderr)
}

/// Exit code, verdict, and of each signer its reason or its format.
fn told((exit, said, stderr): (Option<i32>, Value, String)) -> (Option<i32>, String, Vec<String>) {
    let verdict = said["verdict"].as_str().unwrap_or(&stderr).to_owned();
    let signers = said["signers"].as_array().cloned().unwrap_or_default();
    let of = |signer: &Value| signer["reason"].as_str().or(signer["format"].as_str()).unwrap_or_default().to_owned();
    (exit, verdict, signers.iter().map(of).collect())
}

fn is(exit: i32, verdict: &str, signers: &[&str]) -> (Option<i32>, String, Vec<String>) {
    (Some(exit), verdict.to_owned(), signers.iter().map(|&one| one.to_owned()).collect())
}

fn by_digest(image: &Image) -> String {
    format!("{}@{}", image.repository(), image.digest())
}

#[tokio::test]
async fn an_image_is_signed_by_the_key_that_signed_it_and_by_no_other() {
    let story = Story::new().await;
    let (ours, theirs) = (Cosign::new(&story, "ours"), Cosign::new(&story, "theirs"));
    let (signed, unsigned) = (story.push("payments-api", "1.4.1").await, story.push("payments-api", "1.4.2").await);
    ours.sign_classic(&story, &signed).await;

    for image in [by_digest(&signed), "payments-api:1.4.1".to_owned(), format!("{}.dkr.ecr.{REGION}.amazonaws.com/payments-api:1.4.1", story.account)] {
        let answer = verify(&story, &["--key", &ours.file, &image]).await;
        assert_eq!(answer.1["digest"], signed.digest(), "{answer:?}");
        assert_eq!(told(answer), is(0, "VERIFIED", &["cosign-classic"]), "{image}");
    }
    let verdict = |arguments: Vec<String>| {
        let story = &story;
        async move { told(verify(story, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await) }
    };
    let arguments = |flags: &[&str], image: &Image| flags.iter().map(|&flag| flag.to_owned()).chain([by_digest(image)]).collect::<Vec<_>>();
    let both = ["--key", ours.file.as_str(), "--key", theirs.file.as_str()];
    let any = [&both[..], &["--any"]].concat();
    assert_eq!(verdict(arguments(&["--key", &theirs.file], &signed)).await, is(2, "NOT_VERIFIED", &["wrong-key"]));
    assert_eq!(verdict(arguments(&["--key", &ours.file], &unsigned)).await, is(2, "NOT_VERIFIED", &["unsigned"]));
    assert_eq!(verdict(arguments(&both, &signed)).await, is(2, "NOT_VERIFIED", &["wrong-key"]));
    assert_eq!(verdict(arguments(&any, &signed)).await, is(0, "VERIFIED", &["cosign-classic"]));

    let (exit, _, stderr) = verify(&story, &["--key", &ours.file, "payments-api:9.9.9"]).await;
    assert_eq!((exit, stderr.as_str()), (Some(1), "verify-signature: there is no payments-api:9.9.9 in this account and region\n"));
}

#[tokio::test]
async fn what_the_registry_gives_is_compared_with_its_digest() {
    let story = Story::new().await;
    let ours = Cosign::new(&story, "ours");
    let image = story.push("payments-api", "1.4.1").await;
    let (payload, _) = ours.sign_classic(&story, &image).await;
    let verdict = || async { told(verify(&story, &["--key", &ours.file, &by_digest(&image)]).await) };

    story.scans.give_for_blob(&payload, b"something else");
    assert_eq!(verdict().await, is(2, "NOT_VERIFIED", &["tampered"]));
    story.scans.give_for_blob(&payload, &vec![b' '; 8 * 1024 * 1024]);
    assert_eq!(verdict().await, is(2, "NOT_VERIFIED", &["tampered"]));
    story.scans.on("GetDownloadUrlForLayer").always().meets(Fault::AccessDenied);
    assert_eq!(verdict().await, is(3, "COULD_NOT_CHECK", &["could-not-check"]));
}

#[tokio::test]
async fn a_bundle_beside_others_that_refer_to_the_image_is_found() {
    let story = Story::new().await;
    let (ours, theirs) = (Cosign::new(&story, "ours"), Cosign::new(&story, "theirs"));
    let (children, index) = story.push_index("payments-api", "1.4.1", &[Manifest::image("one")], false).await;
    for n in 0..51 {
        refer(&story, &index, "application/spdx+json", "application/spdx+json", &format!("{{\"sbom\":{n}}}")).await;
    }
    theirs.sign_with_a_bundle(&story, &index).await;
    ours.sign_with_a_bundle(&story, &index).await;

    assert_eq!(told(verify(&story, &["--key", &ours.file, &by_digest(&index)]).await), is(0, "VERIFIED", &["cosign-bundle"]));
    assert_eq!(story.scans.calls("ListImageReferrers").len(), 2, "53 come in two pages");
    // The index is signed, and its image by its own digest is not.
    assert_eq!(told(verify(&story, &["--key", &ours.file, &by_digest(&children[0])]).await), is(2, "NOT_VERIFIED", &["unsigned"]));
    let (exit, _, stderr) = {
        story.scans.on("ListImageReferrers").always().meets(Fault::AccessDenied);
        verify(&story, &["--key", &ours.file, &by_digest(&index)]).await
    };
    assert_eq!(exit, Some(1));
    assert!(stderr.starts_with("verify-signature: could not list what refers to payments-api@sha256:"), "{stderr}");
}

#[tokio::test]
async fn what_a_key_in_kms_signed_is_verified_without_asking_kms_to() {
    use aws_sdk_kms::types::{KeySpec, KeyUsageType, MessageType, SigningAlgorithmSpec};
    let story = Story::new().await;
    for (n, (spec, how)) in [
        (KeySpec::EccNistP256, SigningAlgorithmSpec::EcdsaSha256),
        (KeySpec::EccNistP384, SigningAlgorithmSpec::EcdsaSha384),
        (KeySpec::EccNistP521, SigningAlgorithmSpec::EcdsaSha512),
        (KeySpec::Rsa2048, SigningAlgorithmSpec::RsassaPkcs1V15Sha256),
        (KeySpec::Rsa3072, SigningAlgorithmSpec::RsassaPssSha384),
    ]
    .into_iter()
    .enumerate()
    {
        let key = || async {
            let made = story.kms().create_key().key_spec(spec.clone()).key_usage(KeyUsageType::SignVerify).send().await.expect("CreateKey");
            made.key_metadata.and_then(|key| key.arn).expect("an ARN")
        };
        let (ours, theirs) = (key().await, key().await);
        let image = story.push("payments-api", &format!("1.{n}")).await;
        let payload = payload(&image);
        let signed = story.kms().sign().key_id(&ours).message_type(MessageType::Raw).signing_algorithm(how).message(payload.as_bytes().to_vec().into());
        let signature = signed.send().await.expect("Sign").signature.expect("a signature");
        put_classic(&story, &image, &payload, &STANDARD.encode(signature.as_ref())).await;

        assert_eq!(told(verify(&story, &["--kms", &ours, &by_digest(&image)]).await), is(0, "VERIFIED", &["cosign-classic"]), "{spec:?}");
        assert_eq!(told(verify(&story, &["--kms", &theirs, &by_digest(&image)]).await), is(2, "NOT_VERIFIED", &["wrong-key"]), "{spec:?}");
    }
    assert!(story.scans.calls("Verify").is_empty());
}

#[tokio::test]
async fn a_key_that_kms_does_not_give_is_not_taken_for_a_wrong_one() {
    let story = Story::new().await;
    let ours = Cosign::new(&story, "ours");
    let image = story.push("payments-api", "1.4.1").await;
    ours.sign_classic(&story, &image).await;
    let arn = format!("arn:aws:kms:{REGION}:{}:key/1234abcd-12ab-34cd-56ef-1234567890ab", story.account);
    let verdict = || async { told(verify(&story, &["--kms", &arn, &by_digest(&image)]).await) };
    let unknown = is(3, "COULD_NOT_CHECK", &["could-not-check"]);

    assert_eq!(verdict().await, unknown, "there is no such key");
    story.scans.on("GetPublicKey").meets(Fault::AccessDenied);
    assert_eq!(verdict().await, unknown);
    let new = json!({ "KeyId": arn, "KeyUsage": "SIGN_VERIFY", "PublicKey": STANDARD.encode(&ours.spki), "SigningAlgorithms": ["SOMETHING_NEW"] });
    story.scans.on("GetPublicKey").meets(Fault::Says(new.to_string()));
    assert_eq!(verdict().await, unknown);
    // AWS Signer's signature is of another kind than this one.
    let profile = "arn:aws:signer:eu-west-1:123456789012:/signing-profiles/main";
    assert_eq!(told(verify(&story, &["--signer-profile", profile, &by_digest(&image)]).await), is(2, "NOT_VERIFIED", &["unsigned"]));
}
