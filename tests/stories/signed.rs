//! Deployments whose image has to be signed: by a key, by a key in KMS, by AWS Signer; in time, late, or not at all.
use std::time::Duration;

use aws_sdk_kms::types::{KeySpec, KeyUsageType, MessageType, SigningAlgorithmSpec};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::local::answers::Asked;
use crate::local::events::Event;
use crate::local::faults::Fault;
use crate::local::images::{Image, Manifest};
use crate::local::pipeline::{Gate, Pipeline};
use crate::local::scans::{Findings, Scan};
use crate::local::story::Story;
use crate::making::{JOB, PROFILE};
use crate::signing::{AwsSigner, Cosign, payload, put_classic};

/// An image that has been scanned, with nothing in it.
async fn scanned(story: &Story, pipeline: &Pipeline, tag: &str) -> Image {
    let image = story.push("payments-api", tag).await;
    story.scans.say(&image.scanned, [Scan::Complete(Findings::none())]);
    story.tell(&Event::scanned(&image, &Findings::none())).await;
    story.verdict(pipeline, &image, "PASS").await;
    image
}

/// Pushed so long ago that nobody will sign it any more.
async fn old(story: &Story, pipeline: &Pipeline, tag: &str) -> Image {
    let image = story.put("payments-api", Some(tag), &Manifest::image(&format!("{} {tag}", story.account))).await;
    let long_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
    story.tell(&Event::pushed(&image).at(long_ago)).await;
    story.scans.say(&image.scanned, [Scan::Complete(Findings::none())]);
    story.tell(&Event::scanned(&image, &Findings::none())).await;
    story.row(&pipeline.table("verdicts"), |row| Pipeline::is_head_of(&image)(row) && row["verdict"] == "PASS" && row["pushed_at"].is_string()).await;
    image
}

fn by_key(image: &Image, key: &Cosign) -> Gate {
    Gate::on(image).with("SigningPublicKey", std::fs::read_to_string(&key.file).expect("its file"))
}

/// A request of such a gate, for a story that sends it itself.
fn request(gate: &Gate, pipeline: &Pipeline, verification: Value, scan: &str) -> Value {
    let mut request = gate.request(pipeline);
    request["ResourceProperties"]["signatureVerification"] = verification;
    request["ResourceProperties"]["scanType"] = scan.into();
    request["ResourceProperties"]["startScan"] = "false".into();
    request
}

async fn ask(story: &Story, pipeline: &Pipeline, request: Value) -> Asked {
    let asked = story.expect_answer(request);
    story.invoke_later(&pipeline.function("on-deploy"), &asked.request).await;
    asked
}

async fn parked(story: &Story, pipeline: &Pipeline, asked: &Asked) {
    let id = asked.request["RequestId"].clone();
    story.row(&pipeline.table("requests"), |row| row["request_id"] == id && row["state"] == "open").await;
}

fn pem(key: &Cosign) -> String {
    std::fs::read_to_string(&key.file).expect("its file")
}

/// The decisions so far, oldest first: verdict, and whether the signature was verified.
async fn decisions(story: &Story, pipeline: &Pipeline) -> Vec<(String, Option<bool>)> {
    let mut rows: Vec<Value> = story.rows(&pipeline.table("deployments")).await.into_iter().filter(|row| row["decided_digest"].is_string()).collect();
    rows.sort_by_key(|row| row["row"].as_str().map(str::to_owned));
    let verified = |row: &Value| row["signed"].as_str().map(|text| serde_json::from_str::<Value>(text).expect("JSON")["verified"] == true);
    rows.iter().map(|row| (row["verdict"].as_str().unwrap_or_default().to_owned(), verified(row))).collect()
}

#[tokio::test]
async fn a_stack_gets_a_signed_image_and_no_other() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let (ours, theirs) = (Cosign::new(&story, "ours"), Cosign::new(&story, "theirs"));
    let (signed, unsigned, foreign, tampered) = (
        scanned(&story, &pipeline, "1.4.1").await,
        old(&story, &pipeline, "1.4.2").await,
        old(&story, &pipeline, "1.4.3").await,
        old(&story, &pipeline, "1.4.4").await,
    );
    ours.sign_classic(&story, &signed).await;
    theirs.sign_classic(&story, &foreign).await;
    let payload = payload(&tampered).replace("1.4.4", "1.4.5");
    let other = payload.replace("null", "{\"creator\":\"mallory\"}");
    put_classic(&story, &tampered, &other, &ours.sign(payload.as_bytes())).await;

    let stack = story.deploy("payments", &by_key(&signed, &ours)).await;
    assert_eq!((stack.status.as_str(), stack.outputs["Verdict"].as_str(), stack.outputs["ImageDigest"].as_str()), ("CREATE_COMPLETE", "PASS", signed.digest()));
    for (name, image, why) in [
        ("billing", &unsigned, "it has no signature"),
        ("search", &foreign, "its signature was made with another key, or altered since"),
        ("mail", &tampered, "its signature was made with another key, or altered since"),
    ] {
        assert_eq!(story.deploy(name, &by_key(image, &ours)).await.status, "ROLLBACK_COMPLETE");
        let refusal = story.refusal(name).await.expect("a reason");
        let opening =
            format!("Signature verification failed for image: payments-api:{}\nSignature verification failed: Cosign verify failed: {why}", image.tag());
        assert!(refusal.contains(&opening), "{refusal}");
        assert!(!story.released(name).await);
    }
}

#[tokio::test]
async fn a_bundle_of_cosign_3_counts_as_well_and_is_looked_for_once() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let ours = Cosign::new(&story, "ours");
    let image = scanned(&story, &pipeline, "1.4.1").await;
    ours.sign_with_a_bundle(&story, &image).await;
    let gate = Gate::by_digest(&image);
    let verification = json!({ "type": "COSIGN", "publicKey": pem(&ours), "failOnUnsigned": "true" });
    for _ in 0..2 {
        let answer = story.ask(&pipeline.function("on-deploy"), request(&gate, &pipeline, verification.clone(), "BASIC")).await;
        assert_eq!(answer.data("Verdict"), "PASS", "{}", answer.reason());
    }
    assert_eq!(story.scans.calls("ListImageReferrers").len(), 1, "what was found good is kept for this digest and this key");
    let row = story.row(&pipeline.table("verdicts"), |row| row["item"].as_str().is_some_and(|item| item.contains("#signed#"))).await;
    assert!(row["verdict"].as_str().is_some_and(|verdict| verdict.starts_with("{\"verified\":")), "{row}");
    assert!(row["ttl"].is_number(), "{row}");

    // Under another key nothing of that counts.
    let theirs = json!({ "type": "COSIGN", "publicKey": pem(&Cosign::new(&story, "theirs")) });
    let asked = ask(&story, &pipeline, request(&gate, &pipeline, theirs, "BASIC")).await;
    parked(&story, &pipeline, &asked).await;
}

#[tokio::test]
async fn a_key_in_kms_counts_and_kms_is_asked_for_its_public_half_alone() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let made = story.kms().create_key().key_spec(KeySpec::EccNistP384).key_usage(KeyUsageType::SignVerify).send().await.expect("CreateKey");
    let key = made.key_metadata.and_then(|key| key.arn).expect("an ARN");
    let (signed, unsigned) = (scanned(&story, &pipeline, "1.4.1").await, old(&story, &pipeline, "1.4.2").await);
    let payload = payload(&signed);
    let sign = story.kms().sign().key_id(&key).message_type(MessageType::Raw).signing_algorithm(SigningAlgorithmSpec::EcdsaSha384);
    let signature = sign.message(payload.as_bytes().to_vec().into()).send().await.expect("Sign").signature.expect("a signature");
    put_classic(&story, &signed, &payload, &STANDARD.encode(signature.as_ref())).await;

    let stack = story.deploy("payments", &Gate::on(&signed).with("SigningKeyArn", &key)).await;
    assert_eq!((stack.status.as_str(), stack.outputs["Verdict"].as_str()), ("CREATE_COMPLETE", "PASS"));
    assert_eq!(story.deploy("billing", &Gate::on(&unsigned).with("SigningKeyArn", &key)).await.status, "ROLLBACK_COMPLETE");
    assert!(story.refusal("billing").await.expect("a reason").contains(&format!("is not signed by the KMS key {key}: it has no signature.")));
    let asked: Vec<String> = story.scans.all_calls().into_iter().filter(|call| call.service == "kms").map(|call| call.operation).collect();
    assert!(asked.iter().all(|operation| ["CreateKey", "Sign", "GetPublicKey"].contains(&operation.as_str())), "{asked:?}");
}

#[tokio::test]
async fn a_key_that_kms_does_not_give_is_refused_at_once_and_never_forgiven() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = old(&story, &pipeline, "1.4.1").await;
    let key = format!("arn:aws:kms:eu-west-1:{}:key/1234abcd-12ab-34cd-56ef-1234567890ab", story.account);
    let verification = json!({ "type": "COSIGN", "kmsKeyArn": key, "failOnUnsigned": "false" });
    story.scans.on("GetPublicKey").always().meets(Fault::Error { status: 400, code: "DisabledException", message: "the key is disabled" });
    let answer = story.ask(&pipeline.function("on-deploy"), request(&Gate::on(&image), &pipeline, verification, "BASIC")).await;
    assert!(!answer.is_success());
    assert!(answer.reason().contains("could not be checked for a signature by those who are asked for: could not read the public key"), "{}", answer.reason());
}

#[tokio::test]
async fn aws_signers_signature_counts_until_it_is_revoked() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let signer = AwsSigner::new();
    let image = scanned(&story, &pipeline, "1.4.1").await;
    signer.sign(&story, &image).await;
    let gate = Gate::on(&image).with("SigningProfiles", PROFILE).with("TrustedRoot", &signer.root);
    let stack = story.deploy("payments", &gate).await;
    assert_eq!((stack.status.as_str(), stack.outputs["Verdict"].as_str()), ("CREATE_COMPLETE", "PASS"));
    let asked = || story.scans.calls("GetRevocationStatus").len();
    assert_eq!(asked(), 1);

    // Kept, and asked about again.
    let verification = json!({ "type": "NOTATION", "trustedIdentities": [PROFILE], "trustedRoots": [signer.root], "failOnUnsigned": "true" });
    let ours = |scan| request(&Gate::on(&image), &pipeline, verification.clone(), scan);
    let answer = story.ask(&pipeline.function("on-deploy"), ours("SIGNATURE_ONLY")).await;
    assert_eq!(answer.data("Verdict"), "PASS", "{}", answer.reason());
    assert_eq!((asked(), story.scans.calls("ListImageReferrers").len()), (2, 1));

    // By AWS's own root nobody has signed it.
    let under_aws = json!({ "type": "NOTATION", "trustedIdentities": [PROFILE] });
    let check = json!({ "check": { "repositoryName": "payments-api", "imageTag": "1.4.1", "signatureVerification": under_aws } });
    let checked = story.invoke(&pipeline.function("on-deploy"), &check).await.expect("a verdict");
    assert!(checked["message"].as_str().is_some_and(|text| text.contains("a root that is not trusted")));

    story.scans.revoke(JOB);
    let waits = ask(&story, &pipeline, ours("BASIC")).await;
    parked(&story, &pipeline, &waits).await;
    let row = story.row(&pipeline.table("verdicts"), |row| row["verdict"].as_str().is_some_and(|verdict| verdict.contains("\"revoked\""))).await;
    assert_eq!(row["good"], "[]", "what was kept as good is gone");
    // Where no other signature will come, it is refused at once.
    let old = old(&story, &pipeline, "1.4.0").await;
    signer.sign(&story, &old).await;
    let answer = story.ask(&pipeline.function("on-deploy"), request(&Gate::on(&old), &pipeline, verification.clone(), "BASIC")).await;
    assert!(!answer.is_success() && answer.reason().contains("AWS Signer has revoked the signing job"), "{}", answer.reason());
}

#[tokio::test]
async fn an_image_that_is_signed_late_is_let_through_when_its_signature_comes() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let (signer, cosign) = (AwsSigner::new(), Cosign::new(&story, "ours"));
    let (by_ecr, by_build) = (scanned(&story, &pipeline, "1.4.1").await, scanned(&story, &pipeline, "1.4.2").await);
    // No timer and no look-again arrives: what wakes them is the event of the signature.
    story.scans.on("SendMessage").with("requestId").always().meets(Fault::Says(r#"{"MessageId":"lost"}"#.to_owned()));
    story.begin("payments", &Gate::on(&by_ecr).with("SigningProfiles", PROFILE).with("TrustedRoot", &signer.root)).await;
    story.begin("billing", &by_key(&by_build, &cosign)).await;
    for image in [&by_ecr, &by_build] {
        let digest = image.digest().to_owned();
        story.row(&pipeline.table("requests"), |row| row["state"] == "open" && row["digest"] == digest.as_str()).await;
    }
    assert!(story.scans.answers().is_empty(), "nobody is refused for what may still come");

    // ECR signs by itself, in its own time: a referrer without a tag. The build signs under a tag.
    let referrer = signer.sign(&story, &by_ecr).await;
    story.tell(&Event::pushed(&referrer)).await;
    let (_, tagged) = cosign.sign_classic(&story, &by_build).await;
    story.tell(&Event::pushed(&tagged)).await;
    for stack in ["payments", "billing"] {
        let stack = story.settled(stack).await;
        assert_eq!((stack.status.as_str(), stack.outputs["Verdict"].as_str()), ("CREATE_COMPLETE", "PASS"));
    }
}

#[tokio::test]
async fn a_timer_finds_a_signature_whose_event_was_lost() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let ours = Cosign::new(&story, "ours");
    let image = scanned(&story, &pipeline, "1.4.1").await;
    story.begin("payments", &by_key(&image, &ours)).await;
    let digest = image.digest().to_owned();
    story.row(&pipeline.table("requests"), |row| row["state"] == "open" && row["digest"] == digest.as_str()).await;
    ours.sign_with_a_bundle(&story, &image).await;
    assert_eq!(story.settled("payments").await.outputs["Verdict"], "PASS");
}

#[tokio::test]
async fn signature_only_needs_no_scan_and_asks_for_none() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let ours = Cosign::new(&story, "ours");
    let image = story.push("payments-api", "1.4.1").await;
    story.drained(pipeline.queue("Push")).await;
    ours.sign_with_a_bundle(&story, &image).await;
    let verification = json!({ "type": "COSIGN", "publicKey": pem(&ours) });
    let answer = story.ask(&pipeline.function("on-deploy"), request(&Gate::on(&image), &pipeline, verification, "SIGNATURE_ONLY")).await;
    assert_eq!((answer.data("Verdict"), answer.data("ScannedAt")), ("PASS", ""), "{}", answer.reason());
    assert!(story.scans.calls("DescribeImageScanFindings").is_empty());
    let skipped = || async { story.logs(&pipeline.function("on-deploy")).await.into_iter().find(|line| line.contains("Vulnerability scanning skipped")) };
    let line = story.until(Duration::from_secs(30), skipped).await.expect("the log says so");
    assert!(line.contains("Vulnerability scanning skipped (ScanConfig.signatureOnly() mode)."), "{line}");
    let logged = story.logs(&pipeline.function("on-deploy")).await;
    assert!(logged.iter().any(|line| line.contains("Signature verification result:")), "{logged:?}");
}

#[tokio::test]
async fn fail_on_unsigned_false_lets_through_what_is_not_signed_and_says_so() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let ours = Cosign::new(&story, "ours");
    let image = old(&story, &pipeline, "1.4.2").await;
    let stack = story.deploy("payments", &by_key(&image, &ours).with("FailOnUnsigned", "false")).await;
    assert_eq!((stack.status.as_str(), stack.outputs["Verdict"].as_str()), ("CREATE_COMPLETE", "PASS"));
    assert_eq!(decisions(&story, &pipeline).await, [("PASS".to_owned(), Some(false))]);

    // What could not be looked at is another matter.
    story.scans.on("ListImageReferrers").always().meets(Fault::AccessDenied);
    assert_eq!(story.deploy("billing", &by_key(&image, &ours).with("FailOnUnsigned", "false")).await.status, "ROLLBACK_COMPLETE");
    assert!(story.refusal("billing").await.expect("a reason").contains("could not be checked for a signature"), "{:?}", story.refusal("billing").await);
}

#[tokio::test]
async fn an_index_counts_as_signed_by_its_own_signature_or_those_of_all_its_images() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let ours = Cosign::new(&story, "ours");
    let verification = json!({ "type": "COSIGN", "publicKey": pem(&ours) });
    for (tag, signs_index, signs, passes) in [("1", true, 0, true), ("2", false, 2, true), ("3", false, 1, false)] {
        let manifests = ["amd64", "arm64"].map(|architecture| Manifest::image_for(&format!("{} {tag} {architecture}", story.account), "linux", architecture));
        let (children, index) = story.push_index("payments-api", tag, &manifests, false).await;
        for image in &children {
            story.scans.say(&image.scanned, [Scan::Complete(Findings::none())]);
        }
        if signs_index {
            ours.sign_with_a_bundle(&story, &index).await;
        }
        for image in children.iter().take(signs) {
            ours.sign_classic(&story, image).await;
        }
        let check = json!({ "repositoryName": "payments-api", "imageTag": tag, "scanType": "SIGNATURE_ONLY", "signatureVerification": verification.clone() });
        let said = story.invoke(&pipeline.function("on-deploy"), &json!({ "check": check })).await.expect("a verdict");
        assert_eq!(said["mayDeploy"], passes, "{said}");
        assert_eq!(said["signature"]["verified"], passes, "{said}");
    }
}

#[tokio::test]
async fn several_signers_are_asked_for_all_of_them_or_any() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let (build, release) = (Cosign::new(&story, "build"), Cosign::new(&story, "release"));
    let image = old(&story, &pipeline, "1.4.1").await;
    build.sign_with_a_bundle(&story, &image).await;
    let signers = json!([{ "type": "COSIGN", "publicKey": pem(&build) }, { "type": "COSIGN", "publicKey": pem(&release) }]);
    let asked = |rule: &str| request(&Gate::on(&image), &pipeline, json!({ "type": rule, "signers": signers }), "BASIC");
    let any = story.ask(&pipeline.function("on-deploy"), asked("ANY_OF")).await;
    assert_eq!(any.data("Verdict"), "PASS", "{}", any.reason());
    let all = story.ask(&pipeline.function("on-deploy"), asked("ALL_OF")).await;
    assert!(!all.is_success() && all.reason().contains("is not signed by the public key"), "{}", all.reason());
    release.sign_classic(&story, &image).await;
    let all = story.ask(&pipeline.function("on-deploy"), asked("ALL_OF")).await;
    assert_eq!(all.data("Verdict"), "PASS", "{}", all.reason());
}
