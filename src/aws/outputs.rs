//! What gates want written: streams of CloudWatch Logs, objects in S3, SBOMs by Inspector, messages to a topic. Always by the role
//! that the gate's stack has made for it, never by the function's own. And what the pipeline itself says: to its topic, and to
//! the event bus.
//!
//! IAM of the function: `sns:Publish` on the pipeline's topic, `events:PutEvents` on the bus; `sts:AssumeRole` on the roles under
//! `/ecr-scan-verifier/`. IAM of such a role, as far as its stack has
//! outputs: `logs:CreateLogStream`, `PutLogEvents`; `s3:PutObject`, and for an SBOM `s3:GetObject`, `ListBucket`, `kms:Decrypt`;
//! `inspector2:CreateSbomExport`, `GetSbomExport`; `sns:Publish`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aws_config::SdkConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_cloudwatchlogs::types::InputLogEvent;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_inspector2::types::{Destination, ExternalReportStatus, ResourceFilterCriteria, ResourceStringComparison, ResourceStringFilter, SbomReportFormat};
use aws_sdk_sns::types::MessageAttributeValue;

use super::{Carried, Settings, missing, why};
use crate::domain::outputs::{Log, Message, Role, SbomFormat, SbomTo};
use crate::domain::protocol::{Do, ExportState, Saw, Why};

/// Who did it, in the trail of the account.
const SESSION: &str = "ecr-scan-verifier";
/// By these whoever listens knows our events (docs/verdict-event.md).
const EVENT_SOURCE: &str = "ecr-scan-verifier";
const EVENT_TYPE: &str = "Image Verdict Changed";

pub struct Outputs {
    config: SdkConfig,
    /// The pipeline's own, by the function's own role.
    sns: aws_sdk_sns::Client,
    events: aws_sdk_eventbridge::Client,
    topic_arn: Option<String>,
    event_bus: Option<String>,
    /// One set of clients a role: taking it over costs a call, and is good for an hour.
    roles: Mutex<HashMap<Role, Arc<Writer>>>,
}

/// One function alone writes outputs. Behind a pointer that it alone fills in, what that takes of the SDK is linked into it alone.
pub trait PutsOut: Send + Sync {
    fn put_out(&self, effect: Do) -> Carried<'_>;
}

impl PutsOut for Outputs {
    fn put_out(&self, effect: Do) -> Carried<'_> {
        Box::pin(async move {
            Ok(match effect {
                Do::WriteLogs { role, logs } => {
                    self.write(&role, logs).await?;
                    Saw::Done
                }
                Do::StartExport { role, image_arn, sbom, prefix } => Saw::Export(self.start_export(&role, &image_arn, &sbom, &prefix).await?),
                Do::ReadExport { role, report_id } => Saw::ExportIs(self.export(&role, &report_id).await?),
                Do::PlaceExport { role, from, to } => {
                    if self.place(&role, &from, &to).await? {
                        Saw::Done
                    } else {
                        Saw::NoFile
                    }
                }
                Do::Publish { role, topic_arn, message } => {
                    publish(&self.by(&role).await.sns, &topic_arn, message).await?;
                    Saw::Done
                }
                Do::PublishOwn { message, .. } => {
                    let topic_arn = self.topic_arn.as_deref().ok_or_else(|| Why::new("the pipeline has no topic"))?;
                    publish(&self.sns, topic_arn, message).await?;
                    Saw::Done
                }
                Do::PutEvent { message } => {
                    self.put_event(message).await?;
                    Saw::Done
                }
                other => return Err(Why::new(format!("{other:?} is no output"))),
            })
        })
    }
}

struct Writer {
    logs: aws_sdk_cloudwatchlogs::Client,
    s3: aws_sdk_s3::Client,
    inspector: aws_sdk_inspector2::Client,
    sns: aws_sdk_sns::Client,
}

impl Outputs {
    pub fn new(config: &SdkConfig, settings: &Settings) -> Self {
        Self {
            config: config.clone(),
            sns: aws_sdk_sns::Client::new(config),
            events: aws_sdk_eventbridge::Client::new(config),
            topic_arn: settings.alerting.topic_arn.clone(),
            event_bus: settings.event_bus.clone(),
            roles: Mutex::default(),
        }
    }

    async fn by(&self, role: &Role) -> Arc<Writer> {
        let known = self.roles.lock().expect("nobody panics with this lock").get(role).cloned();
        if let Some(writer) = known {
            return writer;
        }
        let taken = AssumeRoleProvider::builder(&role.arn).external_id(&role.of_stack).session_name(SESSION).configure(&self.config).build().await;
        let config = self.config.to_builder().credentials_provider(SharedCredentialsProvider::new(taken)).build();
        let writer = Arc::new(Writer {
            logs: aws_sdk_cloudwatchlogs::Client::new(&config),
            s3: aws_sdk_s3::Client::new(&config),
            inspector: aws_sdk_inspector2::Client::new(&config),
            sns: aws_sdk_sns::Client::new(&config),
        });
        self.roles.lock().expect("nobody panics with this lock").insert(role.clone(), Arc::clone(&writer));
        writer
    }

    /// Each as a whole; one that was written before is written again, to the same place.
    async fn write(&self, role: &Role, logs: Vec<Log>) -> Result<(), Why> {
        let writer = self.by(role).await;
        for log in logs {
            match log {
                Log::Object { bucket, key, content_type, body, digest } => {
                    let put = writer.s3.put_object().bucket(&bucket).key(&key).content_type(content_type).metadata("image-digest", digest.to_string());
                    let sent = put.body(body.into_bytes().into()).send().await;
                    sent.map_err(|error| why(format!("write s3://{bucket}/{key}"), &error))?;
                }
                Log::Stream { group, stream, events, at } => writer.stream(&group, &stream, events, at.as_millisecond()).await?,
            }
        }
        Ok(())
    }

    /// An event of ours on the bus. Its detail is the message's body.
    async fn put_event(&self, message: Message) -> Result<(), Why> {
        let attempt = "tell the event bus of a verdict";
        let bus = self.event_bus.as_deref().ok_or_else(|| Why::new("the pipeline tells no event bus"))?;
        let resource = message.attributes.into_iter().map(|(_, value)| value);
        let entry = PutEventsRequestEntry::builder().event_bus_name(bus).source(EVENT_SOURCE).detail_type(EVENT_TYPE).detail(message.body);
        let entry = entry.set_resources(Some(resource.collect())).build();
        let answer = self.events.put_events().entries(entry).send().await.map_err(|error| why(attempt, &error))?;
        // The call succeeds all the same.
        match answer.entries.unwrap_or_default().into_iter().find_map(|entry| Some((entry.error_code?, entry.error_message.unwrap_or_default()))) {
            Some((code, text)) => Err(Why { denied: code == "AccessDeniedException", text: format!("could not {attempt}: {code}: {text}") }),
            None => Ok(()),
        }
    }

    /// Has Inspector write the SBOM of this image, and of no other: it is named by its ARN.
    async fn start_export(&self, role: &Role, image_arn: &str, sbom: &SbomTo, prefix: &str) -> Result<String, Why> {
        let attempt = format!("start the SBOM export of {image_arn}");
        let unbuilt = |error: &dyn std::fmt::Display| Why::new(format!("could not {attempt}: {error}"));
        let format = match sbom.format {
            SbomFormat::CycloneDx14 => SbomReportFormat::Cyclonedx14,
            SbomFormat::Spdx23 => SbomReportFormat::Spdx23,
        };
        let destination = Destination::builder().bucket_name(&sbom.bucket).key_prefix(prefix).kms_key_arn(&sbom.key_arn).build();
        let image = ResourceStringFilter::builder().comparison(ResourceStringComparison::Equals).value(image_arn).build();
        let image = image.map_err(|error| unbuilt(&error))?;
        let export = self
            .by(role)
            .await
            .inspector
            .create_sbom_export()
            .report_format(format)
            .s3_destination(destination.map_err(|error| unbuilt(&error))?)
            .resource_filter_criteria(ResourceFilterCriteria::builder().resource_id(image).build());
        let answer = export.send().await.map_err(|error| why(&attempt, &error))?;
        answer.report_id.ok_or_else(|| Why::new("CreateSbomExport did not return a reportId."))
    }

    async fn export(&self, role: &Role, report_id: &str) -> Result<ExportState, Why> {
        let attempt = format!("ask after the SBOM export {report_id}");
        let answer = self.by(role).await.inspector.get_sbom_export().report_id(report_id).send().await.map_err(|error| why(&attempt, &error))?;
        match answer.status.ok_or_else(|| missing(&attempt, "status"))? {
            ExternalReportStatus::Succeeded => Ok(ExportState::Succeeded),
            ExternalReportStatus::InProgress => Ok(ExportState::Running),
            ExternalReportStatus::Failed => Ok(ExportState::Failed),
            ExternalReportStatus::Cancelled => Ok(ExportState::Cancelled),
            other => Err(Why::new(format!("could not {attempt}: this version does not know the status {other}"))),
        }
    }

    /// Copies the one file under a prefix. `false`: there is none.
    async fn place(&self, role: &Role, from: &(String, String), to: &(String, String)) -> Result<bool, Why> {
        let writer = self.by(role).await;
        let attempt = format!("put the SBOM under s3://{}/{} to s3://{}/{}", from.0, from.1, to.0, to.1);
        let listed = writer.s3.list_objects_v2().bucket(&from.0).prefix(format!("{}/", from.1)).send().await.map_err(|error| why(&attempt, &error))?;
        let Some(key) = listed.contents.unwrap_or_default().into_iter().find(|object| object.size != Some(0)).and_then(|object| object.key) else {
            return Ok(false);
        };
        let copy = writer.s3.copy_object().bucket(&to.0).key(&to.1).copy_source(escaped(&format!("{}/{key}", from.0)));
        copy.send().await.map_err(|error| why(&attempt, &error))?;
        Ok(true)
    }
}

impl Writer {
    async fn stream(&self, group: &str, stream: &str, events: Vec<String>, at: i64) -> Result<(), Why> {
        let attempt = format!("write the stream {stream} of {group}");
        match self.logs.create_log_stream().log_group_name(group).log_stream_name(stream).send().await {
            Ok(_) => {}
            Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_already_exists_exception()) => {}
            Err(error) => return Err(why(&attempt, &error)),
        }
        // One event a batch: several would have to fit together.
        for (after_ms, event) in (0_i64..).zip(events) {
            let event = InputLogEvent::builder().timestamp(at + after_ms).message(event).build();
            let event = event.map_err(|error| Why::new(format!("could not {attempt}: {error}")))?;
            let put = self.logs.put_log_events().log_group_name(group).log_stream_name(stream).log_events(event).send().await;
            if let Some(rejected) = put.map_err(|error| why(&attempt, &error))?.rejected_log_events_info {
                return Err(Why::new(format!("could not {attempt}: it was rejected ({rejected:?})")));
            }
        }
        Ok(())
    }
}

async fn publish(sns: &aws_sdk_sns::Client, topic_arn: &str, message: Message) -> Result<(), Why> {
    let attempt = format!("send a message to {topic_arn}");
    let attribute = |kind: &str, value: String| {
        let built = MessageAttributeValue::builder().data_type(kind).string_value(value).build();
        built.map_err(|error| Why::new(format!("could not {attempt}: {error}")))
    };
    let mut publish = sns.publish().topic_arn(topic_arn).set_subject(message.subject).message_structure("json").message(message.body);
    // SNS takes no attribute without a value.
    for (name, value) in message.attributes.into_iter().filter(|(_, value)| !value.is_empty()) {
        publish = publish.message_attributes(name, attribute("String", value)?);
    }
    if !message.stacks.is_empty() {
        // A filter finds each of them in the list.
        let stacks = serde_json::to_string(&message.stacks).expect("texts are JSON");
        publish = publish.message_attributes("stack", attribute("String.Array", stacks)?);
    }
    publish.send().await.map_err(|error| why(&attempt, &error))?;
    Ok(())
}

/// A key as a header wants it: everything but unreserved characters and `/` in percent.
fn escaped(key: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    key.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_escaped_but_for_its_slashes() {
        assert_eq!(escaped("bucket/team app/a:b+c/x.json"), "bucket/team%20app/a%3Ab%2Bc/x.json");
    }
}
