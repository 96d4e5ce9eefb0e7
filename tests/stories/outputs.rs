//! What gates want written: by the role that their stack has made, after the answer.
use std::time::Duration;

use serde_json::Value;

use crate::local::events::Event;
use crate::local::pipeline::Gate;
use crate::local::scan_plane::{Call, Registry};
use crate::local::scans::{Findings, Scan, finding};
use crate::local::story::Story;

/// The texts of a stream, in their order.
async fn stream(story: &Story, name: &str) -> Vec<String> {
    let wanted = serde_json::json!({ "logGroupName": "/scans", "logStreamName": name, "startFromHead": true });
    let found = story.aws_json("logs", "Logs_20140328.GetLogEvents", wanted).await;
    found["events"].as_array().into_iter().flatten().filter_map(|event| event["message"].as_str().map(str::to_owned)).collect()
}

async fn keys(story: &Story, bucket: &str) -> Vec<String> {
    let listed = story.s3().list_objects_v2().bucket(format!("{bucket}-{}", story.account)).send().await.expect("ListObjectsV2");
    listed.contents().iter().filter_map(|object| object.key().map(str::to_owned)).collect()
}

async fn object(story: &Story, bucket: &str, key: &str) -> (String, Option<String>) {
    let object = story.s3().get_object().bucket(format!("{bucket}-{}", story.account)).key(key).send().await.expect("GetObject");
    let digest = object.metadata().and_then(|metadata| metadata.get("image-digest")).cloned();
    (String::from_utf8(object.body.collect().await.expect("a body").to_vec()).expect("text"), digest)
}

#[tokio::test]
async fn three_gates_of_a_stack_write_to_three_places_and_each_tells_the_topic_once() {
    let story = Story::new().await;
    story.pipeline().await;
    story.scans.hurry();
    story.scans.registry(Registry::Enhanced);
    let image = story.push("team/payments-api", "1.4.2").await;
    let found = Findings::of([finding("CVE-2024-3094", "CRITICAL").package("xz-utils", "5.6.0").fixed_in("5.6.1"), finding("CVE-2023-1", "LOW")]);
    story.scans.say(&image.scanned, [Scan::Active(found.clone())]);
    story.tell(&Event::inspected(&image, &found)).await;

    let stack = story.deploy_with_outputs("payments", &Gate::on(&image)).await;
    assert_eq!(stack.status, "CREATE_COMPLETE", "{:#?}", story.stack_events("payments").await);
    assert!(stack.outputs["Verdict"].ends_with(image.digest()), "{:?}", stack.outputs);

    let label = "scans/team_payments-api_1.4.2/";
    let all_there = || async { Some(keys(&story, "logs").await).filter(|keys| keys.len() == 3) };
    let written = story.until(std::time::Duration::from_secs(60), all_there).await.expect("two logs and an SBOM");
    assert!(written.iter().all(|key| key.starts_with(label)), "{written:?}");
    let named = |name: &str| written.iter().find(|key| key.ends_with(name)).unwrap_or_else(|| panic!("no {name}: {written:?}")).clone();
    let (findings, digest) = object(&story, "logs", &named("/findings.json")).await;
    let findings: Value = serde_json::from_str(&findings).expect("JSON");
    assert_eq!((findings.as_array().map(Vec::len), digest.as_deref()), (Some(2), Some(image.digest())));
    assert_eq!(findings[0]["packageVulnerabilityDetails"]["vulnerabilityId"], "CVE-2024-3094");
    assert_eq!(findings[0]["ecrScanVerifier"]["blocks"], true);
    let (summary, _) = object(&story, "logs", &named("/summary.txt")).await;
    assert!(summary.contains("Scan Type: ENHANCED") && summary.contains("--- Severity Summary ---\nCRITICAL: 1, LOW: 1\n"), "{summary}");
    let (sbom, _) = object(&story, "logs", &named("/sbom.cyclonedx.json")).await;
    let sbom: Value = serde_json::from_str(&sbom).expect("JSON");
    assert!(sbom["metadata"]["component"]["name"].as_str().is_some_and(|name| name.ends_with(image.digest())), "of exactly this image: {sbom}");

    let summary = stream(&story, "team_payments-api,1.4.2/summary").await;
    assert!(summary.len() == 2 && summary[0].ends_with(image.digest()) && summary[1].contains("Severity Summary"), "{summary:?}");
    assert!(stream(&story, "team_payments-api,1.4.2/findings").await[1].contains("CVE-2024-3094"));

    let log = story.logs("ecr-scan-verifier-demo-on-deploy").await.join("\n") + &story.logs("ecr-scan-verifier-demo-on-scan").await.join("\n");
    let summaries = log.matches("summary:\\n=== ECR Image Scan Results ===\\nRepository: team/payments-api\\nImage: 1.4.2").count();
    assert_eq!(summaries, 1, "of the one gate that has no other place for it");

    let mut heard: Vec<Value> = Vec::new();
    while heard.len() < 3 {
        let more = story.take_messages(&stack.outputs["HeardUrl"]).await;
        heard.extend(more.iter().map(|text| serde_json::from_str(text).expect("JSON")));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(story.take_messages(&stack.outputs["HeardUrl"]).await.is_empty(), "once a gate, and no oftener");
    for message in &heard {
        let text = message["Message"].as_str().expect("a text");
        assert!(text.starts_with("Ecr Scan Verifier detected vulnerabilities in team/payments-api:1.4.2\n\n"), "{text}");
        assert!(text.ends_with("Findings: CRITICAL: 1, LOW: 1\nSee scan logs for details."), "{text}");
        assert_eq!(message["MessageAttributes"]["verdict"]["Value"], "BLOCK");
    }
    for place in ["S3:\n  Bucket: logs-", "  Summary Stream: team_payments-api,1.4.2/summary", "Log Group: /aws/lambda/ecr-scan-verifier-demo-on-"] {
        assert_eq!(heard.iter().filter(|message| message["Message"].as_str().is_some_and(|text| text.contains(place))).count(), 1, "{place}");
    }
}

#[tokio::test]
async fn a_long_list_is_written_in_parts_to_a_stream_that_may_be_there_already() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    story.scans.registry(Registry::Enhanced);
    let (image, long) = (story.push("payments-api", "1.4.1").await, story.push("payments-api", "1.4.2").await);
    let many = Findings::of((0..12_000).map(|n| finding(format!("CVE-2024-{n:05}"), "LOW")));
    for (image, found) in [(&image, &Findings::none()), (&long, &many)] {
        story.scans.say(&image.scanned, [Scan::Active(found.clone())]);
        story.tell(&Event::inspected(image, found)).await;
    }
    let stack = story.deploy_with_outputs("payments", &Gate::on(&image)).await;
    let role = story.role_of(&stack, "EcrScanVerifierOutputs").await;
    for deployments in 1..=2 {
        let mut request = Gate::on(&long).enhanced().request(&pipeline);
        request["StackId"] = Value::String(stack.id.clone());
        request["ResourceProperties"]["outputsRoleArn"] = Value::String(role.clone());
        request["ResourceProperties"]["output"] = serde_json::json!({ "type": "cloudWatchLogs", "logGroupName": "/scans" });
        assert!(story.ask(&pipeline.function("on-deploy"), request).await.is_success());
        // The message that asks for them is sent after the answer; the summary is written last.
        let is_summary = |call: &Call| String::from_utf8_lossy(&call.body).contains("payments-api,1.4.2/summary");
        let written = async || (story.scans.calls("PutLogEvents").iter().filter(|call| is_summary(call)).count() >= 2 * deployments).then_some(());
        story.until(Duration::from_secs(60), written).await.expect("the summary is written");
        story.drained(pipeline.queue("Scan")).await;
        let events = stream(&story, "payments-api,1.4.2/findings").await;
        let parts: Vec<&String> = events.iter().filter(|text| text.starts_with("[part ")).collect();
        assert!(parts.len() >= 2 * deployments && parts.iter().all(|part| part.len() + 26 <= 1_048_576), "{} parts", parts.len());
        let listed = events.iter().map(|text| text.matches("\"vulnerabilityId\": \"CVE-2024-").count()).sum::<usize>();
        assert_eq!(listed, 12_000 * deployments);
    }
}
