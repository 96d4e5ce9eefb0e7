//! Asking directly: whether an image may be deployed, what was decided about it, and what has been left lying.
use serde_json::{Value, json};

use crate::local::events::Event;
use crate::local::images::Image;
use crate::local::pipeline::Pipeline;
use crate::local::scans::{Findings, Scan, finding};
use crate::local::story::Story;

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
    assert_eq!(blocked["blocking"][0]["fixedIn"], "5.6.1");
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
    story.scans.say(&image.scanned, std::iter::repeat_n(Scan::Fails(crate::local::faults::Fault::Throttle), 20));
    let check = json!({ "check": { "repositoryName": "payments-api", "imageTag": "1.4.1" } });
    let failed = story.invoke(&pipeline.function("on-deploy"), &check).await.expect_err("the scanner cannot be asked");
    assert!(failed["errorMessage"].as_str().is_some_and(|text| text.starts_with("could not ")), "{failed}");
}
