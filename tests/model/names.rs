//! Small numbers for large things.
//!
//! Millions of states share a few hundred heads, answers and half-run machines. Each is kept once, and a state holds its number:
//! a state is copied and hashed in no time, and what a machine does next is computed once however many worlds it runs in.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, RwLock};

/// Equal things have equal numbers, for as long as this lives.
pub struct Names<T>(RwLock<(HashMap<Arc<T>, u32>, Vec<Arc<T>>)>);

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self(RwLock::new((HashMap::new(), Vec::new())))
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

    pub fn of(&self, name: u32) -> Arc<T> {
        Arc::clone(&self.0.read().expect("nobody panics inside").1[name as usize])
    }
}

/// What a pure function has answered before.
pub struct Memory<K, V>(RwLock<HashMap<K, V>>);

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self(RwLock::new(HashMap::new()))
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
