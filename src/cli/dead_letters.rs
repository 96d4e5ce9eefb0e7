//! `ecr-scan-verifier dead-letters`: what the pipeline's queues have given up after eight tries, and to have it done again.
//!
//! Up to ten letters of each queue are shown, and none is taken out; `--redrive` brings all of them back to the queue that they
//! come from. What it needs is said in [`crate::aws::dead_letters`]. No ResponseURL is printed, and no page token. Exit 0: nothing is
//! there, or all was brought back; 3: there is something; 1: could not look, or not bring it all back.

use jiff::Timestamp;
use serde::Serialize;

use super::read_event::kind_and_subject;
use super::{Format, Outcome};
use crate::aws::dead_letters::{DeadLetters, Lane, Letter};
use crate::domain::protocol::Why;

const THERE_ARE_SOME: u8 = 3;

pub async fn dead_letters(queues: &DeadLetters, pipeline: &str, redrive: bool, format: Format) -> Outcome {
    if redrive { bring_back(queues, pipeline, format).await } else { list(queues, pipeline, format).await }
}

async fn list(queues: &DeadLetters, pipeline: &str, format: Format) -> Outcome {
    let lanes = match gather(queues).await {
        Ok(lanes) => lanes,
        Err(why) => return Outcome::failed(format!("dead-letters: {}\n", why.text)),
    };
    let exit = if lanes.iter().all(|(lane, letters)| lane.letters == 0 && letters.is_empty()) { 0 } else { THERE_ARE_SOME };
    let now = Timestamp::now();
    let reports: Vec<LaneReport> = lanes.iter().map(|(lane, letters)| LaneReport::of(lane, letters, now)).collect();
    Outcome::said(
        match format {
            Format::Json => as_json(&Report { schema_version: 1, pipeline, queues: reports }),
            Format::Text if exit == 0 => format!("There are no dead letters in pipeline {pipeline}.\n"),
            Format::Text => reports.iter().map(LaneReport::in_words).collect(),
        },
        exit,
    )
}

async fn gather(queues: &DeadLetters) -> Result<Vec<(Lane, Vec<Letter>)>, Why> {
    let mut found = Vec::new();
    for lane in queues.lanes().await? {
        let letters = queues.peek(&lane).await?;
        found.push((lane, letters));
    }
    Ok(found)
}

async fn bring_back(queues: &DeadLetters, pipeline: &str, format: Format) -> Outcome {
    let lanes = match queues.lanes().await {
        Ok(lanes) => lanes,
        Err(why) => return Outcome::failed(format!("dead-letters: {}\n", why.text)),
    };
    let mut brought: Vec<Brought> = Vec::new();
    let mut failed = Vec::new();
    for lane in &lanes {
        let mut letters = 0;
        // One queue that cannot be emptied keeps no other from it.
        if let Err(why) = queues.bring_back(lane, || letters += 1).await {
            failed.push(why.text);
        }
        brought.push(Brought { queue: &lane.name, letters });
    }
    let stdout = match format {
        Format::Json => as_json(&Redriven { schema_version: 1, pipeline, brought_back: &brought }),
        Format::Text => brought.iter().map(|brought| format!("{}: {} brought back\n", brought.queue, brought.letters)).collect(),
    };
    let stderr = failed.iter().map(|why| format!("dead-letters: {why}\n")).collect();
    Outcome { stdout, stderr, exit: u8::from(!failed.is_empty()) }
}

fn as_json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("texts and numbers are JSON") + "\n"
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    schema_version: u32,
    pipeline: &'a str,
    queues: Vec<LaneReport<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Redriven<'a> {
    schema_version: u32,
    pipeline: &'a str,
    brought_back: &'a [Brought<'a>],
}

#[derive(Serialize)]
struct Brought<'a> {
    queue: &'a str,
    letters: u64,
}

#[derive(Serialize)]
struct LaneReport<'a> {
    queue: &'a str,
    /// As SQS counts them, roughly, and never fewer than are shown.
    letters: u64,
    shown: Vec<LetterReport>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LetterReport {
    kind: String,
    subject: String,
    sent_at: Option<String>,
    age_seconds: Option<i64>,
    received: u64,
}

impl<'a> LaneReport<'a> {
    fn of(lane: &'a Lane, letters: &[Letter], now: Timestamp) -> Self {
        let shown = letters.iter().map(|letter| {
            let (kind, subject) = kind_and_subject(letter.body.as_bytes());
            LetterReport {
                kind,
                subject,
                sent_at: letter.sent_at.map(|at| at.to_string()),
                age_seconds: letter.sent_at.map(|at| now.duration_since(at).as_secs()),
                received: letter.received,
            }
        });
        Self { queue: &lane.name, letters: lane.letters.max(letters.len() as u64), shown: shown.collect() }
    }

    fn in_words(&self) -> String {
        let mut text = format!("{}: {}\n", self.queue, self.letters);
        for letter in &self.shown {
            let age = letter.age_seconds.map(|age| format!(", {} old", age_in_words(age))).unwrap_or_default();
            text += &format!("  {:<22} {}{age}, received {} times\n", letter.kind, letter.subject, letter.received);
        }
        if self.letters > self.shown.len() as u64 {
            text += &format!("  and {} more\n", self.letters - self.shown.len() as u64);
        }
        text
    }
}

fn age_in_words(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
