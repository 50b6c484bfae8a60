//! Items under an id and, for the inner loops, under a small number: their place.
//!
//! Is not ordered by id: walking goes by place, which depends on the history of calls only.

use super::Place;
use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::hash::Hash;

/// A hasher without a random seed: the same calls take the same time and memory everywhere. Ids are made
/// by the gateway, so nobody outside can choose colliding ones, and a fast hash is enough.
pub(super) type FixedHash = FixedState;

/// See the module head.
#[derive(Debug)]
pub(super) struct Arena<K, T> {
    places: HashMap<K, Place, FixedHash>,
    items: Vec<Option<T>>,
    /// Empty places below `items.len()`.
    free: Vec<Place>,
}

impl<K, T> Default for Arena<K, T> {
    fn default() -> Self {
        Self { places: HashMap::default(), items: Vec::new(), free: Vec::new() }
    }
}

impl<K: Copy + Eq + Hash, T> Arena<K, T> {
    pub(super) fn place(&self, id: &K) -> Option<Place> {
        self.places.get(id).copied()
    }

    pub(super) fn find(&self, id: &K) -> Option<&T> {
        self.at(self.place(id)?)
    }

    pub(super) fn at(&self, place: Place) -> Option<&T> {
        self.items.get(place)?.as_ref()
    }

    pub(super) fn at_mut(&mut self, place: Place) -> Option<&mut T> {
        self.items.get_mut(place)?.as_mut()
    }

    /// Puts a new item. `id` must not be present.
    pub(super) fn insert(&mut self, id: K, item: T) -> Place {
        let place = self.free.pop().unwrap_or(self.items.len());
        match self.items.get_mut(place) {
            Some(empty) => *empty = Some(item),
            None => self.items.push(Some(item)),
        }
        self.places.insert(id, place);
        place
    }

    pub(super) fn remove(&mut self, id: &K) -> Option<T> {
        let place = self.places.remove(id)?;
        self.free.push(place);
        self.items.get_mut(place)?.take()
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// One more than the largest place.
    pub(super) fn places(&self) -> usize {
        self.items.len()
    }

    /// All items by place.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Place, &T)> {
        self.items.iter().enumerate().filter_map(|(place, item)| Some((place, item.as_ref()?)))
    }

    /// All items by place.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Place, &mut T)> {
        self.items.iter_mut().enumerate().filter_map(|(place, item)| Some((place, item.as_mut()?)))
    }
}
