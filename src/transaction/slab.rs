//! Places for values of one kind, of which there are so many at most.

use std::collections::TryReserveError;
use std::ops::{Index, IndexMut};

/// No place.
pub(super) const NONE: u32 = u32::MAX;

/// Memory is reserved at once and touched as far as it is used.
pub(super) struct Slab<T> {
    places: Vec<T>,
    free: Vec<u32>,
    most: usize,
}

/// An empty one with room for so many, which need not be there: the end of the
/// program would be no answer to that.
pub(super) fn room<T>(most: usize) -> Result<Vec<T>, TryReserveError> {
    let mut places = Vec::new();
    places.try_reserve_exact(most)?;
    Ok(places)
}

impl<T> Slab<T> {
    pub(super) fn new(most: usize) -> Result<Self, TryReserveError> {
        Ok(Self {
            places: room(most)?,
            free: room(most)?,
            most,
        })
    }

    /// Where it is from now on; `None` where all places are taken.
    pub(super) fn insert(&mut self, value: T) -> Option<u32> {
        if let Some(at) = self.free.pop() {
            self.places[at as usize] = value;
            return Some(at);
        }
        if self.places.len() == self.most {
            return None;
        }
        self.places.push(value);
        Some(self.places.len() as u32 - 1)
    }

    /// Gives a place back that is taken.
    pub(super) fn remove(&mut self, at: u32) {
        self.free.push(at);
    }

    /// Whether all places are taken.
    pub(super) fn is_full(&self) -> bool {
        self.len() == self.most
    }

    /// Places taken.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        &self.places[at as usize]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        &mut self.places[at as usize]
    }
}
