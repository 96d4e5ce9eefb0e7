//! What goes wrong: throttles, broken APIs, messages that nobody can read, requests that come twice.
use std::time::Duration;

use serde_json::json;

use crate::local::events::Event;
use crate::local::faults::Fault;
use crate::local::images::Manifest;
use crate::local::pipeline::{Gate, Pipeline};
use crate::local::scans::{Findings, Scan, finding};
use crate::local::story::Story;

#[tokio::test]
async fn a_scanner_that_throttles_is_asked_again() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.1").await;
    story.scans.say(&image.scanned, [Scan::Complete(Findings::none())]);
    story.scans.on("DescribeImageScanFindings").times(1).meets(Fault::Throttle);
    story.scans.on("DescribeImageScanFindings").times(1).meets(Fault::Cut);
    story.tell(&Event::scanned(&image, &Findings::none())).await;
    story.verdict(&pipeline, &image, "PASS").await;
    assert!(story.scans.calls("DescribeImageScanFindings").len() >= 3);
    assert!(story.scans.calls("ChangeMessageVisibility").is_empty(), "one delivery was enough");
}

#[tokio::test]
async fn what_stays_broken_ends_in_the_dead_letters_and_nothing_is_passed() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    story.scans.hurry();
    story.try_at_most(pipeline.queue("Scan"), pipeline.dead_letters("Scan"), 2).await;
    let broken = [("throttled", Fault::Throttle), ("down", Fault::ServerError), ("denied", Fault::AccessDenied)];
    for (tag, fault) in &broken {
        let image = story.put("payments-api", Some(tag), &Manifest::image(tag)).await;
        story.scans.say(&image.scanned, [Scan::Complete(Findings::none())]);
        story.scans.on("DescribeImageScanFindings").with(image.digest()).always().meets(fault.clone());
        story.tell(&Event::scanned(&image, &Findings::none())).await;
    }
    let letters = story.messages(pipeline.dead_letters("Scan"), 3).await;
    assert!(letters.iter().all(|letter| letter.contains("ECR Image Scan")), "{letters:?}");
    let asked_for: Vec<i64> = story.scans.calls("ChangeMessageVisibility").iter().filter_map(|call| call.json()["VisibilityTimeout"].as_i64()).collect();
    assert!(asked_for.contains(&5) && asked_for.contains(&15), "the first and the second retry: {asked_for:?}");
    assert!(story.rows(&pipeline.table("verdicts")).await.is_empty(), "nothing was decided");
}

#[tokio::test]
async fn a_malformed_message_and_a_panicking_one_take_no_good_one_along() {
    let story = Story::new().await;
    let poison = story.put("payments-api", Some("poison"), &Manifest::image("poison")).await;
    let pipeline = story.pipeline_with(&[("FAULT_PANIC_AT", poison.digest())]).await;
    story.scans.hurry();
    story.try_at_most(pipeline.queue("Scan"), pipeline.dead_letters("Scan"), 2).await;
    let mut good = Vec::new();
    for tag in ["1.4.1", "1.4.2"] {
        let image = story.put("payments-api", Some(tag), &Manifest::image(tag)).await;
        story.scans.say(&image.scanned, [Scan::Complete(Findings::none())]);
        good.push(image);
    }
    let event = |image| json!({ "source": "aws.ecr", "detail-type": "ECR Image Scan", "detail": Event::scanned(image, &Findings::none()).entry()["Detail"].as_str().map(|detail| serde_json::from_str::<serde_json::Value>(detail).unwrap()), "account": story.account, "region": "eu-west-1", "time": "2026-03-14T09:26:53Z", "resources": [] });
    let mut malformed = event(&good[0]);
    malformed["detail"]["image-digest"] = json!("sha256:short");
    // In one batch, as far as the queue makes one of them.
    for body in [event(&good[0]), malformed, event(&poison), event(&good[1])] {
        story.send(pipeline.queue("Scan"), body).await;
    }
    for image in &good {
        story.verdict(&pipeline, image, "PASS").await;
    }
    let letters = story.messages(pipeline.dead_letters("Scan"), 2).await;
    assert!(letters.iter().any(|letter| letter.contains("sha256:short")) && letters.iter().any(|letter| letter.contains(poison.digest())), "{letters:?}");
    let is_head = Pipeline::is_head_of(&poison);
    assert!(!story.rows(&pipeline.table("verdicts")).await.iter().any(is_head));
    let lines = story.logs(&pipeline.function("on-scan")).await;
    let about = lines.iter().filter(|line| line.contains("sha256:short")).count();
    assert_eq!(about, 1, "one clear line about the malformed one: {lines:#?}");
}

#[tokio::test]
async fn an_event_of_another_account_or_region_is_ignored() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.put("payments-api", Some("1.4.1"), &Manifest::image("abroad")).await;
    story.scans.say(&image.scanned, [Scan::Complete(Findings::none())]);
    let event = Event::scanned(&image, &Findings::none());
    story.tell_all(&[event.clone().in_account("210987654321"), event.in_region("us-east-1")]).await;
    let ignored = || async {
        story.logs(&pipeline.function("on-scan")).await.iter().filter(|line| line.contains("another account or region")).count().eq(&2).then_some(())
    };
    story.until(Duration::from_secs(30), ignored).await.expect("two lines say so");
    assert!(story.rows(&pipeline.table("verdicts")).await.is_empty());
}

#[tokio::test]
async fn a_delete_succeeds_whatever_it_holds() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    for properties in [json!({}), json!({ "addr": 7, "severity": "HIGH", "platforms": { "x": [null] } }), json!(null), json!("nonsense")] {
        let request = json!({ "RequestType": "Delete", "PhysicalResourceId": "c8f1", "ResourceProperties": properties });
        let answer = story.ask(&pipeline.function("on-deploy"), request).await;
        assert!(answer.is_success(), "{properties}: {}", answer.reason());
    }
}

#[tokio::test]
async fn what_this_version_does_not_know_is_refused_by_name() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.1").await;
    story.scans.say(&image.scanned, [Scan::Complete(Findings::none())]);
    for (property, value, names) in [
        ("layout", json!("flat"), "the property `layout`"),
        ("signatureVerification", json!({ "type": "COSIGN" }), "requires either publicKey or kmsKeyArn"),
        ("scanType", json!("SIGNATURE_ONLY"), "no scan counts here"),
        ("severity", json!(["HIGH"]), "`severity`"), // beside the threshold
    ] {
        let mut request = Gate::on(&image).request(&pipeline);
        request["ResourceProperties"][property] = value;
        let answer = story.ask(&pipeline.function("on-deploy"), request).await;
        assert!(!answer.is_success() && answer.reason().contains(names), "{property}: {}", answer.reason());
    }
}

#[tokio::test]
async fn a_request_that_comes_twice_gets_one_answer_and_the_same_bytes_again() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.1").await;
    story.scans.say(&image.scanned, [Scan::Complete(Findings::none())]);
    story.tell(&Event::scanned(&image, &Findings::none())).await;
    story.verdict(&pipeline, &image, "PASS").await;

    // The first delivery dies between the answer and the mark; by the second, the image is bad.
    story.scans.on("UpdateItem").with("answered_at").always().meets(Fault::ServerError);
    let asked = story.expect_answer(Gate::on(&image).request(&pipeline));
    story.invoke_later(&pipeline.function("on-deploy"), &asked.request).await;
    let first = story.answer_to(&asked).await;
    let bad = Findings::of([finding("CVE-2024-3094", "CRITICAL")]);
    story.scans.say(&image.scanned, [Scan::Complete(bad.clone())]);
    story.tell(&Event::scanned(&image, &bad)).await;
    story.verdict(&pipeline, &image, "BLOCK").await;
    story.invoke_later(&pipeline.function("on-deploy"), &asked.request).await;
    let sent_twice = || async { (story.scans.calls("PutAnswer").len() == 2).then_some(()) };
    story.until(Duration::from_secs(30), sent_twice).await.expect("sent once more");
    // The answer host refuses different bytes for one request: `ask` and `until` would have failed.
    assert!(first.is_success() && story.scans.take_violations().is_empty());

    let row = story.row(&pipeline.table("requests"), |row| row["state"] == "claimed").await;
    assert!(row["response_url"].is_string(), "kept until the answer is known to have arrived");
}

#[tokio::test]
async fn once_answered_the_url_is_gone_and_never_in_a_log() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.1").await;
    story.scans.say(&image.scanned, [Scan::Complete(Findings::none())]);
    let asked = story.expect_answer(Gate::on(&image).request(&pipeline));
    story.invoke_later(&pipeline.function("on-deploy"), &asked.request).await;
    let row = story.row(&pipeline.table("requests"), |row| row["state"] == "answered").await;
    assert!(row["response_url"].is_null() && row["open"].is_null() && row["ttl"].is_number(), "{row}");
    let url = asked.request["ResponseURL"].as_str().unwrap();
    let lines = log_with(&story, &pipeline, "worked off: PASS").await;
    assert!(!lines.iter().any(|line| line.contains(url) || line.contains("_plane/answer")), "{lines:#?}");
}

#[tokio::test]
async fn an_address_that_is_not_cloudformations_gets_no_answer() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let mut request = story.expect_answer(Gate::by_digest(&story.push("payments-api", "1.4.1").await).request(&pipeline)).request;
    request["ResponseURL"] = json!("https://cloudformation-custom-resource-response-euwest1.s3.amazonaws.com.example.com/x");
    story.invoke_later(&pipeline.function("on-deploy"), &request).await;
    let lines = log_with(&story, &pipeline, "cannot answer the request of direct").await;
    assert!(!lines.iter().any(|line| line.contains("example.com/x")), "{lines:#?}");
    assert!(story.rows(&pipeline.table("requests")).await.is_empty());
}

/// What on-deploy wrote, once a line holds this text.
async fn log_with(story: &Story, pipeline: &Pipeline, text: &str) -> Vec<String> {
    let lines = || async { Some(story.logs(&pipeline.function("on-deploy")).await).filter(|lines| lines.iter().any(|line| line.contains(text))) };
    story.until(Duration::from_secs(30), lines).await.unwrap_or_else(|| panic!("no line with `{text}`"))
}
