//! The local AWS itself: what stories lean on, seen to hold.
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use crate::local::events::Event;
use crate::local::faults::Fault;
use crate::local::images::{INDEX, Manifest};
use crate::local::scan_plane::Registry;
use crate::local::scans::{Coverage, Findings, Scan, finding};
use crate::local::story::Story;

#[tokio::test]
async fn a_pushed_image_has_its_real_digest_and_its_event_arrives_in_a_queue() {
    let story = Story::new().await;
    let queue = story.sqs().create_queue().queue_name("pushes").send().await.unwrap().queue_url.unwrap();
    let arn = format!("arn:aws:sqs:eu-west-1:{}:pushes", story.account);
    story.aws_json("events", "AWSEvents.PutRule", json!({ "Name": "pushes", "EventPattern": json!({ "source": ["aws.ecr"] }).to_string() })).await;
    story.aws_json("events", "AWSEvents.PutTargets", json!({ "Rule": "pushes", "Targets": [{ "Id": "queue", "Arn": arn }] })).await;

    let image = story.push("team/app", "v1").await;

    let read = story.ecr().batch_get_image().repository_name("team/app");
    let read = read.image_ids(aws_sdk_ecr::types::ImageIdentifier::builder().image_tag("v1").build()).send().await.unwrap();
    let (read, manifest) = (&read.images()[0], read.images()[0].image_manifest().unwrap());
    assert_eq!(read.image_id().unwrap().image_digest(), Some(image.digest()));
    assert_eq!(crate::local::scan_plane::digest_of(manifest), image.digest());

    let event: Value = serde_json::from_str(&story.messages(&queue, 1).await[0]).unwrap();
    assert_eq!(event["detail-type"], "ECR Image Action");
    assert_eq!(event["account"], story.account);
    assert_eq!(event["detail"]["image-digest"], image.digest());
}

#[tokio::test]
async fn a_scripted_scan_is_told_answer_by_answer_and_page_by_page() {
    let story = Story::new().await;
    let image = story.push("team/app", "v1").await;
    let many = Findings::of((0..1001).map(|n| finding(format!("CVE-2024-{n:04}"), "LOW")));
    story.scans.say(&image.scanned, [Scan::Pending, Scan::Fails(Fault::Throttle), Scan::Complete(many)]);

    let id = aws_sdk_ecr::types::ImageIdentifier::builder().image_digest(image.digest()).build();
    let read = || story.ecr().describe_image_scan_findings().repository_name("team/app").image_id(id.clone()).max_results(1000);
    assert_eq!(read().send().await.unwrap().image_scan_status().unwrap().status().unwrap().as_str(), "PENDING");
    // The SDK sees the throttle and asks again.
    let first = read().send().await.unwrap();
    assert_eq!(first.image_scan_findings().unwrap().findings().len(), 1000);
    assert_eq!(first.image_scan_findings().unwrap().finding_severity_counts().unwrap()[&aws_sdk_ecr::types::FindingSeverity::Low], 1001);
    let second = read().set_next_token(first.next_token).send().await.unwrap();
    assert_eq!(second.image_scan_findings().unwrap().findings()[0].name(), Some("CVE-2024-1000"));
    assert_eq!(second.next_token(), None);
    assert_eq!(story.scans.calls("DescribeImageScanFindings").len(), 4);
}

#[tokio::test]
async fn scans_are_started_once_a_day_and_never_for_an_index_or_in_enhanced_mode() {
    let story = Story::new().await;
    let image = story.push("team/app", "v1").await;
    let (_, index) = story.push_index("team/app", "v2", &[Manifest::image("amd64")], true).await;
    let start = |digest: &str| {
        let id = aws_sdk_ecr::types::ImageIdentifier::builder().image_digest(digest).build();
        story.ecr().start_image_scan().repository_name("team/app").image_id(id).send()
    };
    assert!(start(image.digest()).await.is_ok());
    assert!(start(image.digest()).await.unwrap_err().into_service_error().is_limit_exceeded_exception());
    assert!(start(index.digest()).await.unwrap_err().into_service_error().is_unsupported_image_type_exception());
    story.scans.registry(Registry::Enhanced);
    assert!(start(image.digest()).await.unwrap_err().into_service_error().is_validation_exception());
}

#[tokio::test]
async fn an_image_is_found_only_as_ecr_would_find_it() {
    let story = Story::new().await;
    let (children, index) = story.push_index("team/app", "v1", &[Manifest::image("one")], true).await;
    let get = |id: aws_sdk_ecr::types::builders::ImageIdentifierBuilder, accept: Option<&str>| {
        let accepted = accept.map(|kind| vec![kind.to_owned()]);
        let call = story.ecr().batch_get_image().repository_name("team/app").image_ids(id.build()).set_accepted_media_types(accepted);
        async move {
            let got = call.send().await.unwrap();
            got.failures().first().map_or("found".to_owned(), |failure| failure.failure_code().unwrap().as_str().to_owned())
        }
    };
    let id = aws_sdk_ecr::types::ImageIdentifier::builder;
    assert_eq!(get(id().image_tag("v1"), Some(INDEX)).await, "found");
    assert_eq!(get(id().image_tag("v1"), None).await, "ImageNotFound", "an index has to be asked for by its type");
    assert_eq!(get(id().image_tag("v2"), Some(INDEX)).await, "ImageNotFound");
    assert_eq!(get(id().image_digest("latest"), None).await, "InvalidImageDigest");
    assert_eq!(get(id(), None).await, "MissingDigestAndTag");
    assert_eq!(get(id().image_tag("v1").image_digest(index.digest()), Some(INDEX)).await, "found");
    assert_eq!(get(id().image_tag("v1").image_digest(children[0].digest()), Some(INDEX)).await, "ImageTagDoesNotMatchDigest");
}

#[tokio::test]
async fn inspector_tells_coverage_and_pages_of_25() {
    let story = Story::new().await;
    story.scans.registry(Registry::Enhanced);
    let image = story.push("team/app", "v1").await;
    story.scans.coverage(&image.scanned, [Coverage::active("PENDING_INITIAL_SCAN"), Coverage::active("SUCCESSFUL").scanned_at(jiff::Timestamp::now())]);
    let found = Findings::of((0..26).map(|n| finding(format!("CVE-2024-{n:04}"), "HIGH").epss(0.5)));
    story.scans.say(&image.scanned, [Scan::Active(found)]);

    let by_arn = aws_sdk_inspector2::types::CoverageStringFilter::builder().comparison("EQUALS".into()).value(image.scanned.arn()).build().unwrap();
    let covered = || {
        let filter = aws_sdk_inspector2::types::CoverageFilterCriteria::builder().resource_id(by_arn.clone()).build();
        story.inspector().list_coverage().filter_criteria(filter).send()
    };
    for wanted in ["PENDING_INITIAL_SCAN", "SUCCESSFUL", "SUCCESSFUL"] {
        let answer = covered().await.unwrap();
        assert_eq!(answer.covered_resources()[0].scan_status().unwrap().reason().as_str(), wanted);
    }
    let first = story.inspector().list_findings().send().await.unwrap();
    assert_eq!((first.findings().len(), first.findings()[0].epss().unwrap().score()), (25, 0.5));
    let second = story.inspector().list_findings().set_next_token(first.next_token).send().await.unwrap();
    assert_eq!((second.findings().len(), second.next_token()), (1, None));
}

#[tokio::test]
async fn a_held_call_is_carried_out_when_it_is_let_go_and_not_before() {
    let story = Story::new().await;
    let image = story.push("team/app", "v1").await;
    story.scans.say(&image.scanned, [Scan::InProgress]);
    let held = story.scans.on("DescribeImageScanFindings").with(image.digest()).hold();
    let id = aws_sdk_ecr::types::ImageIdentifier::builder().image_digest(image.digest()).build();
    let read = tokio::spawn(story.ecr().describe_image_scan_findings().repository_name("team/app").image_id(id).send());

    held.reached().await;
    story.scans.say(&image.scanned, [Scan::Complete(Findings::none())]);
    assert!(!read.is_finished());
    held.release();

    let read = read.await.unwrap().unwrap();
    assert_eq!(read.image_scan_status().unwrap().status().unwrap().as_str(), "COMPLETE");
}

#[tokio::test]
async fn any_call_can_fail_in_any_way() {
    let story = Story::new().await;
    story.repository("team/app").await;
    let call = || story.ecr().describe_repositories().send();
    for (fault, code) in [(Fault::AccessDenied, "AccessDeniedException"), (Fault::Error { status: 400, code: "KmsException", message: "no" }, "KmsException")] {
        story.scans.on("DescribeRepositories").meets(fault);
        let error = call().await.unwrap_err();
        assert_eq!(aws_sdk_ecr::error::ProvideErrorMetadata::code(&error), Some(code));
    }
    for fault in [Fault::Throttle, Fault::ServerError, Fault::Cut, Fault::LoseAnswer, Fault::Slow(Duration::from_millis(10))] {
        story.scans.on("DescribeRepositories").meets(fault);
        assert!(call().await.is_ok(), "the SDK asks again");
    }
    story.scans.on("DescribeRepositories").always().meets(Fault::Cut);
    assert!(call().await.is_err());
}

#[tokio::test]
async fn a_wrong_answer_to_cloudformation_is_caught() {
    let story = Story::new().await;
    let asked = story.expect_answer(json!({ "RequestType": "Create" }));
    let right = json!({
        "Status": "SUCCESS", "StackId": asked.request["StackId"], "RequestId": asked.request["RequestId"],
        "LogicalResourceId": "Gate", "PhysicalResourceId": "gate-1", "Data": { "Verdict": "PASS" },
    });
    let put = |body: String, kind: &'static str| {
        let mut headers = hyper::HeaderMap::new();
        headers.insert("content-type", hyper::header::HeaderValue::from_static(kind));
        let url = asked.request["ResponseURL"].as_str().unwrap().to_owned();
        let http = story.http.clone();
        async move { http.send(&Method::PUT, &url, &headers, Bytes::from(body)).await.unwrap().status }
    };
    let but = |name: &str, value: Value| {
        let mut wrong = right.clone();
        wrong[name] = value;
        wrong.to_string()
    };
    for (wrong, kind, why) in [
        (but("Status", json!("OK")), "", "Status"),
        (but("Status", json!("FAILED")), "", "without a Reason"),
        (but("RequestId", json!("another")), "", "RequestId"),
        (but("PhysicalResourceId", json!("")), "", "PhysicalResourceId"),
        (but("Data", json!({ "Count": 1 })), "", "strings"),
        (but("Reason", json!("x".repeat(4096))), "", "4096"),
        (right.to_string(), "application/json", "Content-Type"),
        ("{".to_owned(), "", "not JSON"),
    ] {
        assert_eq!(put(wrong, kind).await, 403);
        let said = story.scans.take_violations();
        assert!(said.len() == 1 && said[0].contains(why), "{why}: {said:?}");
    }
    assert_eq!(put(right.to_string(), "").await, 200);
    assert_eq!(put(right.to_string(), "").await, 200, "the very same bytes may come again");
    assert_eq!(put(but("PhysicalResourceId", json!("gate-2")), "").await, 403);
    assert!(story.scans.take_violations()[0].contains("second, different"));
    let answer = story.answer_to(&asked).await;
    assert_eq!((answer.is_success(), answer.times, answer.data("Verdict")), (true, 2, "PASS"));
}

#[tokio::test]
async fn an_event_keeps_its_time_and_can_come_from_elsewhere() {
    let story = Story::new().await;
    let queue = story.sqs().create_queue().queue_name("scans").send().await.unwrap().queue_url.unwrap();
    let arn = format!("arn:aws:sqs:eu-west-1:{}:scans", story.account);
    story.aws_json("events", "AWSEvents.PutRule", json!({ "Name": "scans", "EventPattern": json!({ "source": ["aws.inspector2"] }).to_string() })).await;
    story.aws_json("events", "AWSEvents.PutTargets", json!({ "Rule": "scans", "Targets": [{ "Id": "queue", "Arn": arn }] })).await;
    let image = story.push("team/app", "v1").await;
    let event = Event::inspected(&image, &Findings::of([finding("CVE-2024-0001", "HIGH"), finding("CVE-2024-0002", "LOW")]));
    let event = event.at("2026-01-02T03:04:05Z".parse().unwrap()).in_account("999999999999").id("11111111-2222-4333-8444-555555555555");
    story.tell_all(&[event.clone(), event]).await;
    let messages = story.messages(&queue, 2).await;
    assert_eq!(messages[0], messages[1]);
    let event: Value = serde_json::from_str(&messages[0]).unwrap();
    assert_eq!((event["time"].as_str(), event["account"].as_str()), (Some("2026-01-02T03:04:05Z"), Some("999999999999")));
    assert_eq!(event["detail"]["finding-severity-counts"], json!({ "CRITICAL": 0, "HIGH": 1, "MEDIUM": 0, "TOTAL": 2 }));
}

/// A request whose answer goes to a place that nobody but on-deploy may know.
fn a_secret(story: &Story) -> String {
    story.expect_answer(json!({ "RequestType": "Create" })).request["ResponseURL"].as_str().expect("a URL").to_owned()
}

#[tokio::test]
#[should_panic(expected = "a row of rows holds a secret")]
async fn a_secret_in_a_row_fails_its_story() {
    let story = Story::new().await;
    let key = json!([{ "AttributeName": "key", "KeyType": "HASH" }]);
    let table = json!({ "TableName": "rows", "KeySchema": key, "AttributeDefinitions": [{ "AttributeName": "key", "AttributeType": "S" }], "BillingMode": "PAY_PER_REQUEST" });
    story.aws_json("dynamodb", "DynamoDB_20120810.CreateTable", table).await;
    // That it may stand in one attribute is no leave for another.
    let url = a_secret(&story);
    let item = json!({ "key": { "S": "1" }, "response_url": { "S": url }, "why": { "S": format!("could not PUT {url}") } });
    story.aws_json("dynamodb", "DynamoDB_20120810.PutItem", json!({ "TableName": "rows", "Item": item })).await;
}

#[tokio::test]
#[should_panic(expected = "a message in")]
async fn a_secret_in_a_message_fails_its_story() {
    let story = Story::new().await;
    let queue = story.sqs().create_queue().queue_name("letters").send().await.unwrap().queue_url.unwrap();
    story.send(&queue, a_secret(&story)).await;
}

#[tokio::test]
#[should_panic(expected = "the log of /aws/lambda/talks holds a secret")]
async fn a_secret_in_a_log_fails_its_story() {
    let story = Story::new().await;
    let template = json!({ "Resources": {
        "Role": { "Type": "AWS::IAM::Role", "Properties": { "AssumeRolePolicyDocument": { "Version": "2012-10-17", "Statement": [] } } },
        "Function": { "Type": "AWS::Lambda::Function", "Properties": {
            "FunctionName": "talks", "Runtime": "python3.11", "Handler": "index.handler", "Role": { "Fn::GetAtt": ["Role", "Arn"] },
            "Code": { "ZipFile": "import os, sys\n\ndef handler(event, context):\n    print(os.environ['AWS_SESSION_TOKEN'], file=sys.stderr)\n" },
        } },
    } });
    story.create_stack("talks", &template, &[]).await;
    assert_eq!(story.settled("talks").await.status, "CREATE_COMPLETE");
    story.invoke("talks", &json!({})).await.expect("it talks");
}
