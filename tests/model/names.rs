//! Small numbers for large things.
//!
//! Millions of states share a few hundred heads, answers and half-run machines. Each is kept once, and a state holds its number:
//! a state is copied and hashed in no time, and what a machine does next is computed once however many worlds it runs in.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::{Arc, RwLock};

/// Numbers that nobody chose to collide; std's own hasher is made for those that somebody did, and slow without optimization.
#[derive(Default)]
pub struct Quick(u64);

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_ne_bytes(word));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

type Quickly<K, V> = HashMap<K, V, BuildHasherDefault<Quick>>;

/// Equal things have equal numbers, for as long as this lives.
pub struct Names<T>(RwLock<Known<T>>);

type Known<T> = (Quickly<Arc<T>, u32>, Vec<Arc<T>>);

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self(RwLock::new((HashMap::default(), Vec::new())))
    }
}

impl<T: Hash + Eq> Names<T> {
    pub fn name(&self, thing: T) -> u32 {
        let mut known = self.0.write().expect("nobody panics inside");
        if let Some(name) = known.0.get(&thing) {
            return *name;
        }
        let name = u32::try_from(known.1.len()).expect("not so many");
        let thing = Arc::new(thing);
        known.1.push(Arc::clone(&thing));
        known.0.insert(thing, name);
        name
    }

    pub fn find(&self, is_it: impl Fn(&T) -> bool) -> Option<u32> {
        self.0.read().expect("nobody panics inside").1.iter().position(|thing| is_it(thing)).map(|name| name as u32)
    }

    pub fn of(&self, name: u32) -> Arc<T> {
        Arc::clone(&self.0.read().expect("nobody panics inside").1[name as usize])
    }
}

/// What a pure function has answered before.
pub struct Memory<K, V>(RwLock<Quickly<K, V>>);

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self(RwLock::new(HashMap::default()))
    }
}

impl<K: Hash + Eq, V: Copy> Memory<K, V> {
    pub fn recall(&self, question: K, answer: impl FnOnce(&K) -> V) -> V {
        if let Some(known) = self.0.read().expect("nobody panics inside").get(&question) {
            return *known;
        }
        let found = answer(&question);
        self.0.write().expect("nobody panics inside").insert(question, found);
        found
    }
}
