//! The templates for those who have no CDK, as they lie in `infra/templates`.
use crate::local::code;
use crate::local::events::Event;
use crate::local::scans::{Findings, Scan, finding};
use crate::local::story::Story;
use crate::local::wire::REGION;
use crate::local::{profile, project};

/// The local AWS knows no TLS, and this is the one thing in these templates that asks for it.
fn template(name: &str) -> String {
    let text = std::fs::read_to_string(project().join("infra/templates").join(name)).expect("a template");
    text.replace("aws:SecureTransport: \"false\"", "aws:SecureTransport: \"never\"")
}

async fn put_zips(story: &Story, bucket: &str, prefix: &str) {
    let place = aws_sdk_s3::types::CreateBucketConfiguration::builder().location_constraint(REGION.into()).build();
    story.s3().create_bucket().bucket(bucket).create_bucket_configuration(place).send().await.expect("CreateBucket");
    for function in ["on-push", "on-scan", "on-deploy", "on-sweep"] {
        let zip = code::zip("bootstrap", &std::fs::read(profile().join(function)).expect("`make build`"));
        story.s3().put_object().bucket(bucket).key(format!("{prefix}x86_64/{function}.zip")).body(zip.into()).send().await.expect("PutObject");
    }
}

#[tokio::test]
async fn a_pipeline_and_a_gate_of_plain_templates() {
    let story = Story::new().await;
    let bucket = format!("zips-{}", story.account);
    put_zips(&story, &bucket, "v1/").await;
    let parameters = [("BinariesBucket", bucket.as_str()), ("BinariesPrefix", "v1/"), ("Architecture", "x86_64"), ("SeverityThreshold", "HIGH")];
    story.create_stack_of("ecr-scan-verifier", &template("pipeline.yaml"), &parameters).await;
    let pipeline = story.settled("ecr-scan-verifier").await;
    assert_eq!(pipeline.status, "CREATE_COMPLETE", "{:#?}", story.stack_events("ecr-scan-verifier").await);

    let (good, bad) = (story.push("payments-api", "1.4.2").await, story.push("payments-api", "1.4.1").await);
    let found = Findings::of([finding("CVE-2024-3094", "CRITICAL")]);
    story.scans.say(&good.scanned, [Scan::Complete(Findings::none())]);
    story.scans.say(&bad.scanned, [Scan::Complete(found.clone())]);
    story.tell_all(&[Event::scanned(&good, &Findings::none()), Event::scanned(&bad, &found)]).await;
    for (stack, image, status) in [("good", &good, "CREATE_COMPLETE"), ("bad", &bad, "ROLLBACK_COMPLETE")] {
        let parameters = [("RepositoryName", "payments-api"), ("ImageTag", image.tag())];
        story.create_stack_of(stack, &template("gate-example.yaml"), &parameters).await;
        let settled = story.settled(stack).await;
        assert_eq!(settled.status, status, "{:#?}", story.stack_events(stack).await);
        if status == "CREATE_COMPLETE" {
            assert_eq!((settled.outputs["Verdict"].as_str(), settled.outputs["ImageDigest"].as_str()), ("PASS", image.digest()));
        }
    }
    assert!(story.refusal("bad").await.is_some_and(|why| why.contains("CVE-2024-3094")));
    assert!(!story.released("bad").await);
}
