//! Asking directly: whether an image may be deployed, what was decided about it, and what has been left lying.
use std::process::Command;

use serde_json::{Value, json};

use crate::local::events::Event;
use crate::local::faults::Fault;
use crate::local::images::Image;
use crate::local::pipeline::{Gate, PIPELINE, Pipeline};
use crate::local::profile;
use crate::local::scans::{Findings, Scan, finding};
use crate::local::story::Story;
use crate::local::wire::REGION;

/// A person at the command line: exit code, standard output, standard error.
async fn cli(story: &Story, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(profile().join("ecr-scan-verifier"));
    command.args(arguments).args(["--pipeline", PIPELINE]);
    for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN"] {
        command.env_remove(name);
    }
    command.env("AWS_ACCESS_KEY_ID", &story.account).env("AWS_SECRET_ACCESS_KEY", "x").env("AWS_REGION", REGION);
    command.env("AWS_ENDPOINT_URL", story.scans.origin());
    // Beside the story, which goes on telling.
    let output = tokio::task::spawn_blocking(move || command.output().expect("the command runs")).await.expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(!format!("{stdout}{stderr}").contains("_plane/answer"), "{arguments:?}: {stdout}{stderr}");
    (output.status.code(), stdout, stderr)
}

fn critical() -> Findings {
    Findings::of([finding("CVE-2024-3094", "CRITICAL").package("xz-utils", "5.6.0").fixed_in("5.6.1")])
}

async fn check(story: &Story, pipeline: &Pipeline, image: &Image, more: Value) -> Value {
    let mut check = json!({ "repositoryName": image.repository(), "imageTag": image.tag(), "severityThreshold": "HIGH" });
    for (name, value) in more.as_object().expect("properties") {
        check[name] = value.clone();
    }
    story.invoke(&pipeline.function("on-deploy"), &json!({ "check": check })).await.expect("a verdict")
}

#[tokio::test]
async fn whoever_asks_directly_is_told_the_verdict_and_nothing_is_left_behind() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let (clean, bad, slow) = (story.push("payments-api", "1.4.1").await, story.push("payments-api", "1.4.2").await, story.push("payments-api", "1.4.3").await);
    story.scans.say(&clean.scanned, [Scan::Complete(Findings::none())]);
    story.scans.say(&bad.scanned, [Scan::Complete(critical())]);
    story.scans.say(&slow.scanned, [Scan::InProgress]);

    let passed = check(&story, &pipeline, &clean, json!({})).await;
    assert_eq!((passed["verdict"].as_str(), passed["mayDeploy"].as_bool()), (Some("PASS"), Some(true)), "{passed}");
    assert_eq!(passed["image"]["digest"], clean.digest());

    let blocked = check(&story, &pipeline, &bad, json!({})).await;
    assert_eq!((blocked["verdict"].as_str(), blocked["blocking"][0]["id"].as_str()), (Some("BLOCK"), Some("CVE-2024-3094")), "{blocked}");
    assert_eq!(blocked["blocking"][0]["installed"], "5.6.0");
    assert!(blocked["message"].as_str().is_some_and(|text| text.starts_with("ECR Image Scan found vulnerabilities.")), "{blocked}");
    let reported = check(&story, &pipeline, &bad, json!({ "failOnVulnerability": false })).await;
    assert_eq!((reported["verdict"].as_str(), reported["mayDeploy"].as_bool()), (Some("BLOCK"), Some(true)), "{reported}");

    let waits = check(&story, &pipeline, &slow, json!({})).await;
    assert_eq!((waits["verdict"].as_str(), waits["mayDeploy"].as_bool()), (Some("PENDING"), Some(false)), "{waits}");
    assert!(waits["retryAfterSeconds"].as_u64().is_some());
    story.scans.say(&slow.scanned, [Scan::Complete(Findings::none())]);
    story.tell(&Event::scanned(&slow, &Findings::none())).await;
    story.verdict(&pipeline, &slow, "PASS").await;
    assert_eq!(check(&story, &pipeline, &slow, json!({})).await["verdict"], "PASS");

    let refused = check(&story, &pipeline, &clean, json!({ "severityTreshold": "LOW" })).await;
    assert_eq!((refused["verdict"].as_str(), refused["mayDeploy"].as_bool()), (Some("REFUSED"), Some(false)), "{refused}");
    assert!(refused["message"].as_str().is_some_and(|text| text.contains("does not know the property `severityTreshold`")), "{refused}");

    for table in ["requests", "deployments"] {
        let rows = story.rows(&pipeline.table(table)).await;
        assert!(rows.is_empty(), "{table}: {rows:#?}");
    }
}

#[tokio::test]
async fn what_could_not_be_looked_up_fails_the_call_and_is_no_verdict() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let asked = story.invoke(&pipeline.function("on-deploy"), &json!({ "check": { "repositoryName": "no-such-repository" } })).await.expect("a verdict");
    assert_eq!((asked["verdict"].as_str(), asked["mayDeploy"].as_bool()), (Some("REFUSED"), Some(false)), "{asked}");
    let image = story.push("payments-api", "1.4.1").await;
    story.scans.say(&image.scanned, std::iter::repeat_n(Scan::Fails(Fault::Throttle), 20));
    let check = json!({ "check": { "repositoryName": "payments-api", "imageTag": "1.4.1" } });
    let failed = story.invoke(&pipeline.function("on-deploy"), &check).await.expect_err("the scanner cannot be asked");
    assert!(failed["errorMessage"].as_str().is_some_and(|text| text.starts_with("could not ")), "{failed}");
}

#[tokio::test]
async fn a_person_asks_and_waits_for_the_verdict() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let (bad, slow) = (story.push("payments-api", "1.4.2").await, story.push("payments-api", "1.4.3").await);
    story.scans.say(&bad.scanned, [Scan::Complete(critical())]);
    story.scans.say(&slow.scanned, [Scan::InProgress]);
    story.drained(pipeline.queue("Push")).await;

    let (exit, said, _) = cli(&story, &["check", "payments-api:1.4.2", "--severity-threshold", "HIGH"]).await;
    assert_eq!(exit, Some(2), "{said}");
    assert!(said.starts_with("BLOCK (may not be deployed)\nECR Image Scan found vulnerabilities.\n") && said.contains("CVE-2024-3094"), "{said}");
    let (exit, said, _) = cli(&story, &["check", &format!("payments-api@{}", bad.digest()), "--ignore", "CVE-2024-3094"]).await;
    assert_eq!((exit, said.starts_with("PASS (may be deployed)")), (Some(0), true), "{said}");

    let (exit, said, told) = cli(&story, &["check", "payments-api:1.4.3", "--wait", "3s"]).await;
    assert_eq!((exit, said.starts_with("PENDING (may not be deployed)")), (Some(3), true), "{said}");
    assert_eq!(told.lines().count(), 1, "one line, since nothing changes: {told}");
    assert!(told.contains(&format!("payments-api@{}: no complete scan result (RUNNING).", slow.digest())), "{told}");
    story.scans.say(&slow.scanned, [Scan::InProgress, Scan::Complete(Findings::none())]);
    let (exit, said, _) = cli(&story, &["check", "payments-api:1.4.3", "--wait", "1m", "--format", "json"]).await;
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((exit, said["verdict"].as_str(), said["image"]["digest"].as_str()), (Some(0), Some("PASS"), Some(slow.digest())));

    for (arguments, exit, says) in [
        (["check", "payments-api:none"].as_slice(), 2, "REFUSED (may not be deployed)"),
        (&["check", "999999999999.dkr.ecr.eu-west-1.amazonaws.com/payments-api:1.4.2"], 2, "is in account 999999999999"),
        (&["check", "payments-api"], 1, "neither tag nor digest"),
        (&["check", "payments-api:1.4.2", "--wait", "soon"], 1, "no duration"),
        (&["check", "payments-api:1.4.2", "--severity", "high"], 1, "high"),
    ] {
        let (code, said, complaint) = cli(&story, arguments).await;
        assert_eq!(code, Some(exit), "{arguments:?}: {said}{complaint}");
        assert!(format!("{said}{complaint}").contains(says), "{arguments:?}: {said}{complaint}");
    }
    story.scans.say(&bad.scanned, std::iter::repeat_n(Scan::Fails(Fault::Throttle), 20));
    let other = story.push("payments-api", "1.4.4").await;
    story.scans.say(&other.scanned, std::iter::repeat_n(Scan::Fails(Fault::Throttle), 20));
    let (exit, said, complaint) = cli(&story, &["check", "payments-api:1.4.4"]).await;
    assert_eq!((exit, said.as_str()), (Some(1), ""), "{complaint}");
    assert!(complaint.contains("on-deploy could not look: could not "), "{complaint}");
}

#[tokio::test]
async fn what_was_decided_is_found_by_image_and_by_stack() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    let (clean, bad) = (story.push("payments-api", "1.4.1").await, story.push("payments-api", "1.4.2").await);
    story.scans.say(&clean.scanned, [Scan::Complete(Findings::of([finding("CVE-2022-0563", "LOW")]))]);
    story.scans.say(&bad.scanned, [Scan::Complete(critical())]);
    let on_deploy = pipeline.function("on-deploy");
    let (exit, ..) = cli(&story, &["history", "direct"]).await;
    assert_eq!(exit, Some(3), "nothing yet");
    for (image, passes) in [(&clean, true), (&bad, false)] {
        let answer = story.ask(&on_deploy, Gate::on(image).request(&pipeline)).await;
        assert_eq!(answer.is_success(), passes, "{}", answer.reason());
    }
    let history = async |subject: &str| -> Value {
        let (exit, said, complaint) = cli(&story, &["history", subject, "--format", "json"]).await;
        assert_eq!(exit, Some(0), "{subject}: {complaint}");
        serde_json::from_str(&said).expect("JSON")
    };
    let of_stack = history("direct").await;
    let words: Vec<_> = of_stack["decisions"].as_array().expect("decisions").iter().map(|it| (it["verdict"].clone(), it["digest"].clone())).collect();
    assert_eq!(words, [(json!("BLOCK"), json!(bad.digest())), (json!("PASS"), json!(clean.digest()))], "newest first");
    let passed = &of_stack["decisions"][1];
    assert_eq!((passed["policy"].as_str(), passed["known"][0]["counts"].clone()), (Some("v1:{\"severityThreshold\":\"HIGH\"}"), json!({ "LOW": 1 })));
    assert_eq!(history(passed["stack"].as_str().expect("a stack")).await["decisions"].as_array().map(Vec::len), Some(1), "of one of the two stacks alone");

    let blocked = &history(&format!("payments-api@{}", bad.digest())).await["decisions"][0];
    assert_eq!(
        (blocked["verdict"].as_str(), blocked["logicalId"].as_str(), blocked["policyHash"].clone()),
        (Some("BLOCK"), Some("Gate"), passed["policyHash"].clone())
    );
    assert_eq!(blocked["known"][0]["counts"], json!({ "CRITICAL": 1 }));
    assert_eq!(cli(&story, &["history", &format!("other@{}", bad.digest())]).await.0, Some(3), "another repository");
    let (_, said, _) = cli(&story, &["history", bad.digest()]).await;
    assert!(said.contains("  BLOCK  payments-api:1.4.2\n  stack        direct (Gate)\n"), "{said}");
    assert!(said.contains("  why          ECR Image Scan found vulnerabilities.\n"), "{said}");
}

#[tokio::test]
async fn a_dead_letter_is_seen_brought_back_and_done() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    assert_eq!(cli(&story, &["dead-letters"]).await, (Some(0), format!("There are no dead letters in pipeline {PIPELINE}.\n"), String::new()));
    story.scans.hurry();
    story.try_at_most(pipeline.queue("Scan"), pipeline.dead_letters("Scan"), 1).await;
    let image = story.push("payments-api", "1.4.1").await;
    story.drained(pipeline.queue("Push")).await;
    story.scans.say(&image.scanned, std::iter::repeat_n(Scan::Fails(Fault::Throttle), 3));
    story.tell(&Event::scanned(&image, &Findings::none())).await;

    let letters = async || {
        let (exit, said, complaint) = cli(&story, &["dead-letters", "--format", "json"]).await;
        assert!(matches!(exit, Some(0 | 3)), "{complaint}");
        (exit, serde_json::from_str::<Value>(&said).expect("JSON"))
    };
    let found = story.until(std::time::Duration::from_secs(60), || async { Some(letters().await).filter(|(exit, _)| *exit == Some(3)) }).await;
    let (_, report) = found.expect("a dead letter");
    let queues = report["queues"].as_array().expect("queues");
    assert_eq!(queues.len(), 3, "{report}");
    let scan = queues.iter().find(|queue| queue["letters"] == 1).unwrap_or_else(|| panic!("one of them has the letter: {report:#}"));
    let letter = &scan["shown"][0];
    assert_eq!((letter["kind"].as_str(), letter["subject"].clone()), (Some("basic-scan-ended"), json!(format!("payments-api@{}", image.digest()))));
    assert!(letter["ageSeconds"].as_i64().is_some_and(|age| (0..300).contains(&age)) && letter["received"].as_u64() >= Some(1), "{letter}");
    assert_eq!(letters().await.0, Some(3), "looking takes nothing away");

    story.scans.say(&image.scanned, [Scan::Complete(Findings::none())]);
    let (exit, said, complaint) = cli(&story, &["dead-letters", "--redrive"]).await;
    assert_eq!(exit, Some(0), "{said}{complaint}");
    assert!(said.contains(": 1 brought back\n"), "{said}");
    story.verdict(&pipeline, &image, "PASS").await;
    assert_eq!(letters().await.0, Some(0));
}
