//! One story: an account of its own on the local AWS, and the verbs in which stories are told.
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_dynamodb::error::DisplayErrorContext;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_runtime_api::client::http::http_client_fn;
use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderValue;
use serde_json::{Value, json};

use crate::local::LocalAws;
use crate::local::answers::{Answer, Asked};
use crate::local::canary::Canary;
use crate::local::events::Event;
use crate::local::images::{Image, Manifest};
use crate::local::scan_plane::Scans;
use crate::local::scans::Scanned;
use crate::local::wire::{self, Http, REGION, signed_as};

/// How long anything may take on a busy machine. Nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);
/// FilterLogEvents lists no more.
const LINES_AT_ONCE: usize = 10_000;

pub struct Story {
    pub account: String,
    /// What ECR and Inspector say, what calls meet, what was answered.
    pub scans: Scans,
    pub http: Http,
    aws: &'static LocalAws,
    direct: SdkConfig,
    through_plane: SdkConfig,
}

/// What became of a stack.
#[derive(Clone, Debug)]
pub struct Stack {
    pub name: String,
    pub id: String,
    pub status: String,
    pub outputs: BTreeMap<String, String>,
}

/// One line of a stack's history.
#[derive(Clone, Debug)]
pub struct StackEvent {
    pub logical_id: String,
    pub kind: String,
    pub status: String,
    pub reason: String,
}

impl Story {
    pub async fn new() -> Self {
        Self::on(LocalAws::shared()).await
    }

    pub async fn on(aws: &'static LocalAws) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(100_000_000_001);
        Self::in_account(aws, &NEXT.fetch_add(1, Ordering::Relaxed).to_string()).await
    }

    pub async fn in_account(aws: &'static LocalAws, account: &str) -> Self {
        let account = account.to_owned();
        let (direct, through_plane) = (sdk(&account, &aws.direct).await, sdk(&account, aws.plane.origin()).await);
        Self { scans: aws.plane.of(&account), http: Http::new(), aws, direct, through_plane, account }
    }

    /// The local AWS itself, past the scan plane.
    pub fn direct_origin(&self) -> &str {
        &self.aws.direct
    }

    pub fn cloudformation(&self) -> aws_sdk_cloudformation::Client {
        aws_sdk_cloudformation::Client::new(&self.direct)
    }

    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&self.direct)
    }

    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.direct)
    }

    pub fn s3(&self) -> aws_sdk_s3::Client {
        aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&self.direct).force_path_style(true).build())
    }

    /// Through the scan plane, as the functions see it.
    pub fn ecr(&self) -> aws_sdk_ecr::Client {
        aws_sdk_ecr::Client::new(&self.through_plane)
    }

    pub fn kms(&self) -> aws_sdk_kms::Client {
        aws_sdk_kms::Client::new(&self.direct)
    }

    /// Through the scan plane, as the functions see it.
    pub fn inspector(&self) -> aws_sdk_inspector2::Client {
        aws_sdk_inspector2::Client::new(&self.through_plane)
    }

    /// A queue that hears what a topic is told.
    pub async fn listen_to_topic(&self, topic_arn: &str) -> String {
        let (url, arn) = self.listener("topic").await;
        let sns = aws_sdk_sns::Client::new(&self.direct);
        sns.subscribe().topic_arn(topic_arn).protocol("sqs").endpoint(arn).send().await.expect("Subscribe");
        url
    }

    /// The same, of what passes a filter alone.
    pub async fn listen_to_topic_with(&self, topic_arn: &str, name: &str, filter: &Value) {
        let (_, arn) = self.listener(name).await;
        let sns = aws_sdk_sns::Client::new(&self.direct);
        let subscribe = sns.subscribe().topic_arn(topic_arn).protocol("sqs").endpoint(arn).attributes("FilterPolicy", filter.to_string());
        subscribe.send().await.expect("Subscribe");
    }

    /// A queue that hears what this source tells the event bus.
    pub async fn listen_to_bus(&self, source: &str) -> String {
        let (url, arn) = self.listener("bus").await;
        let events = aws_sdk_eventbridge::Client::new(&self.direct);
        let pattern = json!({ "source": [source] }).to_string();
        events.put_rule().name("heard").event_pattern(pattern).send().await.expect("PutRule");
        let target = aws_sdk_eventbridge::types::Target::builder().id("heard").arn(arn).build().expect("a target");
        events.put_targets().rule("heard").targets(target).send().await.expect("PutTargets");
        url
    }

    async fn listener(&self, name: &str) -> (String, String) {
        let name = format!("heard-of-{name}");
        let arn = format!("arn:aws:sqs:{REGION}:{}:{name}", self.account);
        let policy = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": { "Service": ["sns.amazonaws.com", "events.amazonaws.com"] }, "Action": "sqs:SendMessage", "Resource": arn,
        }] });
        let made = self.sqs().create_queue().queue_name(&name).attributes(aws_sdk_sqs::types::QueueAttributeName::Policy, policy.to_string());
        (made.send().await.expect("CreateQueue").queue_url.expect("an URL"), arn)
    }

    /// For any other service, by hand.
    pub async fn aws_json(&self, service: &str, target: &str, body: Value) -> Value {
        let called = self.http.aws_json(&self.aws.direct, &self.account, service, target, &body).await;
        called.unwrap_or_else(|why| panic!("{why}"))
    }

    // Images and events.

    /// Makes a repository, unless it is there.
    pub async fn repository(&self, name: &str) {
        let made = self.ecr().create_repository().repository_name(name).send().await;
        if let Err(error) = made {
            let error = error.into_service_error();
            assert!(error.is_repository_already_exists_exception(), "{error:?}");
        }
    }

    /// Puts a manifest into a repository; says nothing to EventBridge.
    pub async fn put(&self, repository: &str, tag: Option<&str>, manifest: &Manifest) -> Image {
        self.repository(repository).await;
        let put = self.ecr().put_image().repository_name(repository).image_manifest(&manifest.text).image_manifest_media_type(manifest.kind);
        put.image_digest(manifest.digest()).set_image_tag(tag.map(str::to_owned)).send().await.expect("PutImage");
        let scanned = Scanned { account: self.account.clone(), repository: repository.to_owned(), digest: manifest.digest() };
        Image { scanned, tag: tag.map(str::to_owned), manifest: manifest.clone() }
    }

    /// Pushes an image that nobody has pushed before, with its event.
    pub async fn push(&self, repository: &str, tag: &str) -> Image {
        static CONTENT: AtomicU64 = AtomicU64::new(0);
        let content = format!("{} {repository} {tag} {}", self.account, CONTENT.fetch_add(1, Ordering::Relaxed));
        let image = self.put(repository, Some(tag), &Manifest::image(&content)).await;
        self.tell(&Event::pushed(&image)).await;
        image
    }

    /// Pushes an index: its children first and untagged, an attestation for each if wanted, then the index with its tag. The images come
    /// back in the order of the index, the index last.
    pub async fn push_index(&self, repository: &str, tag: &str, children: &[Manifest], attested: bool) -> (Vec<Image>, Image) {
        let attestations = children.iter().filter(|_| attested).map(Manifest::attestation);
        let all: Vec<_> = children.iter().cloned().chain(attestations).collect();
        let mut pushed = Vec::new();
        for manifest in &all {
            let image = self.put(repository, None, manifest).await;
            self.tell(&Event::pushed(&image)).await;
            pushed.push(image);
        }
        let index = self.put(repository, Some(tag), &Manifest::index(&all)).await;
        self.tell(&Event::pushed(&index)).await;
        (pushed, index)
    }

    pub async fn tell(&self, event: &Event) {
        self.tell_all(std::slice::from_ref(event)).await;
    }

    pub async fn tell_all(&self, events: &[Event]) {
        let entries: Vec<_> = events.iter().map(Event::entry).collect();
        let told = self.aws_json("events", "AWSEvents.PutEvents", json!({ "Entries": entries })).await;
        assert_eq!(told["FailedEntryCount"], 0, "{told}");
    }

    // Stacks.

    pub async fn create_stack(&self, name: &str, template: &Value, parameters: &[(&str, &str)]) {
        self.create_stack_of(name, &as_read_here(template.clone()).to_string(), parameters).await;
    }

    /// Of a template's text, JSON or YAML, as it is.
    pub async fn create_stack_of(&self, name: &str, template: &str, parameters: &[(&str, &str)]) {
        let create = self.cloudformation().create_stack().stack_name(name).template_body(template);
        let create = create.set_parameters(Some(parameters_of(parameters)));
        create.capabilities(aws_sdk_cloudformation::types::Capability::CapabilityNamedIam).send().await.expect("CreateStack");
    }

    pub async fn update_stack(&self, name: &str, template: &Value, parameters: &[(&str, &str)]) {
        let update = self.cloudformation().update_stack().stack_name(name).template_body(as_read_here(template.clone()).to_string());
        let update = update.set_parameters(Some(parameters_of(parameters)));
        update.capabilities(aws_sdk_cloudformation::types::Capability::CapabilityNamedIam).send().await.expect("UpdateStack");
    }

    pub async fn delete_stack(&self, name: &str) {
        self.cloudformation().delete_stack().stack_name(name).send().await.expect("DeleteStack");
    }

    /// None once it is deleted.
    pub async fn stack(&self, name: &str) -> Option<Stack> {
        let described = self.cloudformation().describe_stacks().stack_name(name).send().await.ok()?;
        let stack = described.stacks().first()?;
        let outputs =
            stack.outputs().iter().map(|output| (output.output_key().unwrap_or_default().to_owned(), output.output_value().unwrap_or_default().to_owned()));
        let status = stack.stack_status().map(|status| status.as_str().to_owned()).unwrap_or_default();
        let gone = status == "DELETE_COMPLETE";
        let id = stack.stack_id().unwrap_or_default().to_owned();
        (!gone).then(|| Stack { name: name.to_owned(), id, status, outputs: outputs.collect() })
    }

    /// Waits until CloudFormation is done with a stack; fails at once when a function answered it wrongly. A stack that is gone has the
    /// status DELETE_COMPLETE.
    pub async fn settled(&self, name: &str) -> Stack {
        let gone = Stack { name: name.to_owned(), id: String::new(), status: "DELETE_COMPLETE".to_owned(), outputs: BTreeMap::new() };
        let settled = self.until(PATIENCE, || async {
            match self.stack(name).await {
                Some(stack) if stack.status.ends_with("_IN_PROGRESS") => None,
                Some(stack) => Some(stack),
                None => Some(gone.clone()),
            }
        });
        match settled.await {
            Some(stack) => stack,
            None => panic!("stack {name} is not settled after {PATIENCE:?}: {:#?}", self.stack_events(name).await),
        }
    }

    /// Oldest first.
    pub async fn stack_events(&self, name: &str) -> Vec<StackEvent> {
        let Ok(described) = self.cloudformation().describe_stack_events().stack_name(name).send().await else { return Vec::new() };
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let events = described.stack_events().iter().rev().map(|event| StackEvent {
            logical_id: text(event.logical_resource_id()),
            kind: text(event.resource_type()),
            status: event.resource_status().map(|status| status.as_str().to_owned()).unwrap_or_default(),
            reason: text(event.resource_status_reason()),
        });
        events.collect()
    }

    // Functions and queues.

    /// Invokes a function and waits: what it returned, or the error it ended with.
    pub async fn invoke(&self, function: &str, payload: &Value) -> Result<Value, Value> {
        let answered = self.invocation(function, payload, "RequestResponse").await;
        let failed = answered.headers.contains_key("x-amz-function-error");
        let body = serde_json::from_slice(&answered.body).unwrap_or(Value::Null);
        if failed { Err(body) } else { Ok(body) }
    }

    /// Invokes a function as CloudFormation and EventBridge do: it is tried again when it fails.
    pub async fn invoke_later(&self, function: &str, payload: &Value) {
        self.invocation(function, payload, "Event").await;
    }

    async fn invocation(&self, function: &str, payload: &Value, kind: &'static str) -> wire::Answered {
        let mut headers = signed_as(&self.account, "lambda");
        headers.insert("x-amz-invocation-type", HeaderValue::from_static(kind));
        let url = format!("{}/2015-03-31/functions/{function}/invocations", self.aws.direct);
        let answered = self.http.send(&Method::POST, &url, &headers, Bytes::from(payload.to_string())).await.expect("the local AWS answers");
        assert!(answered.status < 300, "invoking {function}: {} {}", answered.status, answered.text());
        let mut canary = self.canary();
        canary.look(&format!("what {function} returned"), &answered.text());
        let found = canary.found();
        assert!(found.is_empty(), "{}", found.join("\n"));
        answered
    }

    /// What a function's role may do, as the function itself.
    pub async fn as_function(&self, function: &str) -> SdkConfig {
        let url = format!("{}/2015-03-31/functions/{function}", self.aws.direct);
        let answered = self.http.send(&Method::GET, &url, &signed_as(&self.account, "lambda"), Bytes::new()).await.expect("the local AWS answers");
        let role = answered.json()["Configuration"]["Role"].as_str().unwrap_or_else(|| panic!("no function {function}")).to_owned();
        // The local AWS lets an account's root in wherever a service is.
        let root = sdk(&self.account, self.aws.plane.origin()).await;
        self.take(&root, &role, "").await.unwrap_or_else(|why| panic!("{why}"))
    }

    /// Takes a role over, as somebody and in the name of somebody.
    pub async fn take(&self, who: &SdkConfig, role: &str, in_the_name_of: &str) -> Result<SdkConfig, String> {
        let provider = aws_config::sts::AssumeRoleProvider::builder(role).session_name("story").configure(who);
        let provider = if in_the_name_of.is_empty() { provider } else { provider.external_id(in_the_name_of) };
        let provider = provider.build().await;
        let credentials = provider.provide_credentials().await.map_err(|error| format!("{role}: {}", DisplayErrorContext(&error)))?;
        Ok(who.to_builder().credentials_provider(SharedCredentialsProvider::new(credentials)).build())
    }

    /// The role of a stack whose logical id begins so.
    pub async fn role_of(&self, stack: &Stack, begins: &str) -> String {
        let described = self.cloudformation().describe_stack_resources().stack_name(&stack.name).send().await.expect("DescribeStackResources");
        let is_it = |part: &&aws_sdk_cloudformation::types::StackResource| {
            part.resource_type() == Some("AWS::IAM::Role") && part.logical_resource_id().is_some_and(|id| id.starts_with(begins))
        };
        let role = described.stack_resources().iter().find(is_it).and_then(|part| part.physical_resource_id()).expect("the stack has such a role");
        format!("arn:aws:iam::{}:role/ecr-scan-verifier/{role}", self.account)
    }

    /// Sends a request as CloudFormation would, or as it never would, to a function, and waits for its answer.
    pub async fn ask(&self, function: &str, request: Value) -> Answer {
        let asked = self.expect_answer(request);
        self.invoke_later(function, &asked.request).await;
        self.answer_to(&asked).await
    }

    /// Gives a request its ResponseURL (and a RequestId and StackId, unless it has them), so that the answer to it can be checked.
    pub fn expect_answer(&self, mut request: Value) -> Asked {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let stack = format!("arn:aws:cloudformation:{REGION}:{}:stack/direct/{n:08x}-0000-4000-8000-000000000000", self.account);
        for (name, usual) in [
            ("RequestId", format!("{n:08x}-1111-4111-8111-111111111111")),
            ("StackId", stack),
            ("LogicalResourceId", "Gate".to_owned()),
            ("ResourceType", "Custom::EcrScanVerifier".to_owned()),
        ] {
            if request[name].is_null() {
                request[name] = json!(usual);
            }
        }
        self.scans.expect_answer(request)
    }

    pub async fn answer_to(&self, asked: &Asked) -> Answer {
        self.scans.answer_to(asked, PATIENCE).await
    }

    /// What a function wrote, oldest line first.
    pub async fn logs(&self, function: &str) -> Vec<String> {
        self.logs_by(&self.http, function).await
    }

    async fn logs_by(&self, http: &Http, function: &str) -> Vec<String> {
        self.lines_of(http, &format!("/aws/lambda/{function}"), None).await
    }

    /// Those that hold this text, if one is given.
    async fn lines_of(&self, http: &Http, group: &str, holding: Option<&str>) -> Vec<String> {
        let pattern = holding.map(|text| format!("\"{text}\"")).unwrap_or_default();
        let wanted = json!({ "logGroupName": group, "limit": LINES_AT_ONCE, "filterPattern": pattern });
        let called = http.aws_json(&self.aws.direct, &self.account, "logs", "Logs_20140328.FilterLogEvents", &wanted).await;
        let events = called.ok().and_then(|body| body["events"].as_array().cloned()).unwrap_or_default();
        events.iter().filter_map(|event| event["message"].as_str().map(|line| line.trim_end().to_owned())).collect()
    }

    pub async fn queue_url(&self, name: &str) -> String {
        let url = self.sqs().get_queue_url().queue_name(name).send().await.unwrap_or_else(|e| panic!("no queue {name}: {e:?}"));
        url.queue_url().unwrap_or_default().to_owned()
    }

    /// Puts a message into a queue, past EventBridge.
    pub async fn send(&self, url: &str, body: impl ToString) {
        self.sqs().send_message().queue_url(url).message_body(body.to_string()).send().await.expect("SendMessage");
    }

    /// How often a message of this queue is tried before it goes to the dead letters; eight times as deployed, which takes long.
    pub async fn try_at_most(&self, url: &str, dead_letters: &str, times: u32) {
        let name = dead_letters.rsplit('/').next().unwrap_or_default();
        let policy = json!({ "deadLetterTargetArn": format!("arn:aws:sqs:{REGION}:{}:{name}", self.account), "maxReceiveCount": times });
        let set = self.sqs().set_queue_attributes().queue_url(url);
        set.attributes(aws_sdk_sqs::types::QueueAttributeName::RedrivePolicy, policy.to_string()).send().await.expect("SetQueueAttributes");
    }

    /// Takes whatever messages a queue holds just now.
    pub async fn take_messages(&self, url: &str) -> Vec<String> {
        let mut bodies = Vec::new();
        loop {
            let received = self.sqs().receive_message().queue_url(url).max_number_of_messages(10).send().await.expect("ReceiveMessage");
            for message in received.messages() {
                self.sqs().delete_message().queue_url(url).set_receipt_handle(message.receipt_handle.clone()).send().await.expect("DeleteMessage");
                bodies.push(message.body().unwrap_or_default().to_owned());
            }
            if received.messages().is_empty() {
                return bodies;
            }
        }
    }

    /// Waits until a queue has neither waiting nor running messages.
    pub async fn drained(&self, url: &str) {
        self.drained_within(url, PATIENCE).await;
    }

    /// The same, with another patience.
    pub async fn drained_within(&self, url: &str, patience: Duration) {
        use aws_sdk_sqs::types::QueueAttributeName as Name;
        let names = [Name::ApproximateNumberOfMessages, Name::ApproximateNumberOfMessagesNotVisible];
        let empty = || async {
            let read = self.sqs().get_queue_attributes().queue_url(url).set_attribute_names(Some(names.to_vec())).send().await.expect("GetQueueAttributes");
            read.attributes.unwrap_or_default().values().all(|count| count == "0").then_some(())
        };
        self.until(patience, empty).await.unwrap_or_else(|| panic!("{url} still holds messages after {patience:?}"));
    }

    /// Waits for this many messages.
    pub async fn messages(&self, url: &str, wanted: usize) -> Vec<String> {
        let mut all = Vec::new();
        let until = Instant::now() + PATIENCE;
        while all.len() < wanted {
            assert!(Instant::now() < until, "{} of {wanted} messages in {url} after {PATIENCE:?}: {all:?}", all.len());
            all.extend(self.take_messages(url).await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        all
    }

    // Tables.

    /// All items of a table as plain JSON; bytes are shown by their number.
    pub async fn rows(&self, table: &str) -> Vec<Value> {
        let mut rows = Vec::new();
        let mut from = None;
        loop {
            let page = self.dynamodb().scan().table_name(table).consistent_read(true).set_exclusive_start_key(from).send().await;
            let page = page.unwrap_or_else(|e| panic!("no table {table}: {e:?}"));
            rows.extend(page.items().iter().map(plain_item));
            from = page.last_evaluated_key;
            if from.is_none() {
                return rows;
            }
        }
    }

    /// One item of a table as plain JSON; null, if there is none.
    pub async fn item(&self, table: &str, key: [(&str, &str); 2]) -> Value {
        let mut get = self.dynamodb().get_item().table_name(table).consistent_read(true);
        for (name, value) in key {
            get = get.key(name, AttributeValue::S(value.to_owned()));
        }
        get.send().await.expect("GetItem").item.as_ref().map_or(Value::Null, plain_item)
    }

    /// All items under one partition key.
    pub async fn items(&self, table: &str, (name, value): (&str, &str)) -> Vec<Value> {
        let query = self.dynamodb().query().table_name(table).consistent_read(true).key_condition_expression("#key = :key");
        let query = query.expression_attribute_names("#key", name).expression_attribute_values(":key", AttributeValue::S(value.to_owned()));
        query.send().await.expect("Query").items().iter().map(plain_item).collect()
    }

    /// Waits for a row that the test wants to see.
    pub async fn row(&self, table: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = self.until(PATIENCE, || async { self.rows(table).await.into_iter().find(&wanted) }).await;
        match found {
            Some(row) => row,
            None => panic!("no such row in {table} after {PATIENCE:?}: {:#?}", self.rows(table).await),
        }
    }

    /// Looks again and again, without haste; None when the time is up. A wrong answer to CloudFormation ends it at once.
    pub async fn until<T, F: Future<Output = Option<T>>>(&self, within: Duration, look: impl Fn() -> F) -> Option<T> {
        let until = Instant::now() + within;
        loop {
            if let Some(seen) = look().await {
                return Some(seen);
            }
            let wrong = self.scans.take_violations();
            assert!(wrong.is_empty(), "a wrong answer to CloudFormation:\n{}", wrong.join("\n"));
            if Instant::now() > until {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where a story may keep a file of its own.
    pub fn file(&self, name: &str) -> PathBuf {
        self.aws.folder.join(format!("{}-{name}", self.account))
    }

    fn canary(&self) -> Canary {
        let mut canary = Canary::new();
        for asked in self.scans.requests() {
            canary.knows_request(&asked.request);
        }
        for secret in self.scans.secrets() {
            canary.knows("a key or token of a function", &secret);
        }
        canary
    }

    /// What stands where it must not: in a log, a call, a message, a row.
    pub async fn betrayed(&self) -> Vec<String> {
        let (mut canary, http) = (self.canary(), &self.http);
        let lambda = signed_as(&self.account, "lambda");
        let listed = http.send(&Method::GET, &format!("{}/2015-03-31/functions/?MaxItems=50", self.aws.direct), &lambda, Bytes::new()).await;
        for function in listed.ok().and_then(|listed| listed.json()["Functions"].as_array().cloned()).unwrap_or_default() {
            let text = |name: &str| function[name].as_str().unwrap_or_default().to_owned();
            canary.knows_function(&text("FunctionArn"), &text("Role"));
        }
        for group in self.log_groups(http).await {
            let lines = self.lines_of(http, &group, None).await;
            // More than are listed at once: then they are searched where they are.
            if lines.len() == LINES_AT_ONCE {
                for secret in canary.secrets().map(str::to_owned).collect::<Vec<_>>() {
                    canary.look(&format!("the log of {group}"), &self.lines_of(http, &group, Some(&secret)).await.join("\n"));
                }
            }
            canary.look(&format!("the log of {group}"), &lines.join("\n"));
        }
        for call in self.scans.all_calls() {
            canary.look_at_item(&format!("a call of {} {}", call.service, call.operation), &String::from_utf8_lossy(&call.body));
        }
        let (dynamodb, sqs) = (self.dynamodb(), self.sqs());
        for table in dynamodb.list_tables().send().await.ok().and_then(|listed| listed.table_names).unwrap_or_default() {
            for row in self.rows(&table).await {
                canary.look_at_item(&format!("a row of {table}"), &row.to_string());
            }
        }
        // Lambda puts whole requests into one queue alone.
        for url in sqs.list_queues().send().await.ok().and_then(|listed| listed.queue_urls).unwrap_or_default() {
            if url.to_lowercase().contains("failures") {
                continue;
            }
            let received = sqs.receive_message().queue_url(&url).max_number_of_messages(10).visibility_timeout(0).send().await;
            for message in received.ok().and_then(|received| received.messages).unwrap_or_default() {
                canary.look(&format!("a message in {url}"), message.body().unwrap_or_default());
            }
        }
        canary.found()
    }

    /// Ends what still runs in its name: every copy of a function is a process, and whatever is fed is asked for every few milliseconds.
    /// A hundred stories that had ended would slow down those that have not.
    async fn retire(&self) {
        let lambda = aws_sdk_lambda::Client::new(&self.direct);
        let mappings = lambda.list_event_source_mappings().send().await.ok().and_then(|listed| listed.event_source_mappings);
        for id in mappings.unwrap_or_default().into_iter().filter_map(|mapping| mapping.uuid) {
            let _ = lambda.delete_event_source_mapping().uuid(id).send().await;
        }
        let functions = lambda.list_functions().send().await.ok().and_then(|listed| listed.functions);
        for name in functions.unwrap_or_default().into_iter().filter_map(|function| function.function_name) {
            let _ = lambda.delete_function().function_name(name).send().await;
        }
    }

    /// What has to be done at a story's end, for where one cannot wait: clients belong to one runtime, and this one is new.
    fn at_its_end<T: Send + 'static>(&self, what: impl AsyncFnOnce(&Story) -> T + Send) -> Option<T> {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                // It does not end once more.
                let story = std::mem::ManuallyDrop::new(Story::in_account(self.aws, &self.account).await);
                what(&story).await
            })
        };
        std::thread::scope(|scope| scope.spawn(run).join()).ok()
    }

    /// Writes what the functions logged, and every call that was made, into a file. Also for where one cannot wait.
    pub fn keep_logs(&self) -> PathBuf {
        let file = self.aws.folder.join(format!("story-{}.log", self.account));
        let text = self.at_its_end(async |story| story.everything_logged(&story.http).await).unwrap_or_default();
        let _ = std::fs::write(&file, text);
        file
    }

    async fn log_groups(&self, http: &Http) -> Vec<String> {
        let groups = http.aws_json(&self.aws.direct, &self.account, "logs", "Logs_20140328.DescribeLogGroups", &json!({})).await;
        let groups = groups.ok().and_then(|body| body["logGroups"].as_array().cloned()).unwrap_or_default();
        groups.iter().filter_map(|group| group["logGroupName"].as_str().map(str::to_owned)).collect()
    }

    async fn everything_logged(&self, http: &Http) -> String {
        let mut text = String::new();
        for group in self.log_groups(http).await {
            text.push_str(&format!("== {group}\n{}\n", self.lines_of(http, &group, None).await.join("\n")));
        }
        for call in self.scans.all_calls() {
            let met = call.met.map(|met| format!("  met {met}")).unwrap_or_default();
            text.push_str(&format!(
                "{} {}{met}  {}\n",
                call.service,
                call.operation,
                String::from_utf8_lossy(&call.body).chars().take(300).collect::<String>()
            ));
        }
        text
    }
}

/// A wrong answer fails its story, even when the story looked at something else; so does a secret that stands where it must not. A story
/// that fails leaves what its functions logged.
impl Drop for Story {
    fn drop(&mut self) {
        let mut wrong = self.scans.take_violations();
        wrong.iter_mut().for_each(|wrong| wrong.insert_str(0, "a wrong answer to CloudFormation:\n"));
        if !std::thread::panicking() {
            wrong.extend(self.at_its_end(Story::betrayed).unwrap_or_else(|| vec!["the search for secrets has failed".to_owned()]));
        }
        if std::thread::panicking() || !wrong.is_empty() {
            let (logs, log) = (self.keep_logs(), self.aws.log());
            eprintln!("account {}: what its functions logged and called: {}; the local AWS's log: {}", self.account, logs.display(), log.display());
        }
        self.at_its_end(Story::retire);
        assert!(wrong.is_empty() || std::thread::panicking(), "{}", wrong.join("\n"));
    }
}

/// What the local AWS reads otherwise than AWS does. That it stands in the template as AWS wants it, the template tests see to.
///
/// - It is on this machine and knows no TLS: what denies everything else denies nothing here.
/// - A log group in which a stream is made is called by its name alone here, without the `:*` of its ARN.
/// - A batch of messages is to AWS so many times `sqs:SendMessage`, and here an action of its own.
/// - The list of repositories is to AWS about `repository/*`, and here about no repository.
/// - Who acts as a role is to AWS that role (`aws:PrincipalArn`), and here the session in which it does so.
fn as_read_here(mut template: Value) -> Value {
    match &mut template {
        Value::Object(members) => {
            if members.get("Condition").is_some_and(|condition| condition["Bool"]["aws:SecureTransport"] == "false") {
                members.insert("Condition".to_owned(), json!({ "StringEquals": { "aws:PrincipalArn": "nobody" } }));
            }
            if let Some(role) = members.get("ArnEquals").and_then(|equals| equals.get("aws:PrincipalArn")) {
                let session: Value = serde_json::from_str(&role.to_string().replace(":iam::", ":sts::").replace(":role/", ":assumed-role/")).expect("JSON");
                members.insert("ArnLike".to_owned(), json!({ "aws:PrincipalArn": { "Fn::Join": ["/", [session, "*"]] } }));
                members.remove("ArnEquals");
            }
            if members.get("Action").is_some_and(|action| action.to_string().contains("logs:CreateLogStream")) {
                let group = members["Resource"].take();
                let by_name = json!({ "Fn::Join": ["", { "Fn::Split": [":*", group] }] });
                members.insert("Resource".to_owned(), json!([group, by_name]));
            }
            if members.get("Action").is_some_and(|action| *action == "sqs:SendMessage") {
                members.insert("Action".to_owned(), json!(["sqs:SendMessage", "sqs:SendMessageBatch"]));
            }
            if members.get("Action").is_some_and(|action| *action == "ecr:DescribeRepositories") {
                members.insert("Resource".to_owned(), json!("*"));
            }
            members.values_mut().for_each(|member| *member = as_read_here(member.take()));
        }
        Value::Array(list) => list.iter_mut().for_each(|member| *member = as_read_here(member.take())),
        _ => {}
    }
    template
}

fn plain_item(item: &HashMap<String, AttributeValue>) -> Value {
    Value::Object(item.iter().map(|(name, value)| (name.clone(), plain(value))).collect())
}

fn plain(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!(text),
        AttributeValue::N(number) => serde_json::from_str(number).unwrap_or_else(|_| json!(number)),
        AttributeValue::Bool(truth) => json!(truth),
        AttributeValue::B(bytes) => json!(format!("{} bytes", bytes.as_ref().len())),
        AttributeValue::L(list) => list.iter().map(plain).collect(),
        AttributeValue::M(map) => plain_item(map),
        AttributeValue::Ss(texts) => json!(texts),
        AttributeValue::Ns(numbers) => json!(numbers),
        AttributeValue::Null(_) => Value::Null,
        other => json!(format!("{other:?}")),
    }
}

async fn sdk(account: &str, origin: &str) -> SdkConfig {
    let credentials = Credentials::new(account, "x", None, None, "story");
    let connector = ecr_scan_verifier::aws::connector::connector();
    let http = http_client_fn(move |_, _| connector.clone());
    let loading = aws_config::defaults(BehaviorVersion::latest()).region(Region::new(REGION)).credentials_provider(credentials);
    loading.http_client(http).endpoint_url(origin).load().await
}

fn parameters_of(parameters: &[(&str, &str)]) -> Vec<aws_sdk_cloudformation::types::Parameter> {
    let one = |(key, value): &(&str, &str)| aws_sdk_cloudformation::types::Parameter::builder().parameter_key(*key).parameter_value(*value).build();
    parameters.iter().map(one).collect()
}
