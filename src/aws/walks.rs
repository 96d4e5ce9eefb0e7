//! Walks that are under way. They are kept in the Requests table, which on-sweep reads and writes anyway.
//!
//! IAM: `dynamodb:GetItem`, `UpdateItem` on Requests.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::{SignedDuration, Timestamp};

use super::requests::{milliseconds, moment, number, text};
use super::{Settings, missing, why};
use crate::domain::protocol::Why;
use crate::domain::walk::{Kept, Walk, Walker};

/// How long a walk stays after its last step, for a person to see how it went.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 14);

pub struct Walks {
    client: Client,
    table: String,
}

impl Walks {
    pub fn new(client: Client, settings: &Settings) -> Self {
        Self { client, table: settings.requests_table.clone() }
    }

    pub async fn find(&self, walker: Walker) -> Result<Option<Kept>, Why> {
        let attempt = format!("read how far the {walker} walk is");
        let answer = self.client.get_item().table_name(&self.table).set_key(Some(key(walker))).consistent_read(true).send().await;
        let Some(item) = answer.map_err(|error| why(&attempt, &error))?.item else { return Ok(None) };
        let unsigned = |name: &str| number(&item, name).and_then(|n| u64::try_from(n).ok()).ok_or_else(|| missing(&attempt, name));
        Ok(Some(Kept {
            // One that this version cannot read goes no further. The next one begins where it stood.
            walk: text(&item, "walk").and_then(|walk| serde_json::from_str(&walk).ok()).unwrap_or_else(|| Walk::ended(walker)),
            lease_until: moment(&item, "lease_until").ok_or_else(|| missing(&attempt, "lease_until"))?,
            tries: u32::try_from(unsigned("tries")?).unwrap_or(u32::MAX),
            version: unsigned("version")?,
        }))
    }

    /// Writes a walk over the one before it. `false`: somebody else has.
    pub async fn keep(&self, kept: &Kept) -> Result<bool, Why> {
        let walker = kept.walk.walker;
        let attempt = format!("note how far the {walker} walk is");
        let walk = serde_json::to_string(&kept.walk).expect("texts and numbers are JSON");
        let gone_at = Timestamp::now().saturating_add(KEPT).unwrap_or(Timestamp::MAX).as_second();
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(walker)))
            .update_expression("SET walk = :walk, lease_until = :lease, tries = :tries, #version = :version, #ttl = :gone_at")
            .expression_attribute_names("#version", "version")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":walk", AttributeValue::S(walk))
            .expression_attribute_values(":lease", milliseconds(kept.lease_until))
            .expression_attribute_values(":tries", AttributeValue::N(kept.tries.to_string()))
            .expression_attribute_values(":version", AttributeValue::N(kept.version.to_string()))
            .expression_attribute_values(":gone_at", AttributeValue::N(gone_at.to_string()));
        let update = match kept.version {
            1 => update.condition_expression("attribute_not_exists(#version)"),
            version => {
                let before = AttributeValue::N((version - 1).to_string());
                update.condition_expression("#version = :before").expression_attribute_values(":before", before)
            }
        };
        match update.send().await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.as_service_error(), Some(UpdateItemError::ConditionalCheckFailedException(_))) => Ok(false),
            Err(error) => Err(why(attempt, &error)),
        }
    }
}

fn key(walker: Walker) -> HashMap<String, AttributeValue> {
    [("key", format!("walk#{walker}")), ("sort", "walk".to_owned())].map(|(name, value)| (name.to_owned(), AttributeValue::S(value))).into()
}
