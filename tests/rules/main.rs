//! The rules, one page each. None of them needs AWS, a network or a clock.

mod deploying;
mod events;
mod world;
