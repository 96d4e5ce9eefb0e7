//! Signatures, as they lie in ECR: found, fetched and judged by `verify-signature`.
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::local::faults::Fault;
use crate::local::images::{Image, MANIFEST, Manifest};
use crate::local::profile;
use crate::local::story::Story;
use crate::local::wire::REGION;

const EMPTY: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

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

/// Who signs with Cosign, and the file with the public key.
struct Cosign {
    key: EcdsaKeyPair,
    spki: Vec<u8>,
    file: String,
}

impl Cosign {
    fn new(story: &Story, name: &str) -> Self {
        let (random, how) = (SystemRandom::new(), &ECDSA_P256_SHA256_ASN1_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(how, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(how, pkcs8.as_ref(), &random).expect("a key");
        // SubjectPublicKeyInfo of P-256: a fixed beginning, then the uncompressed point.
        let mut spki = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00".to_vec();
        spki.extend_from_slice(key.public_key().as_ref());
        let file = story.file(&format!("{name}.pub"));
        std::fs::write(&file, format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&spki))).expect("a file");
        Self { key, spki, file: file.to_str().expect("a path").to_owned() }
    }

    fn sign(&self, message: &[u8]) -> String {
        STANDARD.encode(self.key.sign(&SystemRandom::new(), message).expect("a signature").as_ref())
    }

    async fn sign_classic(&self, story: &Story, image: &Image) -> String {
        let payload = payload(image);
        put_classic(story, image, &payload, &self.sign(payload.as_bytes())).await
    }

    /// As Cosign 3 does: a bundle that refers to the image.
    async fn sign_with_a_bundle(&self, story: &Story, image: &Image) {
        let hex = image.digest().trim_start_matches("sha256:");
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1", "subject": [{ "digest": { "sha256": hex }, "annotations": {} }],
            "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {},
        });
        let (kind, statement) = ("application/vnd.in-toto+json", statement.to_string());
        let signed = format!("DSSEv1 {} {kind} {} {statement}", kind.len(), statement.len());
        let bundle = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": { "publicKey": { "hint": "" } },
            "dsseEnvelope": { "payload": STANDARD.encode(&statement), "payloadType": kind, "signatures": [{ "sig": self.sign(signed.as_bytes()) }] },
        });
        refer(story, image, "application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.dev.sigstore.bundle.v0.3+json", &bundle.to_string()).await;
    }
}

fn payload(image: &Image) -> String {
    let critical = json!({
        "identity": { "docker-reference": image.repository() }, "image": { "docker-manifest-digest": image.digest() },
        "type": "cosign container image signature",
    });
    json!({ "critical": critical, "optional": null }).to_string()
}

/// As `cosign sign --key` did until its third version: under a tag. Says the payload's digest.
async fn put_classic(story: &Story, image: &Image, payload: &str, signature: &str) -> String {
    let digest = story.scans.keep_blob(payload.as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": EMPTY, "size": 2 },
        "layers": [{ "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": digest, "size": payload.len(),
                     "annotations": { "dev.cosignproject.cosign/signature": signature } }],
    });
    let tag = format!("{}.sig", image.digest().replace(':', "-"));
    story.put(image.repository(), Some(&tag), &Manifest::artifact(&manifest)).await;
    digest
}

/// Puts something beside an image that refers to it.
async fn refer(story: &Story, image: &Image, artifact: &str, kind: &str, content: &str) {
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": artifact,
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": EMPTY, "size": 2 },
        "layers": [{ "mediaType": kind, "digest": story.scans.keep_blob(content.as_bytes()), "size": content.len() }],
        "subject": { "mediaType": image.manifest.kind, "digest": image.digest(), "size": image.manifest.text.len() },
    });
    story.put(image.repository(), None, &Manifest::artifact(&manifest)).await;
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
    let payload = ours.sign_classic(&story, &image).await;
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
