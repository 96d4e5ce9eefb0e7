//! The canary. At the end of every story its account is searched for what must stand nowhere: a ResponseURL or a part of it, the keys
//! and session tokens of the functions, private keys. The one place for a ResponseURL is its own attribute in the request's row, and
//! beside it the queue into which Lambda puts what on-deploy has failed on.
//!
//! What is packed (lists of findings) is not looked into: it holds what a scanner has said, and nothing else.
use serde_json::Value;
use sha2::{Digest, Sha256};

/// In the signature of every ResponseURL that the harness gives out.
pub const SIGNATURE: &str = "canarysignature";
/// In the path of every ResponseURL: the harness's own, and those of the local CloudFormation.
const PATHS: [&str; 2] = ["_plane/answer/", "cfn-response/"];
const PRIVATE_KEY: &str = "PRIVATE KEY-----";

#[derive(Debug, Default)]
pub struct Canary {
    /// What it is, and the text.
    secrets: Vec<(String, String)>,
    found: Vec<String>,
}

impl Canary {
    pub fn new() -> Self {
        let mut canary = Self::default();
        canary.knows("the signature of a ResponseURL", SIGNATURE);
        for path in PATHS {
            canary.knows("a ResponseURL", path);
        }
        canary.knows("a private key", PRIVATE_KEY);
        canary
    }

    pub fn knows(&mut self, what: impl ToString, secret: &str) {
        // Whatever is shorter is no secret, and stands everywhere.
        if secret.len() >= 12 {
            self.secrets.push((what.to_string(), secret.to_owned()));
        }
    }

    /// A request of CloudFormation: where its answer goes is nobody else's business.
    pub fn knows_request(&mut self, request: &Value) {
        let url = request["ResponseURL"].as_str().unwrap_or_default();
        let token = url.split('?').next().and_then(|url| url.rsplit('/').next()).unwrap_or_default();
        if request["RequestId"] != token {
            self.knows("the token of a ResponseURL", token);
        }
    }

    /// The keys of a function's role, as the local AWS makes them of the function and its role (`execution_credentials`).
    pub fn knows_function(&mut self, function_arn: &str, role_arn: &str) {
        let hex = |text: String| Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let seed = hex(format!("{function_arn}:{role_arn}"));
        self.knows(format!("the secret key of {function_arn}"), &hex(format!("secret:{seed}")));
        self.knows(format!("the session token of {function_arn}"), &hex(format!("token:{seed}")));
    }

    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(|(_, secret)| secret.as_str())
    }

    pub fn look(&mut self, place: &str, text: &str) {
        for (what, secret) in &self.secrets {
            if let Some(at) = text.find(secret.as_str()) {
                let around: String = text.chars().skip(text[..at].chars().count().saturating_sub(80)).take(200).collect();
                self.found.push(format!("{place} holds a secret, {what}: ...{around}..."));
            }
        }
    }

    /// A call's body, or a row: without the one attribute that may hold a ResponseURL.
    pub fn look_at_item(&mut self, place: &str, text: &str) {
        match text.contains("response_url").then(|| serde_json::from_str(text)) {
            Some(Ok(item)) => self.look(place, &without_its_place(item).to_string()),
            _ => self.look(place, text),
        }
    }

    pub fn found(self) -> Vec<String> {
        self.found
    }
}

fn without_its_place(mut item: Value) -> Value {
    match &mut item {
        Value::Object(members) => {
            members.remove("response_url");
            members.values_mut().for_each(|member| *member = without_its_place(member.take()));
        }
        Value::Array(list) => list.iter_mut().for_each(|member| *member = without_its_place(member.take())),
        _ => {}
    }
    item
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_found_wherever_it_stands_but_in_its_place() {
        let url = format!("http://127.0.0.1:1/_plane/answer/1?X-Amz-Signature={SIGNATURE}0000000000000001");
        let looked_at = |text: &str| {
            let mut canary = Canary::new();
            canary.knows_request(&json!({ "RequestId": "a", "ResponseURL": "http://127.0.0.1:1/_ministack/cfn-response/0c54a7f2-aaaa" }));
            canary.knows_function("arn:aws:lambda:eu-west-1:1:function:f", "arn:aws:iam::1:role/r");
            canary.look_at_item("here", text);
            canary.found().len()
        };
        assert_eq!(looked_at(r#"{"level":"INFO","message":"answered"}"#), 0);
        assert_eq!(looked_at(&format!("PUT {url}")), 2, "its path and its signature");
        assert_eq!(looked_at("failed for 0c54a7f2-aaaa"), 1);
        assert_eq!(looked_at("-----BEGIN EC PRIVATE KEY-----"), 1);
        let seed = "arn:aws:lambda:eu-west-1:1:function:f:arn:aws:iam::1:role/r";
        let hex = |text: &str| Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(looked_at(&hex(&format!("token:{}", hex(seed)))), 1);
        let item = json!({ "Put": { "Item": { "response_url": { "S": url }, "state": { "S": "open" } } } });
        assert_eq!(looked_at(&item.to_string()), 0, "that is its place");
        let elsewhere = json!({ "Put": { "Item": { "response_url": { "S": url }, "why": { "S": format!("could not PUT {url}") } } } });
        assert_eq!(looked_at(&elsewhere.to_string()), 2);
    }
}
