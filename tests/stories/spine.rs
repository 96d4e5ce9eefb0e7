//! From a push to a deployment that is let through or blocked.
use std::time::Duration;

use crate::local::events::Event;
use crate::local::pipeline::Gate;
use crate::local::scans::{Findings, Scan, finding};
use crate::local::story::Story;

#[tokio::test]
async fn what_was_scanned_and_is_clean_is_let_through_at_once() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.1").await;
    let found = Findings::of([finding("CVE-2022-0563", "LOW")]);
    story.scans.say(&image.scanned, [Scan::Complete(found.clone())]);
    story.tell(&Event::scanned(&image, &found)).await;
    story.verdict(&pipeline, &image, "PASS").await;

    let stack = story.deploy("payments", &Gate::on(&image)).await;

    assert_eq!(stack.status, "CREATE_COMPLETE");
    assert_eq!((stack.outputs["Verdict"].as_str(), stack.outputs["ImageDigest"].as_str()), ("PASS", image.digest()));
    assert!(story.released("payments").await);

    // One line a decision, by which everything else about it is found. It is to be read when the function has returned, which is after the
    // answer.
    let returned = || async { Some(story.logs("ecr-scan-verifier-demo-on-deploy").await).filter(|log| log.iter().any(|line| line.contains("worked off"))) };
    let log = story.until(Duration::from_secs(60), returned).await.expect("on-deploy returns");
    let decided: Vec<serde_json::Value> =
        log.iter().filter(|line| line.contains("\"decided\"")).map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(decided.len(), 1, "{log:#?}");
    assert_eq!(
        (decided[0]["verdict"].as_str(), decided[0]["digest"].as_str(), decided[0]["stack"].as_str()),
        (Some("PASS"), Some(image.digest()), Some("payments"))
    );
    assert!(decided[0]["request_id"].is_string() && !log.join("").contains("cfn-response/"), "{decided:#?}");
}

#[tokio::test]
async fn findings_roll_a_stack_back_before_what_waits_for_the_gate_is_made() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.2").await;
    let found = Findings::of([finding("CVE-2024-3094", "CRITICAL").package("xz-utils", "5.6.0")]);
    story.scans.say(&image.scanned, [Scan::Complete(found.clone())]);
    story.tell(&Event::scanned(&image, &found)).await;
    story.verdict(&pipeline, &image, "BLOCK").await;

    assert_eq!(story.deploy("payments", &Gate::on(&image)).await.status, "ROLLBACK_COMPLETE");

    let said = story.refusal("payments").await.expect("a reason");
    assert!(said.contains("CVE-2024-3094") && said.contains(image.digest()), "{said}");
    assert!(!story.released("payments").await);
}

#[tokio::test]
async fn a_bad_update_goes_back_to_what_was_there() {
    let story = Story::new().await;
    story.pipeline().await;
    let (good, bad) = (story.push("payments-api", "1.4.1").await, story.push("payments-api", "1.4.2").await);
    story.scans.say(&good.scanned, [Scan::Complete(Findings::none())]);
    story.scans.say(&bad.scanned, [Scan::Complete(Findings::of([finding("CVE-2024-3094", "CRITICAL")]))]);
    assert_eq!(story.deploy("payments", &Gate::on(&good)).await.status, "CREATE_COMPLETE");
    assert_eq!(story.update("payments", &Gate::on(&bad)).await.status, "UPDATE_ROLLBACK_COMPLETE");
    story.delete_stack("payments").await;
    assert_eq!(story.settled("payments").await.status, "DELETE_COMPLETE");
}

#[tokio::test]
async fn an_update_replaces_what_was_deployed_and_a_delete_ends_it() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let (old, new) = (story.push("payments-api", "1.4.1").await, story.push("payments-api", "1.4.2").await);
    for image in [&old, &new] {
        story.scans.say(&image.scanned, [Scan::Complete(Findings::none())]);
    }
    let state_of = async |image: &crate::local::images::Image, state: &str| {
        story.row(&pipeline.table("deployments"), |row| row["digest"] == image.digest() && row["state"] == state).await;
    };
    assert_eq!(story.deploy("payments", &Gate::on(&old)).await.status, "CREATE_COMPLETE");
    state_of(&old, "admitted").await;
    let stack = story.update("payments", &Gate::on(&new)).await;
    assert_eq!((stack.status.as_str(), stack.outputs["ImageDigest"].as_str()), ("UPDATE_COMPLETE", new.digest()));
    state_of(&old, "replaced").await;
    state_of(&new, "admitted").await;
    story.delete_stack("payments").await;
    assert_eq!(story.settled("payments").await.status, "DELETE_COMPLETE");
    state_of(&new, "removed").await;
}
