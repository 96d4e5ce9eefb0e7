//! The packed package, as somebody new uses it. `make try-package` makes the app that is deployed here.
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::local::code;
use crate::local::events::Event;
use crate::local::scans::{Findings, Scan, finding};
use crate::local::story::Story;
use crate::local::wire::REGION;

fn app() -> PathBuf {
    PathBuf::from(std::env::var_os("TRIED_APP").expect("`make try-package` says where the app's templates are"))
}

fn template(name: &str) -> Value {
    let text = std::fs::read(app().join(format!("{name}.template.json"))).unwrap_or_else(|e| panic!("{name}: {e}"));
    serde_json::from_slice(&text).expect("a template is JSON")
}

/// What `cdk bootstrap` and `cdk deploy` do before CloudFormation is asked: a bucket, its version, and the assets in it.
async fn publish(story: &Story, templates: &[&Value]) {
    let parameter = json!({ "Name": "/cdk-bootstrap/hnb659fds/version", "Type": "String", "Value": "30" });
    story.aws_json("ssm", "AmazonSSM.PutParameter", parameter).await;
    let bucket = format!("cdk-hnb659fds-assets-{}-{REGION}", story.account);
    let place = aws_sdk_s3::types::CreateBucketConfiguration::builder().location_constraint(REGION.into()).build();
    story.s3().create_bucket().bucket(&bucket).create_bucket_configuration(place).send().await.expect("CreateBucket");
    for resource in templates.iter().flat_map(|template| template["Resources"].as_object().expect("resources").values()) {
        let Some(key) = resource["Properties"]["Code"]["S3Key"].as_str() else { continue };
        let bootstrap = app().join(format!("asset.{}", key.trim_end_matches(".zip"))).join("bootstrap");
        let zip = code::zip("bootstrap", &std::fs::read(&bootstrap).unwrap_or_else(|e| panic!("{}: {e}", bootstrap.display())));
        story.s3().put_object().bucket(&bucket).key(key).body(zip.into()).send().await.expect("PutObject");
    }
}

/// The machine of an ELF file, as a template calls it.
fn machine(bootstrap: &Path) -> &'static str {
    let head = std::fs::read(bootstrap).unwrap_or_else(|e| panic!("{}: {e}", bootstrap.display()));
    match u16::from_le_bytes([head[18], head[19]]) {
        62 => "x86_64",
        183 => "arm64",
        other => panic!("{}: ELF machine {other}", bootstrap.display()),
    }
}

#[tokio::test]
#[ignore = "make try-package"]
async fn the_readmes_example_works_from_an_empty_folder() {
    let story = Story::new().await;
    let (platform, payments) = (template("Platform"), template("Payments"));
    for function in platform["Resources"].as_object().expect("resources").values().filter(|part| part["Type"] == "AWS::Lambda::Function") {
        let asset = function["Properties"]["Code"]["S3Key"].as_str().expect("a key").trim_end_matches(".zip").to_owned();
        assert_eq!(function["Properties"]["Architectures"], json!([machine(&app().join(format!("asset.{asset}")).join("bootstrap"))]));
    }
    publish(&story, &[&platform, &payments]).await;
    story.create_stack("Platform", &platform, &[]).await;
    let deployed = story.settled("Platform").await;
    assert_eq!(deployed.status, "CREATE_COMPLETE", "{:#?}", story.stack_events("Platform").await);

    let image = story.push("payments-api", "1.4.2").await;
    story.scans.say(&image.scanned, [Scan::Complete(Findings::of([finding("CVE-2024-3094", "CRITICAL").package("xz-utils", "5.6.0")]))]);
    story.tell(&Event::scanned(&image, &Findings::of([finding("CVE-2024-3094", "CRITICAL")]))).await;
    story.create_stack("Payments", &payments, &[]).await;
    let refused = story.settled("Payments").await;
    assert_eq!(refused.status, "ROLLBACK_COMPLETE", "{:#?}", story.stack_events("Payments").await);
    assert!(story.refusal("Payments").await.is_some_and(|why| why.contains("CVE-2024-3094")), "{:#?}", story.stack_events("Payments").await);
    let began = |event: &crate::local::story::StackEvent| event.kind == "AWS::Lambda::Function" && event.status.starts_with("CREATE_COMPLETE");
    assert!(!story.stack_events("Payments").await.iter().any(began), "the function was never made");
}
