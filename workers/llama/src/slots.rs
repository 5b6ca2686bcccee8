//! Which conversation's keys and values lie in which sequence of the library's cache.
//!
//! All sequences share the cells of one cache, and cells that several begin with in common are there once. What is kept is bounded twice: by
//! the number of sequences, and by the cells. Where either runs out, the conversation that rested longest is given up.

/// What one place of a sequence holds: a token, or (below zero) a part of a picture.
pub(crate) type Cell = i32;

/// One sequence of the cache.
#[derive(Debug, Default)]
struct Slot {
    /// What lies in it.
    cells: Vec<Cell>,
    /// The conversation, where it has a name.
    key: Option<String>,
    taken: bool,
    /// When it was last used, by the count of takings.
    used: u64,
}

/// All sequences.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    /// How many cells the cache has.
    room: usize,
    clock: u64,
}

/// A sequence that was taken for a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Which.
    pub(crate) slot: usize,
    /// How many of its cells the prompt begins with.
    pub(crate) own: usize,
    /// Another sequence that has more of the prompt, and how much.
    pub(crate) other: Option<(usize, usize)>,
}

impl Slots {
    pub(crate) fn new(count: u32, room: usize) -> Self {
        Self {
            slots: (0..count).map(|_| Slot::default()).collect(),
            room,
            clock: 0,
        }
    }

    /// Takes a sequence for a prompt: that of its conversation; for one without a name, that which it goes on with; else an empty
    /// one; else the one that rested longest. `None` where all are taken.
    pub(crate) fn take(&mut self, key: Option<&str>, prompt: &[Cell]) -> Option<Taken> {
        // The last token is decoded again in any case: what follows it is what's asked for.
        let most = prompt.len().saturating_sub(1);
        let shared = |slot: &Slot| common(&slot.cells, prompt).min(most);
        let free = || self.slots.iter().enumerate().filter(|(_, slot)| !slot.taken);
        let named = free().find(|(_, slot)| key.is_some() && slot.key.as_deref() == key);
        let continued = || {
            free()
                .filter(|(_, slot)| key.is_none() && slot.key.is_none() && !slot.cells.is_empty())
                .filter(|(_, slot)| prompt.starts_with(&slot.cells))
                .max_by_key(|(_, slot)| slot.cells.len())
        };
        let empty = || free().find(|(_, slot)| slot.cells.is_empty());
        let oldest = || free().min_by_key(|(_, slot)| slot.used);
        let (number, slot) = named.or_else(continued).or_else(empty).or_else(oldest)?;
        let own = shared(slot);
        let other = self
            .slots
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != number)
            .map(|(other, slot)| (other, shared(slot)))
            .max_by_key(|(_, length)| *length)
            .filter(|(_, length)| *length > own);
        self.clock += 1;
        let clock = self.clock;
        let slot = &mut self.slots[number];
        slot.taken = true;
        slot.used = clock;
        slot.key = key.map(str::to_owned);
        Some(Taken {
            slot: number,
            own,
            other,
        })
    }

    /// The sequence that has to be emptied so that `more` cells fit: the one that rested longest. `None`: they fit, or nobody rests.
    pub(crate) fn victim(&self, more: usize) -> Option<usize> {
        // Cells that are shared are counted for each: so there's rather too much room than too little.
        let used: usize = self.slots.iter().map(|slot| slot.cells.len()).sum();
        if used + more <= self.room {
            return None;
        }
        let resting = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| !slot.taken && !slot.cells.is_empty());
        resting.min_by_key(|(_, slot)| slot.used).map(|(number, _)| number)
    }

    /// What lies in a sequence.
    pub(crate) fn cells(&self, slot: usize) -> &[Cell] {
        &self.slots[slot].cells
    }

    /// More lies in it now.
    pub(crate) fn extend(&mut self, slot: usize, cells: &[Cell]) {
        self.slots[slot].cells.extend_from_slice(cells);
    }

    /// Only the first `length` cells lie in it now.
    pub(crate) fn truncate(&mut self, slot: usize, length: usize) {
        self.slots[slot].cells.truncate(length);
    }

    /// The stream is over; what lies in the sequence stays for the next turn.
    pub(crate) fn release(&mut self, slot: usize) {
        self.slots[slot].taken = false;
    }

    /// Nothing lies in it any more, and it's nobody's.
    pub(crate) fn clear(&mut self, slot: usize) {
        self.slots[slot].cells.clear();
        self.slots[slot].key = None;
    }
}

/// How many cells two sequences begin with in common.
fn common(left: &[Cell], right: &[Cell]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(slots: &mut Slots, key: Option<&str>, prompt: &[Cell]) -> Taken {
        let taken = slots.take(key, prompt).expect("one is free");
        slots.truncate(taken.slot, taken.own);
        slots.extend(taken.slot, &prompt[taken.own..]);
        taken
    }

    #[test]
    fn a_conversation_finds_its_sequence_again() {
        let mut slots = Slots::new(3, 100);
        let a = fill(&mut slots, Some("a"), &[1, 2, 3, 4]);
        let b = fill(&mut slots, Some("b"), &[1, 2, 9, 9, 9]);
        assert_ne!(a.slot, b.slot);
        assert_eq!(b.other, Some((a.slot, 2)), "what both begin with is there once");
        slots.release(a.slot);
        slots.release(b.slot);
        let again = fill(&mut slots, Some("a"), &[1, 2, 3, 4, 5, 6]);
        assert_eq!((again.slot, again.own, again.other), (a.slot, 4, None));
        slots.release(again.slot);
        let same = slots.take(Some("a"), &[1, 2, 3, 4, 5, 6]).expect("free");
        assert_eq!(same.own, 5, "the last token is always decoded");
    }

    #[test]
    fn without_a_name_it_goes_on_where_it_was() {
        let mut slots = Slots::new(3, 100);
        let a = fill(&mut slots, None, &[1, 2, 3, 4]);
        let b = fill(&mut slots, None, &[5, 6, 7, 8]);
        slots.release(a.slot);
        slots.release(b.slot);
        let next = slots.take(None, &[5, 6, 7, 8, 9]).expect("free");
        assert_eq!((next.slot, next.own, next.other), (b.slot, 4, None));
        // Another one that only begins alike gets a sequence of its own.
        let other = slots.take(None, &[1, 2, 9]).expect("an empty one");
        assert_eq!((other.slot, other.own, other.other), (2, 0, Some((a.slot, 2))));
    }

    #[test]
    fn the_one_that_rested_longest_is_given_up_and_none_that_is_taken() {
        let mut slots = Slots::new(2, 5);
        let a = fill(&mut slots, Some("a"), &[1, 1]);
        let b = fill(&mut slots, Some("b"), &[2, 2]);
        assert_eq!(slots.take(Some("c"), &[3]), None);
        assert_eq!(slots.victim(1), None, "it fits");
        assert_eq!(slots.victim(2), None, "nobody rests");
        slots.release(b.slot);
        slots.release(a.slot);
        assert_eq!(slots.victim(2), Some(a.slot));
        slots.clear(a.slot);
        assert_eq!(slots.victim(3), None);
        fill(&mut slots, Some("a"), &[1, 1]);
        slots.release(a.slot);
        assert_eq!(fill(&mut slots, Some("c"), &[3, 3]).slot, b.slot);
    }
}
