//! Which images count, which findings, how old they may be, and who may say otherwise.
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::local::events::Event;
use crate::local::images::Manifest;
use crate::local::pipeline::{Gate, PIPELINE};
use crate::local::profile;
use crate::local::scan_plane::Registry;
use crate::local::scans::{Findings, Scan, finding};
use crate::local::story::Story;
use crate::local::wire::REGION;

fn critical() -> Findings {
    Findings::of([finding("CVE-2024-3094", "CRITICAL").package("xz-utils", "5.6.0").fixed_in("5.6.1")])
}

/// A request with more than the example app's gate can say.
fn with(mut request: Value, more: Value) -> Value {
    for (name, value) in more.as_object().expect("properties") {
        request["ResourceProperties"][name] = value.clone();
    }
    request
}

#[tokio::test]
async fn only_the_platform_that_is_deployed_counts() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let platforms = [Manifest::image_for("platforms", "linux", "amd64"), Manifest::image_for("platforms", "linux", "arm64")];
    let (images, index) = story.push_index("payments-api", "1.4.1", &platforms, true).await;
    story.scans.say(&images[0].scanned, [Scan::Complete(critical())]);
    story.scans.say(&images[1].scanned, [Scan::Complete(Findings::none())]);
    let ask = async |platform: &str| {
        let request = with(Gate::on(&index).request(&pipeline), json!({ "platforms": [platform] }));
        story.ask(&pipeline.function("on-deploy"), request).await
    };
    let answer = ask("linux/arm64").await;
    assert_eq!((answer.data("Verdict"), answer.data("ImageDigest")), ("PASS", index.digest()));
    assert!(ask("linux/amd64").await.reason().contains("CVE-2024-3094"));
    assert!(ask("windows/amd64").await.reason().contains("has no image for windows/amd64; it has linux/amd64, linux/arm64"));
}

#[tokio::test]
async fn an_image_that_nobody_can_scan_passes_only_where_that_is_asked_for() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let (scratch, failed) = (story.push("payments-api", "scratch").await, story.push("payments-api", "failed").await);
    story.scans.say(&scratch.scanned, [Scan::Unsupported]);
    story.scans.say(&failed.scanned, [Scan::Failed("The scan failed.")]);
    let ask = async |image, on_unscanned: &str| {
        let request = with(Gate::on(image).request(&pipeline), json!({ "onUnscanned": on_unscanned }));
        story.ask(&pipeline.function("on-deploy"), request).await
    };
    assert_eq!(ask(&scratch, "block").await.reason().lines().next(), Some("ECR image scan failed: Image is not supported for scanning."));
    assert_eq!(ask(&scratch, "allow").await.data("Verdict"), "UNSCANNED");
    assert!(!ask(&failed, "allow").await.is_success(), "a scan that failed says nothing of the image");
}

#[tokio::test]
async fn exemptions_and_graces_are_judged_on_what_is_stored() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    story.scans.registry(Registry::Enhanced);
    let image = story.push("payments-api", "1.4.2").await;
    story.scans.say(&image.scanned, [Scan::Active(critical())]);
    story.tell(&Event::inspected(&image, &critical())).await;
    story.verdict(&pipeline, &image, "BLOCK").await;
    story.drained(pipeline.queue("Scan")).await;
    let looks = story.scans.calls("DescribeImageScanFindings").len();
    let exemption = |until: &str| json!({ "exemptions": [{ "id": "CVE-2024-3094", "reason": "sshd does not run here", "until": until }] });
    for (more, verdict) in [
        (exemption("2999-12-31"), "PASS"),
        (exemption("2020-12-31"), "The exemption of CVE-2024-3094 ended on 2020-12-31"),
        (json!({ "maxFindings": { "CRITICAL": "1" } }), "PASS"),
        (json!({ "maxFindings": { "CRITICAL": "0" } }), "1 CRITICAL findings, and `maxFindings` allows 0."),
        (json!({ "ignoreUnfixed": "true" }), "CVE-2024-3094"),
        (json!({ "exploit": { "exploitAvailable": "true" } }), "PASS"),
        (json!({ "severityThreshold": "CRITICAL", "blockAlways": ["CVE-2024-3094"] }), "CVE-2024-3094"),
    ] {
        let answer = story.ask(&pipeline.function("on-deploy"), with(Gate::on(&image).enhanced().request(&pipeline), more.clone())).await;
        assert!(answer.data("Verdict") == verdict || answer.reason().contains(verdict), "{more}: {:?} {}", answer.data("Verdict"), answer.reason());
    }
    assert_eq!(story.scans.calls("DescribeImageScanFindings").len(), looks, "another policy needs no scan, and no look at one");
}

#[tokio::test]
async fn what_basic_scanning_does_not_say_is_not_guessed() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.1").await;
    story.scans.say(&image.scanned, [Scan::Complete(Findings::none())]);
    let request = with(Gate::on(&image).request(&pipeline), json!({ "ignoreUnfixed": "true" }));
    let answer = story.ask(&pipeline.function("on-deploy"), request).await;
    assert!(answer.reason().contains("basic scanning, which does not say what `ignoreUnfixed` asks for"), "{}", answer.reason());
}

#[tokio::test]
async fn a_scan_that_is_too_old_is_made_anew_or_refused() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.1").await;
    let old = Findings::none().completed_at(Timestamp::now() - SignedDuration::from_hours(30));
    story.scans.say(&image.scanned, [Scan::Complete(old)]);
    let on_deploy = pipeline.function("on-deploy");
    let gate = |start_scan: &str, hours: u32| {
        with(Gate::on(&image).with("StartScan", start_scan).request(&pipeline), json!({ "maxScanAgeSeconds": (hours * 3600).to_string() }))
    };
    assert_eq!(story.ask(&on_deploy, gate("false", 31)).await.data("Verdict"), "PASS");
    let answer = story.ask(&on_deploy, gate("false", 29)).await;
    assert!(answer.reason().contains("is 1 days and 6 hours old") && answer.reason().contains("`maxScanAge` is 29 hours"), "{}", answer.reason());

    // Where the gate starts scans itself, a day is all. The new scan finds something.
    story.scans.say_after_start(&image.scanned, [Scan::InProgress, Scan::Complete(critical().completed_at(Timestamp::now() + SignedDuration::from_secs(5)))]);
    let answer = story.ask(&on_deploy, Gate::on(&image).with("StartScan", "true").request(&pipeline)).await;
    assert!(answer.reason().contains("CVE-2024-3094"), "{} {}", answer.data("Verdict"), answer.reason());
    assert_eq!(story.scans.calls("StartImageScan").len(), 1);
}

#[tokio::test]
async fn whoever_breaks_the_glass_lets_one_image_into_one_stack_once() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let image = story.push("payments-api", "1.4.2").await;
    story.scans.say(&image.scanned, [Scan::Complete(critical())]);
    let asked = story.expect_answer(Gate::by_digest(&image).request(&pipeline));
    let stack = asked.request["StackId"].as_str().expect("a stack").to_owned();
    let break_it = |image: &str| {
        let mut command = Command::new(profile().join("ecr-scan-verifier"));
        command.args(["break-glass", "--pipeline", PIPELINE, "--stack", &stack, "--reason", "the fix has to go out tonight", image]);
        for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN"] {
            command.env_remove(name);
        }
        command
            .env("AWS_ACCESS_KEY_ID", &story.account)
            .env("AWS_SECRET_ACCESS_KEY", "x")
            .env("AWS_REGION", REGION)
            .env("AWS_ENDPOINT_URL", story.scans.origin());
        let output = command.output().expect("the command runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
    };
    let named = format!("payments-api@{}", image.digest());
    assert_eq!(break_it("payments-api:1.4.2").0, Some(1), "a tag could be moved");
    let (exit, said) = break_it(&named);
    assert_eq!(exit, Some(0), "{said}");
    assert_eq!(break_it(&named).0, Some(3), "it is broken already");

    story.invoke_later(&pipeline.function("on-deploy"), &asked.request).await;
    let answer = story.answer_to(&asked).await;
    assert_eq!((answer.data("Verdict"), answer.data("ImageDigest")), ("BREAK_GLASS", image.digest()));
    let decision = story.row(&pipeline.table("deployments"), |row| row["verdict"] == "BREAK_GLASS").await;
    assert_eq!(decision["why"], "the fix has to go out tonight");

    let mut again = asked.request.clone();
    again["RequestId"] = Value::Null;
    assert!(!story.ask(&pipeline.function("on-deploy"), again).await.is_success(), "it is used up");
}

#[tokio::test]
async fn how_likely_findings_are_exploited_is_read_page_by_page_where_a_gate_asks_for_it() {
    let story = Story::new().await;
    // Each page takes all the time that there is, so that the reading goes on in message after message.
    let pipeline = story.pipeline_where(&[("on-scan", "FAULT_READS_FOR_MS", "0")]).await;
    story.scans.registry(Registry::Enhanced);
    let image = story.push("payments-api", "1.4.2").await;
    let found = Findings::of((0..60).map(|n| finding(format!("CVE-2024-{n:04}"), "CRITICAL").epss(0.0002 * f64::from(n))));
    story.scans.say(&image.scanned, [Scan::Active(found.clone())]);
    story.tell(&Event::inspected(&image, &found)).await;
    story.verdict(&pipeline, &image, "BLOCK").await;
    assert_eq!(story.scans.calls("ListFindings").len(), 0, "nobody has asked for it");

    let on_deploy = pipeline.function("on-deploy");
    let gate = |limit: &str| with(Gate::on(&image).enhanced().request(&pipeline), json!({ "exploit": { "epss": limit } }));
    assert_eq!(story.ask(&on_deploy, gate("0.012")).await.data("Verdict"), "PASS");
    assert!(story.scans.calls("ListFindings").len() >= 3, "60 findings are three of its pages");
    // on-scan reads once more what was read for the gate.
    story.drained(pipeline.queue("Scan")).await;
    let pages = story.scans.calls("ListFindings").len();
    let refused = story.ask(&on_deploy, gate("0.0118")).await;
    assert!(refused.reason().contains("CVE-2024-0059") && refused.reason().contains("EPSS 0.0118"), "{}", refused.reason());
    assert!(!refused.reason().contains("CVE-2024-0058"), "{}", refused.reason());
    assert_eq!(story.scans.calls("ListFindings").len(), pages, "another limit is judged on what is stored");
}
