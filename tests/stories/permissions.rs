//! Every role can do what its function does, and nothing else. All stories run with IAM enforced; here is what it must keep from
//! happening, each beside something that the same role may do.
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::AttributeValue;

use crate::local::events::Event;
use crate::local::images::Manifest;
use crate::local::pipeline::{Gate, Pipeline};
use crate::local::scan_plane::Registry;
use crate::local::scans::{Findings, Scan, finding};
use crate::local::story::Story;

/// `None`: it was done. Else the code of the refusal.
fn refusal<T, E: ProvideErrorMetadata>(outcome: Result<T, SdkError<E>>) -> Option<String> {
    outcome.err().map(|error| error.code().unwrap_or("no code").to_owned())
}

fn is_denied<T, E: ProvideErrorMetadata>(outcome: Result<T, SdkError<E>>) -> bool {
    refusal(outcome).is_some_and(|code| code.contains("AccessDenied"))
}

struct Tables {
    client: aws_sdk_dynamodb::Client,
    names: [String; 3],
}

impl Tables {
    async fn of(story: &Story, pipeline: &Pipeline, function: &str) -> Self {
        let config = story.as_function(&pipeline.function(function)).await;
        Self { client: aws_sdk_dynamodb::Client::new(&config), names: ["verdicts", "requests", "deployments"].map(|name| pipeline.table(name)) }
    }

    fn keys(table: usize) -> [&'static str; 2] {
        [["digest", "item"], ["key", "sort"], ["stack", "row"]][table]
    }

    async fn may_read(&self, table: usize) -> bool {
        let [hash, range] = Self::keys(table);
        let key = |text: &str| AttributeValue::S(text.to_owned());
        let read = self.client.get_item().table_name(&self.names[table]).key(hash, key("x")).key(range, key("x"));
        !is_denied(read.send().await)
    }

    async fn may_write(&self, table: usize) -> bool {
        let [hash, range] = Self::keys(table);
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let put = self.client.put_item().table_name(&self.names[table]).item(hash, text("x")).item(range, text("x"));
        !is_denied(put.send().await)
    }

    async fn may_remove(&self, table: usize) -> bool {
        let [hash, range] = Self::keys(table);
        let key = |text: &str| AttributeValue::S(text.to_owned());
        let delete = self.client.delete_item().table_name(&self.names[table]).key(hash, key("x")).key(range, key("x"));
        !is_denied(delete.send().await)
    }
}

const VERDICTS: usize = 0;
const REQUESTS: usize = 1;
const DEPLOYMENTS: usize = 2;

#[tokio::test]
async fn each_function_is_kept_from_what_it_does_not_do() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    story.repository("payments-api").await;
    // Who answers no deployment does not get to read where answers go, and nobody removes a verdict or a deployment.
    for (function, reads_requests, writes_verdicts, writes_deployments) in
        [("on-push", false, true, false), ("on-scan", true, true, true), ("on-deploy", true, true, true), ("on-sweep", true, true, true)]
    {
        let tables = Tables::of(&story, &pipeline, function).await;
        assert_eq!(tables.may_read(REQUESTS).await, reads_requests, "{function} reads requests");
        assert_eq!(tables.may_write(VERDICTS).await, writes_verdicts, "{function} writes verdicts");
        assert_eq!(tables.may_write(DEPLOYMENTS).await, writes_deployments, "{function} writes deployments");
        assert!(!tables.may_remove(VERDICTS).await && !tables.may_remove(DEPLOYMENTS).await, "{function} removes nothing");
    }
    // A scan is started where an image arrives or is found, or somebody waits, never by whoever only answers.
    let digest = format!("sha256:{}", "0".repeat(64));
    for (function, may) in [("on-push", true), ("on-scan", true), ("on-deploy", false), ("on-sweep", true)] {
        let ecr = aws_sdk_ecr::Client::new(&story.as_function(&pipeline.function(function)).await);
        let image = aws_sdk_ecr::types::ImageIdentifier::builder().image_digest(&digest).build();
        let started = ecr.start_image_scan().repository_name("payments-api").image_id(image).send().await;
        assert_eq!(!is_denied(started), may, "{function} starts scans");
        let deleted =
            ecr.batch_delete_image().repository_name("payments-api").image_ids(aws_sdk_ecr::types::ImageIdentifier::builder().image_digest(&digest).build());
        assert!(is_denied(deleted.send().await), "{function} deletes no image");
    }
}

#[tokio::test]
async fn a_key_of_the_users_own_keeps_nobody_from_working() {
    let story = Story::new().await;
    let pipeline = story.pipeline_with_key().await;
    let image = story.push("payments-api", "1.4.2").await;
    // So many that they go through the bucket, and a deployment that waits, so that each table and queue is used.
    let many = Findings::of((0..12_000).map(|n| finding(Manifest::image(&n.to_string()).digest(), "LOW")));
    story.scans.say(&image.scanned, [Scan::InProgress, Scan::Complete(many.clone())]);
    let asked = story.expect_answer(Gate::by_digest(&image).request(&pipeline));
    story.invoke_later(&pipeline.function("on-deploy"), &asked.request).await;
    story.only_timers_look(&pipeline, &image).await;
    story.tell(&Event::scanned(&image, &many)).await;
    assert_eq!(story.answer_to(&asked).await.data("Verdict"), "PASS");
    let facts = story.row(&pipeline.table("verdicts"), |row| row["key"].as_str().is_some_and(|key| key.starts_with("facts/"))).await;
    assert!(facts["data"].is_null());
}

#[tokio::test]
async fn a_stacks_outputs_are_written_in_its_own_name_and_only_written() {
    let story = Story::new().await;
    let pipeline = story.pipeline().await;
    story.scans.registry(Registry::Enhanced);
    let image = story.push("payments-api", "1.4.2").await;
    story.scans.say(&image.scanned, [Scan::Active(Findings::none())]);
    let stack = story.deploy_with_outputs("payments", &Gate::on(&image)).await;
    let role = story.role_of(&stack, "EcrScanVerifierOutputs").await;

    let on_scan = story.as_function(&pipeline.function("on-scan")).await;
    let other = stack.id.replace("payments", "billing");
    assert!(story.take(&on_scan, &role, &other).await.is_err(), "in the name of another stack");
    for function in ["on-push", "on-deploy", "on-sweep"] {
        let function = story.as_function(&pipeline.function(function)).await;
        assert!(story.take(&function, &role, &stack.id).await.is_err());
    }
    let writer = story.take(&on_scan, &role, &stack.id).await.expect("on-scan, in the name of the stack");
    let s3 = aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&writer).force_path_style(true).build());
    let bucket = format!("logs-{}", story.account);
    let put = |key: &'static str| s3.put_object().bucket(&bucket).key(key).body(b"x".to_vec().into()).send();
    assert_eq!(refusal(put("scans/a").await), None);
    assert!(is_denied(put("other/a").await), "outside its prefix");
    assert!(is_denied(s3.delete_object().bucket(&bucket).key("scans/a").send().await), "nothing is removed");
    let tables = aws_sdk_dynamodb::Client::new(&writer);
    assert!(is_denied(tables.scan().table_name(pipeline.table("requests")).send().await), "and no ResponseURL is read");
}
