//! What the original construct tries on AWS, tried here: whole stacks, by CloudFormation.
use serde_json::json;

use crate::local::events::Event;
use crate::local::images::Manifest;
use crate::local::pipeline::Gate;
use crate::local::scan_plane::Registry;
use crate::local::scans::{Findings, Scan, finding};
use crate::local::story::Story;

fn old() -> Findings {
    Findings::of([finding("CVE-2024-3094", "CRITICAL").package("xz-utils", "5.6.0"), finding("CVE-2023-1", "LOW")])
}

#[tokio::test]
async fn basic_and_nothing_else_said() {
    let story = Story::new().await;
    story.pipeline().await;
    story.scans.hurry();
    let image = story.put("team/app", Some("v1"), &Manifest::image(&story.account)).await;
    story.scans.say_after_start(&image.scanned, [Scan::InProgress, Scan::Complete(Findings::none())]);
    let stack = story.deploy("basic", &Gate::on(&image)).await;
    assert_eq!((stack.status.as_str(), stack.outputs["Verdict"].as_str()), ("CREATE_COMPLETE", "PASS"));
    // In a hurry timers overlap, so more than one may ask for it; ECR scans an image once a day.
    assert!(!story.scans.calls("StartImageScan").is_empty());
    assert!(story.released("basic").await);
}

#[tokio::test]
async fn basic_with_everything_said_holds_back_what_it_blocks() {
    let story = Story::new().await;
    story.pipeline().await;
    let image = story.push("team/app", "v1").await;
    story.scans.say(&image.scanned, [Scan::Complete(old())]);
    story.tell(&Event::scanned(&image, &old())).await;
    let gate = Gate::on(&image).with("SeverityThreshold", "MEDIUM").with("SuppressErrorOnRollback", "false").with("PollingTimeoutSeconds", "60");
    let stack = story.deploy("refused", &gate.clone().with("IgnoreFindings", "CVE-2023-1,CVE-1999-1")).await;
    assert_eq!(stack.status, "ROLLBACK_COMPLETE");
    assert!(story.refusal("refused").await.is_some_and(|why| why.starts_with("ECR Image Scan found vulnerabilities.\nImage: team/app:v1\nScan Type: BASIC\n")));
    assert!(!story.released("refused").await);

    let stack = story.deploy("ignored", &gate.clone().with("IgnoreFindings", "CVE-2024-3094")).await;
    assert_eq!((stack.status.as_str(), stack.outputs["Verdict"].as_str()), ("CREATE_COMPLETE", "PASS"));
    let stack = story.deploy("told", &gate.with("FailOnVulnerability", "false")).await;
    assert_eq!((stack.status.as_str(), stack.outputs["Verdict"].as_str()), ("CREATE_COMPLETE", "BLOCK"));
}

#[tokio::test]
async fn scanned_on_push_and_no_scan_started() {
    let story = Story::new().await;
    story.pipeline().await;
    story.repository("team/app").await;
    story.scans.frequency("team/app", "SCAN_ON_PUSH");
    let image = story.push("team/app", "v1").await;
    story.scans.say(&image.scanned, [Scan::Complete(Findings::none())]);
    let stack = story.deploy("on-push", &Gate::on(&image).with("StartScan", "false")).await;
    assert_eq!((stack.status.as_str(), stack.outputs["ImageDigest"].as_str()), ("CREATE_COMPLETE", image.digest()));
    assert!(story.scans.calls("StartImageScan").is_empty());
}

#[tokio::test]
async fn an_image_for_another_machine_than_the_functions() {
    let story = Story::new().await;
    story.pipeline().await;
    let platforms = [Manifest::image_for(&story.account, "linux", "arm64")];
    let (images, index) = story.push_index("team/app", "v1", &platforms, true).await;
    story.scans.say(&images[0].scanned, [Scan::Complete(Findings::none())]);
    let stack = story.deploy("arm", &Gate::on(&index).with("Platforms", "linux/arm64")).await;
    assert_eq!((stack.status.as_str(), stack.outputs["ImageDigest"].as_str()), ("CREATE_COMPLETE", index.digest()));
}

#[tokio::test]
async fn enhanced_with_findings_ignored_by_id_and_by_arn() {
    let story = Story::new().await;
    story.pipeline().await;
    story.scans.registry(Registry::Enhanced);
    let image = story.push("team/app", "v1").await;
    let found = Findings::of([finding("CVE-2024-3094", "CRITICAL"), finding("CVE-2024-1", "CRITICAL")]);
    story.scans.say(&image.scanned, [Scan::Active(found.clone())]);
    story.tell(&Event::inspected(&image, &found)).await;
    let by_arn = found.list()[1].arn(&image.scanned);
    let stack = story.deploy("enhanced", &Gate::on(&image).enhanced().with("IgnoreFindings", format!("CVE-2024-3094,{by_arn}"))).await;
    assert_eq!((stack.status.as_str(), stack.outputs["Verdict"].as_str()), ("CREATE_COMPLETE", "PASS"), "{}", json!(stack.outputs));
    let stack = story.deploy("one-left", &Gate::on(&image).enhanced().with("IgnoreFindings", by_arn)).await;
    assert_eq!(stack.status, "ROLLBACK_COMPLETE");
}
