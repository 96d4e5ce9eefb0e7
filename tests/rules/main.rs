//! The rules, one page each. None of them needs AWS, a network or a clock.
#![forbid(unsafe_code)]

mod announcing;
mod checking;
mod commands;
mod crashing;
mod deploying;
mod events;
mod fuzzed;
mod history;
mod judging;
mod messages;
mod outputs;
mod scanning;
mod signed;
mod signing;
mod states;
mod sweeping;
mod truth;
mod waiting;
mod world;
